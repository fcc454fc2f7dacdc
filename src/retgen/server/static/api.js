// Asking the server. Addresses are relative, so that the page works below a path of a proxy too.

import { byId, el } from "./dom.js";

const KEY = "retgen-key";

/** What the server refused, in its own words; or that there is no answer at all. */
export class ApiError extends Error {
  constructor(status, detail, retryAfter = null) {
    super(detail.message);
    this.status = status;
    this.mend = detail.mend ?? null;
    this.where = detail.where ?? null;
    this.requestId = detail.request_id ?? null;
    this.retryAfter = retryAfter;
  }
}

const stored = () => {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
};
let key = stored();

/** One request, as JSON. Where the server wants a key, it is asked for, and the request is made again with it. */
export async function call(method, path, body, signal) {
  for (;;) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const used = key;
    if (used) headers.Authorization = `Bearer ${used}`;
    let response;
    try {
      response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { message: "The server does not answer", mend: "See whether it runs, then try again" });
    }
    if (response.status === 401) {
      // Unless another one was given while this request was under way.
      if (used === key) await askForKey(signal);
      continue;
    }
    const found = await response.json().catch(() => null);
    if (response.ok && found !== null) return found;
    const detail = found?.error ?? { message: `The server answered with status ${response.status} and no reason` };
    throw new ApiError(response.status, detail, response.headers.get("Retry-After"));
  }
}

let asking = null;

/** Resolves when a key was given; all requests that need one wait for the same. */
function askForKey(signal) {
  asking ??= new Promise((resolve) => {
    const form = byId("key-form");
    const input = byId("key");
    if (key) byId("key-note").textContent = "This key was not accepted. Keys are kept in this tab alone.";
    input.setAttribute("aria-invalid", String(Boolean(key)));
    form.hidden = false;
    input.value = "";
    input.focus();
    form.onsubmit = (event) => {
      event.preventDefault();
      key = input.value.trim();
      try {
        sessionStorage.setItem(KEY, key);
      } catch {
        // Then it lasts as long as the page.
      }
      form.hidden = true;
      asking = null;
      resolve();
    };
  });
  return signal ? Promise.race([asking, aborted(signal)]) : asking;
}

function aborted(signal) {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new DOMException("given up", "AbortError")), { once: true });
  });
}

/** What went wrong, and what can be done about it. `again`: what a button "Try again" does. */
export function failure(error, again) {
  if (!(error instanceof ApiError)) throw error;
  const after = error.retryAfter ? ` In ${error.retryAfter} s it may go better.` : "";
  return el(
    "div",
    { class: "failure", role: "alert" },
    el("p", {}, el("strong", {}, sentence(error.message)), error.where ? ` (${error.where})` : ""),
    error.mend || after ? el("p", {}, error.mend ? sentence(error.mend) : "", after) : null,
    error.requestId ? el("p", { class: "quiet" }, `Request ${error.requestId}`) : null,
    again ? el("button", { type: "button", on: { click: again } }, "Try again") : null,
  );
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
