// The server sends times in UTC. This script shows local or relative times; the tooltip has local time and UTC.

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const brief = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 60], ["month", 12], ["year", Infinity]];

export function showLocalTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const isFull = element.hasAttribute("data-full");
    const text = element.hasAttribute("data-ago") ? ago(moment) : (isFull ? full : brief).format(moment);
    if (element.textContent !== text) element.textContent = text;
    const utc = element.dateTime.replace("T", " ").replace("Z", "");
    const title = `${full.format(moment)} local time\n${utc} UTC`;
    if (element.title !== title) element.title = title;
  }
}

function ago(moment) {
  let value = (moment - Date.now()) / 1000;
  if (Math.abs(value) < 10) return "just now";
  for (const [unit, size] of UNITS) {
    if (Math.abs(value) < size) return relative.format(value > 0 ? Math.round(value) : Math.trunc(value), unit);
    value /= unit === "day" ? 30.4 : size;
  }
}
