// The icicle: takes the picture of one, whose boxes can be read as they are, and lets them be looked at more closely.

const LETTER = 6.7, MARGIN = 4, GAP = 1, NEARLY = 0.1;

class Icicle {
  constructor(image) {
    const source = atob(image.src.slice(image.src.indexOf(",") + 1));
    const text = new TextDecoder().decode(Uint8Array.from(source, (letter) => letter.charCodeAt(0)));
    this.svg = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
    this.width = this.svg.viewBox.baseVal.width;
    this.boxes = [...this.svg.querySelectorAll("svg")].map((element) => this.box(element));
    this.svg.style.maxWidth = "100%";
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("aria-label", image.alt);
    this.svg.addEventListener("keydown", (event) => event.key === "Escape" && this.show(this.boxes[0]));
    image.replaceWith(this.svg);
    const help = document.createElement("div");
    help.textContent = "Click a box to look at it more closely, and the box of the whole, or press Escape, to see all again.";
    help.style.cssText = "font-size: 90%; opacity: 0.8";
    this.svg.after(help);
    this.show(this.boxes[0]);
  }

  box(element) {
    const [left, level, width] = ["x", "y", "width"].map((name) => Number(element.getAttribute(name)));
    const title = element.querySelector("title").textContent;
    const box = { element, left, level, width: width + GAP, title, words: title.replace(/: [^:]*$/, "") };
    box.label = element.querySelector("text") ?? this.labelOf(element);
    if (level === 0) box.words = title;
    element.style.cursor = "pointer";
    element.setAttribute("role", "button");
    element.setAttribute("aria-label", title);
    element.addEventListener("click", () => this.show(box));
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.show(box);
    });
    return box;
  }

  labelOf(element) {
    const label = document.createElementNS(element.namespaceURI, "text");
    for (const [name, value] of [["x", MARGIN], ["y", 13], ["fill", "currentColor"]]) label.setAttribute(name, value);
    element.append(label);
    return label;
  }

  /** As wide as the whole picture, with all that is below it, under those that it is called from. */
  show(chosen) {
    for (const box of this.boxes) {
      const isWithin = box.left > chosen.left - NEARLY && box.left + box.width < chosen.left + chosen.width + NEARLY;
      const isAround = box.left < chosen.left + NEARLY && box.left + box.width > chosen.left + chosen.width - NEARLY;
      const isShown = box.level < chosen.level ? isAround : box.level === chosen.level ? box === chosen : isWithin;
      box.element.style.display = isShown ? "" : "none";
      if (isShown) this.place(box, box.level < chosen.level ? this.boxes[0] : chosen, box.level < chosen.level);
    }
  }

  place(box, chosen, isWhole) {
    const scale = this.width / chosen.width;
    const left = isWhole ? 0 : (box.left - chosen.left) * scale;
    const width = Math.max((isWhole ? this.width : box.width * scale) - GAP, GAP);
    const letters = Math.floor((width - 2 * MARGIN) / LETTER);
    const isLabelled = width + GAP >= 3 * LETTER + 2 * MARGIN;
    box.element.setAttribute("x", left);
    box.element.setAttribute("width", width);
    box.element.querySelector("rect").setAttribute("width", width);
    box.label.textContent = !isLabelled ? "" : box.words.length <= letters ? box.words : `${box.words.slice(0, letters - 1)}…`;
    box.element.setAttribute("tabindex", isLabelled ? 0 : -1);
  }
}

function flame(root) {
  const image = root.querySelector('img[src^="data:image/svg+xml"]');
  if (image !== null) new Icicle(image);
}
