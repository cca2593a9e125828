// The service, as this page sees it: it reads, and never writes. The token stays in this tab.

const KEY = "tilec-token";
const ROOT = new URL("../v1/", document.baseURI);

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function signIn(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

export function signedIn() {
  return sessionStorage.getItem(KEY) !== null;
}

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function answered(path, options) {
  const url = new URL(path, ROOT);
  let response;
  try {
    response = await fetch(url, { ...options, headers: headers(options.headers ?? {}) });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused(0, "The service does not answer.");
  }
  if (response.ok) return response;
  let message = `The service answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // no JSON: a proxy answered
  }
  throw new Refused(response.status, message);
}

export async function get(path, signal) {
  return (await answered(path, { signal })).json();
}

export const study = (id, signal) => get(`studies/${encodeURIComponent(id)}`, signal);
export const analysis = (id, signal) => get(`studies/${encodeURIComponent(id)}/analysis`, signal);

// Trials after a number, all pages.
export async function trials(id, after, signal) {
  const found = [];
  for (let cursor = String(after); cursor !== null;) {
    const path = `studies/${encodeURIComponent(id)}/trials?cursor=${encodeURIComponent(cursor)}`;
    const page = await get(path, signal);
    found.push(...page.trials);
    cursor = page.cursor;
  }
  return found;
}

// Calls `happened(kind, data)` for each event of a study until it has ended or the signal is
// aborted, and `connected(bool)` as the connection comes and goes. EventSource can't send a token.
export async function follow(id, signal, happened, connected) {
  let last = "";
  for (let wait = 500; !signal.aborted; wait = Math.min(2 * wait, 15000)) {
    try {
      const response = await answered(`studies/${encodeURIComponent(id)}/events`, {
        signal,
        headers: { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) },
      });
      connected(true);
      wait = 500;
      for await (const event of parsed(response.body)) {
        last = event.id || last;
        if (event.event === "end") return;
        if (event.data) happened(event.event, JSON.parse(event.data));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && [401, 403, 404].includes(error.status)) return;
    }
    connected(false);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

// The events of a stream in the form of the HTML standard, section 9.2.
async function* parsed(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value.replaceAll("\r", "");
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        yield fields(text.slice(0, end));
        text = text.slice(end + 2);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function fields(block) {
  const found = { id: "", event: "message", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") found.data += (found.data && "\n") + value;
    else if (name in found) found[name] = value;
  }
  return found;
}
