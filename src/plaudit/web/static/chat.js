"use strict";
// The chat. What models and people wrote comes as HTML that the server made of it (web/rendering.py), or as text.
(() => {
  const labels = document.currentScript.dataset;
  const by = (id) => document.getElementById(id);
  let version = -1;
  let state = { writing: false, replies: [], turns: [] };
  let timer = 0;
  let plain = false;

  async function post(path, body) {
    by("problem").textContent = "";
    const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } });
    const result = await answer.json();
    if (!answer.ok) { by("problem").textContent = result.error; return false; }
    show(result);
    return true;
  }

  // As Markdown, or as written where that is wished; the server leaves `written` empty where it is the same.
  function write(place, { html, written }) {
    const wanted = plain && written ? written : html;
    if (place.wanted !== wanted) { place.wanted = wanted; place.innerHTML = wanted; }
  }

  function turn(shown) {
    const { role } = shown;
    const made = by("turn").content.cloneNode(true);
    made.querySelector(".turn").classList.add(role === "user" ? "user" : "model");
    made.querySelector(".who").textContent = role === "user" ? labels.you : labels.model;
    write(made.querySelector(".text"), shown);
    return made;
  }

  function facts({ finish, score, kl, tokens }) {
    const known = [];
    if (score !== null) { known.push(`${labels.score} ${score.toPrecision(3)}`); }
    if (kl !== null) { known.push(`KL ${kl.toPrecision(3)} nats`); }
    if (finish === "length") { known.push(`${labels.cut} (${tokens})`); }
    return known.join(" · ").replace(/-/g, "−");
  }

  function fill(place, reply) {
    place.classList.toggle("writing", !reply.finish);
    place.querySelector("b").textContent = state.blind ? reply.side : labels.model;
    place.querySelector(".name").textContent = reply.name;
    const text = place.querySelector(".text");
    if (reply.problem) { text.wanted = null; text.textContent = reply.problem; } else { write(text, reply); }
    place.querySelector(".facts").textContent = facts(reply);
    place.classList.toggle("better", state.verdict === reply.side.toLowerCase());
  }

  function show(news) {
    if (!("turns" in news)) { return; }
    const said = by("turns");
    if (news.turns.length !== said.children.length || news.turns.length < state.turns.length) {
      said.replaceChildren(...news.turns.map(turn));
    }
    state = news;
    version = news.version;
    const places = by("replies");
    while (places.children.length > news.replies.length) { places.lastElementChild.remove(); }
    while (places.children.length < news.replies.length) { places.append(by("reply").content.cloneNode(true)); }
    news.replies.forEach((reply, index) => fill(places.children[index], reply));
    const whole = news.replies.length === 2 && !news.writing && news.replies.every((reply) => !reply.problem);
    by("vote").hidden = !(whole && news.verdict === null);
    by("send").disabled = news.writing;
    by("stop").hidden = !news.writing;
  }

  async function poll() {
    clearTimeout(timer);
    try {
      const answer = await fetch(`/api/news?have=${version}`, { headers: { accept: "application/json" } });
      if (answer.ok) { show(await answer.json()); }
    } catch { /* the server is away; it is asked again */ }
    timer = setTimeout(poll, state.writing ? 250 : document.hidden ? 10000 : 3000);
  }

  by("say").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = by("text").value;
    if (await post("/api/say", { text })) { by("text").value = ""; poll(); }
  });
  by("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); by("say").requestSubmit(); }
  });
  by("written").addEventListener("click", () => {
    plain = !plain;
    by("written").setAttribute("aria-pressed", String(plain));
    by("turns").replaceChildren(...state.turns.map(turn));
    state.replies.forEach((reply, index) => fill(by("replies").children[index], reply));
  });
  by("stop").addEventListener("click", () => post("/api/stop", {}));
  by("reset").addEventListener("click", () => post("/api/reset", {}));
  by("vote").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) { post("/api/vote", { choice: button.dataset.choice }); }
  });
  const CHOICES = { a: "a", b: "b", "=": "=", x: "both bad" };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("textarea, input") && by("text").value !== "";
    if (!by("vote").hidden && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && event.key in CHOICES) {
      event.preventDefault();
      post("/api/vote", { choice: CHOICES[event.key] });
    }
  });
  poll();
})();
