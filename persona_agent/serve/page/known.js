// Memories and facts by their ids, as lists that say what something rests on.

import { get, mine } from "./api.js";
import { el } from "./dom.js";
import { session } from "./session.js";
import { count, percent, time } from "./words.js";

/** Return the memories of these ids that there still are, latest first. */
export async function memoriesOf(ids, signal) {
  if (!ids.length) return [];
  const query = { user_id: session.user, ids, limit: 200 };
  return (await get("v1/memories", { query, signal })).results;
}

/** Return all facts about the person, those that hold no more, too. */
export async function everyFact(signal) {
  return (await get(mine("/facts"), { query: { every: true }, signal })).results;
}

/** Return memories as a list: when, what was said, and what came of it. */
export function memoryList(memories) {
  return el(
    "ul",
    {},
    memories.map((one) =>
      el(
        "li",
        {},
        el("span", { class: "quiet" }, time(one.when, { day: true })),
        el(
          "div",
          { class: "words" },
          gist(one),
          one.outcome && [" ", el("span", { class: "tag outcome" }, `outcome: ${one.outcome}`)],
        ),
      ),
    ),
  );
}

/** Return facts as a list: how sure, since when, and what they say. */
export function factList(facts) {
  return el(
    "ul",
    {},
    facts.map((one) =>
      el(
        "li",
        {},
        el("span", { class: "quiet" }, `${percent(one.confidence)} sure`),
        el(
          "span",
          {},
          el("span", { class: "words" }, one.text),
          el(
            "span",
            { class: "quiet small" },
            " since ",
            time(one.valid_from, { day: true }),
            one.valid_until && [" until ", time(one.valid_until, { day: true })],
            `, from ${count(one.evidence.length, "memory", "memories")}`,
          ),
        ),
      ),
    ),
  );
}

function gist(memory) {
  return [memory.query, memory.response].filter(Boolean).join("\n");
}

/** Return what is to be said where some of the ids are no longer there; null where all are. */
export function missing(ids, found) {
  const gone = ids.length - found.length;
  return gone > 0
    ? el("p", { class: "quiet small" }, `${count(gone, "memory", "memories")} of these were deleted since.`)
    : null;
}
