// Sorts tables, draws the charts, and keeps one run picked in all of them.
"use strict";
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // Tables

  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

  function sort(head) {
    const table = head.closest("table");
    const place = head.cellIndex;
    const turned = { ascending: "descending", descending: "ascending" };
    const direction = turned[head.getAttribute("aria-sort")] ?? head.dataset.first;
    all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => {
      const known = row.cells[place].dataset.value;
      return known === undefined ? null : "number" in head.dataset ? Number(known) : known.toLowerCase();
    };
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row), row]);
    // What is unknown is last either way.
    rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
    body.append(...rows.map(([, row]) => row));
  }

  all("th > button").forEach((button) => button.addEventListener("click", () => sort(button.parentElement)));

  // Commands

  if (navigator.clipboard) {
    all("pre.command").forEach((block) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(block.querySelector("code").textContent);
        button.textContent = "Copied";
      });
      block.append(button);
    });
  }

  // One run, picked everywhere

  const views = [];
  const chip = document.getElementById("picked");
  const rowsOf = (run) => all("tr[data-run]").filter((row) => row.dataset.run === run);
  let picked = null;

  function pick(run) {
    picked = run;
    all("tr[aria-current]").forEach((row) => row.removeAttribute("aria-current"));
    rowsOf(run).forEach((row) => row.setAttribute("aria-current", "true"));
    all("button.run").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.closest("tr").dataset.run === run));
    });
    views.forEach((view) => view.signal("picked", run).runAsync());
    chip.replaceChildren();
    if (run !== null) {
      const model = rowsOf(run)[0]?.dataset.model ?? "";
      const clear = Object.assign(document.createElement("button"), { type: "button", textContent: "clear" });
      clear.addEventListener("click", () => pick(null));
      chip.append(`picked: ${model} ${run.slice(0, 8)} `, clear);
    }
    history.replaceState(null, "", run === null ? location.href.split("#")[0] : `#run=${run}`);
  }

  const toggle = (run) => pick(run === picked ? null : run);

  all("tr[data-run]").forEach((row) => {
    row.addEventListener("click", () => {
      if (!String(getSelection())) toggle(row.dataset.run); // not where text was marked
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && picked !== null) pick(null);
  });

  function pickFromAddress() {
    const asked = /^#run=([0-9a-f]+)$/.exec(location.hash)?.[1];
    const row = asked && all("tr[data-run]").find((found) => found.dataset.run.startsWith(asked));
    if (row) {
      pick(row.dataset.run);
      row.scrollIntoView({ block: "center" });
    }
  }
  addEventListener("hashchange", pickFromAddress);

  // Charts

  const { config, specs, datasets, columns } = JSON.parse(document.getElementById("chart-data").textContent);
  const unpack = (column) =>
    Array.isArray(column) ? column : column.at.map((place) => (place === null ? null : column.of[place]));

  // A view writes into its rows, so that each gets rows of its own.
  function rowsNamed(name) {
    const packed = datasets[name];
    if (packed.values) return packed.values;
    const fields = Object.entries(packed.columns).map(([field, place]) => [field, unpack(columns[place])]);
    return Array.from({ length: packed.length }, (_, i) => Object.fromEntries(fields.map(([field, of]) => [field, of[i]])));
  }

  function datasetsOf(spec) {
    const names = new Set();
    JSON.stringify(spec, (key, value) => {
      if (key === "name" && Object.hasOwn(datasets, value)) names.add(value);
      return value;
    });
    return Object.fromEntries([...names].map((name) => [name, rowsNamed(name)]));
  }

  // Views are drawn as wide as the page is here; those side by side stay as they are, and are scrolled.
  const AXIS = 76;

  const widthOf = (spec) => spec.width ?? spec.vconcat[0].width;
  const hasWidth = (spec) => typeof spec.width === "number";

  // What tells two data sets apart has a line of its own.
  const lined = (title, limit) => ({ text: title.split(/ (?=\()/), limit });

  function fitted(spec, width) {
    if (spec.vconcat?.every(hasWidth)) {
      const room = width - AXIS;
      const narrowed = (part) => ({ ...part, width: room, title: part.title && lined(part.title, room) });
      return { ...spec, vconcat: spec.vconcat.map(narrowed) };
    }
    return hasWidth(spec) ? { ...spec, width, autosize: { type: "fit-x", contains: "padding" } } : null;
  }

  // Legends were given as many columns as there is room for where a chart has its own width.
  function withLegends(spec, share) {
    return JSON.parse(JSON.stringify(spec), (key, value) =>
      key === "legend" && value?.columns
        ? { ...value, columns: Math.max(1, Math.floor(value.columns * Math.min(1, share))) }
        : value
    );
  }

  const LEAST = 80; // beside long names: a plot that is narrower shows nothing, and is scrolled instead

  async function draw(place) {
    const spec = specs[place.dataset.figure];
    const fits = fitted(spec, place.clientWidth);
    let view = await embed(place, fits ? withLegends(fits, place.clientWidth / widthOf(spec)) : spec);
    let isFitted = fits !== null;
    if (hasWidth(spec) && view.width() < LEAST) {
      view.finalize();
      view = await embed(place, spec);
      isFitted = false;
    }
    place.classList.toggle("fits", isFitted);
    if (spec.params?.some((param) => param.name === "picked")) {
      views.push(view);
      if (picked !== null) await view.signal("picked", picked).runAsync();
      view.addEventListener("click", (_, item) => {
        const run = item?.datum?.run_id ?? item?.datum?.datum?.run_id;
        if (run) toggle(run);
      });
    }
    offer(place, view);
  }

  async function embed(place, spec) {
    const legend = { ...config.legend, columns: Math.max(1, Math.floor(place.clientWidth / 170)) };
    const { view } = await vegaEmbed(place, { ...spec, datasets: datasetsOf(spec) }, {
      mode: "vega-lite",
      renderer: "svg",
      actions: false,
      defaultStyle: false,
      ast: true, // expressions are read, not compiled: the page allows no script but its own
      config: { ...config, legend, background: "transparent" },
      logLevel: 1, // errors: a line that waits for a run to be picked has no extent yet, and that is no matter
    });
    return view;
  }

  function offer(place, view) {
    const buttons = ["svg", "png"].map((kind) => {
      const button = Object.assign(document.createElement("button"), {
        type: "button",
        textContent: kind.toUpperCase(),
        title: `Save this chart as ${kind.toUpperCase()}`,
      });
      button.addEventListener("click", async () => {
        // On white: letters are dark, and where the file is looked at may be dark, too.
        const ground = view.background();
        const href = await view.background("white").toImageURL(kind, 2);
        await view.background(ground).runAsync();
        Object.assign(document.createElement("a"), { href, download: `${place.dataset.figure}.${kind}` }).click();
      });
      return button;
    });
    const bar = Object.assign(document.createElement("p"), { className: "save" });
    bar.append("Save as ", ...buttons);
    place.closest("figure").append(bar);
  }

  async function drawAll() {
    pickFromAddress();
    for (const place of all(".chart")) {
      try {
        await draw(place);
      } catch (error) {
        place.textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
      }
      await new Promise((resolve) => setTimeout(resolve)); // the page stays alive between two charts
    }
    document.documentElement.dataset.drawn = "all";
  }

  addEventListener("beforeprint", () => all("details").forEach((part) => (part.open = true)));
  drawAll();
})();
