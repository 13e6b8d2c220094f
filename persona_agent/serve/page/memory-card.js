// One memory as a card: what was said, what came of it, and what can be done with it.

import { call, get, send } from "./api.js";
import { consent, form } from "./dialog.js";
import { button, el, field, fill, fresh } from "./dom.js";
import { session } from "./session.js";
import { say } from "./status.js";
import { time } from "./words.js";

const PARTS = [
  ["query", "You"],
  ["response", "Answer"],
  ["outcome", "Outcome"],
];
const ROLES = { assistant: "said by the assistant", tool: "given by a tool", system: "given by the product" };
const ACTIONS = { ADD: "Added", UPDATE: "Changed", DELETE: "Deleted" };

/**
 * Return the card of a memory. `onDelete` is called when it was deleted; `more` is shown below its
 * text, such as why it was found.
 */
export function memoryCard(memory, { onDelete, more = null, signal }) {
  const card = el("li", { class: "card", "data-memory": memory.id });
  const draw = (one) => fill(card, inside(one, { card, draw, onDelete, more, signal }));
  draw(memory);
  return card;
}

/** Return the fields for a memory's words; `values` reads them. */
export function memoryFields(memory = {}) {
  const area = (name, rows) => el("textarea", { name, rows, value: memory[name] ?? "" });
  const inputs = { query: area("query", 3), response: area("response", 3), outcome: area("outcome", 2) };
  return {
    fields: [
      field("What you said or did", inputs.query),
      field("What was answered", inputs.response, "May stay empty."),
      field("What came of it", inputs.outcome, "Your choice, a rating, or your own words; may stay empty."),
    ],
    values: () => Object.fromEntries(Object.entries(inputs).map(([name, one]) => [name, one.value.trim()])),
  };
}

function inside(memory, { card, draw, onDelete, more, signal }) {
  const body = el("div", { id: fresh("memory") }, words(memory));
  const labelled = { "aria-describedby": body.id };
  const past = el("div", { class: "below", id: fresh("history"), hidden: true });
  const history = button("History", () => toggleHistory(memory, history, past, signal), {
    kind: "quiet",
    "aria-expanded": "false",
    "aria-controls": past.id,
    ...labelled,
  });
  return [
    body,
    el(
      "div",
      { class: "foot" },
      el(
        "div",
        { class: "meta" },
        time(memory.when),
        ROLES[memory.role] && el("span", { class: "tag" }, ROLES[memory.role]),
        memory.item && el("span", {}, `item ${memory.item}`),
        memory.metadata.channel && el("span", { class: "tag" }, `from ${memory.metadata.channel}`),
        memory.metadata.implicit &&
          el("span", { class: "tag warn" }, "outcome guessed from what you did next"),
      ),
      el(
        "div",
        { class: "row tight actions" },
        button("Correct", () => correct(memory, card, draw), { kind: "quiet", ...labelled }),
        history,
        button("Delete", () => remove(memory, onDelete), { kind: "quiet danger", ...labelled }),
      ),
    ),
    more,
    past,
  ];
}

function words(memory) {
  const given = PARTS.filter(([name]) => memory[name]);
  if (given.length === 1 && given[0][0] === "query") return el("p", { class: "words" }, memory.query);
  return el(
    "dl",
    { class: "pairs" },
    given.flatMap(([name, label]) => [el("dt", {}, label), el("dd", { class: "words" }, memory[name])]),
  );
}

async function correct(memory, card, draw) {
  const { fields, values } = memoryFields(memory);
  const changed = await form({
    title: "Correct this memory",
    fields,
    action: "Save",
    save: async () => {
      const given = values();
      const wanted = Object.fromEntries(
        PARTS.map(([name]) => [name, given[name]]).filter(([name, text]) => text !== (memory[name] ?? "")),
      );
      if (!Object.keys(wanted).length) return memory;
      return send("PATCH", path(memory), { user_id: session.user, ...wanted });
    },
  });
  if (changed === null || changed === memory) return;
  draw(changed);
  say("The memory is corrected. What it said before is in its history.");
  card.querySelector("button").focus();
}

async function remove(memory, onDelete) {
  const yes = await consent({
    title: "Delete this memory?",
    text: [
      el("blockquote", { class: "words" }, memory.memory),
      "It goes for good, and with it the facts and persona lines that rest on it alone.",
    ],
    action: "Delete",
    danger: true,
  });
  if (!yes) return;
  await call("DELETE", path(memory), { query: { user_id: session.user } });
  await onDelete();
  say("The memory is deleted.");
}

async function toggleHistory(memory, control, past, signal) {
  past.hidden = !past.hidden;
  control.setAttribute("aria-expanded", String(!past.hidden));
  if (past.hidden) return;
  fill(past, el("p", { class: "quiet" }, "Looking…"));
  try {
    const { results } = await get(`${path(memory)}/history`, { query: { user_id: session.user }, signal });
    fill(past, el("h3", {}, "What happened to it"), el("ol", { class: "cards" }, results.map(changeItem)));
  } catch (error) {
    fill(past, el("p", { class: "error" }, error.message));
  }
}

function changeItem(change) {
  const differ = PARTS.filter(
    ([name]) => change.old && change.new && (change.old[name] ?? "") !== (change.new[name] ?? ""),
  );
  return el(
    "li",
    {},
    el("p", { class: "meta" }, el("strong", {}, ACTIONS[change.action] ?? change.action), time(change.at)),
    differ.length > 0 &&
      el(
        "ul",
        { class: "change" },
        differ.flatMap(([name]) => [
          change.old[name] &&
            el(
              "li",
              { class: "removed" },
              el("span", { class: "mark" }, "− Before"),
              el("del", { class: "words" }, change.old[name]),
            ),
          change.new[name] &&
            el(
              "li",
              { class: "added" },
              el("span", { class: "mark" }, "+ After"),
              el("ins", { class: "words" }, change.new[name]),
            ),
        ]),
      ),
  );
}

function path(memory) {
  return `v1/memories/${encodeURIComponent(memory.id)}`;
}
