// Times come in UTC. Here they are said in the viewer's zone, those marked so as how long ago; on hover both.

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const brief = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 60], ["month", 12], ["year", Infinity]];

export function fillTimes(root) {
  for (const place of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(place.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const words = place.hasAttribute("data-ago") ? sayAgo(moment) : (place.hasAttribute("data-full") ? full : brief).format(moment);
    if (place.textContent !== words) place.textContent = words;
    const title = `${full.format(moment)} here\n${place.dateTime.replace("T", " ").replace("Z", "")} UTC`;
    if (place.title !== title) place.title = title;
  }
}

function sayAgo(moment) {
  let value = (moment - Date.now()) / 1000;
  if (Math.abs(value) < 10) return "just now";
  for (const [unit, many] of STEPS) {
    if (Math.abs(value) < many) return ago.format(value > 0 ? Math.round(value) : Math.trunc(value), unit);
    value /= unit === "day" ? 30.4 : many;
  }
}
