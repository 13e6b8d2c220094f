// Tables: a caption, columns, and a row for each thing.

import { el } from "./dom.js";

/**
 * Return a table within a region that scrolls by itself where it is too wide.
 *
 * The caption is for screen readers: eyes have the heading above.
 * `columns` are `{ head, cell, kind }`: the heading, a function from a thing to what its cell holds,
 * and "number" for figures, "long" for ids and sentences, which may break anywhere. The first column
 * names the row.
 */
export function table(caption, columns, things) {
  const head = columns.map((one) => el("th", { scope: "col", class: one.kind }, one.head));
  const made = el(
    "table",
    {},
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, head)),
    el("tbody", {}, rows(columns, things)),
  );
  return el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, made);
}

/** Return the rows of things, to be put under those of a table. */
export function rows(columns, things) {
  return things.map((thing) =>
    el(
      "tr",
      {},
      columns.map((one, place) =>
        place === 0
          ? el("th", { scope: "row", class: one.kind }, one.cell(thing))
          : el("td", { class: one.kind }, one.cell(thing)),
      ),
    ),
  );
}

/** Return figures under their names; each is `{ name, value, note }`. */
export function tiles(label, figures) {
  return el(
    "dl",
    { class: "tiles", "aria-label": label },
    figures.map(({ name, value, note }) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value), note && el("dd", { class: "note" }, note)),
    ),
  );
}
