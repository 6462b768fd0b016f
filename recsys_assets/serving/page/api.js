// Talks to the service: the token, requests, and problem documents as errors.

const KEY = "recsys-token"; // in sessionStorage, which ends with the tab

let askForToken = async () => "";

/** Set the function that asks a person for the token; it is given what was wrong with the one before. */
export function onMissingToken(ask) {
  askForToken = ask;
}

/** A request that was refused, with the sentence of its problem document. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The JSON that `GET path?values` answers. */
export function get(path, values = {}) {
  const query = new URLSearchParams(values).toString();
  return request("GET", query ? `${path}?${query}` : path);
}

/** The JSON that `POST path` answers to a body. */
export function post(path, body) {
  return request("POST", path, JSON.stringify(body));
}

async function request(method, path, body) {
  for (let wrong = ""; ; wrong = "That was not the token.") {
    const answer = await send(method, path, body);
    if (answer.status !== 401) return read(answer);
    // Several requests may find the token missing at once: it is asked for only once.
    waiting ??= askForToken(sessionStorage.getItem(KEY) ? wrong || "The token has changed." : wrong);
    sessionStorage.setItem(KEY, await waiting);
    waiting = null;
  }
}

let waiting = null;

async function send(method, path, body) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  try {
    // Without credentials the browser does not show its own dialog when the service asks for a token.
    return await fetch(path, { method, headers, body, credentials: "omit" });
  } catch {
    throw new Refusal(0, "The service does not answer: is it still running?");
  }
}

async function read(answer) {
  const text = await answer.text();
  let content = null;
  try {
    content = text ? JSON.parse(text) : {};
  } catch {
    // not JSON: the text itself says what is wrong
  }
  if (!answer.ok) throw new Refusal(answer.status, content?.detail ?? (text || answer.statusText));
  return content;
}
