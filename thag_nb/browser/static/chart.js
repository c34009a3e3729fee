// The stacked timeline: a canvas, a legend of buttons, and what a person does with them. Nothing here asks the kernel.
//
// A scene is what Python's scene.py makes: a header, and rows of float32, one for each layer and then one for each
// further curve, all over the same columns of time.

const HEIGHT = 240;
const MARGIN = { left: 68, right: 14, top: 30, bottom: 28 };
const FONT = "11px system-ui, sans-serif";
const DASHES = [[], [7, 3], [2, 2], [8, 3, 2, 3]];
const SHORTEST_ZOOM_COLUMNS = 4;
const LABEL_STEP = 4; // columns between the places that are tried for a name

// What times are told in: nanoseconds, the shortest span, and the steps of a clock. Where there are none, ticks are
// 1, 2 or 5 times a power of ten apart. Python's axes.py has the same.
const SIXTIETHS = [1, 2, 5, 10, 15, 30];
const TIME_UNITS = [
  { unit: "µs", ns: 1e3, least: 0, steps: [] },
  { unit: "ms", ns: 1e6, least: 1e6, steps: [] },
  { unit: "s", ns: 1e9, least: 1e9, steps: [0.2, 0.5, ...SIXTIETHS] },
  { unit: "min", ns: 60e9, least: 180e9, steps: SIXTIETHS },
  { unit: "h", ns: 3600e9, least: 3 * 3600e9, steps: [1, 2, 3, 6, 12] },
  { unit: "d", ns: 86400e9, least: 3 * 86400e9, steps: [] },
];

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

function formatBytes(size, digits = 1) {
  let unit = 0;
  while (Math.abs(size) >= 999.95 && unit < BYTE_UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size.toFixed(unit ? digits : 0)} ${BYTE_UNITS[unit]}`;
}

function formatDuration(ns) {
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(1)} ms`;
  if (ns < 60e9) return `${(ns / 1e9).toFixed(2)} s`;
  const seconds = Math.round(ns / 1e9);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The header and the rows of a scene, from one buffer of float32. */
function readScene(header, buffer) {
  const { columns, layers, curves } = header;
  const row = (place) => buffer.subarray(place * columns, (place + 1) * columns);
  return {
    ...header,
    layers: layers.map((layer, place) => ({ ...layer, values: row(place) })),
    curves: Object.fromEntries(curves.map((name, place) => [name, row(layers.length + place)])),
  };
}

/** The ticks of a stretch of time after its origin, all in nanoseconds, `most` steps apart at most: [time, label]. */
function timeTicks(start, end, most) {
  const { unit, ns, steps } = TIME_UNITS.findLast(({ least }) => end - start >= least) ?? TIME_UNITS[0];
  const rough = (end - start) / ns / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [...steps, power, 2 * power, 5 * power, 10 * power].find((wide) => wide * (1 + 1e-9) >= rough);
  const digits = Math.max(0, Math.ceil(-Math.log10(step)));
  const ticks = [];
  for (let number = Math.ceil(start / ns / step); number * step * ns <= end; number += 1) {
    ticks.push([number * step * ns, `${Number((number * step).toFixed(digits))} ${unit}`]);
  }
  return ticks;
}

function largest(values, first, last) {
  let high = 0;
  for (let column = first; column < last; column += 1) if (values[column] > high) high = values[column];
  return high;
}

/** Black or white, whichever reads better on a colour (relative luminance as in WCAG 2.2). */
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5]
    .map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
}

/** The colour that an element stands on, whatever theme the page has. */
function backdrop(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (/^rgb\(/.test(colour)) return colour; // those that shine through are rgba()
  }
  return "Canvas";
}

/** Stripes for a name whose colour another name has as well: this way, that way, or both. */
function hatch(context, { colour, dash }) {
  const size = 8;
  const tile = make("canvas", { width: size, height: size });
  const pen = tile.getContext("2d");
  pen.strokeStyle = inkOn(colour);
  pen.globalAlpha = 0.45;
  for (const shift of [-size, 0, size]) {
    if (dash !== 2) pen.stroke(new Path2D(`M${shift},${size} L${shift + size},0`));
    if (dash !== 1) pen.stroke(new Path2D(`M${shift},0 L${shift + size},${size}`));
  }
  return context.createPattern(tile, "repeat");
}

class Chart {
  constructor(root, { height = HEIGHT } = {}) {
    this.height = height;
    this.hidden = new Set();
    this.zoom = null; // [start, end] in nanoseconds, or null for the whole
    this.cursor = null; // a time in nanoseconds
    this.drag = null;
    this.canvas = make("canvas", { class: "thag-canvas", tabindex: "0", role: "application" });
    this.canvas.setAttribute("aria-roledescription", "chart");
    this.canvas.setAttribute("aria-keyshortcuts", "+ - 0 ArrowLeft ArrowRight Shift+ArrowLeft Shift+ArrowRight Escape");
    this.canvas.style.height = `${height}px`;
    this.tooltip = make("div", { class: "thag-tooltip", role: "status", hidden: "" });
    this.legend = make("div", { class: "thag-legend", role: "group", "aria-label": "show or hide" });
    this.zoomOut = this.button("whole", "show the whole time", () => this.setZoom(null));
    this.controls = make(
      "div",
      { class: "thag-controls" },
      this.button("+", "zoom in", () => this.scale(0.5)),
      this.button("−", "zoom out", () => this.scale(2)),
      this.zoomOut,
    );
    root.append(make("div", { class: "thag-chart" }, this.canvas, this.tooltip), this.controls, this.legend);
    this.listen();
  }

  button(words, label, onclick) {
    return make("button", { type: "button", "aria-label": label, title: label, onclick }, words);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.scene) return;
      this.drag = { from: this.timeAt(event.offsetX), to: null };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.tooltip.setAttribute("aria-live", "off");
      this.point(this.timeAt(event.offsetX));
    });
    canvas.addEventListener("pointerup", () => this.drop());
    canvas.addEventListener("pointercancel", () => {
      this.drag = null;
      this.point(null);
    });
    canvas.addEventListener("pointerleave", () => this.drag || this.point(null));
    canvas.addEventListener("blur", () => this.point(null));
    canvas.addEventListener("dblclick", () => this.setZoom(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(canvas);
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.redraw();
    this.dark.addEventListener("change", this.repaint);
  }

  close() {
    this.observer.disconnect();
    this.dark.removeEventListener("change", this.repaint);
    cancelAnimationFrame(this.waiting);
  }

  // What a person does

  key(event) {
    const [start, end] = this.domain();
    const step = (end - start) / 50;
    const actions = {
      "+": () => this.scale(0.5),
      "-": () => this.scale(2),
      0: () => this.setZoom(null),
      Escape: () => this.point(null),
      ArrowLeft: () => (event.shiftKey ? this.pan(-10 * step) : this.point(Math.max(start, this.anchor() - step))),
      ArrowRight: () => (event.shiftKey ? this.pan(10 * step) : this.point(Math.min(end, this.anchor() + step))),
    };
    const action = actions[event.key];
    if (!action || !this.scene) return;
    this.tooltip.setAttribute("aria-live", "polite"); // read out what keys point at, and not what the pointer passes over
    action();
    event.preventDefault();
    event.stopPropagation(); // a notebook has commands on the same keys
  }

  anchor() {
    const [start, end] = this.domain();
    return this.cursor ?? (start + end) / 2;
  }

  point(time) {
    if (!this.scene) return;
    if (this.drag) this.drag.to = time;
    this.cursor = time;
    this.redraw();
  }

  drop() {
    const { drag } = this;
    this.drag = null;
    if (!drag || drag.to === null) return;
    const [start, end] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    const [left, right] = this.domain();
    if (end - start > (right - left) / 100) this.setZoom([start, end]);
    else this.redraw();
  }

  scale(factor) {
    const [start, end] = this.domain();
    const middle = this.anchor();
    this.setZoom([middle - (middle - start) * factor, middle + (end - middle) * factor]);
  }

  pan(by) {
    const [start, end] = this.domain();
    const whole = this.whole();
    const shift = Math.max(whole[0] - start, Math.min(whole[1] - end, by));
    this.setZoom([start + shift, end + shift]);
  }

  setZoom(zoom) {
    const [start, end] = this.whole();
    if (zoom) {
      const shortest = ((end - start) / this.scene.columns) * SHORTEST_ZOOM_COLUMNS;
      const left = Math.max(start, Math.min(zoom[0], end - shortest));
      zoom = [left, Math.min(end, Math.max(zoom[1], left + shortest))];
      if (zoom[0] <= start && zoom[1] >= end) zoom = null;
    }
    this.zoom = zoom;
    this.redraw();
  }

  toggle(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.redraw();
  }

  // What is seen

  show(scene) {
    const first = !this.scene;
    this.scene = scene;
    if (first && scene.curves.resident && this.dwarfs(scene)) this.hidden.add("resident");
    this.canvas.setAttribute("aria-label", scene.description);
    this.redraw();
  }

  /** Whether the process is so much larger than what is stacked that the stack would be a line at the bottom. */
  dwarfs({ curves, columns }) {
    return largest(curves.resident, 0, columns) > 6 * largest(curves.high, 0, columns);
  }

  whole() {
    return [this.scene.start_ns, Math.max(this.scene.end_ns, this.scene.start_ns + 1000)];
  }

  domain() {
    return this.zoom ?? this.whole();
  }

  timeAt(x) {
    const [start, end] = this.domain();
    const inside = (x - MARGIN.left) / Math.max(this.canvas.clientWidth - MARGIN.left - MARGIN.right, 1);
    return start + Math.max(0, Math.min(1, inside)) * (end - start);
  }

  redraw() {
    if (!this.scene || this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
    });
  }

  draw() {
    const { canvas, scene } = this;
    const width = canvas.clientWidth;
    if (!width) return; // not on the page, or folded away
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(this.height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = FONT;
    this.ink = getComputedStyle(canvas).color;
    const frame = this.frame(width);
    this.drawAxes(context, frame);
    context.save();
    context.beginPath();
    context.rect(frame.left, 0, frame.right - frame.left, frame.bottom);
    context.clip();
    const bands = this.drawLayers(context, frame);
    this.drawCurves(context, frame);
    this.drawMoments(context, frame);
    this.drawLabels(context, frame, bands);
    context.restore();
    this.drawCursor(context, frame);
    this.updateLegend();
    this.zoomOut.disabled = !this.zoom;
    canvas.dataset.draws = Number(canvas.dataset.draws || 0) + 1;
  }

  /** Where the picture lies, and what its scales are. */
  frame(width) {
    const { scene } = this;
    const [start, end] = this.domain();
    const [wholeStart, wholeEnd] = this.whole();
    const perColumn = (wholeEnd - wholeStart) / scene.columns;
    const first = Math.max(0, Math.floor((start - wholeStart) / perColumn));
    const last = Math.min(scene.columns, Math.ceil((end - wholeStart) / perColumn));
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, this.height - MARGIN.bottom];
    const high = Math.max(1, this.highest(first, last)) * 1.08;
    return {
      left, right, top, bottom, first, last, high, start, end,
      x: (time) => left + ((time - start) / (end - start)) * (right - left),
      y: (size) => bottom - (size / high) * (bottom - top),
      edge: (column) => wholeStart + column * perColumn,
    };
  }

  shown() {
    return this.scene.layers.filter((layer) => !this.hidden.has(layer.id));
  }

  highest(first, last) {
    const layers = this.shown();
    let high = 0;
    for (let column = first; column < last; column += 1) {
      let sum = 0;
      for (const layer of layers) sum += layer.values[column];
      if (sum > high) high = sum;
    }
    for (const name of this.visibleCurves()) high = Math.max(high, largest(this.scene.curves[name], first, last));
    return high;
  }

  visibleCurves() {
    // The outline is that of the whole: with a layer hidden it would hang in the air.
    const whole = this.shown().length === this.scene.layers.length;
    return Object.keys(this.scene.curves).filter((name) => (name === "high" ? whole : !this.hidden.has(name)));
  }

  drawAxes(context, { left, right, top, bottom, high, start, end, x, y }) {
    context.fillStyle = context.strokeStyle = this.ink;
    context.lineWidth = 1;
    const step = 2 ** Math.max(0, Math.ceil(Math.log2(high / 4)));
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let size = 0; size <= high; size += step) {
      context.globalAlpha = 0.15;
      context.fillRect(left, Math.round(y(size)), right - left, 1);
      context.globalAlpha = 0.85;
      context.fillText(formatBytes(size).replace(".0 ", " "), left - 6, y(size));
    }
    const origin = this.scene.start_ns;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const [time, label] of timeTicks(start - origin, end - origin, Math.max(2, (right - left) / 90))) {
      context.fillRect(Math.round(x(origin + time)), bottom, 1, 4);
      context.fillText(label, x(origin + time), bottom + 7);
    }
    context.globalAlpha = 1;
  }

  drawLayers(context, frame) {
    const { first, last, x, y, edge } = frame;
    let floor = new Float32Array(last - first);
    const bands = [];
    for (const layer of this.shown()) {
      const ceiling = floor.map((size, place) => size + layer.values[first + place]);
      const area = this.steps(ceiling, frame);
      for (let place = ceiling.length - 1; place >= 0; place -= 1) {
        area.lineTo(x(edge(first + place + 1)), y(floor[place]));
        area.lineTo(x(edge(first + place)), y(floor[place]));
      }
      context.fillStyle = context.strokeStyle = layer.colour;
      context.fill(area);
      if (layer.dash) {
        context.fillStyle = hatch(context, layer);
        context.fill(area);
      }
      context.lineWidth = 1.25;
      context.setLineDash(DASHES[layer.dash]);
      context.stroke(this.outline(floor, ceiling, frame));
      context.setLineDash([]);
      bands.push({ layer, floor, ceiling });
      floor = ceiling;
    }
    return bands;
  }

  /** A line that keeps each column's level to its end. */
  steps(levels, { first, x, y, edge }) {
    const path = new Path2D();
    for (let place = 0; place < levels.length; place += 1) {
      path.lineTo(x(edge(first + place)), y(levels[place]));
      path.lineTo(x(edge(first + place + 1)), y(levels[place]));
    }
    return path;
  }

  /** The upper edge of a layer where there is any of it: before and after it is nothing, and not a line. */
  outline(floor, ceiling, { first, x, y, edge }) {
    const path = new Path2D();
    for (let place = 0; place < ceiling.length; place += 1) {
      if (ceiling[place] <= floor[place]) continue;
      if (!place || ceiling[place - 1] <= floor[place - 1]) path.moveTo(x(edge(first + place)), y(floor[place]));
      path.lineTo(x(edge(first + place)), y(ceiling[place]));
      path.lineTo(x(edge(first + place + 1)), y(ceiling[place]));
    }
    return path;
  }

  drawCurves(context, { first, last, x, y, edge }) {
    const styles = { high: [[], 0.7], resident: [[5, 3], 0.9] };
    context.strokeStyle = this.ink;
    context.lineWidth = 1;
    for (const name of this.visibleCurves()) {
      const values = this.scene.curves[name];
      const [dash, alpha] = styles[name];
      context.setLineDash(dash);
      context.globalAlpha = alpha;
      context.beginPath();
      for (let column = first; column < last; column += 1) {
        if (Number.isNaN(values[column])) continue;
        context.lineTo(x(edge(column)), y(values[column]));
        context.lineTo(x(edge(column + 1)), y(values[column]));
      }
      context.stroke();
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** Where cells began, and the marks: a line each, and its name above where there is room. */
  drawMoments(context, { left, right, bottom, top, start, end, x }) {
    context.fillStyle = this.ink;
    context.textBaseline = "bottom";
    context.textAlign = "left";
    let before = -Infinity;
    const rows = { cell: { level: top - 16, free: left }, mark: { level: top - 3, free: left } };
    for (const moment of this.scene.moments) {
      if (moment.time_ns < start || moment.time_ns > end) continue;
      const at = x(moment.time_ns);
      context.globalAlpha = moment.kind === "mark" ? 0.9 : 0.35;
      if (moment.kind === "collection") {
        context.fillRect(at, bottom - 6, 1, 6);
        continue;
      }
      if (moment.kind === "cell" && at - before < 3) continue; // hundreds would be a wall
      before = at;
      context.fillRect(Math.round(at), top - 2, 1, bottom - top + 2);
      const row = rows[moment.kind];
      const wide = context.measureText(moment.name).width;
      context.globalAlpha = 0.9;
      if (at >= row.free && at + wide + 3 < right) {
        context.fillText(moment.name, at + 2, row.level);
        row.free = at + wide + 8;
      }
    }
    context.globalAlpha = 1;
  }

  /** A name on each area that is high and wide enough for it; the others are told by the legend. */
  drawLabels(context, { first, x, y, edge, left, right }, bands) {
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const { layer, floor, ceiling } of bands) {
      const wide = context.measureText(layer.name).width;
      const room = (place) => y(floor[place]) - y(ceiling[place]);
      const fitting = [];
      for (let place = 0; place < ceiling.length; place += LABEL_STEP) {
        if (room(place) < 15) continue;
        const middle = (x(edge(first + place)) + x(edge(first + place + 1))) / 2;
        const at = Math.max(left + wide / 2 + 4, Math.min(right - wide / 2 - 4, middle));
        const level = (y(floor[place]) + y(ceiling[place])) / 2;
        if (this.isInside(floor, ceiling, at, wide / 2, level, { x, y, edge, first })) fitting.push({ at, level, room: room(place) });
      }
      // Where the area is about as high as anywhere, in the middle.
      const highest = Math.max(...fitting.map((place) => place.room));
      const high = fitting.filter((place) => place.room > 0.8 * highest);
      const best = high[Math.floor(high.length / 2)];
      if (!best) continue;
      context.fillStyle = layer.colour; // no line runs through the name
      context.fillRect(best.at - wide / 2 - 2, best.level - 7, wide + 4, 14);
      context.fillStyle = inkOn(layer.colour);
      context.fillText(layer.name, best.at, best.level);
    }
  }

  isInside(floor, ceiling, at, half, level, { x, y, edge, first }) {
    for (let place = 0; place < ceiling.length; place += 1) {
      if (x(edge(first + place + 1)) < at - half || x(edge(first + place)) > at + half) continue;
      if (y(ceiling[place]) > level - 7 || y(floor[place]) < level + 7) return false;
    }
    return true;
  }

  drawCursor(context, frame) {
    const { cursor, drag } = this;
    this.tooltip.hidden = cursor === null;
    if (cursor === null) return;
    const { left, right, top, bottom, x } = frame;
    context.fillStyle = this.ink;
    if (drag && drag.to !== null) {
      context.globalAlpha = 0.12;
      context.fillRect(x(drag.from), top, x(drag.to) - x(drag.from), bottom - top);
    }
    context.globalAlpha = 0.6;
    context.fillRect(x(cursor), top, 1, bottom - top);
    context.globalAlpha = 1;
    this.fillTooltip(cursor);
    this.tooltip.style.background = backdrop(this.canvas);
    const beside = x(cursor) + 12 + this.tooltip.offsetWidth < right ? x(cursor) + 12 : x(cursor) - 12 - this.tooltip.offsetWidth;
    this.tooltip.style.left = `${Math.max(left, beside)}px`;
    this.tooltip.style.top = `${top}px`;
  }

  columnAt(time) {
    const [start, end] = this.whole();
    return Math.max(0, Math.min(this.scene.columns - 1, Math.floor(((time - start) / (end - start)) * this.scene.columns)));
  }

  fillTooltip(time) {
    const column = this.columnAt(time);
    const { curves, layers, start_ns } = this.scene;
    const lines = [`after ${formatDuration(time - start_ns)}`];
    for (const layer of layers.toReversed()) {
      if (!this.hidden.has(layer.id) && layer.values[column] >= 1) lines.push(`${layer.name}: ${formatBytes(layer.values[column])}`);
    }
    lines.push(`highest in this step: ${formatBytes(curves.high[column])}`);
    if (curves.resident && !Number.isNaN(curves.resident[column])) lines.push(`RSS: ${formatBytes(curves.resident[column])}`);
    this.tooltip.replaceChildren(...lines.map((line) => make("div", {}, line)));
  }

  updateLegend() {
    const { layers, curves, columns } = this.scene;
    const entries = layers.map(({ id, name, colour, dash, values }) => ({ id, name, colour, dash, last: values[columns - 1] }));
    if (curves.resident) {
      entries.push({ id: "resident", name: "RSS", colour: "currentColor", dash: 2, last: curves.resident[columns - 1] });
    }
    const wanted = entries.map(({ id, name }) => `${id} ${name}`).join("\n");
    if (wanted !== this.legendEntries) {
      // Made anew only when they differ: a button that is replaced loses its focus.
      this.legendEntries = wanted;
      this.legend.replaceChildren(...entries.map((entry) => this.legendButton(entry)));
    }
    entries.forEach(({ id, last }, place) => {
      const button = this.legend.children[place];
      button.setAttribute("aria-pressed", String(!this.hidden.has(id)));
      button.lastChild.textContent = Number.isNaN(last) ? "" : formatBytes(last);
    });
  }

  legendButton({ id, name, colour, dash }) {
    const swatch = make("span", { class: "thag-swatch", "aria-hidden": "true" });
    swatch.style.color = colour;
    swatch.style.background = dash ? `repeating-linear-gradient(90deg, ${colour} 0 4px, transparent 4px ${5 + dash}px)` : colour;
    const button = make("button", { type: "button", title: `show or hide ${name}`, onclick: () => this.toggle(id) });
    button.append(swatch, make("span", {}, name), make("span", { class: "thag-last" }));
    return button;
  }
}
