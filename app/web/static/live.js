// The page asks for itself anew, by its ETag, once a second while somebody looks; what changed is put in place.
import { morph } from "./morph.js";
import { fillTimes } from "./times.js";

const EVERY = 1000; // milliseconds between the end of one question and the next
const PATIENCE = 15_000; // an answer that takes longer counts as none
const LONGEST = 60_000; // between two tries while the service is away
const LATER = [408, 429]; // statuses that refuse it now, not for ever

let etag = null;
let shown = null; // the address that was last answered well
let failures = 0;
let timer = null;
let asking = null;

export function follow() {
  if (!document.querySelector("[data-live]") || !pulse()) return;
  document.addEventListener("visibilitychange", () => (document.hidden ? pause() : ask()));
  window.addEventListener("online", ask);
  say("", "Live");
  next(0);
}

// Show another view of this page, at another address.
export async function go(address, { push }) {
  history[push ? "pushState" : "replaceState"]({}, "", address);
  etag = null;
  await ask();
}

export async function ask() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const limit = setTimeout(() => mine.abort("late"), PATIENCE);
  try {
    const headers = { "X-Live": "1", ...(etag && { "If-None-Match": etag }) };
    const answer = await fetch(location.href, { headers, cache: "no-store", signal: mine.signal, redirect: "manual" });
    if (mine !== asking) return;
    if (answer.type === "opaqueredirect" || answer.status === 401) return location.reload(); // the session ended
    if (shown && isRefused(answer.status)) return leave(location.href);
    if (answer.status === 200) {
      const text = await answer.text();
      if (mine !== asking) return;
      show(text);
      etag = answer.headers.get("ETag");
    } else if (answer.status !== 304) throw new Error(`status ${answer.status}`);
    shown = location.href;
    failures = 0;
    say("", "Live");
    next(EVERY);
  } catch (problem) {
    if (mine !== asking) return;
    failures += 1;
    const wait = Math.min(LONGEST, EVERY * 2 ** failures);
    say("away", `No connection; trying again in ${Math.round(wait / 1000)} s`);
    next(wait);
  } finally {
    clearTimeout(limit);
  }
}

const isRefused = (status) => status >= 400 && status < 500 && !LATER.includes(status);

// The page of what is refused says why. It is loaded from the address of what is shown, so that Back loads that again.
function leave(address) {
  history.replaceState({}, "", shown);
  location.assign(address);
}

function next(wait) {
  clearTimeout(timer);
  if (document.hidden) pause();
  else timer = setTimeout(ask, wait);
}

function pause() {
  clearTimeout(timer);
  say("paused", "Paused");
}

function show(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const fresh of page.querySelectorAll("[data-live]")) {
    const here = document.getElementById(fresh.id);
    if (here) morph(here, fresh);
  }
  document.title = page.title;
  fillTimes(document);
}

const pulse = () => document.getElementById("pulse");

function say(state, words) {
  const place = pulse();
  if (place.textContent === words && !place.hidden) return;
  place.hidden = false;
  place.className = `pulse ${state}`;
  place.textContent = words;
}
