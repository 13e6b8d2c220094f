// Server-sent events over fetch: the browser's own EventSource cannot send a key.

import { ApiError, isAbort } from "./api.js";

/**
 * Yield the events of a response as { event, data }, until it ends. Throws ApiError if the
 * connection breaks off.
 */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await next(reader);
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const found = read(block);
        if (found !== null) yield found;
      }
    }
  } finally {
    reader.releaseLock();
  }
}

async function next(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("The connection to the server broke off.");
  }
}

function read(block) {
  let event = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { event, data: data.join("\n") } : null;
}
