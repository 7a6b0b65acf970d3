// Small things: copy a text, jump to the search with a slash.

export function helpers() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    const said = button.previousElementSibling; // an output: what comes live leaves its words alone
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      said.textContent = "Selected; press Ctrl+C";
    }
    setTimeout(() => (said.textContent = ""), 2000);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea");
    const find = document.querySelector("input[type=search]");
    if (event.key === "/" && !typing && find && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      find.focus();
      find.select();
    }
  });
}
