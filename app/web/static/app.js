// What scripts add to the pages: live updates, search while typing, and local times.
import { startLiveUpdates } from "./live.js";
import { showLocalTimes } from "./times.js";
import { searchWhileTyping } from "./search.js";
import { addHelpers } from "./helpers.js";

document.documentElement.classList.add("js");
showLocalTimes(document);
setInterval(() => showLocalTimes(document), 15_000);
searchWhileTyping();
startLiveUpdates();
addHelpers();

// On a phone the navigation scrolls to the current page. `scrollIntoView` would make Tab skip what is before the link.
const navigation = document.querySelector(".site-nav");
const link = navigation?.querySelector("[aria-current]");
if (link) navigation.scrollLeft = link.offsetLeft - (navigation.clientWidth - link.offsetWidth) / 2;
