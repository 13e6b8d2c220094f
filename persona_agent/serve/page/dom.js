// Making elements. Text goes in as text, never as markup; the page's policy forbids the other way.

/**
 * Return an element with attributes and children.
 *
 * An attribute that is null, undefined or false is left out, true is empty. `on` holds listeners by
 * their events. Children are elements or text; null, undefined and false are left out.
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "value") {
      made.value = value;
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...present(children));
  return made;
}

/** Put children in the place of what a node holds. */
export function fill(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

/** Return an id that no element of the page has. */
export function fresh(name) {
  counter += 1;
  return `${name}-${counter}`;
}

/**
 * Return a button. `kind` is "main", "quiet", "danger" or "" for plain. While `act` works, a
 * further click does nothing, and the button keeps the focus.
 */
export function button(text, act, { kind = "", ...attributes } = {}) {
  const made = el("button", { type: "button", class: `button ${kind}`.trim(), ...attributes }, text);
  made.addEventListener("click", (event) => once(made, () => act(event)));
  return made;
}

/** Run `work` unless it runs already for this control, and say on it that it does. */
export async function once(control, work) {
  if (control.getAttribute("aria-disabled") === "true") return;
  control.setAttribute("aria-disabled", "true");
  try {
    await work();
  } finally {
    control.removeAttribute("aria-disabled");
  }
}

/** Return a labelled field: its label, the control, and what helps to fill it. */
export function field(label, control, help = "") {
  control.id ||= fresh("field");
  const note = help ? el("p", { class: "help", id: `${control.id}-help` }, help) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control, note);
}

/** Move the focus to what is no control, such as a heading. */
export function focusOn(node) {
  if (!node.hasAttribute("tabindex")) node.setAttribute("tabindex", "-1");
  node.focus();
}

let counter = 0;

function present(children) {
  return children
    .flat(Infinity)
    .filter((one) => one !== null && one !== undefined && one !== false)
    .map((one) => (one instanceof Node ? one : String(one)));
}
