// Drag by mouse, pen or finger (pointer events): from anything with data-drag to anything with data-drop.

const FAR = 6; // pixels before a press becomes a drag

export function dragging(root, drop) {
  let held = null;

  root.addEventListener("pointerdown", (event) => {
    const source = event.target.closest("[data-drag]");
    if (!source || event.button !== 0 || held) return;
    held = { source, id: event.pointerId, x: event.clientX, y: event.clientY, ghost: null, over: null };
  });

  root.addEventListener("pointermove", (event) => {
    if (!held || event.pointerId !== held.id) return;
    if (!held.ghost && Math.hypot(event.clientX - held.x, event.clientY - held.y) < FAR) return;
    if (!held.ghost) begin();
    event.preventDefault();
    held.ghost.style.setProperty("left", `${event.clientX}px`);
    held.ghost.style.setProperty("top", `${event.clientY}px`);
    const over = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-drop]") ?? null;
    if (over !== held.over) {
      held.over?.classList.remove("over");
      over?.classList.add("over");
      held.over = over;
    }
  });

  const end = (event) => {
    if (!held || event.pointerId !== held.id) return;
    const { ghost, over, source } = held;
    held = null;
    if (!ghost) return;
    ghost.remove();
    over?.classList.remove("over");
    document.body.classList.remove("dragging");
    // The click that ends a drag is none; one elsewhere, right after, is meant.
    const stop = (click) => {
      if (!source.contains(click.target)) return;
      click.stopPropagation();
      click.preventDefault();
    };
    window.addEventListener("click", stop, { capture: true, once: true });
    setTimeout(() => window.removeEventListener("click", stop, { capture: true }), 0);
    if (over && event.type === "pointerup") drop(Number(source.dataset.drag), over.dataset);
  };
  root.addEventListener("pointerup", end);
  root.addEventListener("pointercancel", end);
  root.addEventListener("dragstart", (event) => event.preventDefault());

  function begin() {
    held.ghost = document.createElement("span");
    held.ghost.className = "ghost letter";
    held.ghost.textContent = held.source.dataset.name;
    document.body.append(held.ghost);
    document.body.classList.add("dragging");
    held.source.setPointerCapture?.(held.id);
  }
}
