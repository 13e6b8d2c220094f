// Who is here: the key and the person, kept in this tab's session storage and nowhere else.

const KEY = "persona_agent.key";
const USER = "persona_agent.user";
const page = document.documentElement.dataset;

/** What the server said of itself when it gave the page. */
export const server = {
  wantsKey: page.auth !== "off",
  learns: page.learns === "yes",
  remembers: page.remembers === "yes",
  recommends: page.recommends === "yes",
  noun: page.noun || "item",
};

/**
 * The key, what it may do (as /v1/me says), the person whose memory is shown, and the talk of this
 * visit, which goes with the person.
 */
export const session = {
  key: sessionStorage.getItem(KEY) ?? "",
  user: sessionStorage.getItem(USER) ?? "",
  me: null,
  talk: null,
};

/** Keep a key for this tab. */
export function keepKey(key) {
  session.key = key;
  sessionStorage.setItem(KEY, key);
}

/** Keep what the key may do; a key of one person names the person. */
export function keepMe(me) {
  session.me = me;
  if (me.user_id !== null) keepUser(me.user_id);
  else if (!actsForMany()) keepUser("");
}

/** Keep the person whose memory is shown. */
export function keepUser(user) {
  if (user !== session.user) session.talk = null;
  session.user = user;
  sessionStorage.setItem(USER, user);
}

/** Forget the key and the person, here. */
export function leave() {
  session.key = "";
  session.user = "";
  session.me = null;
  session.talk = null;
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(USER);
}

/** Return whether the key may act for many people, of whom one is to be named. */
export function actsForMany() {
  return session.me !== null && session.me.user_id === null && session.me.scopes.includes("many-users");
}

/** Return whether the key opens the operators' routes. */
export function isOperator() {
  return session.me !== null && session.me.scopes.includes("operator");
}
