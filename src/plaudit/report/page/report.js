(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  read("figure-data").forEach((figure, index) => Charts.put(index, figure));
  Charts.watch(read("clock-data"));
  Tokens.paint();

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

  // On wide screens the table of contents stands open beside the text.
  const contents = document.querySelector(".toc details");
  const wide = window.matchMedia("(min-width: 70rem)");
  const unfold = () => { if (contents) { contents.open = wide.matches; } };
  wide.addEventListener("change", unfold);
  unfold();
})();
