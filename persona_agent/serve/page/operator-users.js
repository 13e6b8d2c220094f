// Users of the tenant: how much is known of each, found by how their ids begin.

import { get } from "./api.js";
import { button, el, field, fill, focusOn, once } from "./dom.js";
import { actsForMany, keepUser } from "./session.js";
import { murmur } from "./status.js";
import { rows, table } from "./table.js";
import { count, number, time } from "./words.js";

const PAGE = 50;
const COLUMNS = [
  { head: "User", cell: name, kind: "long" },
  { head: "Memories", cell: (one) => number(one.memories), kind: "number" },
  { head: "Facts", cell: (one) => number(one.facts), kind: "number" },
  { head: "Persona", cell: (one) => (one.persona_version ? `version ${one.persona_version}` : "none yet") },
  { head: "Since", cell: (one) => time(one.created, { day: true }) },
  { head: "Latest memory", cell: (one) => (one.latest === null ? "none" : time(one.latest)) },
];

/** Draw who is known here, or those alone whose ids begin with `asked.starting`. */
export async function showUsers({ root, signal, redraw, asked }) {
  const starting = asked.starting ?? "";
  const ask = (cursor = null) =>
    get("v1/operator/users", { query: { limit: PAGE, cursor, starting: starting || null }, signal });
  const page = await ask();
  const input = el("input", { type: "search", id: "users-starting", autocomplete: "off", spellcheck: "false", value: starting });
  const form = el(
    "form",
    { class: "find", role: "search", "aria-label": "Users" },
    field("Ids that begin with", input),
    el("button", { type: "submit", class: "button" }, "Find"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    once(form.querySelector("button"), async () => {
      asked.starting = input.value.trim();
      await redraw();
      document.getElementById("users-starting").focus();
      murmur(document.getElementById("users-shown").textContent);
    });
  });
  fill(root, form, page.results.length ? list(page, ask) : nobody(starting));
}

function list(page, ask) {
  const shown = el("p", { class: "quiet", id: "users-shown" });
  const made = table("Users", COLUMNS, page.results);
  const body = made.querySelector("tbody");
  const tell = (next) => {
    shown.textContent = `${count(body.children.length, "user")}${next === null ? "" : ", and there are more"}`;
  };
  let { next } = page;
  tell(next);
  const more = button("Show more", async () => {
    const later = await ask(next);
    const added = rows(COLUMNS, later.results);
    body.append(...added);
    ({ next } = later);
    tell(next);
    more.hidden = next === null;
    if (added.length) focusOn(added[0].querySelector("th"));
  }, { id: "users-more" });
  more.hidden = next === null;
  return [shown, made, more];
}

function nobody(starting) {
  const text = starting ? `No user's id begins with “${starting}”.` : "Nothing is known of anybody yet.";
  return el("p", { class: "empty", id: "users-shown" }, text);
}

/** Return the id; who may act for the user can open that person's memory. */
function name(one) {
  if (!actsForMany()) return one.user_id;
  return button(one.user_id, () => {
    keepUser(one.user_id);
    location.hash = "#about";
  }, { kind: "link", "aria-label": `Open the memory of ${one.user_id}` });
}
