// About me: the persona, line by line, with what each rests on; and alignment.

import { alignment } from "./align.js";
import { get, mine, send } from "./api.js";
import { form, consent } from "./dialog.js";
import { button, el, field, fill, focusOn, fresh } from "./dom.js";
import { icon } from "./icons.js";
import { everyFact, factList, memoriesOf, memoryList, missing } from "./known.js";
import { say } from "./status.js";
import { count, lineOrigin, time, versionOrigin } from "./words.js";

const LONGEST = 240;
const MOST = 24;

/** Show the persona of the person who is signed in. */
export async function show({ root, signal }) {
  const known = await get(mine(), { signal });
  if (!known.memories && !known.persona_version) {
    fill(root, nothing());
    return;
  }
  const view = { root: el("div", { class: "part" }), persona: null, facts: [], signal };
  const reload = async () => {
    view.persona = await get(mine("/persona"), { signal });
    draw(view);
  };
  view.reload = reload;
  const asked = [get(mine("/persona"), { signal })];
  if (known.memories) asked.push(everyFact(signal), alignment({ signal, onChange: reload }));
  const [persona, every = [], aligning = null] = await Promise.all(asked);
  Object.assign(view, { persona, facts: every });
  const held = every.filter((one) => one.valid_until === null);
  fill(
    root,
    el(
      "p",
      { class: "lead" },
      "This is what the assistant is told about you before each answer. Every line can be questioned, changed, locked or removed; each change is kept as a version that you can go back to.",
    ),
    view.root,
    aligning,
    facts(held, known.memories),
  );
  draw(view);
}

function nothing() {
  return el(
    "div",
    { class: "empty", id: "nothing-known" },
    el("strong", {}, "Nothing is known about you yet"),
    el("p", {}, "What you say in a chat, and what you add yourself, is remembered and shown here."),
    el(
      "div",
      { class: "row" },
      el("a", { class: "button main", href: "#chat" }, "Start a chat"),
      el("a", { class: "button", href: "#memories" }, "Add a memory"),
    ),
  );
}

function draw(view) {
  const { persona } = view;
  const head = persona.version
    ? [
        el("a", { href: "#timeline" }, `Version ${persona.version}`),
        versionOrigin(persona),
        persona.created && time(persona.created),
      ]
    : ["Not stored yet: this is what your history says so far"];
  fill(
    view.root,
    el(
      "div",
      { class: "row ends" },
      el("h2", { id: "persona-heading" }, "Your persona"),
      el(
        "div",
        { class: "meta", id: "persona-version" },
        head.filter(Boolean).map((one) => el("span", {}, one)),
      ),
    ),
    persona.lines.length
      ? el(
          "ol",
          { class: "persona", id: "persona", "aria-labelledby": "persona-heading" },
          persona.lines.map((one) => lineItem(view, one)),
        )
      : el(
          "p",
          { class: "empty", id: "persona" },
          "There are no lines yet. Write the first one yourself, or let an alignment find some.",
        ),
    adding(view),
  );
}

function lineItem(view, line) {
  const text = el("p", { class: "text words", id: fresh("line") }, line.text);
  const below = el("div", { class: "evidence", id: fresh("evidence"), hidden: true });
  const labelled = { "aria-describedby": text.id };
  const why = button("Why?", () => toggle(view, line, why, below), {
    kind: "quiet",
    "aria-expanded": "false",
    "aria-controls": below.id,
    ...labelled,
  });
  const lock = button(line.locked ? "Unlock" : "Lock", () => setLock(view, line), {
    kind: "quiet",
    ...labelled,
  });
  lock.prepend(icon(line.locked ? "unlock" : "lock"));
  const edit = button("Edit", () => change(view, line), { kind: "quiet", ...labelled });
  const remove = button("Remove", () => removeLine(view, line), { kind: "quiet danger", ...labelled });
  return el(
    "li",
    { class: line.locked ? "locked" : "", "data-line": line.id },
    text,
    el(
      "div",
      { class: "foot" },
      el(
        "div",
        { class: "meta" },
        line.locked && el("span", { class: "tag accent" }, icon("lock"), "Locked"),
        el("span", {}, lineOrigin(line)),
        line.evidence.length > 0 &&
          el("span", {}, `rests on ${count(line.evidence.length, "memory", "memories")}`),
      ),
      el("div", { class: "row tight actions" }, why, lock, !line.locked && edit, !line.locked && remove),
    ),
    below,
  );
}

async function toggle(view, line, why, below) {
  const opens = below.hidden;
  below.hidden = !opens;
  why.setAttribute("aria-expanded", String(opens));
  if (!opens || below.childElementCount) return;
  fill(below, el("p", { class: "quiet" }, "Looking…"));
  try {
    fill(below, ...(await evidence(view, line)));
  } catch (error) {
    fill(below, el("p", { class: "error" }, error.message));
  }
}

async function evidence(view, line) {
  if (!line.evidence.length) {
    const told =
      line.origin === "user"
        ? "You wrote this line. It rests on your word alone."
        : `This line was ${lineOrigin(line)} as a whole; it names no single memories.`;
    return [el("p", {}, told)];
  }
  const found = await memoriesOf(line.evidence, view.signal);
  const ids = new Set(line.evidence);
  const facts = view.facts.filter((one) => one.evidence.some((id) => ids.has(id)));
  return [
    el("h3", {}, "The memories it rests on"),
    memoryList(found),
    missing(line.evidence, found),
    facts.length > 0 && [el("h3", {}, "Facts that rest on the same memories"), factList(facts)],
  ].flat();
}

async function setLock(view, line) {
  view.persona = await send("POST", mine("/persona/lock"), { line: line.id, locked: !line.locked });
  draw(view);
  say(
    line.locked
      ? "The line is unlocked: an alignment may change it."
      : "The line is locked: no alignment changes it.",
  );
  focusLine(view, line.id, line.locked ? "Lock" : "Unlock");
}

async function change(view, line) {
  const input = el("textarea", { rows: 3, maxlength: LONGEST, value: line.text });
  const done = await form({
    title: "Edit the line",
    fields: [
      field(
        "What should it say?",
        input,
        "One plain line without links. It becomes yours: it rests on your word from now on.",
      ),
    ],
    action: "Save",
    save: async () => {
      const text = plain(input.value);
      if (text === line.text) return text;
      if (!view.persona.lines.some((one) => one.id === line.id))
        throw new Error("The line is no longer there.");
      await put(
        view,
        view.persona.lines.map((one) => (one.id === line.id ? text : one.text)),
      );
      return text;
    },
  });
  if (done === null || done === line.text) return;
  draw(view);
  say("The line is changed.");
  focusLine(view, view.persona.lines.find((one) => one.text === done)?.id, "Edit");
}

async function removeLine(view, line) {
  const yes = await consent({
    title: "Remove this line?",
    text: [
      el("blockquote", { class: "words" }, line.text),
      "The assistant is not told it any more. The version before stays in your timeline.",
    ],
    action: "Remove",
    danger: true,
  });
  if (!yes) return;
  await put(
    view,
    view.persona.lines.filter((one) => one.id !== line.id).map((one) => one.text),
  );
  draw(view);
  say("The line is removed.");
  focusOn(view.root.querySelector("#persona-heading"));
}

function adding(view) {
  const input = el("input", { type: "text", id: "new-line", maxlength: LONGEST, autocomplete: "off" });
  const error = el("p", { class: "error", role: "alert", id: "new-line-error" });
  const add = el("form", { class: "row", id: "add-line", novalidate: true });
  const isFull = view.persona.lines.length >= MOST;
  const submit = el("button", { type: "submit", class: "button", disabled: isFull }, "Add");
  add.append(el("div", { class: "grow" }, input), submit);
  input.setAttribute("aria-label", "A line of your own");
  input.placeholder = isFull
    ? `A persona has at most ${MOST} lines`
    : "Add a line of your own, such as: Prefers short answers";
  add.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.textContent = "";
    const text = plain(input.value);
    if (!text) {
      error.textContent = "Write the line first.";
      input.focus();
      return;
    }
    try {
      await put(view, [...view.persona.lines.map((one) => one.text), text]);
    } catch (refused) {
      refuse(view, input.value, refused.message);
      return;
    }
    draw(view);
    say("The line is added.");
    view.root.querySelector("#new-line").focus();
  });
  return el("div", { class: "field" }, add, error);
}

/** Say why a line was refused, in the form that stands now, and keep its words there. */
function refuse(view, words, message) {
  const input = view.root.querySelector("#new-line");
  input.value = words;
  view.root.querySelector("#new-line-error").textContent = message;
  input.focus();
}

/** Store lines as the next version; one that somebody else changed meanwhile is shown first. */
async function put(view, lines) {
  try {
    view.persona = await send("PUT", mine("/persona"), { lines, version: view.persona.version });
  } catch (error) {
    if (error.code === "persona_conflict") {
      await view.reload();
      error.message =
        "It was changed meanwhile, perhaps by an alignment. The latest is shown now: please look, and do it again.";
    }
    throw error;
  }
}

function focusLine(view, id, label) {
  const item = view.root.querySelector(`[data-line="${id}"]`);
  const wanted = [...(item?.querySelectorAll("button") ?? [])].find((one) => one.textContent === label);
  if (wanted) wanted.focus();
}

function facts(held, memories) {
  if (!memories) return null;
  return el(
    "section",
    { class: "part", "aria-labelledby": "facts-heading" },
    el("h2", { id: "facts-heading" }, "Facts"),
    held.length
      ? el("div", { class: "card evidence", id: "facts" }, factList(held))
      : el("p", { class: "quiet", id: "facts" }, "No single facts were drawn from what you said yet."),
  );
}

function plain(text) {
  return text.replace(/\s+/g, " ").trim();
}
