// Health: whether the server's parts work, and how it has been since it started.

import { ApiError, call } from "./api.js";
import { el, fill } from "./dom.js";
import { read, total, within } from "./figures.js";
import { tiles } from "./table.js";
import { count, number } from "./words.js";

const PARTS = { store: "Store", embedder: "Embedder", model: "Model" };

/** Draw whether the parts work, and the figures since the start. */
export async function showHealth({ root, signal }) {
  const [state, figures] = await Promise.all([readiness(signal), metrics(signal)]);
  fill(
    root,
    verdict(state),
    el("ul", { class: "parts", "aria-label": "Parts" }, Object.keys(PARTS).map((one) => part(one, state))),
    el("h3", {}, "Since the server started"),
    figures === null
      ? el("p", { class: "quiet" }, "Figures are off on this server: its operator set metrics = false.")
      : tiles("Figures since the start", since(figures, state.parts.turns_waiting)),
  );
}

async function readiness(signal) {
  return (await call("GET", "ready", { signal, accepts: [503] })).json();
}

/** Return the figures; null where the server keeps them to itself. */
async function metrics(signal) {
  try {
    return read(await (await call("GET", "metrics", { signal })).text());
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

function verdict(state) {
  const works = state.status === "ready";
  return el(
    "div",
    { class: works ? "notice good" : "notice bad", id: "ready" },
    el(
      "p",
      {},
      el("strong", {}, works ? "Ready. " : "Not ready. "),
      works ? "Chats are answered and remembered." : "What does not work, or not yet, is named below.",
    ),
  );
}

function part(name, state) {
  const told = state.parts[name];
  const [kind, word] = told === "ok" ? ["good", "Works"] : told === "loading" ? ["warn", "Loads"] : ["bad", "Fails"];
  return el(
    "li",
    {},
    el("span", { class: `tag ${kind}` }, word),
    el("span", { class: "part-name" }, PARTS[name]),
    kind === "bad" && el("span", { class: "quiet" }, told),
  );
}

function since(figures, waiting) {
  const requests = total(figures, "persona_agent_requests_total");
  const failed = total(figures, "persona_agent_requests_total", ({ status }) => status >= "500");
  const chats = total(figures, "persona_agent_chats_total");
  const without = total(figures, "persona_agent_chats_total", ({ memory }) => memory === "degraded");
  const lost = total(figures, "persona_agent_turns_total", ({ end }) => end === "lost");
  return [
    { name: "Requests", value: number(requests), note: `${number(failed)} failed` },
    { name: "Chats", value: number(chats), note: `${number(without)} had to do without memory` },
    { name: "Recall", value: atMost(figures, 0.5), note: `99%: ${atMost(figures, 0.99)}` },
    { name: "Turns waiting", value: number(waiting), note: `${number(lost)} lost` },
    {
      name: "Background",
      value: number(total(figures, "persona_agent_jobs_total")),
      note: count(total(figures, "persona_agent_learning_tokens_total"), "token"),
    },
  ];
}

function atMost(figures, share) {
  const seconds = within(figures, "persona_agent_known_seconds", share);
  if (seconds === null) return "–";
  return seconds === Infinity ? "over 120 s" : `≤ ${number(1000 * seconds)} ms`;
}
