"use strict";
// Brings a page of the board up to date: asks what is new, and puts only that in its place.
(() => {
  const { page: kind, asOf, lost } = document.currentScript.dataset;
  const live = document.getElementById("live");
  const query = location.search.replace(/^\?/, "");
  let timer = 0;

  async function ask(path, more) {
    const answer = await fetch(`${path}?${[query, more].filter(Boolean).join("&")}`, { headers: { accept: "application/json" } });
    if (!answer.ok) { throw new Error((await answer.json()).error || answer.statusText); }
    return answer.json();
  }

  // Soon again; not while nobody looks, and not at once where the server doesn't answer.
  async function step(update) {
    clearTimeout(timer);
    let seconds = 5;
    try {
      seconds = await update();
      live.textContent = asOf.replace("{time}", () => new Date().toLocaleTimeString(document.documentElement.lang));
      live.classList.remove("lost");
    } catch (error) {
      live.textContent = lost.replace("{why}", () => error.message);
      live.classList.add("lost");
    }
    if (!document.hidden) { timer = setTimeout(() => step(update), 1000 * seconds); }
  }

  function start(update, seconds) {
    timer = setTimeout(() => step(update), 1000 * seconds);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) { step(update); } });
  }

  // ---- the list

  let shown = "";
  async function list() {
    const { html, again } = await ask("/api/list");
    const place = document.getElementById("rows");
    if (html !== shown) {
      const chosen = new Set(Array.from(place.querySelectorAll("input:checked"), (box) => box.value));
      const focused = document.activeElement && document.activeElement.value;
      place.innerHTML = html;
      for (const box of place.querySelectorAll("input[name=run]")) {
        box.checked = chosen.has(box.value);
        if (box.value === focused) { box.focus(); }
      }
      shown = html;
    }
    return again;
  }

  // ---- runs

  const places = () => Array.from(document.querySelectorAll("[data-part]"));
  const waiting = new Map();
  const ANSWERS = ["tokens", "samples"];

  // A part that somebody reads stays as it is until they say so.
  function inUse(place) {
    return ANSWERS.includes(place.dataset.part) && place.querySelector(".tok.at, details[open], :focus") !== null;
  }

  function put(place, html) {
    const open = new Set(Array.from(place.querySelectorAll("details[open] > summary"), (each) => each.textContent));
    place.innerHTML = html;
    for (const summary of place.querySelectorAll("details > summary")) {
      if (open.has(summary.textContent)) { summary.parentElement.open = true; }
    }
  }

  function replace(parts, hashes) {
    for (const place of places()) {
      const name = place.dataset.part;
      if (!(name in parts)) { continue; }
      place.dataset.hash = hashes[name];
      if (inUse(place)) { waiting.set(name, parts[name]); } else { put(place, parts[name]); waiting.delete(name); }
    }
    document.getElementById("newer").hidden = waiting.size === 0;
    Tokens.paint();
  }

  let wanted = new Set();
  let bringing = 0;
  function bring(place, index) {
    wanted.add(index);
    clearTimeout(bringing);
    bringing = setTimeout(fetchFigures, 30);
  }

  async function fetchFigures() {
    const indices = Array.from(wanted);
    wanted = new Set();
    if (!indices.length) { return; }
    let figures;
    try { figures = await ask("/api/figures", `at=${indices.join(",")}`); } catch { return; }
    for (const [index, { plot, alt }] of Object.entries(figures)) {
      Charts.put(Number(index), plot);
      for (const place of document.querySelectorAll(`.plot[data-figure="${index}"]`)) {
        place.setAttribute("aria-label", alt);
        Charts.draw(place);
      }
    }
  }

  let version = "";
  async function runs() {
    const have = [`version.${version}`, ...places().map((place) => `${place.dataset.part}.${place.dataset.hash}`)];
    const answer = await ask("/api/runs", `have=${have.join(",")}`);
    const reading = document.getElementById("reading");
    reading.hidden = answer.reading >= 1;
    reading.querySelector("progress").value = answer.reading;
    if (answer.parts) {
      const anew = "curves" in answer.parts;
      replace(answer.parts, answer.hashes);
      const seen = anew ? [] : Charts.shown().map((place) => Number(place.dataset.figure));
      if (anew || version) { Charts.clear(); }
      Charts.watch(answer.clocks, bring);
      seen.forEach((index) => wanted.add(index));
      await fetchFigures();
    }
    version = answer.version;
    return answer.again;
  }

  if (kind === "list") {
    start(list, 2);
  } else {
    document.querySelector("#newer button").addEventListener("click", () => {
      for (const place of places()) {
        if (waiting.has(place.dataset.part)) { put(place, waiting.get(place.dataset.part)); }
      }
      waiting.clear();
      document.getElementById("newer").hidden = true;
      Tokens.paint();
    });
    Tokens.paint();
    start(runs, 0);
  }
})();
