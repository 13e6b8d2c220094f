// Telling what happened, to eyes and to screen readers.

const SHOWN_MS = 8000;
let timer = 0;

/** Say that something went well, or how far it is. */
export function say(text) {
  show("status", text);
}

/** Say that something did not go, in the server's words. */
export function fail(error) {
  show("alert", error.message);
}

/** Take away what was said. */
export function hush() {
  clearTimeout(timer);
  for (const id of ["status", "alert"]) document.getElementById(id).textContent = "";
}

function show(id, text) {
  hush();
  document.getElementById(id).textContent = text;
  timer = setTimeout(hush, Math.max(SHOWN_MS, 90 * text.length));
}
