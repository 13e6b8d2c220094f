// Alignment: asking for it, following it live, and saying how it ended.

import { call, get, mine, send } from "./api.js";
import { changes } from "./changes.js";
import { button, el, fill, once } from "./dom.js";
import { events } from "./events.js";
import { server } from "./session.js";
import { say } from "./status.js";
import { count, metric, number, signed, time } from "./words.js";

/** Return the part that aligns; `onChange` is called when a new version was accepted. */
export async function alignment({ signal, onChange }) {
  const shown = el("div", { id: "alignment" });
  const watch = (operation) => follow(operation, { shown, signal, onChange });
  const start = button("Align now", async () => watch(await send("POST", mine("/persona/align"), {})), {
    kind: "main",
    id: "align",
  });
  const { results } = await get(mine("/operations"), { query: { limit: 1 }, signal });
  const last = results.find((one) => one.kind === "align");
  if (last && ended(last)) fill(shown, ending(last));
  else if (last) once(start, () => watch(last)); // goes on while the rest is shown
  return el(
    "section",
    { class: "part", "aria-labelledby": "align-heading" },
    el("h2", { id: "align-heading" }, "Alignment"),
    el(
      "p",
      { class: "quiet" },
      "An alignment proposes changes to your persona and tries old and new on interactions that neither has seen. Only what predicts you better is taken; locked lines stay as they are.",
    ),
    server.learns
      ? el("div", { class: "row" }, start)
      : el(
          "p",
          { class: "notice warn" },
          "Learning is switched off on this server, so nothing is aligned here.",
        ),
    shown,
  );
}

/** Show an operation until it has ended. */
async function follow(operation, { shown, signal, onChange }) {
  const bar = el("progress", { id: "align-progress", "aria-labelledby": "align-told" });
  const told = el("p", { id: "align-told", "aria-live": "polite" });
  fill(shown, el("div", { class: "card" }, told, bar));
  let last = operation;
  fill(told, stage(last));
  const response = await call("GET", `v1/operations/${encodeURIComponent(operation.id)}/events`, { signal });
  for await (const { event, data } of events(response)) {
    if (event === "gone") {
      fill(shown, el("p", { class: "notice warn" }, "Your data was deleted meanwhile."));
      return;
    }
    last = JSON.parse(data);
    fill(told, stage(last));
  }
  if (!ended(last)) last = await get(`v1/operations/${encodeURIComponent(operation.id)}`, { signal });
  fill(shown, ending(last));
  if (last.state === "done" && last.result.accepted) await onChange();
  say(verdict(last));
}

function stage(operation) {
  if (operation.state === "queued") return "Waiting for its turn…";
  const { round, model_requests: asked } = operation.progress;
  if (!round) return "Begun: trying your persona as it is on what you did…";
  return `Step ${round}: ${count(asked ?? 0, "question")} put to the model so far…`;
}

function ended(operation) {
  return operation.state === "done" || operation.state === "failed";
}

function verdict(operation) {
  if (operation.state === "failed") return "The alignment could not be done.";
  if (!ended(operation)) return "The alignment goes on in the background.";
  return operation.result.accepted
    ? "The alignment found something better: a new version is in use."
    : "The alignment changed nothing: no proposal was better.";
}

function ending(operation) {
  const at = el("span", { class: "quiet small" }, "Last alignment, ", time(operation.updated));
  if (operation.state === "failed") {
    return el(
      "div",
      { class: "notice warn", id: "align-result" },
      at,
      el("strong", {}, "It could not be done"),
      el("p", {}, reasonOf(operation.error ?? "")),
    );
  }
  if (!ended(operation)) return el("p", { class: "notice", id: "align-result" }, verdict(operation));
  const found = operation.result;
  return el(
    "div",
    { class: found.accepted ? "notice good" : "notice", id: "align-result" },
    at,
    el(
      "strong",
      {},
      found.accepted
        ? `Accepted: version ${found.version} is in use`
        : "Refused: your persona stays as it is",
    ),
    el(
      "p",
      {},
      `${count(found.candidates, "proposal")} tried in ${count(found.rounds, "round")}. ${sentence(found.reason)}`,
    ),
    scores(found),
    found.accepted && changes(found.diff),
  );
}

/** Return the scores before and after, on the interactions that were held out. */
function scores(found) {
  const old = found.before_scores;
  const now = found.after_scores;
  if (!old?.metric?.length) return null;
  const rows = [metric(mean(old.metric), mean(now.metric))];
  if (old.loglik?.length && now.loglik?.length) {
    const [before, after] = [mean(old.loglik), mean(now.loglik)];
    rows.push({
      name: "Likelihood of what you did (log)",
      before: number(before),
      after: number(after),
      change: signed(after - before),
    });
  }
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      el("caption", {}, `On ${count(old.metric.length, "interaction")} that neither had seen`),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ["", "Before", "After", "Change"].map((one) =>
            el(one ? "th" : "td", { scope: one ? "col" : null, class: "number" }, one),
          ),
        ),
      ),
      el("tbody", {}, rows.map(scoreRow)),
    ),
  );
}

function scoreRow({ name, before, after, change }) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name),
    [before, after, change].map((one) => el("td", { class: "number" }, one)),
  );
}

function mean(values) {
  return values.reduce((sum, one) => sum + one, 0) / values.length;
}

function reasonOf(error) {
  return error.replace(/^[A-Za-z]+: /, "");
}

function sentence(text) {
  return text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}.` : "";
}
