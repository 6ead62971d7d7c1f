// The labelling page: what is decided (the draft), by which key, click or drag, and how it gets to the server.

import { dragging } from "./drag.js";
import { markDiffering, unmark } from "./differ.js";
import { complete, insert, letter, move, place, ranks, tie } from "./ranking.js";
import { drawDraft, drawIdle, drawProgress, drawTask, fill, project, words } from "./screen.js";
import { ask, askUntilAnswered } from "./server.js";

const $ = (id) => document.getElementById(id);
const IDLE = 60_000; // milliseconds without a sign of life that still count as work
const query = new URLSearchParams(location.search);
const adjudicating = query.has("adjudicate");

let task = null;
let draft = null; // {places, choice, none, comment, scalar, flags, seconds, key, undo}
let picked = null;
let sending = false;
let prefix = ""; // "z" or "t": the next digit is a number of the scale, or a flag
let differing = false;
let written = false;
let lastSign = Date.now();

// ---------------------------------------------------------------------------------------------- a task and its draft

function open(answer) {
  drawProgress(answer.progress);
  task = answer.assignment;
  for (const id of ["task", "tools", "verdict"]) $(id).hidden = !task;
  $("idle").hidden = Boolean(task);
  if (!task) return idle(answer);
  draft = stored() ?? before(task.previous) ?? fresh();
  if (task.previous) draft.key = fresh().key; // a correction is a judgement of its own, whatever its draft was sent as
  picked = null;
  prefix = "";
  differing = false;
  lastSign = Date.now();
  drawTask(task);
  notice(task.previous && !adjudicating ? words.correcting : "");
  if (written) showWritten();
  show();
  scrollTo(0, 0);
  $("main").focus({ preventScroll: true });
  announce(fill("new_task", { count: task.answers.length }));
}

function idle(answer) {
  drawIdle(answer.waiting ? words.idle_waiting : words.idle_title, answer.waiting ? words.idle_waiting_text : words.idle_text);
  $("main").focus();
  announce($("idle-title").textContent);
  if (answer.waiting) setTimeout(() => task || fetchNext(), 5000);
}

const fresh = () => ({
  places: task.answers.map(() => null), choice: "", none: false, comment: "", seconds: 0, key: crypto.randomUUID?.() ?? key(), undo: [],
  scalar: task.answers.map(() => null), flags: project.flags.map(() => task.answers.map(() => false)),
});

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

function before(sent) {
  if (!sent) return null;
  const [a, b] = sent.ranks;
  const two = sent.none ? "none" : a === b ? "tie" : a < b ? "a" : "b";
  return {
    ...fresh(), none: sent.none, comment: sent.comment, choice: project.mode === "two" ? two : sent.step ? `${sent.step}` : "",
    ...(sent.ranks.length ? { places: sent.ranks } : {}), ...(sent.scalar.length ? { scalar: sent.scalar } : {}),
    flags: project.flags.map((name) => sent.flags[name] ?? task.answers.map(() => false)),
  };
}

// A draft outlives a reload, a crash and a lost connection, in this browser.
const storageName = () => `plaudit-draft:${task.id}`;

function stored() {
  try {
    const found = JSON.parse(localStorage.getItem(storageName()));
    return found?.places?.length === task.answers.length && found.flags?.length === project.flags.length ? found : null;
  } catch {
    return null;
  }
}

function keep() {
  try {
    localStorage.setItem(storageName(), JSON.stringify(draft));
  } catch { /* a full or forbidden storage: only the reload is less safe */ }
}

// What was sent is no draft any more: neither the clock nor a page that comes back from the browser's history keeps it.
function forget() {
  localStorage.removeItem(storageName());
  task = draft = null;
}

// What undo brings back: all but what goes on by itself, or is undone in its own field.
const snapshot = () => JSON.stringify({ ...draft, undo: undefined, seconds: undefined, comment: undefined, key: undefined });

// Every change goes through here: it can be undone, is kept, shown and told.
function change(act, index = null) {
  if (!task || sending) return;
  const state = snapshot();
  act();
  if (state === snapshot()) return;
  draft.undo = [...draft.undo.slice(-99), state];
  const order = show();
  announce(index === null ? order : `${fill("answer_name", { letter: letter(index) })}: ${stateOf(index)}. ${order}`);
}

const stateOf = (i) => (draft.places[i] === null ? words.no_place : fill("place_n", { n: draft.places[i] }));

function undo() {
  if (!draft?.undo.length || sending) return announce(words.nothing_to_undo);
  const rest = draft.undo.slice(0, -1);
  draft = { ...draft, ...JSON.parse(draft.undo.at(-1)), undo: rest };
  announce(`${words.undone}. ${show()}`);
}

function ready() {
  if (project.mode !== "rank") return Boolean(draft.choice) || draft.none;
  return complete(draft.places) || (draft.none && draft.places.every((each) => each === null));
}

function show() {
  const order = drawDraft(draft, picked, ready() && !sending);
  if (differing) mark();
  keep();
  return order;
}

function announce(message) {
  $("live").textContent = message;
}

function notice(message) {
  $("notice").textContent = message;
  $("notice").hidden = !message;
}

// ------------------------------------------------------------------------------------------------------ what people do

function pick(index, focus = true) {
  if (!task) return;
  picked = index;
  show();
  const card = document.querySelector(`.answer[data-index="${index}"]`);
  if (focus) {
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }
  announce(`${fill("answer_name", { letter: letter(index) })}: ${stateOf(index)}`);
}

const rank = (act) => picked !== null && project.mode === "rank" && change(() => (draft.places = act(draft.places, picked)), picked);

function choose(choice) {
  change(() => {
    draft.choice = choice;
    draft.none = choice === "none"; // a step takes it back
  });
}

function setNone(value) {
  if (project.mode === "two") return choose(value ? "none" : "");
  change(() => {
    draft.none = value;
    if (value) draft.choice = ""; // a step says which is better
  });
}

const setScale = (index, n) => change(() => (draft.scalar = draft.scalar.map((each, i) => (i === index ? n : each))));
const setFlag = (index, flag) =>
  change(() => (draft.flags = draft.flags.map((each, f) => (f === flag ? each.map((value, i) => (i === index ? !value : value)) : each))));

function mark() {
  const shown = [...document.querySelectorAll(".answer")].map((card) => card.querySelector('.text:not([hidden])'));
  markDiffering(shown, picked ?? 0);
}

function toggleDiffering() {
  differing = !differing;
  if (differing) mark();
  else document.querySelectorAll(".answer .text").forEach(unmark);
  pressed("differ", differing);
  announce(differing ? fill("differs_from", { letter: letter(picked ?? 0) }) : words.marks_off);
}

function showWritten() {
  for (const text of document.querySelectorAll("[data-view]:not([data-only])")) text.hidden = (text.dataset.view === "written") !== written;
  pressed("written", written);
  if (differing) mark();
}

const pressed = (act, on) => document.querySelector(`[data-act="${act}"]`).setAttribute("aria-pressed", on);

// ------------------------------------------------------------------------------------------------------ to the server

function judgement() {
  const chosen = { a: [1, 2], b: [2, 1], tie: [1, 1], none: [1, 1] }[draft.choice];
  return {
    ranks: project.mode === "two" ? chosen : project.mode === "rank" && complete(draft.places) ? ranks(draft.places) : [],
    step: project.mode === "eight_step" ? Number(draft.choice) : 0,
    none: draft.none, comment: draft.comment, seconds: Math.round(draft.seconds), page: $("project").dataset.version,
    scalar: draft.scalar.some((each) => each !== null) ? draft.scalar : [],
    flags: Object.fromEntries(project.flags.map((name, i) => [name, draft.flags[i]])),
  };
}

async function talk(path, body, then) {
  if (sending) return;
  sending = true;
  if (draft && task) drawDraft(draft, picked, false);
  const slow = setTimeout(() => notice(words.sending), 700);
  const told = (reason) => {
    clearTimeout(slow);
    notice(`${words.not_sent_yet} ${reason}`);
  };
  try {
    const answer = await askUntilAnswered(path, body, told);
    clearTimeout(slow);
    sending = false;
    notice("");
    then(answer);
  } catch (error) {
    clearTimeout(slow);
    sending = false;
    notice(error.message);
    if (draft && task) show();
  }
}

function send() {
  if (!task) return;
  if (!ready()) return announce(project.mode === "rank" ? words.rank_all_first : words.choose_first);
  if (adjudicating) {
    const decision = { task: task.task, ranks: ranks(draft.places), comment: draft.comment };
    return talk("/api/lead/adjudicate", decision, () => { forget(); location.assign("/lead/disagreements"); });
  }
  talk("/api/submit", { assignment: task.id, key: draft.key, ...judgement() }, (answer) => {
    forget();
    if (query.has("reopen")) return location.assign("/sent"); // back to the list from which it was opened
    open(answer);
  });
}

function reopen(named = "") {
  if (!adjudicating) talk("/api/reopen", { task: named }, open);
}

const fetchNext = () => ask("/api/next").then(open, (error) => notice(error.message));

function skip() {
  if (task && !adjudicating && !$("skip-dialog").open) $("skip-dialog").showModal();
}

$("skip-dialog").addEventListener("close", () => {
  if ($("skip-dialog").returnValue === "skip") {
    talk("/api/skip", { assignment: task.id, reason: $("reason").value }, (answer) => { forget(); open(answer); });
  }
  $("reason").value = "";
  $("skip-dialog").returnValue = "";
});

// ----------------------------------------------------------------------------------------------- keys, clicks and drags

const acts = {
  undo, skip, send, differ: toggleDiffering, reopen: () => reopen(), help: () => $("help-dialog").showModal(),
  written: () => { written = !written; showWritten(); },
};
const COMMANDS = {
  u: undo, s: skip, v: toggleDiffering, w: acts.written, x: () => setNone(!draft.none), "?": acts.help, Enter: send, Backspace: acts.reopen,
  "=": () => (project.mode === "two" ? choose("tie") : rank(tie)), "/": () => $("comment").focus(),
  ArrowUp: () => rank((p, i) => move(p, i, -1)), ArrowDown: () => rank((p, i) => move(p, i, 1)),
  ArrowLeft: () => pick(((picked ?? 0) - 1 + task.answers.length) % task.answers.length),
  ArrowRight: () => pick(picked === null ? 0 : (picked + 1) % task.answers.length),
  0: () => rank((p, i) => place(p, i, null)), Delete: () => rank((p, i) => place(p, i, null)),
};

function digit(n, shifted) {
  const [was, index] = [prefix, picked];
  prefix = "";
  if (was === "z" && index !== null) return n <= 7 && setScale(index, n);
  if (was === "t" && index !== null) return n <= project.flags.length && setFlag(index, n - 1);
  if (project.mode === "eight_step") return n <= 8 && choose(`${n}`);
  if (n <= task.answers.length) rank((p, i) => (shifted ? insert(p, i, n) : place(p, i, n)));
}

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (document.querySelector("dialog[open]")) {
    if (event.key === "Enter" && target.id === "reason" && !event.shiftKey) {
      event.preventDefault();
      $("skip-dialog").close("skip");
    }
    return;
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return send();
  const typing = target.closest("textarea, select, input:not([type=checkbox]):not([type=radio])");
  if (event.key === "Escape" && typing) return typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !$("keys-on").checked) return;
  if (event.key.startsWith("Arrow") && target.type === "radio") return;
  if ((event.key === "Enter" || event.key === " ") && target.closest("a, button:not(.chip), summary, input")) return;
  if (event.repeat && (event.key === "Enter" || event.key === "Backspace")) return event.preventDefault();
  if (press(event)) event.preventDefault();
});

// Whether the key meant something. Letters pick answers first; no project has so many that U or S would be one.
function press(event) {
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!task) return name === "Backspace" && (reopen(), true);
  const number = /^Digit([1-9])$/.exec(event.code)?.[1] ?? /^[1-9]$/.exec(name)?.[0];
  if (number) return digit(Number(number), event.shiftKey), true;
  const index = name.length === 1 ? name.charCodeAt(0) - 97 : -1;
  if (index >= 0 && index < task.answers.length && !event.shiftKey) {
    if (project.mode === "two" && !project.scalar && !project.flags.length) choose(name);
    else if (project.mode === "two" && picked === index) choose(name);
    else pick(index);
    return true;
  }
  prefix = (name === "z" && project.scalar) || (name === "t" && project.flags.length) ? name : "";
  const act = prefix ? () => announce(words[`then_digit_${prefix}`]) : COMMANDS[name];
  act?.();
  return Boolean(act);
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest(selector);
  const button = at("[data-act]");
  if (button) {
    acts[button.dataset.act]();
    if (event.detail) button.blur(); // after a mouse's click, Enter sends again
  } else if (at("[data-choice]")) {
    choose(at("[data-choice]").dataset.choice);
    if (event.detail) document.activeElement.blur();
  } else if (at(".chip")) {
    pick(Number(at(".chip").dataset.index), false);
  } else if (at("[data-drop]") && picked !== null) {
    dropped(picked, at("[data-drop]").dataset);
  } else if (at(".answer") && !at("select, input, label, a") && !getSelection().toString()) {
    pick(Number(at(".answer").dataset.index));
  }
});

function dropped(index, target) {
  picked = index;
  if (target.drop === "tray") return rank((p, i) => place(p, i, null));
  rank((p, i) => (target.drop === "gap" ? insert : place)(p, i, Number(target.place)));
}

document.addEventListener("change", (event) => {
  const { part, flag } = event.target.dataset;
  const index = Number(event.target.closest(".answer")?.dataset.index);
  if (event.target.id === "none") setNone(event.target.checked);
  else if (event.target.id === "keys-on") localStorage.setItem("plaudit-keys", event.target.checked ? "" : "off");
  else if (part === "place") { picked = index; rank((p, i) => place(p, i, Number(event.target.value) || null)); }
  else if (part === "scale") setScale(index, Number(event.target.value));
  else if (part === "flag") setFlag(index, Number(flag));
});

$("comment").addEventListener("input", () => { if (draft) { draft.comment = $("comment").value; keep(); } });
$("look-again").addEventListener("click", fetchNext);
dragging(document, dropped);

// Time counts while somebody is there: the page is seen, and was touched within the last minute.
for (const name of ["pointermove", "pointerdown", "keydown", "scroll"]) addEventListener(name, () => (lastSign = Date.now()), { passive: true });
setInterval(() => {
  if (draft && task && !document.hidden && Date.now() - lastSign < IDLE) { draft.seconds += 1; keep(); }
}, 1000);

// ------------------------------------------------------------------------------------------------------------- begin

addEventListener("pageshow", (event) => event.persisted && location.reload()); // back from the browser's history
$("keys-on").checked = localStorage.getItem("plaudit-keys") !== "off";
open(JSON.parse($("start").textContent));
if (query.has("reopen")) reopen(query.get("reopen"));
