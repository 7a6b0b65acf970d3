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
document.querySelector(".site-nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
