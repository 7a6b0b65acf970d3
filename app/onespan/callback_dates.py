"""Read the dates of callbacks, in all forms in which integrators have received them."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_RANGE = (946_684_800, 4_102_444_800)  # seconds from 1970 to 2000 and to 2100; no callback has another date
EPOCH_UNITS = (1, 10**3, 10**6, 10**9)  # units in one second; only one of them brings a number into the range
# Zone names in texts of Java's `Date`, by their offset in hours: those with one meaning or defined by RFC 5322.
ZONES_BY_OFFSET = {
    0: "Z UT UTC GMT WET",
    1: "CET MEZ WEST BST",
    2: "CEST MESZ EET SAST",
    3: "EEST MSK",
    8: "AWST SGT HKT",
    9: "JST KST",
    10: "AEST",
    11: "AEDT",
    12: "NZST",
    13: "NZDT",
    -3: "BRT",
    -4: "EDT",
    -5: "EST CDT",
    -6: "CST MDT",
    -7: "MST PDT",
    -8: "PST AKDT",
    -9: "AKST",
    -10: "HST",
}
ZONES = {name: hours for hours, names in ZONES_BY_OFFSET.items() for name in names.split()}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_NUMBER = re.compile(r"\d{9,19}(?:\.\d*)?")
_JSON_DATE = re.compile(r"/?Date\((\d{9,16})(?:[+-]\d{4})?\)/?")  # milliseconds; the offset only says where
_ZONE_ID = re.compile(r"(.*\S)\s*\[([\w/+:-]+)\]", re.ASCII)
_JAVA = re.compile(
    r"(?:[A-Z]{3},? )?(?P<month>[A-Z]{3}) (?P<day>\d\d?) (?P<time>[\d:.]+)(?: (?P<zone>\S+))? (?P<year>\d{4})", re.ASCII
)
_RFC_5322 = re.compile(
    r"(?:[A-Z]{3},? )?(?P<day>\d\d?) (?P<month>[A-Z]{3}) (?P<year>\d{4}) (?P<time>[\d:.]+)(?: (?P<zone>\S+))?", re.ASCII
)
_OFFSET = re.compile(r"\s*(?:UTC|GMT|)\s*([+-]\d\d?(?::?\d\d){0,2})$", re.ASCII)
_ZONE_NAME = re.compile(r"(.*[\d.])\s*([A-Z]{1,4})", re.ASCII)
_LEAP_SECOND = re.compile(r"(\d\d:\d\d):60")


def date_of(value: object) -> datetime | None:
    """Return the time that a JSON value names, aware and in UTC; None if it names no time.

    Numbers and texts of digits are seconds, milliseconds, microseconds or nanoseconds from 1970. A text without a zone
    is in UTC.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_epoch(value)
    return _from_text(value) if isinstance(value, str) else None


def iso_date(text: str) -> datetime | None:
    """Return the time of a date in a usual form of ISO 8601, aware and in UTC; None for any other text."""
    try:
        moment = datetime.fromisoformat(text.strip().upper())  # RFC 3339 allows a lower-case z for UTC
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _from_epoch(number: float) -> datetime | None:
    earliest, latest = EPOCH_RANGE
    units = (unit for unit in EPOCH_UNITS if earliest * unit <= number < latest * unit)
    return next((EPOCH + timedelta(seconds=number / unit) for unit in units), None)


def _from_text(text: str) -> datetime | None:
    text = " ".join(text.replace("\0", " ").split())
    if _NUMBER.fullmatch(text) and (moment := _from_epoch(float(text))):
        return moment
    if moment := iso_date(text):
        return moment
    if match := _JSON_DATE.fullmatch(text):
        return _from_epoch(int(match[1]))
    zone_id = None
    if match := _ZONE_ID.fullmatch(text):
        text, zone_id = match[1], match[2]
    return _with_zone(_as_iso(text.upper()), zone_id)


def _as_iso(text: str) -> str:
    """Rewrite a date of Java or of RFC 5322 in the order of ISO 8601; return any other text as it is."""
    match = _JAVA.fullmatch(text) or _RFC_5322.fullmatch(text)
    if match is None or match["month"] not in MONTHS:
        return text
    month = MONTHS.index(match["month"]) + 1
    return f"{match['year']}-{month:02}-{match['day']:0>2}T{match['time']}{match['zone'] or ''}"


def _with_zone(text: str, zone_id: str | None) -> datetime | None:
    """Read a date of ISO 8601 that may have the name of a zone, a blank before its zone, or a leap second."""
    text = _OFFSET.sub(r"\1", text)
    if match := _ZONE_NAME.fullmatch(text):
        if match[2] not in ZONES:
            return None
        text = f"{match[1]}{ZONES[match[2]]:+03}:00"
    text, leap_seconds = _LEAP_SECOND.subn(r"\1:59", text)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=moment.tzinfo or (ZoneInfo(zone_id) if zone_id else UTC))
        return moment.astimezone(UTC) + timedelta(seconds=leap_seconds)
    except (ValueError, OverflowError, KeyError, OSError):  # no date, or no zone of this name on this machine
        return None
