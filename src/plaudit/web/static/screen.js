// Draws a task and what is decided of it so far. It never decides anything: `label.js` does.

import { complete, inWords, letter } from "./ranking.js";

export const words = JSON.parse(document.getElementById("words").textContent);
export const project = JSON.parse(document.getElementById("project").textContent);
const $ = (id) => document.getElementById(id);

export function fill(key, values) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// HTML that the server rendered and sanitised (rendering.py); nothing else is ever put in as HTML.
function sanitised(html, attributes) {
  const made = element("div", { class: "text", ...attributes });
  made.innerHTML = html;
  return made;
}

export function drawTask(task) {
  $("prompt").replaceChildren(
    ...task.prompt.map((turn) =>
      element("div", { class: `turn ${turn.role}` },
        element("span", { class: "role" }, words[`role_${turn.role}`] ?? turn.role),
        ...texts(turn)),
    ),
  );
  $("ask").textContent = words[`ask_${project.mode}`];
  $("answers").replaceChildren(...task.answers.map((answer, i) => card(answer, i, task.answers.length)));
  $("verdict").replaceChildren(project.mode === "rank" ? podium(task.answers.length) : choices());
}

function texts(view) {
  const shown = [sanitised(view.html, { "data-view": "html", "data-only": !view.written })];
  return view.written ? [...shown, sanitised(view.written, { "data-view": "written", hidden: true })] : shown;
}

function card(answer, index, count) {
  const name = fill("answer_name", { letter: letter(index) });
  const head = element("div", { class: "answer-head" },
    element("span", { class: "letter grip", "data-drag": project.mode === "rank" ? index : null, "data-name": letter(index), title: words.drag_me }, letter(index)),
    element("span", { class: "grow soft small", "data-part": "state" }));
  if (project.mode === "rank") {
    const options = Array.from({ length: count }, (_, k) => element("option", { value: k + 1 }, fill("place_n", { n: k + 1 })));
    head.append(element("select", { "aria-label": `${name}: ${words.place}`, "data-part": "place" }, element("option", { value: "" }, words.no_place), ...options));
  }
  const body = element("article", { class: "answer card", tabindex: -1, "data-index": index, "aria-label": name }, head, ...texts(answer));
  if (project.scalar) body.append(scale(index, name));
  if (project.flags.length) body.append(flags(index, name));
  return body;
}

function scale(index, name) {
  const buttons = [1, 2, 3, 4, 5, 6, 7].map((n) =>
    element("label", {}, element("input", { type: "radio", name: `scale-${index}`, value: n, "data-part": "scale", "aria-label": `${name}: ${n}` }), `${n}`));
  return element("fieldset", { class: "scale" }, element("legend", {}, words.scale), ...buttons);
}

function flags(index, name) {
  const boxes = project.flags.map((flag, n) =>
    element("label", { class: "check" }, element("input", { type: "checkbox", "data-part": "flag", "data-flag": n, "aria-label": `${name}: ${flag}` }), flag));
  return element("fieldset", {}, element("legend", {}, words.flags), ...boxes);
}

function podium(count) {
  const bar = element("div", { class: "podium" }, element("div", { class: "slot tray", "data-drop": "tray" }, element("span", { class: "slot-name" }, words.not_placed)));
  for (let n = 1; n <= count; n++) {
    const name = n === 1 ? words.best : n === count ? words.worst : fill("place_n", { n });
    bar.append(element("div", { class: "gap", "data-drop": "gap", "data-place": n }),
      element("div", { class: "slot", "data-drop": "slot", "data-place": n }, element("span", { class: "slot-name" }, name)));
  }
  for (let i = 0; i < count; i++) {
    bar.firstChild.append(element("button", { type: "button", class: "chip", "data-index": i, "data-drag": i, "data-name": letter(i) }, letter(i)));
  }
  return bar;
}

function choices() {
  const steps = project.mode === "two"
    ? [["a", "A"], ["tie", "="], ["b", "B"], ["none", "X"]].map(([choice, key]) => [choice, words[`choice_${choice}`], key])
    : [1, 2, 3, 4, 5, 6, 7, 8].map((n) => [`${n}`, words[`step_${n}`], `${n}`]);
  const buttons = steps.map(([choice, label, key]) =>
    element("button", { type: "button", "data-choice": choice, "aria-pressed": "false" }, label, " ", element("kbd", {}, key)));
  return element("div", { class: "choices", role: "group", "aria-label": words.ranking }, ...buttons);
}

// Brings the page up to what the draft says.
export function drawDraft(draft, picked, ready) {
  document.querySelectorAll(".answer").forEach((card, i) => {
    const at = draft.places[i];
    const tied = at !== null && draft.places.filter((each) => each === at).length > 1;
    card.classList.toggle("picked", i === picked);
    card.classList.toggle("placed", at !== null);
    if (project.mode === "rank") {
      card.querySelector('[data-part="place"]').value = at ?? "";
      card.querySelector('[data-part="state"]').textContent = tied ? words.tied : "";
    }
    card.querySelectorAll('[data-part="scale"]').forEach((each) => (each.checked = Number(each.value) === draft.scalar[i]));
    card.querySelectorAll('[data-part="flag"]').forEach((each) => (each.checked = draft.flags[each.dataset.flag][i]));
  });
  document.querySelectorAll(".chip").forEach((chip) => {
    const i = Number(chip.dataset.index);
    const at = draft.places[i];
    const home = document.querySelector(at === null ? ".tray" : `.slot[data-place="${at}"]`);
    if (chip.parentNode !== home) home.append(chip);
    chip.classList.toggle("picked", i === picked);
    chip.setAttribute("aria-label", `${fill("answer_name", { letter: letter(i) })}: ${at === null ? words.no_place : fill("place_n", { n: at })}`);
  });
  document.querySelectorAll(".slot[data-place]").forEach((slot) => slot.classList.toggle("full", slot.querySelector(".chip") !== null));
  document.querySelectorAll("[data-choice]").forEach((each) => each.setAttribute("aria-pressed", each.dataset.choice === draft.choice));
  $("none").checked = draft.none;
  if ($("comment").value !== draft.comment) $("comment").value = draft.comment;
  $("send").disabled = !ready;
  return project.mode === "rank" ? inWords(draft.places) + (complete(draft.places) ? "" : " …") : draft.choice;
}

export function drawProgress(progress) {
  if (!progress) return;
  const target = progress.daily_target ? fill("progress_target", { today: progress.today, target: progress.daily_target }) : fill("progress_today", { today: progress.today });
  $("progress").textContent = `${target} · ${fill("progress_rest", { sent: progress.submitted, remaining: progress.remaining })}`;
}

export function drawIdle(title, text) {
  $("idle-title").textContent = title;
  $("idle-text").textContent = text;
}
