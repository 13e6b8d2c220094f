// Signing in with a key, and naming the person where the key acts for many.

import { ApiError, get } from "./api.js";
import { el, field, fill, focusOn, once } from "./dom.js";
import { isOperator, keepKey, keepMe, keepUser, leave, session } from "./session.js";

/** Ask for the key; `done` is called when the server knows it. */
export function signIn(main, { done }) {
  const key = el("input", {
    type: "password",
    id: "key",
    name: "key",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "pa_…",
  });
  const form = el(
    "form",
    { class: "card", id: "sign-in", novalidate: true },
    field(
      "Your key",
      key,
      "It stays in this tab (its session storage) and goes to this server alone, with each request. Closing the tab or signing out forgets it.",
    ),
    el("button", { type: "submit", class: "button main" }, "Sign in"),
  );
  begin(main, form, {
    heading: "What is known about you",
    lead: "See what this assistant has learned about you, correct it, lock it, or delete it. Sign in with the key that you were given.",
  });
  onSubmit(form, key, "Give the key that you were given.", async (value) => {
    keepKey(value);
    try {
      keepMe(await get("v1/me"));
    } catch (error) {
      leave();
      throw error;
    }
    await done();
  });
}

/** Ask whose memory is to be shown; `done` is called when the person is named. */
export function choosePerson(main, { done }) {
  const known = el("datalist", { id: "known-people" });
  const person = el("input", {
    type: "text",
    id: "person-id",
    name: "person",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    list: known.id,
    value: session.user,
  });
  const form = el(
    "form",
    { class: "card", id: "choose-person", novalidate: true },
    field("Person", person, "The id that the product gives this person, such as alice."),
    known,
    el("button", { type: "submit", class: "button main" }, "Show this memory"),
  );
  begin(main, form, {
    heading: "Whose memory?",
    lead: "This key may act for many people. Name the one whose memory you want to see.",
  });
  onSubmit(form, person, "Name the person.", async (value) => {
    keepUser(value);
    await done();
  });
  if (isOperator()) suggest(known);
}

function begin(main, form, { heading, lead }) {
  const h1 = el("h1", { id: "title" }, heading);
  fill(main, el("div", { class: "door" }, h1, el("p", { class: "lead" }, lead), form));
  main.setAttribute("aria-busy", "false");
  focusOn(h1);
}

function onSubmit(form, input, missing, work) {
  const error = el("p", { class: "error", id: `${input.id}-error`, role: "alert" });
  input.after(error);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    once(form.querySelector("[type=submit]"), async () => {
      error.textContent = "";
      input.removeAttribute("aria-invalid");
      const value = input.value.trim();
      try {
        if (!value) throw new ApiError(missing);
        await work(value);
      } catch (refused) {
        if (!(refused instanceof ApiError)) throw refused;
        error.textContent = refused.message;
        input.setAttribute("aria-invalid", "true");
        input.focus();
      }
    });
  });
}

async function suggest(list) {
  try {
    const { results } = await get("v1/operator/users", { query: { limit: 200 } });
    fill(
      list,
      results.map((one) => el("option", { value: one.user_id })),
    );
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // suggestions are a help, no need
  }
}
