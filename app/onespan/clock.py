"""How far OneSpan's clock is from this machine's clock, measured by the `Date` headers of answers. Pure functions."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

DATE_RESOLUTION = timedelta(seconds=1)  # the resolution of a `Date` header
# An offset that differs more from the known one needs a second answer that confirms it, because a proxy may be wrong.
MAX_JUMP = timedelta(minutes=15)
MAX_OFFSET = timedelta(hours=12)  # a `Date` header with a larger offset is ignored


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The offsets that one answer allows. A positive offset means that OneSpan's clock is ahead of this machine's."""

    lowest: timedelta
    highest: timedelta

    def nearest(self, offset: timedelta) -> timedelta:
        """Return the offset in the range that is nearest to the given one, so that a correct offset never changes."""
        return min(max(offset, self.lowest), self.highest)

    def is_within(self, tolerance: timedelta, of: timedelta) -> bool:
        """Whether the range contains an offset that differs at most by `tolerance` from the offset `of`."""
        return abs(self.nearest(of) - of) <= tolerance

    def agrees(self, other: "OffsetRange") -> bool:
        """Whether one offset explains both ranges, up to the resolution of a `Date` header."""
        return max(self.lowest, other.lowest) <= min(self.highest, other.highest) + DATE_RESOLUTION


def parse_date(header: str | None) -> datetime | None:
    """Parse a `Date` header; None if it is missing or invalid."""
    try:
        date = parsedate_to_datetime(header or "")
        return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def measure(date: datetime | None, *, sent_at: datetime, received_at: datetime) -> OffsetRange | None:
    """Measure the offset by an answer that OneSpan dated `date`, between two times of this machine's clock.

    Returns None without a date, or if the date is more than `MAX_OFFSET` wrong.
    """
    if date is None:
        return None
    found = OffsetRange(date - received_at, date - sent_at + DATE_RESOLUTION)
    return found if found.is_within(MAX_OFFSET, timedelta(0)) else None
