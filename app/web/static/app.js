// What pages gain where scripts run: they stay fresh, search while one types, and speak the viewer's time.
import { follow } from "./live.js";
import { fillTimes } from "./times.js";
import { searchWhileTyping } from "./search.js";
import { helpers } from "./helpers.js";

document.documentElement.classList.add("scripted");
fillTimes(document);
setInterval(() => fillTimes(document), 15_000);
searchWhileTyping();
follow();
helpers();
document.querySelector(".rooms [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
