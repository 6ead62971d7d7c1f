// Places of answers: pure functions. `places[i]` is the place of answer i (1 = best, ties share one), null: none yet.

export const letter = (index) => String.fromCharCode(65 + index);

export function place(places, index, wanted) {
  return places.map((each, i) => (i === index ? wanted : each));
}

// Into a place of its own: what stands there or below moves down by one, the last place takes all that would fall off.
export function insert(places, index, wanted) {
  const others = places.map((each, i) => (i === index ? null : each));
  if (!others.includes(wanted)) return place(places, index, wanted);
  let free = wanted;
  while (others.includes(free)) free += 1;
  const moved = others.map((each) => (each !== null && each >= wanted && each < free ? Math.min(each + 1, places.length) : each));
  return place(moved, index, wanted);
}

// The same place as the answer just above; an answer without a place joins the last one.
export function tie(places, index) {
  const own = places[index] ?? Infinity;
  const above = places.filter((each, i) => i !== index && each !== null && each < own);
  return above.length ? place(places, index, Math.max(...above)) : places;
}

// One place up (-1) or down (+1); an answer without a place starts at the best or the last one.
export function move(places, index, by) {
  const own = places[index];
  const wanted = own === null ? (by < 0 ? 1 : places.length) : own + by;
  return wanted < 1 || wanted > places.length ? places : place(places, index, wanted);
}

export const complete = (places) => places.every((each) => each !== null);

// Ranks without gaps: 1, 3, 3 -> 1, 2, 2.
export function ranks(places) {
  const used = [...new Set(places)].sort((a, b) => a - b);
  return places.map((each) => used.indexOf(each) + 1);
}

// `B > A = C`, as far as it goes.
export function inWords(places) {
  const used = [...new Set(places.filter((each) => each !== null))].sort((a, b) => a - b);
  return used.map((at) => places.map((each, i) => (each === at ? letter(i) : "")).filter(Boolean).join(" = ")).join(" > ");
}
