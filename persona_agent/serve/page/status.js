// Telling what happened, to eyes and to screen readers.

const SHOWN_MS = 8000;
let timer = 0;

/** Say that something went well, or how far it is. */
export function say(text) {
  show("status", text);
}

/** Say to screen readers alone what eyes see anyway. */
export function murmur(text) {
  show("status", text, "unseen");
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

function show(id, text, kind = "") {
  hush();
  const place = document.getElementById(id);
  place.className = kind;
  place.textContent = text;
  timer = setTimeout(hush, Math.max(SHOWN_MS, 90 * text.length));
}
