// The live view: the chart, what is going on in words, and a button that holds the picture still.

class LiveView {
  constructor(root) {
    root.classList.add("thag");
    this.paused = false;
    this.words = make("output", { class: "thag-figures" });
    root.append(this.words);
    this.chart = new Chart(root);
    this.pause = this.chart.button("pause", "hold the picture still; the cell goes on", () => this.togglePause());
    this.pause.setAttribute("aria-pressed", "false");
    this.chart.controls.prepend(this.pause);
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.drawn = 0;
  }

  togglePause() {
    this.paused = !this.paused;
    this.pause.setAttribute("aria-pressed", String(this.paused));
    this.pause.textContent = this.paused ? "go on" : "pause";
    if (!this.paused) this.draw();
  }

  update(header, buffer) {
    this.newest = [header, buffer];
    const rests = this.still.matches && performance.now() - this.drawn < 2000;
    if (!this.paused && !rests) this.draw();
  }

  draw() {
    if (!this.newest) return;
    const [header, buffer] = this.newest;
    this.drawn = performance.now();
    this.words.textContent = header.words;
    this.chart.show(readScene(header, buffer));
  }
}

function floatsOf(view) {
  // A buffer that came with others need not begin at a multiple of four.
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** What anywidget calls to show the live view's model. */
function renderLive({ model, el }) {
  el.append(make("style", {}, STYLE));
  const view = new LiveView(el);
  const update = () => {
    const header = model.get("header");
    if (header) view.update(JSON.parse(header), floatsOf(model.get("buffer")));
  };
  model.on("change:header", update);
  update();
  return () => {
    model.off("change:header", update);
    view.chart.close();
  };
}
