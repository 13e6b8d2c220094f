// What an answer was given of the person's memory, read from the response's headers.

import { el, fill } from "./dom.js";
import { everyFact, factList, memoriesOf, memoryList, missing } from "./known.js";
import { count } from "./words.js";

const REASONS = {
  timeout: "looking took too long",
  StoreError: "the store could not be read",
  BackendError: "the embedder failed",
  BackendTimeout: "the embedder took too long",
};

/** Return what the headers of an answer say of it. */
export function usedOf(headers) {
  const [state, reason = ""] = (headers.get("x-persona-memory") ?? "").split(";").map((one) => one.trim());
  return {
    state,
    reason,
    version: Number(headers.get("x-persona-version") ?? 0),
    memories: ids(headers.get("x-persona-memories")),
    facts: ids(headers.get("x-persona-facts")),
    turn: headers.get("x-persona-turn"),
  };
}

/** Return it in words; what it rests on is looked up when it is opened. */
export function knew(used, signal) {
  if (used.state === "degraded") {
    const why = REASONS[used.reason] ?? "something failed on the server";
    return el(
      "p",
      { class: "tag warn", "data-used": "degraded" },
      `This answer came without memory: ${why}.`,
    );
  }
  if (used.state === "off")
    return el("p", { class: "tag", "data-used": "off" }, "Your memory was not asked.");
  if (used.state !== "used")
    return el("p", { class: "tag", "data-used": "none" }, "Nothing was known for this answer.");
  const inside = el("div", { class: "evidence" });
  const shown = el(
    "details",
    { class: "small", "data-used": "used" },
    el("summary", {}, headline(used)),
    inside,
  );
  shown.addEventListener("toggle", async () => {
    if (!shown.open || inside.childElementCount) return;
    fill(inside, el("p", { class: "quiet" }, "Looking…"));
    try {
      fill(inside, ...(await details(used, signal)));
    } catch (error) {
      fill(inside, el("p", { class: "error" }, error.message));
    }
  });
  return shown;
}

function headline(used) {
  const parts = [
    used.version && `version ${used.version} of your persona`,
    used.memories.length && count(used.memories.length, "memory", "memories"),
    used.facts.length && count(used.facts.length, "fact"),
  ].filter(Boolean);
  if (!parts.length) return "It knew of you";
  const last = parts.pop();
  return `It was given ${parts.length ? `${parts.join(", ")} and ${last}` : last}`;
}

async function details(used, signal) {
  const memories = await memoriesOf(used.memories, signal);
  const wanted = new Set(used.facts);
  const facts = wanted.size ? (await everyFact(signal)).filter((one) => wanted.has(one.id)) : [];
  return [
    used.version > 0 && el("p", {}, "Persona: ", el("a", { href: "#timeline" }, `version ${used.version}`)),
    memories.length > 0 && [el("h3", {}, "Memories"), memoryList(memories)],
    missing(used.memories, memories),
    facts.length > 0 && [el("h3", {}, "Facts"), factList(facts)],
  ].flat();
}

function ids(header) {
  return header ? header.split(",").filter(Boolean).map(decodeURIComponent) : [];
}
