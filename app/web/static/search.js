// Filters act as one types and chooses; the address always holds the whole view, and Back leads back.
import { go, ask } from "./live.js";

const REST = 200; // milliseconds without a key until it is asked

export function searchWhileTyping() {
  const form = document.querySelector("form[data-search]");
  if (!form) return;
  let timer = null;
  let last = 0;
  const search = () => {
    const isSaid = ([name, value]) => value !== "" && form.elements[name].validity.valid; // a year half typed is not
    const asked = new URLSearchParams([...new FormData(form)].filter(isSaid));
    asked.delete("cursor");
    const address = `${form.getAttribute("action")}${asked.size ? `?${asked}` : ""}`;
    if (address === location.pathname + location.search) return;
    go(address, { push: Date.now() - last > 3000 }); // one step back for a whole word, not for each letter
    last = Date.now();
  };
  form.addEventListener("input", (event) => {
    clearTimeout(timer);
    if (event.target.type === "search" || event.target.type === "text") timer = setTimeout(search, REST);
    else search();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    search();
  });
  window.addEventListener("popstate", () => {
    document.activeElement?.blur?.();
    go(location.href, { push: false });
  });
  const words = form.querySelector("input[type=search]");
  if (words && words.value !== words.defaultValue) search(); // typed before this script had come
}
