// Make one piece of the page like another without replacing what did not change: so focus, selection, scroll and
// open details stay. Elements are the same thing where their id or data-key says so, otherwise by their order among
// those of their kind.

const isElement = (node) => node.nodeType === Node.ELEMENT_NODE;
const key = (node) => (isElement(node) && (node.id || node.dataset.key)) || "";

export function morph(here, wanted) {
  const focused = document.activeElement;
  const marked = getSelection();
  const ends = [marked.anchorNode, marked.anchorOffset, marked.focusNode, marked.focusOffset];
  put(here, wanted);
  // What moved was taken out for a moment, and lost both.
  if (document.activeElement !== focused && focused?.isConnected) focused.focus({ preventScroll: true });
  if (marked.anchorNode !== ends[0] || marked.focusNode !== ends[2]) mark(marked, ...ends);
}

function mark(marked, from, start, to, end) {
  const within = (node, place) => Math.min(place, node.nodeValue?.length ?? node.childNodes.length);
  if (from?.isConnected && to?.isConnected) marked.setBaseAndExtent(from, within(from, start), to, within(to, end));
}

function put(here, wanted) {
  if (here.isEqualNode(wanted)) return;
  attributes(here, wanted);
  children(here, wanted);
}

function attributes(here, wanted) {
  const typing = here === document.activeElement && "value" in here;
  for (const { name } of [...here.attributes]) {
    const theirs = name === "open" || (name === "class" && here === document.documentElement);
    if (!theirs && !wanted.hasAttribute(name)) here.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  }
  if (here instanceof HTMLInputElement && !typing && here.type !== "hidden") {
    here.value = wanted.getAttribute("value") ?? "";
    here.checked = wanted.hasAttribute("checked");
  }
}

function children(here, wanted) {
  if (here instanceof HTMLTimeElement && here.dateTime === wanted.dateTime) return; // its words are the viewer's
  if (here instanceof HTMLOutputElement) return; // and these the script's
  const known = named(here);
  const names = named(wanted);
  for (const [name, child] of known) if (!names.has(name)) child.remove();
  let place = here.firstChild;
  for (const [name, next] of names) {
    const same = known.get(name);
    if (same) {
      if (same === place) place = place.nextSibling;
      else here.insertBefore(same, place);
      isElement(same) ? put(same, next) : write(same, next);
    } else {
      const added = document.importNode(next, true);
      here.insertBefore(added, place);
      if (key(added)) added.classList.add("fresh");
    }
  }
  if (here instanceof HTMLSelectElement && here !== document.activeElement) {
    here.value = wanted.querySelector("option[selected]")?.value ?? here.options[0]?.value ?? "";
  }
}

// The children by what makes them the same thing; a text belongs to the element before it, and comes and goes with it.
function named(parent) {
  const names = new Map();
  const counts = {};
  let before = "";
  for (const child of parent.childNodes) {
    const kind = `${child.nodeName} ${isElement(child) ? key(child) : before}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
    const name = `${kind} ${counts[kind]}`;
    names.set(name, child);
    if (isElement(child)) before = name;
  }
  return names;
}

function write(here, wanted) {
  if (here.nodeValue !== wanted.nodeValue) here.nodeValue = wanted.nodeValue;
}
