"use strict";
// Draws figures where they come into view: those of a report stand in its page, those of a board come later, one by one.
const Charts = (() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const hovers = window.matchMedia("(hover: hover)").matches;
  const options = { displaylogo: false, responsive: true, showTips: false, displayModeBar: hovers ? "hover" : false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const COUNTED = { seconds: "seconds since the run began", tokens: "tokens sampled" };
  const figures = new Map();
  const drawn = new Set();
  let clocks = [];
  let missing = () => {};
  let printing = false;

  function colours() {
    return dark.matches && !printing
      ? { ink: "#c9d0d8", grid: "#2e333d", card: "#1b1e25" }
      : { ink: "#3d4550", grid: "#e7e8eb", card: "#ffffff" };
  }

  // Only what depends on the theme; everything else comes with the figure.
  function themed(layout) {
    const { ink, grid, card } = colours();
    const copy = JSON.parse(JSON.stringify(layout));
    copy.font = { ...copy.font, color: ink };
    copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: ink, activecolor: ink };
    copy.hoverlabel = { bgcolor: card, bordercolor: grid, font: { color: ink } };
    for (const note of copy.annotations || []) { note.bgcolor = card; note.opacity = 0.9; }
    for (const axis of Object.keys(copy).filter((name) => /^[xy]axis\d*$/.test(name))) {
      Object.assign(copy[axis], { gridcolor: grid, linecolor: grid, zerolinecolor: grid });
    }
    return copy;
  }

  // What a step is counted by: figures hold steps, a run's clock says what had gone by at each of them.
  const axis = () => document.getElementById("axis");

  function at(step, [steps, gone]) {
    let low = 0, high = steps.length - 1;
    if (step <= steps[0]) { return gone[0]; }
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) { low = middle; } else { high = middle; }
    }
    return gone[low] + (gone[high] - gone[low]) * Math.min(1, (step - steps[low]) / (steps[high] - steps[low]));
  }

  function counted(figure) {
    const by = axis() ? axis().value : "";
    if (!by || !figure.data.some((trace) => "meta" in trace)) { return figure; }
    const known = figure.data.filter((trace) => clocks[trace.meta] && clocks[trace.meta][by]);
    if (!known.length) { return figure; }
    const data = known.map((trace) => ({ ...trace, x: trace.x.map((step) => at(step, clocks[trace.meta][by])) }));
    const layout = JSON.parse(JSON.stringify(figure.layout));
    layout.xaxis.title.text = COUNTED[by];
    delete layout.xaxis.dtick;
    return { data, layout };
  }

  function draw(place) {
    if (place.offsetParent === null) { return; }
    const index = Number(place.dataset.figure);
    if (!figures.has(index)) { missing(place, index); return; }
    const figure = counted(figures.get(index));
    if (!drawn.has(place)) {
      place.replaceChildren();
      place.classList.remove("empty");
      drawn.add(place);
    }
    const layout = themed(figure.layout);
    layout.uirevision = "kept";  // what a reader has zoomed into stays when the curve grows
    // Paper is narrower than the screen and fires no resize: two columns of A4 or Letter.
    if (printing) { layout.width = place.closest(".wide") ? 640 : 310; }
    window.Plotly.react(place, figure.data, layout, options);
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
    }
  }, { rootMargin: "800px" });
  const places = () => Array.from(document.querySelectorAll(".plot[data-figure]"));

  function redraw() {
    for (const place of drawn) {
      if (place.isConnected) { draw(place); } else { drawn.delete(place); }
    }
  }
  dark.addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => { printing = true; places().forEach(draw); });
  window.addEventListener("afterprint", () => { printing = false; redraw(); });

  // What came or changed its colours while it was folded away.
  document.addEventListener("toggle", (event) => {
    if (event.target.matches("details.more, details.part")) {
      places().filter((place) => event.target.contains(place) && drawn.has(place)).forEach(draw);
    }
  }, true);

  function count() {
    const choose = axis();
    if (!choose) { return; }
    const before = choose.value;
    choose.replaceChildren(new Option("steps", ""));
    for (const by of Object.keys(COUNTED)) {
      if (clocks.some((clock) => by in clock)) { choose.append(new Option(by, by)); }
    }
    choose.value = Array.from(choose.options).some((option) => option.value === before) ? before : "";
    choose.closest("p").hidden = choose.options.length < 2;
  }
  document.addEventListener("change", (event) => { if (event.target === axis()) { redraw(); } });

  return {
    // Look for places of figures, also where they have come to the page since.
    watch(newClocks, bring) {
      clocks = newClocks;
      missing = bring || missing;
      count();
      places().filter((place) => !drawn.has(place)).forEach((place) => watcher.observe(place));
    },
    put(index, figure) { figures.set(index, figure); },
    clear() { figures.clear(); },
    shown: () => places().filter((place) => drawn.has(place) && place.offsetParent !== null),
    draw,
    redraw,
  };
})();
