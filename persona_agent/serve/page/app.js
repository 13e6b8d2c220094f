// The shell: who is here, which section is shown, and where the focus goes.

import { ApiError, get, isAbort } from "./api.js";
import { el, fill, focusOn } from "./dom.js";
import { icon } from "./icons.js";
import { actsForMany, isOperator, keepMe, leave, server, session } from "./session.js";
import { choosePerson, signIn } from "./sign-in.js";
import { fail, hush, say } from "./status.js";

/**
 * The sections. A module exports `async show({ root, part, signal })`, which fills `root`; `part` is
 * what follows the section's name in the address (#memories/part), and `signal` aborts when the
 * section is left. `needs` says for whom it is: "person" or "operator".
 */
const SECTIONS = [
  { hash: "about", title: "About me", module: "./about.js", needs: "person" },
  { hash: "timeline", title: "Timeline", module: "./timeline.js", needs: "person" },
  { hash: "memories", title: "Memories", module: "./memories.js", needs: "person" },
  { hash: "for-you", title: "For you", module: "./for-you.js", needs: "person" },
  { hash: "chat", title: "Chat", module: "./chat.js", needs: "person" },
  { hash: "data", title: "My data", module: "./data.js", needs: "person" },
  { hash: "operators", title: "Operators", module: "./operators.js", needs: "operator" },
];
const PRODUCT = "persona_agent";

const main = document.getElementById("main");
const nav = document.getElementById("sections");
const who = document.getElementById("who");
let leaving = new AbortController();

/** Show what the address names, or what has to come first: signing in, naming the person. */
async function route() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  hush();
  const begun = await begin();
  if (signal.aborted) return;
  drawSide();
  if (!begun) {
    title("Sign in");
    signIn(main, { done: route });
    return;
  }
  const open = sections();
  const [name, ...rest] = location.hash.slice(1).split("/");
  const lacksPerson = session.user === "" && (name === "" || isForPeople(name));
  if (actsForMany() && (name === "person" || lacksPerson || !open.length)) {
    title("Whose memory?");
    choosePerson(main, { done: () => arrive(lacksPerson) });
    return;
  }
  const section = open.find((one) => one.hash === name) ?? open[0];
  if (section === undefined) {
    nowhere();
    return;
  }
  markCurrent(section);
  title(section.title);
  const root = el("div", { class: "section", id: `section-${section.hash}` });
  main.setAttribute("aria-busy", "true");
  fill(main, el("h1", { id: "title" }, section.title), root);
  focusOn(main.querySelector("h1"));
  window.scrollTo(0, 0);
  try {
    const module = await import(section.module);
    if (signal.aborted) return;
    await module.show({ root, part: rest.map(plain).join("/"), signal });
  } catch (error) {
    if (isAbort(error) || signal.aborted) return;
    if (!(error instanceof ApiError)) console.error(error);
    fill(root, broken(error));
  } finally {
    if (!signal.aborted) main.setAttribute("aria-busy", "false");
  }
}

/** Return whether somebody is signed in, or the server asks for no key. */
async function begin() {
  if (session.me !== null) return true;
  if (server.wantsKey && !session.key) return false;
  try {
    keepMe(await get("v1/me"));
    return true;
  } catch (error) {
    if (error.status === 401) leave();
    fail(error);
    return false;
  }
}

/** Return the sections that are open to who is here. */
function sections() {
  return SECTIONS.filter((one) => (one.needs === "operator" ? isOperator() : session.user !== ""));
}

/** Go on when the person is named: to what the address names, if that needed a person. */
function arrive(stays) {
  if (stays) route();
  else location.hash = "#about";
}

/** Return a part of the address as it reads; as it stands where it is no encoding of anything. */
function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch (error) {
    if (error instanceof URIError) return part;
    throw error;
  }
}

function isForPeople(name) {
  return SECTIONS.some((one) => one.hash === name && one.needs === "person");
}

function nowhere() {
  title("Nothing to show");
  fill(
    main,
    el("h1", {}, "This key opens nothing here"),
    el(
      "p",
      {},
      "It is bound to no person, may not act for many people, and is no operator's. Ask whoever runs this server for a key of your own.",
    ),
  );
  focusOn(main.querySelector("h1"));
  main.setAttribute("aria-busy", "false");
}

function broken(error) {
  const again = el("button", { type: "button", class: "button", on: { click: route } }, "Try again");
  return el(
    "div",
    { class: "notice bad", role: "alert" },
    el("p", {}, el("strong", {}, "This could not be shown. "), error.message),
    again,
  );
}

function title(text) {
  document.title = `${text} · ${PRODUCT}`;
}

function drawSide() {
  const open = session.me === null ? [] : sections();
  nav.hidden = open.length === 0;
  const link = (one) =>
    el("a", { href: `#${one.hash}`, id: `nav-${one.hash}` }, icon(one.hash), el("span", {}, one.title));
  fill(
    nav,
    el(
      "ul",
      {},
      open.map((one) => el("li", {}, link(one))),
    ),
  );
  who.hidden = session.me === null;
  if (session.me === null) return;
  fill(
    who,
    session.user &&
      el("p", {}, el("span", { class: "quiet" }, "Memory of "), el("strong", { id: "person" }, session.user)),
    actsForMany() &&
      el("a", { href: "#person", id: "change-person" }, session.user ? "Another person" : "Choose a person"),
    server.wantsKey &&
      el("button", { type: "button", class: "link", id: "sign-out", on: { click: signOut } }, "Sign out"),
  );
}

function markCurrent(section) {
  for (const link of nav.querySelectorAll("a")) {
    if (link.id === `nav-${section.hash}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function signOut() {
  leave();
  history.replaceState(null, "", location.pathname + location.search); // no hashchange: one route is enough
  await route();
  say("You are signed out. The key is forgotten in this tab.");
}

// The key went with the person's data: what is shown stays, the rest needs another key.
document.addEventListener("key-gone", () => {
  leave();
  drawSide();
});
document.addEventListener("signed-out", async (event) => {
  leave();
  await route();
  fail(new Error(event.detail));
});
// What an action did not handle itself: the server's words are told; the rest is a fault of ours.
window.addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof ApiError) fail(event.reason);
  if (event.reason instanceof ApiError || isAbort(event.reason)) event.preventDefault();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  focusOn(main);
});
window.addEventListener("hashchange", route);
route();
