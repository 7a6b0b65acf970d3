// Change one element of the page into another, and replace only what differs: focus, selection, scroll position and
// open details stay. Elements match by their id or data-key, otherwise by their order among elements of their kind.

const isElement = (node) => node.nodeType === Node.ELEMENT_NODE;
const key = (node) => (isElement(node) && (node.id || node.dataset.key)) || "";

export function morph(element, wanted) {
  const focused = document.activeElement;
  const selection = getSelection();
  const { anchorNode, anchorOffset, focusNode, focusOffset } = selection;
  morphNode(element, wanted);
  // A node that moved was removed for a moment, which loses focus and selection.
  if (document.activeElement !== focused && focused?.isConnected) focused.focus({ preventScroll: true });
  if (selection.anchorNode !== anchorNode || selection.focusNode !== focusNode) {
    select(selection, anchorNode, anchorOffset, focusNode, focusOffset);
  }
}

function select(selection, from, start, to, end) {
  const clamp = (node, offset) => Math.min(offset, node.nodeValue?.length ?? node.childNodes.length);
  if (from?.isConnected && to?.isConnected) selection.setBaseAndExtent(from, clamp(from, start), to, clamp(to, end));
}

function morphNode(element, wanted) {
  if (element.isEqualNode(wanted)) return;
  morphAttributes(element, wanted);
  morphChildren(element, wanted);
}

function morphAttributes(element, wanted) {
  const isTyping = element === document.activeElement && "value" in element;
  for (const { name } of [...element.attributes]) {
    const isOurs = name === "open" || (name === "class" && element === document.documentElement);
    if (!isOurs && !wanted.hasAttribute(name)) element.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  if (element instanceof HTMLInputElement && !isTyping && element.type !== "hidden") {
    element.value = wanted.getAttribute("value") ?? "";
    element.checked = wanted.hasAttribute("checked");
  }
}

function morphChildren(element, wanted) {
  // Scripts set the text of times and outputs, so an update leaves these elements alone.
  if (element instanceof HTMLTimeElement && element.dateTime === wanted.dateTime) return;
  if (element instanceof HTMLOutputElement) return;
  const oldChildren = childrenByName(element);
  const newChildren = childrenByName(wanted);
  for (const [name, child] of oldChildren) if (!newChildren.has(name)) child.remove();
  let next = element.firstChild;
  for (const [name, child] of newChildren) {
    const same = oldChildren.get(name);
    if (same) {
      if (same === next) next = next.nextSibling;
      else element.insertBefore(same, next);
      isElement(same) ? morphNode(same, child) : setText(same, child);
    } else {
      const added = document.importNode(child, true);
      element.insertBefore(added, next);
      if (key(added)) added.classList.add("new");
    }
  }
  if (element instanceof HTMLSelectElement && element !== document.activeElement) {
    element.value = wanted.querySelector("option[selected]")?.value ?? element.options[0]?.value ?? "";
  }
}

// Return a node's children by a name that identifies each child. A text node is named after the element before it.
function childrenByName(parent) {
  const children = new Map();
  const counts = {};
  let before = "";
  for (const child of parent.childNodes) {
    const kind = `${child.nodeName} ${isElement(child) ? key(child) : before}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
    const name = `${kind} ${counts[kind]}`;
    children.set(name, child);
    if (isElement(child)) before = name;
  }
  return children;
}

function setText(node, wanted) {
  if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
}
