// Chat: streamed answers, and under each what it knew of you.

import { ApiError, call, get, isAbort, send } from "./api.js";
import { button, el, field, fill, once } from "./dom.js";
import { events } from "./events.js";
import { server, session } from "./session.js";
import { murmur, say } from "./status.js";
import { knew, usedOf } from "./used.js";

const MODES = [
  ["full", "Use my memory, and remember this"],
  ["read", "Use my memory, remember nothing"],
  ["write", "Remember this, use nothing"],
  ["off", "Neither"],
];
const OWN = "persona-agent"; // the server's own models are embedders

/** Show the talk and where to write. */
export async function show({ root, signal }) {
  const { data } = await get("v1/models", { signal });
  const talk = (session.talk ??= { turns: [], model: null, mode: "full" });
  const models = data.filter((one) => one.owned_by !== OWN).map((one) => one.id);
  talk.model = models.includes(talk.model) ? talk.model : models[0];
  const view = { talk, list: el("ol", { class: "talk", id: "talk", "aria-label": "The talk" }), signal };
  const empty = el(
    "div",
    { class: "empty", id: "no-talk" },
    el("strong", {}, "Say something"),
    el("p", {}, "Each answer says which memories and which version of your persona it was given."),
  );
  view.empty = empty;
  fill(root, options(talk, models), empty, view.list, composer(view));
  for (const turn of talk.turns) view.list.append(mineItem(turn.said), answerItem(view, turn));
  empty.hidden = talk.turns.length > 0;
}

function options(talk, models) {
  const model = el(
    "select",
    { id: "model" },
    models.map((one) => el("option", { value: one, selected: one === talk.model }, one)),
  );
  const mode = el(
    "select",
    { id: "mode" },
    MODES.map(([value, text]) => el("option", { value, selected: value === talk.mode }, text)),
  );
  model.addEventListener("change", () => (talk.model = model.value));
  mode.addEventListener("change", () => (talk.mode = mode.value));
  return el(
    "div",
    { class: "row" },
    el(
      "div",
      { class: "grow" },
      field("Memory", mode, server.remembers ? "" : "This server remembers nothing of chats."),
    ),
    models.length > 1 && el("div", { class: "grow" }, field("Model", model)),
  );
}

function composer(view) {
  const words = el("textarea", {
    id: "words",
    rows: 2,
    "aria-label": "Your message",
    placeholder: "Write a message…",
  });
  const go = el("button", { type: "submit", class: "button main", id: "send" }, "Send");
  const stop = button("Stop", () => view.stopping?.abort(), { id: "stop", hidden: true });
  const anew = button(
    "New talk",
    () => {
      view.stopping?.abort();
      view.talk.turns = [];
      fill(view.list);
      view.empty.hidden = false;
      words.focus();
    },
    { kind: "quiet", id: "new-talk" },
  );
  const form = el(
    "form",
    { class: "composer part", id: "composer", novalidate: true },
    words,
    el(
      "div",
      { class: "row ends" },
      el("span", { class: "quiet small" }, "Enter sends, Shift and Enter begin a line"),
      el("div", { class: "row" }, anew, stop, go),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = words.value.trim();
    if (!said) return words.focus();
    once(go, async () => {
      words.value = "";
      stop.hidden = false;
      try {
        await ask(view, said);
      } finally {
        stop.hidden = true;
        words.focus();
      }
    });
  });
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  return form;
}

/** Put a question, show the answer as it comes, and keep the turn. */
async function ask(view, said) {
  const { talk } = view;
  const turn = { said, text: "", used: null, error: null };
  const before = talk.turns
    .filter((one) => one.text)
    .flatMap((one) => [
      { role: "user", content: one.said },
      { role: "assistant", content: one.text },
    ]);
  talk.turns.push(turn);
  view.empty.hidden = true;
  const item = answerItem(view, turn);
  item.setAttribute("aria-busy", "true");
  view.list.append(mineItem(said), item);
  item.scrollIntoView({ block: "nearest" });
  view.stopping = new AbortController();
  const signal = AbortSignal.any([view.signal, view.stopping.signal]);
  const body = {
    model: talk.model,
    messages: [...before, { role: "user", content: said }],
    stream: true,
    user: session.user,
  };
  murmur("The answer is coming…");
  try {
    const response = await call("POST", "v1/chat/completions", {
      body,
      headers: { "x-persona-mode": talk.mode },
      signal,
    });
    turn.used = usedOf(response.headers);
    for await (const piece of pieces(response)) {
      turn.text += piece;
      item.querySelector(".words").append(piece);
      item.scrollIntoView({ block: "nearest" });
    }
    if (!turn.text) turn.error = "The model gave no answer.";
    murmur("The answer is complete.");
  } catch (error) {
    if (isAbort(error)) turn.error = "Stopped.";
    else if (error instanceof ApiError) turn.error = error.message;
    else throw error;
  }
  const done = answerItem(view, turn);
  item.replaceWith(done);
  if (!view.signal.aborted) done.scrollIntoView({ block: "nearest" });
}

/** Yield the text of an answer piece by piece, whether it is streamed or whole. */
async function* pieces(response) {
  if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
    const whole = await response.json();
    yield whole.choices?.[0]?.message?.content ?? "";
    return;
  }
  for await (const { data } of events(response)) {
    if (data === "[DONE]") continue;
    const part = JSON.parse(data);
    if (part.error) throw new ApiError(part.error.message ?? "The model broke off.");
    const piece = part.choices?.[0]?.delta?.content;
    if (piece) yield piece;
  }
}

function mineItem(said) {
  return el(
    "li",
    { class: "me" },
    el("span", { class: "unseen" }, "You:"),
    el("p", { class: "words" }, said),
  );
}

function answerItem(view, turn) {
  return el(
    "li",
    { class: "it" },
    el("span", { class: "unseen" }, "Answer:"),
    (turn.text || !turn.error) && el("p", { class: "words" }, turn.text),
    turn.error && el("p", { class: "error", role: "alert" }, turn.error),
    turn.used && el("div", { class: "used" }, knew(turn.used, view.signal), turn.used.turn && verdicts(turn)),
  );
}

/** Return the buttons that say whether an answer was good; what they say is remembered. */
function verdicts(turn) {
  const give = async (outcome, text) => {
    await send("POST", "v1/feedback", { user_id: session.user, id: turn.used.turn, outcome });
    turn.outcome = outcome;
    draw();
    say(text);
    row.querySelector("[aria-pressed=true]").focus();
  };
  const row = el("div", { class: "row tight" });
  const draw = () =>
    fill(
      row,
      [
        ["accepted", "Good answer", "Remembered: the answer was good."],
        ["rejected", "Not helpful", "Remembered: the answer did not help."],
      ].map(([outcome, label, text]) =>
        button(label, () => give(outcome, text), {
          kind: "quiet",
          "aria-pressed": String(turn.outcome === outcome),
        }),
      ),
    );
  draw();
  return row;
}
