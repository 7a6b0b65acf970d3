"""From a reading to what it found: facts that no callback told, as events."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.onespan.callbacks import Callback
from app.onespan.claims import EPOCH
from app.onespan.findings import Finding, ToldEvent, findings
from app.onespan.packages import PackageReading
from app.store.events import NewEvent
from app.types import iso

NOTHING, ALL = "nothing", "all"  # what a reading that an import made is to tell


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a package: what it showed, and between which times of OneSpan's clock it was made."""

    journal_id: int
    received_at: datetime
    read_at: datetime
    answered_at: datetime
    shown: PackageReading
    tells: str | None = None


def may_tell(shown: PackageReading, tells: str | None, *, began_at: datetime) -> bool:
    """Whether a reading may tell anything: one that is to tell nothing does of a package newer than our listening."""
    return shown.whole and (tells != NOTHING or _is_new(shown, iso(began_at)))


def found_by(
    reading: Reading, *, before: Reading | None, told: Iterable[ToldEvent], began_at: datetime | None
) -> list[NewEvent]:
    """What happened since the reading before and was not told, as events.

    `began_at` is when we began to listen: what happened before then was nobody's to tell us, and of a package that
    is older than that a first reading finds only what it shows the time of. A reading that is to tell all there is has
    no reading before, and no time before we listened.
    """
    if before and before.read_at >= reading.read_at:
        return []
    after, began = iso(before.read_at) if before else EPOCH, iso(began_at) if began_at else EPOCH
    seen, until = iso(reading.read_at), iso(reading.answered_at)
    found = findings(before.shown if before else None, reading.shown, after=after, seen=seen, until=until, told=told)
    ours = [one for one in found if one.at > began and (before or _is_new(reading.shown, began) or one.dated)]
    return [_event(one, place, reading) for place, one in enumerate(ours)]


def gone(reading: Reading, *, before: Reading | None, told: Iterable[ToldEvent]) -> list[NewEvent]:
    """The deletion that an absence found, where nobody told of it."""
    after, until = iso(before.read_at) if before else EPOCH, iso(reading.answered_at)
    if any(one.name == "PACKAGE_DELETE" for one in told) or (before and before.read_at >= reading.read_at):
        return []
    return [_event(Finding("PACKAGE_DELETE", after, until, iso(reading.read_at)), 0, reading)]


def _is_new(shown: PackageReading, began: str) -> bool:
    return bool(shown.created) and str(shown.created) > began


def _event(one: Finding, place: int, reading: Reading) -> NewEvent:
    said = Callback(
        name=one.name,
        package_id=reading.shown.id,
        session_user=one.signer_id,
        document_id=one.document_id,
        message=one.message,
        happened_at=datetime.fromisoformat(one.at),
        extra=dict(one.extra),
    )
    after = datetime.fromisoformat(one.after) if one.after != EPOCH else None
    return NewEvent(
        fingerprint=f"found by {reading.journal_id}, {place}",
        callback=said,
        happened_at=datetime.fromisoformat(one.at),
        received_at=reading.received_at,
        found=(after, datetime.fromisoformat(one.until)),
    )
