// Memories: all there are, page by page; searched, added, corrected, deleted.

import { get, send } from "./api.js";
import { form } from "./dialog.js";
import { button, el, fill, focusOn } from "./dom.js";
import { memoryCard, memoryFields } from "./memory-card.js";
import { session } from "./session.js";
import { murmur, say } from "./status.js";
import { count, number } from "./words.js";

const PAGE = 25;
const BEST = 10;
const SKIPPED = "It was not stored";

/** Show the memories, latest first. */
export async function show({ root, signal }) {
  const list = el("section", { class: "part", id: "memories", "aria-labelledby": "list-heading" });
  const view = { list, signal };
  fill(
    root,
    el(
      "p",
      { class: "lead" },
      "Everything that is remembered of what you said and did. Deleting is for good, and takes along what rested on it alone.",
    ),
    tools(view),
    list,
  );
  await all(view);
}

function tools(view) {
  const input = el("input", {
    type: "search",
    id: "search",
    "aria-label": "Search your memories",
    placeholder: "Search, by meaning and by word",
    autocomplete: "off",
  });
  const search = el(
    "form",
    { class: "row", role: "search", id: "search-form" },
    el("div", { class: "grow" }, input),
    el("button", { type: "submit", class: "button" }, "Search"),
  );
  search.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    await (text ? found(view, text) : all(view));
  });
  view.clear = async () => {
    input.value = "";
    await all(view);
    input.focus();
  };
  const adding = button("Add a memory", () => add(view), { id: "add-memory" });
  return el("div", { class: "row ends" }, el("div", { class: "grow" }, search), adding);
}

async function all(view) {
  const known = await page(view);
  if (!known.results.length) {
    fill(
      view.list,
      el("h2", { id: "list-heading", class: "quiet small" }, "Latest first"),
      el(
        "div",
        { class: "empty", id: "no-memories" },
        el("strong", {}, "Nothing is remembered yet"),
        el("p", {}, "What you say in a chat appears here, and you can add a memory yourself."),
      ),
    );
    return;
  }
  const cards = el("ul", { class: "cards", id: "memory-list" });
  const further = el("div", {});
  const append = (found) => {
    cards.append(...found.results.map((one) => card(view, one)));
    fill(
      further,
      found.next !== null && button("Show earlier memories", () => next(found.next), { id: "more-memories" }),
    );
  };
  const next = async (cursor) => {
    const at = cards.childElementCount;
    append(await page(view, cursor));
    if (cards.children[at]) focusOn(cards.children[at]);
    murmur(`${count(cards.childElementCount, "memory", "memories")} shown.`);
  };
  append(known);
  fill(view.list, el("h2", { id: "list-heading", class: "quiet small" }, "Latest first"), cards, further);
}

function page(view, cursor = null) {
  return get("v1/memories", { query: { user_id: session.user, limit: PAGE, cursor }, signal: view.signal });
}

function card(view, memory, more = null) {
  const made = memoryCard(memory, {
    more,
    signal: view.signal,
    onDelete: async () => {
      const near = made.nextElementSibling ?? made.previousElementSibling;
      made.remove();
      if (near) focusOn(near);
      else await view.clear();
    },
  });
  return made;
}

async function found(view, text) {
  const body = { query: text, user_id: session.user, top_k: BEST, explain: true };
  const { results } = await send("POST", "v1/memories/search", body, { signal: view.signal });
  const heading = el(
    "h2",
    { id: "list-heading" },
    results.length ? `Found for “${text}”, best first` : `Nothing was found for “${text}”`,
  );
  fill(
    view.list,
    el(
      "div",
      { class: "row ends" },
      heading,
      button("Show all", () => view.clear(), { kind: "quiet", id: "show-all" }),
    ),
    el(
      "ul",
      { class: "cards", id: "found" },
      results.map((hit, place) => hitCard(view, hit, place + 1)),
    ),
  );
  murmur(results.length ? `${count(results.length, "match", "matches")} found.` : "Nothing was found.");
}

function hitCard(view, hit, place) {
  const why = explained(hit, place);
  if (hit.kind === "event") return card(view, hit.interaction, why);
  return el(
    "li",
    { class: "card" },
    el("div", { class: "meta" }, el("span", { class: "tag accent" }, "Fact")),
    el("p", { class: "words" }, hit.memory),
    why,
    el("p", { class: "quiet small words" }, `It rests on: ${hit.interaction.memory}`),
  );
}

/** Say why a memory stands where it does: the parts of its score. */
function explained(hit, place) {
  const parts = hit.explanation ?? {};
  const of = (value, rank) =>
    rank === null || rank === undefined ? number(value) : `${number(value)} (place ${rank})`;
  const rows = [];
  const row = (label, text) => rows.push(el("dt", {}, label), el("dd", {}, text));
  row("Score", number(hit.score, 4));
  if (typeof parts.cosine === "number") row("Alike in meaning", of(parts.cosine, parts.cosine_rank));
  if (typeof parts.bm25 === "number") row("Alike in words", of(parts.bm25, parts.bm25_rank));
  if (typeof parts.decay === "number" && parts.decay !== 1) row("Weight by age", number(parts.decay));
  if (typeof parts.salience === "number" && parts.salience !== 1)
    row("Weight by salience", number(parts.salience));
  if (typeof parts.rerank === "number") row("Reranked", number(parts.rerank));
  return el(
    "details",
    { class: "small" },
    el("summary", {}, `Match ${place}: why?`),
    el("dl", { class: "pairs" }, rows),
  );
}

async function add(view) {
  const { fields, values } = memoryFields();
  const done = await form({
    title: "Add a memory",
    fields,
    action: "Remember",
    save: async () => {
      const given = values();
      const memory = Object.fromEntries(Object.entries(given).filter(([, text]) => text));
      if (!Object.keys(memory).length) throw new Error("Write at least one of the three.");
      const { results } = await send("POST", "v1/memories", { user_id: session.user, memories: [memory] });
      const [one] = results;
      if (one.event === "SKIP") throw new Error(`${SKIPPED}: ${one.reason || "it is known already"}.`);
      return one;
    },
  });
  if (done === null) return;
  await view.clear();
  say("It is remembered.");
}
