// The live view: the chart, what is going on in words, and a button that holds the picture still.

const CALM_MS = 2000;

class LiveView {
  constructor(root) {
    root.classList.add("thag");
    this.paused = false;
    this.words = make("div", { class: "thag-figures" }); // no live region: it changes many times a second
    root.append(this.words);
    this.chart = new Chart(root);
    this.pause = this.chart.button("pause", "hold the picture still; the cell goes on", () => this.togglePause());
    this.pause.setAttribute("aria-pressed", "false");
    this.chart.controls.prepend(this.pause);
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.drawn = -CALM_MS;
    this.timer = null;
  }

  togglePause() {
    this.paused = !this.paused;
    this.pause.setAttribute("aria-pressed", String(this.paused));
    this.pause.textContent = this.paused ? "go on" : "pause";
    if (!this.paused) this.draw();
  }

  update(header, buffer) {
    this.newest = [header, buffer];
    if (this.paused || this.timer) return;
    if (!this.still.matches) return this.draw();
    // Whoever wants little motion gets a picture every two seconds, the last one too.
    this.timer = setTimeout(() => {
      this.timer = null;
      if (!this.paused) this.draw();
    }, Math.max(0, this.drawn + CALM_MS - performance.now()));
  }

  close() {
    clearTimeout(this.timer);
    this.chart.close();
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
    view.close();
  };
}
