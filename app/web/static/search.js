// Filters apply while the user types and chooses. The URL always holds all filters, and Back restores the last filters.
import { navigate } from "./live.js";

const TYPING_PAUSE_MS = 200; // time without typing until the search starts
const NEW_ENTRY_MS = 3000; // time after which a search gets its own history entry

export function searchWhileTyping() {
  const form = document.querySelector("form[data-search]");
  if (!form) return;
  let timer = null;
  let last = 0;
  const search = () => {
    // An invalid field, such as a year that is half typed, is left out.
    const isGiven = ([name, value]) => value !== "" && form.elements[name].validity.valid;
    const parameters = new URLSearchParams([...new FormData(form)].filter(isGiven));
    parameters.delete("cursor");
    const url = `${form.getAttribute("action")}${parameters.size ? `?${parameters}` : ""}`;
    if (url === location.pathname + location.search) return;
    navigate(url, { push: Date.now() - last > NEW_ENTRY_MS }); // Back removes a whole word, not one letter
    last = Date.now();
  };
  form.addEventListener("input", (event) => {
    clearTimeout(timer);
    if (event.target.type === "search" || event.target.type === "text") timer = setTimeout(search, TYPING_PAUSE_MS);
    else search();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    search();
  });
  window.addEventListener("popstate", () => {
    document.activeElement?.blur?.();
    navigate(location.href, { push: false });
  });
  const field = form.querySelector("input[type=search]");
  if (field && field.value !== field.defaultValue) search(); // the user typed before this script loaded
}
