// The dashboard: takes a picture and a table that can be read as they are, and makes them a chart and a table to sort.

class CostTable {
  constructor(table, { rows, groups }, onselect) {
    this.table = table;
    this.body = table.tBodies[0];
    this.nodes = rows.map((row, place) => ({ ...row, element: this.body.rows[place], children: [] }));
    const byId = new Map(this.nodes.map((node) => [node.id, node]));
    this.tops = [];
    for (const node of this.nodes) (byId.get(node.parent)?.children ?? this.tops).push(node);
    this.groups = groups;
    this.order = { column: null, down: true };
    [...table.tHead.rows[0].cells].forEach((cell, column) => this.makeSortable(cell, column));
    for (const node of this.nodes) this.makeSelectable(node, onselect);
    table.setAttribute("role", "grid");
    table.setAttribute("aria-label", "costs; a row shows its context");
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.moveTo(this.selectable()[0]);
  }

  makeSortable(cell, column) {
    const button = make("button", { type: "button", class: "thag-sort", onclick: () => this.sort(column) }, cell.textContent);
    cell.replaceChildren(button);
    cell.setAttribute("aria-sort", "none");
  }

  makeSelectable(node, onselect) {
    if (!node.detail) return;
    const { element } = node;
    element.classList.add("thag-row");
    element.setAttribute("aria-selected", "false");
    element.addEventListener("click", () => {
      this.body.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
      element.setAttribute("aria-selected", "true");
      this.moveTo(element);
      onselect(node);
    });
  }

  selectable() {
    return [...this.body.rows].filter((row) => row.classList.contains("thag-row"));
  }

  /** One row at a time is a stop of the tab key; from there on, arrows lead to the others. */
  moveTo(row) {
    for (const other of this.selectable()) other.tabIndex = other === row ? 0 : -1;
  }

  key(event) {
    const rows = this.selectable();
    const at = rows.indexOf(event.target);
    const places = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, " ": at };
    if (at < 0 || !(event.key in places)) return;
    event.preventDefault();
    event.stopPropagation(); // a notebook has commands on the same keys
    if (places[event.key] === at) return event.target.click();
    const row = rows[Math.max(0, Math.min(rows.length - 1, places[event.key]))];
    this.moveTo(row);
    row.focus();
  }

  /** By a column, largest first, and then the other way round; nested rows stay below what they belong to. */
  sort(column) {
    const { order } = this;
    order.down = order.column === column ? !order.down : column > 0;
    order.column = column;
    const before = (one, other) => {
      const [a, b] = [one.values[column], other.values[column]];
      const difference = typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : (a ?? -1) - (b ?? -1);
      return order.down ? -difference : difference;
    };
    const place = (nodes) => {
      for (const node of [...nodes].sort(before)) {
        this.body.append(node.element);
        place(node.children);
      }
    };
    const [first, ...rest] = this.tops;
    place([first]);
    place(rest); // what is beside the root stays at the end
    [...this.table.tHead.rows[0].cells].forEach((cell, at) => {
      cell.setAttribute("aria-sort", at !== column ? "none" : order.down ? "descending" : "ascending");
    });
  }

  /** Show the figures with what was started under a context, those without it, or both. */
  showGroup(group) {
    for (const row of this.table.rows) {
      [...row.cells].forEach((cell, column) => {
        const its = this.groups[column];
        cell.hidden = Boolean(its) && group !== "both" && its !== group;
      });
    }
  }
}

function groupChooser(onchoose) {
  const chooser = make("div", { class: "thag-controls", role: "group", "aria-label": "figures" });
  const words = { inclusive: "with what was started under it", self: "self only", both: "both" };
  const choose = (group) => {
    for (const button of chooser.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.group === group));
    }
    onchoose(group);
  };
  for (const [group, label] of Object.entries(words)) {
    chooser.append(make("button", { type: "button", "data-group": group, onclick: () => choose(group) }, label));
  }
  choose("inclusive");
  return chooser;
}

class Detail {
  constructor(root) {
    this.root = root;
  }

  show(node, buffer) {
    this.chart?.close();
    const { header, start } = node.detail;
    const heading = make("div", { class: "thag-figures" }, node.words);
    this.root.replaceChildren(heading);
    this.chart = new Chart(this.root, { height: 180 });
    this.chart.show(readScene(header, buffer.subarray(start)));
    heading.scrollIntoView({ block: "nearest" });
  }
}

/** Called by a script at the end of the static view that it stands in. What closes the charts again. */
async function dashboard(root, payload) {
  if (!root || root.classList.contains("thag")) return;
  const buffer = new Float32Array(await inflate(payload.buffer));
  root.classList.add("thag");
  const holder = make("div");
  const picture = root.firstElementChild; // or the sentence that says why there is none
  picture.before(make("style", {}, STYLE), holder);
  picture.hidden = true;
  picture.style.display = "none";
  const chart = new Chart(holder);
  chart.show(readScene(payload.scene, buffer));
  const table = root.querySelector("table");
  const detail = make("div", { class: "thag-detail" });
  (table.closest("div[style*='overflow']") ?? table).after(detail); // outside of the box that the table scrolls in
  const view = new Detail(detail);
  const costs = new CostTable(table, payload, (node) => view.show(node, buffer));
  table.before(groupChooser((group) => costs.showGroup(group)));
  root.dataset.ready = "true";
  return () => [chart, view.chart].forEach((open) => open?.close());
}

/** What anywidget calls to show the dashboard's model, which holds the same static view with its script as text. */
function renderDashboard({ model, el }) {
  let close = null;
  const update = async () => {
    const root = make("div");
    root.innerHTML = model.get("view"); // scripts that arrive so do not run
    el.replaceChildren(root);
    (await close)?.();
    const payload = model.get("payload");
    close = payload ? dashboard(root, JSON.parse(payload)) : null;
  };
  model.on("change:payload", update);
  update();
  return async () => {
    model.off("change:payload", update);
    (await close)?.();
  };
}
