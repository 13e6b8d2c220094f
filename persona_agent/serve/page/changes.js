// What changed between two versions, each line marked by a word, not by colour alone.

import { el } from "./dom.js";

const KINDS = [
  ["removed", "− Removed", "del"],
  ["added", "+ Added", "ins"],
  ["locked", "Locked", "span"],
  ["unlocked", "Unlocked", "span"],
];

/** Return a diff as a list. */
export function changes(diff) {
  const rows = KINDS.flatMap(([kind, mark, tag]) =>
    diff[kind].map((line) =>
      el("li", { class: kind }, el("span", { class: "mark" }, mark), el(tag, { class: "words" }, line.text)),
    ),
  );
  return rows.length ? el("ul", { class: "change" }, rows) : el("p", { class: "quiet" }, "No line changed.");
}
