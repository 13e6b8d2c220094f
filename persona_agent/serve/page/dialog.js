// Asking before something is done, in a dialog that keeps the focus and gives it back.

import { button, el, field, fresh, once } from "./dom.js";

/**
 * Ask for consent and return whether it was given.
 *
 * With `typed`, the word has to be typed first: for what cannot be undone.
 */
export async function consent({ title, text, action, danger = false, typed = null }) {
  const word =
    typed === null
      ? null
      : el("input", { type: "text", id: "typed", autocomplete: "off", spellcheck: "false" });
  const error = el("p", { class: "error", role: "alert" });
  const check = () => {
    if (word === null || word.value.trim() === typed) return true;
    error.textContent = `Type ${typed} to go on.`;
    word.setAttribute("aria-invalid", "true");
    word.focus();
    return null;
  };
  const parts = [
    [text].flat().map((one) => (one instanceof Node ? one : el("p", {}, one))),
    word && field(`Type ${typed} to confirm`, word),
    error,
  ];
  return (await open({ title, parts, action, danger, answer: check })) !== null;
}

/**
 * Ask for values by a form and return what `save` made of them, null if it was called off.
 *
 * `fields` are elements of the form. `save` does the work; what it throws is told in the dialog,
 * which stays open, so that nothing typed is lost.
 */
export function form({ title, fields, action, save }) {
  return open({ title, parts: fields, action, answer: save });
}

/** Show a dialog until `answer` returns something that is not null, or it is called off. */
function open({ title, parts, action, danger = false, answer }) {
  return new Promise((resolve) => {
    const heading = el("h2", { id: fresh("dialog") }, title);
    const error = el("p", { class: "error", role: "alert" });
    const go = el("button", { type: "submit", class: danger ? "button danger" : "button main" }, action);
    const body = el(
      "form",
      { novalidate: true },
      heading,
      parts,
      error,
      el(
        "div",
        { class: "row" },
        button("Cancel", () => dialog.close()),
        go,
      ),
    );
    const dialog = el("dialog", { "aria-labelledby": heading.id }, body);
    let given = null;
    body.addEventListener("submit", (event) => {
      event.preventDefault();
      once(go, async () => {
        error.textContent = "";
        try {
          given = await answer();
        } catch (refused) {
          error.textContent = refused.message;
          return;
        }
        if (given !== null) dialog.close();
      });
    });
    const leave = () => dialog.close();
    window.addEventListener("hashchange", leave);
    dialog.addEventListener("close", () => {
      window.removeEventListener("hashchange", leave);
      dialog.remove();
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
