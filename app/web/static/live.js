// Live updates: a visible page requests itself once a second with its ETag, and changes only what differs.
import { morph } from "./morph.js";
import { showLocalTimes } from "./times.js";

const POLL_MS = 1000; // from the end of one request to the next request
const TIMEOUT_MS = 15_000; // a response that takes longer counts as a failure
const MAX_RETRY_MS = 60_000; // maximum wait between two requests while the service is away
const TEMPORARY = [408, 429]; // client errors that may go away by themselves

let etag = null;
let lastUrl = location.href; // the URL of the last good response; at first that of the page itself
let hasUpdated = false; // whether an update of this page succeeded
let failures = 0;
let timer = null;
let current = null; // the AbortController of the running request

export function startLiveUpdates() {
  if (!document.querySelector("[data-live]") || !statusElement()) return;
  document.addEventListener("visibilitychange", () => (document.hidden ? pause() : refresh()));
  window.addEventListener("online", refresh);
  showStatus("", "Live");
  schedule(0);
}

// Show the same page with other query parameters.
export async function navigate(url, { push }) {
  history[push ? "pushState" : "replaceState"]({}, "", url);
  etag = null;
  await refresh();
}

export async function refresh() {
  clearTimeout(timer);
  current?.abort();
  const request = (current = new AbortController());
  const timeout = setTimeout(() => request.abort("timeout"), TIMEOUT_MS);
  try {
    const headers = { "X-Live": "1", ...(etag && { "If-None-Match": etag }) };
    const options = { headers, cache: "no-store", signal: request.signal, redirect: "manual" };
    const response = await fetch(location.href, options);
    if (request !== current) return;
    if (response.type === "opaqueredirect" || response.status === 401) return location.reload(); // the session ended
    // If every update of the page itself is refused, to load it again would never end.
    if ((hasUpdated || location.href !== lastUrl) && isRefused(response.status)) return showErrorPage(location.href);
    if (response.status === 200) {
      const html = await response.text();
      if (request !== current) return;
      update(html);
      etag = response.headers.get("ETag");
    } else if (response.status !== 304) throw new Error(`status ${response.status}`);
    lastUrl = location.href;
    hasUpdated = true;
    failures = 0;
    showStatus("", "Live");
    schedule(POLL_MS);
  } catch {
    if (request !== current) return;
    failures += 1;
    const wait = Math.min(MAX_RETRY_MS, POLL_MS * 2 ** failures);
    showStatus("away", `Connection lost. Retrying in ${Math.round(wait / 1000)} s`);
    schedule(wait);
  } finally {
    clearTimeout(timeout);
  }
}

const isRefused = (status) => status >= 400 && status < 500 && !TEMPORARY.includes(status);

// Load the error page, which gives the reason. The history keeps the last good URL, so that Back returns to it.
function showErrorPage(url) {
  history.replaceState({}, "", lastUrl);
  location.assign(url);
}

function schedule(wait) {
  clearTimeout(timer);
  if (document.hidden) pause();
  else timer = setTimeout(refresh, wait);
}

function pause() {
  clearTimeout(timer);
  showStatus("paused", "Paused");
}

function update(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const wanted of page.querySelectorAll("[data-live]")) {
    const element = document.getElementById(wanted.id);
    if (element) morph(element, wanted);
  }
  document.title = page.title;
  showLocalTimes(document);
}

const statusElement = () => document.getElementById("connection-status");

function showStatus(state, text) {
  const element = statusElement();
  if (element.textContent === text && !element.hidden) return;
  element.hidden = false;
  element.className = `connection ${state}`;
  element.textContent = text;
}
