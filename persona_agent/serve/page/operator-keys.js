// Keys of the tenant: whom each speaks for, and what it may do. Secrets are not kept, so not shown.

import { get } from "./api.js";
import { el, fill } from "./dom.js";
import { table } from "./table.js";
import { time } from "./words.js";

const SCOPES = { "many-users": "many users", operator: "operators' routes" };
const COLUMNS = [
  { head: "Key", cell: (one) => el("code", {}, one.id) },
  { head: "Name", cell: (one) => one.name || "–", kind: "long" },
  { head: "Speaks for", cell: (one) => one.user ?? "nobody by itself", kind: "long" },
  { head: "May", cell: (one) => one.scopes.map((scope) => SCOPES[scope] ?? scope).join(", ") || "its own user" },
  { head: "Made", cell: (one) => time(one.created, { day: true }) },
  { head: "State", cell: state },
];

/** Draw the keys. */
export async function showKeys({ root, signal }) {
  const { results } = await get("v1/operator/keys", { signal });
  fill(
    root,
    el("p", { class: "quiet" }, "Keys are made and revoked on the command line, by ", el("code", {}, "persona-agent keys"), "."),
    results.length
      ? table("Keys", COLUMNS, results)
      : el("p", { class: "empty" }, "No key was made yet; you came in with the one of the server's configuration."),
  );
}

function state(one) {
  if (one.revoked === null) return el("span", { class: "tag good" }, "In use");
  return [el("span", { class: "tag bad" }, "Revoked"), " ", time(one.revoked, { day: true })];
}
