// My data: take it along, or have it forgotten, with a receipt.

import { call, get, mine } from "./api.js";
import { consent } from "./dialog.js";
import { button, el, fill, focusOn } from "./dom.js";
import { session } from "./session.js";
import { say } from "./status.js";
import { count, time } from "./words.js";

const ROWS = {
  events: "memories",
  vectors: "vectors that searches use",
  changes: "entries in the memories' histories",
  personas: "versions of the persona",
  alignments: "alignments that are not finished",
  facts: "facts",
  evidence: "links between facts and memories",
  fact_vectors: "vectors of facts",
  summaries: "summaries",
  summary_events: "links between summaries and memories",
  summary_parts: "links between summaries",
  retrievals: "notes on what was found when",
  jobs: "background jobs",
  receipts: "notes on requests that were sent twice",
  adapters: "adapters trained on the history",
  operations: "operations",
  api_keys: "keys of the person",
  users: "entry in the list of people",
};

/** Show what is kept, the way to take it along, and the way to have it forgotten. */
export async function show({ root, signal }) {
  const known = await get(mine(), { signal });
  fill(root, kept(known), exporting(known), forgetting(root, known));
}

function kept(known) {
  return el(
    "p",
    { class: "lead", id: "kept" },
    known.memories || known.persona_version
      ? `About you there are ${count(known.memories, "memory", "memories")}, ${count(known.facts, "fact")} that hold now, and ${count(known.persona_version, "version")} of your persona.`
      : "Nothing is kept about you.",
  );
}

function exporting(known) {
  const take = button(
    "Download my data",
    async () => {
      const answer = await call("GET", mine("/export"));
      download(await answer.blob(), `${fileName(session.user)}-export.jsonl`);
      say("Your data is downloaded.");
    },
    { id: "export" },
  );
  return el(
    "section",
    { class: "card", "aria-labelledby": "export-heading" },
    el("h2", { id: "export-heading" }, "Take it along"),
    el(
      "p",
      {},
      "Everything that is kept about you, as lines of JSON, which another server of this kind can read in.",
    ),
    known.memories
      ? el("div", { class: "row" }, take)
      : el("p", { class: "quiet" }, "There is nothing to take along."),
  );
}

function forgetting(root, known) {
  const place = el("div", { id: "forgetting" });
  const look = button(
    "See what would go",
    async () => {
      const answer = await call("DELETE", mine(), { query: { dry_run: true } });
      showPlan(root, place, await answer.json());
    },
    { id: "forget-look" },
  );
  return el(
    "section",
    { class: "card", "aria-labelledby": "forget-heading", id: "forget" },
    el("h2", { id: "forget-heading" }, "Forget me"),
    el(
      "p",
      {},
      "Everything about you is deleted: memories, facts, persona, what was made of them, and work that is under way. It cannot be undone. First you see what would go; afterwards you get a receipt.",
    ),
    known.memories || known.persona_version
      ? null
      : el(
          "p",
          { class: "quiet" },
          "As far as the server knows there is nothing to forget; you can have it checked.",
        ),
    el("div", { class: "row" }, look),
    place,
  );
}

function showPlan(root, place, plan) {
  const heading = el("h3", {}, "What would go");
  const go = button("Forget me…", () => forget(root, plan), { kind: "danger", id: "forget-go" });
  fill(
    place,
    el("div", { class: "below" }, heading, rows(plan), beyond(plan), el("div", { class: "row" }, go)),
  );
  focusOn(heading);
}

async function forget(root, plan) {
  const yes = await consent({
    title: "Forget everything about this person?",
    text: [
      `All that is kept about ${session.user} is deleted now, for good.`,
      plan.rows.api_keys > 0 && "The person's own key goes, too: nobody can sign in with it afterwards.",
    ].filter(Boolean),
    typed: session.user,
    action: "Forget",
    danger: true,
  });
  if (!yes) return;
  const answer = await call("DELETE", mine());
  session.talk = null;
  showReceipt(root, await answer.json());
}

function showReceipt(root, receipt) {
  const keyGone = receipt.rows.api_keys > 0 && session.me.user_id !== null;
  const heading = el("h2", {}, "Receipt");
  const save = button(
    "Download the receipt",
    () => {
      const text = `${JSON.stringify(receipt, null, 2)}\n`;
      download(new Blob([text], { type: "application/json" }), `receipt-${receipt.subject}.json`);
    },
    { id: "receipt-download" },
  );
  const shown = el(
    "div",
    { class: "notice good", id: "receipt" },
    heading,
    el(
      "p",
      {},
      "Forgotten at ",
      time(receipt.at),
      ", under the name ",
      el("code", { class: "words" }, receipt.subject),
      ", which says nothing about you.",
    ),
    keyGone &&
      el(
        "p",
        {},
        "Your key went, too, and you are signed out. Download the receipt now: once you leave, this page cannot show it again.",
      ),
    rows(receipt),
    !receipt.log_emptied &&
      el(
        "p",
        { class: "notice warn" },
        "Another reader kept the database's log from being emptied; ask for it again in a moment.",
      ),
    beyond(receipt),
    el("div", { class: "row" }, save, keyGone && el("a", { href: "#about" }, "Sign in with another key")),
  );
  fill(root, kept({ memories: 0, persona_version: 0 }), shown);
  if (keyGone) document.dispatchEvent(new CustomEvent("key-gone"));
  say("You are forgotten. The receipt is shown.");
  focusOn(heading);
}

function rows(receipt) {
  const all = { ...receipt.rows, ...receipt.outside };
  const names = [...new Set([...Object.keys(ROWS), ...Object.keys(all)])];
  const given = names.map((name) => [name, all[name] ?? 0]).filter(([, value]) => value > 0);
  if (!given.length) return el("p", {}, "Nothing was stored.");
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { scope: "col" }, "What"),
          el("th", { scope: "col", class: "number" }, "How many"),
        ),
      ),
      el(
        "tbody",
        {},
        given.map(([name, value]) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, ROWS[name] ?? name.replaceAll("_", " ")),
            el("td", { class: "number" }, value),
          ),
        ),
      ),
    ),
  );
}

function beyond(receipt) {
  if (!receipt.beyond_reach.length) return null;
  return el(
    "div",
    {},
    el("h3", {}, "Beyond this server's reach"),
    el(
      "ul",
      { class: "bullets" },
      receipt.beyond_reach.map((one) => el("li", {}, one)),
    ),
  );
}

function download(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function fileName(text) {
  return text.replace(/[^\p{L}\p{N}._-]+/gu, "_") || "person";
}
