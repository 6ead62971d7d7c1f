// Marks the words in which answers differ from one of them. Works on what is shown, and takes its marks away again.

const LIMIT = 3000; // words; longer texts are compared as sets of words, which is quick

export function unmark(root) {
  for (const mark of root.querySelectorAll("mark")) {
    const parent = mark.parentNode;
    mark.replaceWith(...mark.childNodes);
    parent.normalize();
  }
}

// Each element against elements[base]; in the base itself, the words that no other has.
export function markDiffering(elements, base) {
  elements.forEach(unmark);
  const read = elements.map(pieces);
  const shared = new Set();
  read.forEach((other, i) => {
    if (i === base) return;
    const [common, commonInBase] = matching(other, read[base]);
    other.forEach((piece, k) => common.has(k) || (piece.differs = true));
    commonInBase.forEach((k) => shared.add(k));
  });
  read[base].forEach((piece, k) => shared.has(k) || (piece.differs = true));
  read.forEach(wrap);
}

// The words of an element: which text node, from where to where. Chinese and kana count by character.
function pieces(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentNode.className === "lang") continue; // a code block's language is no word of the answer
    for (const match of node.data.matchAll(/[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+/gu)) {
      found.push({ node, begin: match.index, end: match.index + match[0].length, word: match[0], differs: false });
    }
  }
  return found;
}

// Indices in a and in b of a longest common subsequence of words (of common words, where that would take long).
function matching(a, b) {
  if (a.length > LIMIT || b.length > LIMIT) {
    const [words, others] = [a, b].map((side) => new Set(side.map((piece) => piece.word)));
    const common = (side, set) => new Set(side.flatMap((piece, i) => (set.has(piece.word) ? [i] : [])));
    return [common(a, others), common(b, words)];
  }
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      best[at] = a[i].word === b[j].word ? best[at + width + 1] + 1 : Math.max(best[at + width], best[at + 1]);
    }
  }
  const [left, right] = [new Set(), new Set()];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i].word === b[j].word) { left.add(i++); right.add(j++); }
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
    else j++;
  }
  return [left, right];
}

// Neighbouring words of one text node share a mark. From the back, so that earlier positions stay true.
function wrap(found) {
  const marks = [];
  for (const piece of found) {
    if (!piece.differs) { marks.push(null); continue; }
    const last = marks.at(-1);
    if (last && last.node === piece.node) last.end = piece.end;
    else marks.push({ ...piece });
  }
  for (const mark of marks.filter(Boolean).reverse()) {
    const range = document.createRange();
    range.setStart(mark.node, mark.begin);
    range.setEnd(mark.node, mark.end);
    range.surroundContents(document.createElement("mark"));
  }
}
