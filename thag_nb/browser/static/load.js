// Brings compressed code to life. Every view that is saved has all of it, as it may be the only one that is left; in a
// page with several, the first one to come is compiled, and the others use that.

/** The bytes of a deflated text in base64. */
async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** What the code of this key leaves in `thagNb[key]`. A script, and not eval: where this one may run, so may another. */
function load(key, code) {
  const compile = async () => {
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(await inflate(code));
    document.head.append(script);
    script.remove();
    return window.thagNb[`${key} code`];
  };
  window.thagNb ??= {};
  return (window.thagNb[key] ??= compile());
}
