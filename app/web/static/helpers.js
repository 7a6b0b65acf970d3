// Small helpers: copy buttons, and the slash key that jumps to the search.

export function addHelpers() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent;
    const output = button.previousElementSibling; // an <output>, which live updates leave alone
    try {
      await navigator.clipboard.writeText(text);
      output.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      output.textContent = "Selected. Press Ctrl+C";
    }
    setTimeout(() => (output.textContent = ""), 2000);
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, select, textarea");
    const search = document.querySelector("input[type=search]");
    if (event.key === "/" && !isTyping && search && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  });
}
