// Calling the server: the key goes along, errors come back in words.

import { session } from "./session.js";

/** The server's answer to a request that it refused, or why there was no answer. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

/**
 * Return the response to a request; throws ApiError for any that is no success.
 *
 * `body` is sent as JSON, `query` as parameters, of which null and undefined are left out. A key
 * that the server no longer takes ends the session: `document` gets the event "signed-out".
 * `accepts` are statuses of errors that are answers, too.
 */
export async function call(method, path, { body, query = {}, headers = {}, signal, accepts = [] } = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined) continue;
    for (const one of [value].flat()) url.searchParams.append(name, String(one));
  }
  const sent = { ...headers };
  if (session.key) sent.authorization = `Bearer ${session.key}`;
  if (body !== undefined) sent["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it running, and are you online?");
  }
  if (response.ok || accepts.includes(response.status)) return response;
  const told = await refusal(response);
  if (response.status === 401 && session.me) {
    document.dispatchEvent(new CustomEvent("signed-out", { detail: told.message }));
  }
  throw told;
}

/** Return the JSON that a GET answers. */
export async function get(path, options = {}) {
  return (await call("GET", path, options)).json();
}

/** Return the JSON that a request with a body answers; `method` is POST, PUT or PATCH. */
export async function send(method, path, body, options = {}) {
  return (await call(method, path, { ...options, body })).json();
}

/** Return the path of the person whose memory is shown, and of what is below. */
export function mine(rest = "") {
  return `v1/users/${encodeURIComponent(session.user)}${rest}`;
}

/** Return whether an error only says that what asked for it is no longer shown. */
export function isAbort(error) {
  return error.name === "AbortError";
}

async function refusal(response) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch (error) {
    if (error.name === "AbortError") throw error;
    told = {}; // no JSON: a proxy's own page, say
  }
  const message = told.message || `The server answered ${response.status} without saying why.`;
  return new ApiError(sentence(message), { status: response.status, code: told.code ?? null });
}

function sentence(text) {
  const first = text.charAt(0).toLocaleUpperCase() + text.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}
