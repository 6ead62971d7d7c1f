// Rollouts token by token: the colour's column, and one token's numbers for those who don't point with a mouse.
const Tokens = (() => {
  const choose = () => document.getElementById("token-column");
  const every = (place) => Array.from(place.querySelectorAll(".tok"));

  function paint() {
    if (!choose()) { return; }
    choose().closest("p").hidden = false;
    for (const place of document.querySelectorAll(".tokens")) {
      const marks = JSON.parse(place.dataset.levels)[choose().value] || "";
      every(place).forEach((token, index) => {
        const mark = marks[index] || "-";
        token.className = mark === "-" ? "tok" : `tok k-${mark}`;
      });
    }
    for (const legend of document.querySelectorAll(".legend")) { legend.hidden = legend.dataset.column !== choose().value; }
  }

  function tell(place, at) {
    const tokens = every(place);
    tokens.forEach((token, index) => token.classList.toggle("at", index === at));
    place.parentElement.querySelector(".told").textContent = tokens[at].title.replace(/\n/g, " · ");
  }

  document.addEventListener("change", (event) => { if (event.target === choose()) { paint(); } });
  document.addEventListener("click", (event) => {
    const token = event.target.closest(".tokens .tok");
    if (token) { tell(token.parentElement, every(token.parentElement).indexOf(token)); }
  });
  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const place = event.target.closest && event.target.closest(".tokens");
    const tokens = place ? every(place) : [];
    if (step === undefined || !tokens.length) { return; }
    event.preventDefault();
    const at = tokens.findIndex((token) => token.classList.contains("at"));
    tell(place, Math.min(tokens.length - 1, Math.max(0, at + step)));
  });
  return { paint };
})();
