// Cost: what alignments asked of the model, in tokens and seconds.

import { get } from "./api.js";
import { el, fill } from "./dom.js";
import { table, tiles } from "./table.js";
import { number, time } from "./words.js";

const COLUMNS = [
  { head: "User", cell: (one) => one.user_id, kind: "long" },
  { head: "Ended", cell: (one) => time(one.updated) },
  { head: "Requests", cell: (one) => number(one.result.usage.requests), kind: "number" },
  { head: "Tokens in", cell: (one) => number(one.result.usage.prompt_tokens), kind: "number" },
  { head: "Tokens out", cell: (one) => number(one.result.usage.completion_tokens), kind: "number" },
  { head: "Seconds", cell: (one) => number(one.result.seconds ?? 0, 1), kind: "number" },
  { head: "Persona", cell: (one) => (one.result.accepted ? `version ${one.result.version}` : "unchanged") },
];

/** Draw the sums, and the latest alignments with theirs. */
export async function showCost({ root, signal }) {
  const [cost, operations] = await Promise.all([
    get("v1/operator/cost", { signal }),
    get("v1/operator/operations", { query: { limit: 50 }, signal }),
  ]);
  const done = operations.results.filter((one) => one.state === "done");
  fill(
    root,
    el("p", { class: "quiet" }, "Chats go to the model as the product sends them, and are in its own bill. This is what learning asked on top, in the latest thousand alignments."),
    tiles("Cost", [
      { name: "Alignments", value: number(cost.alignments), note: `${number(cost.requests)} requests` },
      { name: "Tokens in", value: number(cost.prompt_tokens), note: `${number(cost.cached_tokens)} from a cache` },
      { name: "Tokens out", value: number(cost.completion_tokens) },
      { name: "Seconds", value: number(cost.seconds, 1), note: "of alignment" },
      { name: "All learning", value: number(cost.learning_tokens_since_start), note: "tokens, since this process began" },
    ]),
    done.length
      ? [el("h3", {}, "The latest alignments"), table("What the latest alignments cost", COLUMNS, done)]
      : el("p", { class: "empty" }, "No alignment has ended yet."),
  );
}
