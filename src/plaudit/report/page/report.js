"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figure-data");
  const clocks = read("clock-data");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const hovers = window.matchMedia("(hover: hover)").matches;
  const options = { displaylogo: false, responsive: true, showTips: false, displayModeBar: hovers ? "hover" : false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const drawn = new Set();
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
  const axis = document.getElementById("axis");
  const COUNTED = { seconds: "seconds since the run began", tokens: "tokens sampled" };

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
    const by = axis ? axis.value : "";
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
    const figure = counted(figures[Number(place.dataset.figure)]);
    if (!drawn.has(place)) {
      place.replaceChildren();
      place.classList.remove("empty");
      drawn.add(place);
    }
    const layout = themed(figure.layout);
    // Paper is narrower than the screen and fires no resize: two columns of A4 or Letter.
    if (printing) { layout.width = place.closest(".wide") ? 640 : 310; }
    window.Plotly.react(place, figure.data, layout, options);
  }

  const places = Array.from(document.querySelectorAll(".plot[data-figure]"));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
    }
  }, { rootMargin: "800px" });
  places.forEach((place) => watcher.observe(place));

  function redraw() { drawn.forEach(draw); }
  dark.addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => { printing = true; places.forEach(draw); });
  window.addEventListener("afterprint", () => { printing = false; redraw(); });

  // What the theme changed while it was folded away.
  for (const fold of document.querySelectorAll("details.more, details.part")) {
    fold.addEventListener("toggle", () => places.filter((place) => fold.contains(place) && drawn.has(place)).forEach(draw));
  }

  if (axis) {
    for (const by of Object.keys(COUNTED)) {
      if (clocks.some((clock) => by in clock)) { axis.append(new Option(by, by)); }
    }
    axis.closest("p").hidden = axis.options.length < 2;
    axis.addEventListener("change", redraw);
  }

  // A link into something that is folded opens it, and lands once what stands above has its height.
  function land() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) { return; }
    for (let place = target; place; place = place.parentElement) {
      if (place.tagName === "DETAILS") { place.open = true; }
    }
    const own = target.querySelector(":scope > details.part");
    if (own) { own.open = true; }
    target.scrollIntoView();
  }
  window.addEventListener("hashchange", land);
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    link.addEventListener("click", () => { if (link.hash === location.hash) { land(); } });
  }
  land();

  // Every answer by its words. What was written is set as text, never as markup.
  const search = document.getElementById("sample-search");
  const SHOWN = 20;

  function find() {
    const entries = read("search-data");
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const holds = ([prompt, sides]) => {
      const text = [prompt, ...sides.map((side) => side[1])].join("\n").toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const found = words.length ? entries.filter(holds) : [];
    document.getElementById("search-results").replaceChildren(...found.slice(0, SHOWN).map(card));
    const more = found.length > SHOWN ? `, the first ${SHOWN} shown` : "";
    document.getElementById("found").textContent = words.length ? `${found.length} found${more}` : "";
  }

  function card([prompt, sides]) {
    const made = document.getElementById("search-card").content.cloneNode(true);
    made.querySelector(".said").textContent = prompt;
    made.querySelector(".pair").append(...sides.map(([label, text, score]) => {
      const side = document.getElementById("search-side").content.cloneNode(true);
      side.querySelector("b").textContent = label;
      side.querySelector("h4 span").textContent = score === null ? "" : `score ${score.toPrecision(3).replace("-", "−")}`;
      side.querySelector(".said").textContent = text || "(empty)";
      return side;
    }));
    return made;
  }

  if (search) {
    search.closest("p").hidden = false;
    search.addEventListener("input", find);
  }

  // Rollouts token by token: the colour's column, and one token's numbers for those who don't point with a mouse.
  const choose = document.getElementById("token-column");
  const texts = Array.from(document.querySelectorAll(".tokens"), (place) => (
    { place, tokens: Array.from(place.querySelectorAll(".tok")), levels: JSON.parse(place.dataset.levels), at: -1 }));

  function paint() {
    for (const { tokens, levels } of texts) {
      const marks = levels[choose.value] || "";
      tokens.forEach((token, index) => {
        const mark = marks[index] || "-";
        token.className = mark === "-" ? "tok" : `tok k-${mark}`;
      });
    }
    for (const legend of document.querySelectorAll(".legend")) { legend.hidden = legend.dataset.column !== choose.value; }
  }

  function tell(text, at) {
    text.tokens.forEach((token, index) => token.classList.toggle("at", index === at));
    text.at = at;
    text.place.parentElement.querySelector(".told").textContent = text.tokens[at].title.replace(/\n/g, " · ");
  }

  if (choose) {
    choose.closest("p").hidden = false;
    choose.addEventListener("change", paint);
    paint();
    for (const text of texts) {
      text.place.addEventListener("click", (event) => {
        const at = text.tokens.indexOf(event.target.closest(".tok"));
        if (at >= 0) { tell(text, at); }
      });
      text.place.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step === undefined || !text.tokens.length) { return; }
        event.preventDefault();
        tell(text, Math.min(text.tokens.length - 1, Math.max(0, text.at + step)));
      });
    }
  }

  // On wide screens the table of contents stands open beside the text.
  const contents = document.querySelector(".toc details");
  const wide = window.matchMedia("(min-width: 70rem)");
  const unfold = () => { if (contents) { contents.open = wide.matches; } };
  wide.addEventListener("change", unfold);
  unfold();
})();
