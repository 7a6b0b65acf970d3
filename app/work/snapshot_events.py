"""Derive from a snapshot the events that no callback reported."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.onespan.callbacks import Callback
from app.onespan.claims import UPDATED_RESOLUTION
from app.onespan.findings import NEVER, findings
from app.onespan.interval import Finding, SnapshotTimes, StoredEvent, before_click
from app.onespan.merge import EPOCH
from app.onespan.snapshot import PackageSnapshot
from app.store.events import NewEvent
from app.store.states import Emit
from app.types import iso


@dataclass(frozen=True, slots=True)
class DatedSnapshot:
    """A snapshot and when it was taken: OneSpan read the package between `read_at` and `answered_at`.

    Until `settled_at`, the snapshot certainly includes status changes and signatures.
    """

    journal_id: int
    received_at: datetime
    read_at: datetime
    settled_at: datetime
    answered_at: datetime
    package: PackageSnapshot
    emit: str = Emit.NEW

    @property
    def times(self) -> SnapshotTimes:
        """The times of the snapshot as texts."""
        return SnapshotTimes(iso(self.settled_at), iso(self.read_at), iso(self.answered_at))

    @property
    def known_since(self) -> datetime:
        """The time since which known events may explain what a later snapshot shows."""
        clicked_at = self.package.clicked_at
        since_click = datetime.fromisoformat(before_click(clicked_at)) if clicked_at else self.settled_at
        return min(self.settled_at - UPDATED_RESOLUTION, since_click)


def may_emit(package: PackageSnapshot, emit: str, *, began_at: datetime) -> bool:
    """Return whether a snapshot may report events.

    The snapshot must have all parts. With `Emit.NONE`, the package must also be created after `began_at`, when this
    service began to receive callbacks.
    """
    return package.has_parts and (emit != Emit.NONE or _is_newer(package, iso(began_at)))


def unreported_events(
    snapshot: DatedSnapshot, *, before: DatedSnapshot | None, known: Iterable[StoredEvent], began_at: datetime | None
) -> list[NewEvent]:
    """Return the events between the snapshots `before` and `snapshot` that are missing in `known`.

    `began_at` is when this service began to receive callbacks; earlier events are left out. If `before` is None and
    the package is older than `began_at`, only the events whose time `snapshot` shows are returned. For `Emit.ALL`, the
    caller passes None as `before` and as `began_at`.
    """
    if before and before.read_at > snapshot.read_at:
        return []
    began = iso(began_at) if began_at else EPOCH
    after = before.times if before else NEVER
    found = findings(before.package if before else None, snapshot.package, after=after, at=snapshot.times, known=known)
    all_of_it = before is not None or _is_newer(snapshot.package, began)
    new = [finding for finding in found if finding.at > began and (all_of_it or finding.dated)]
    return [_event(finding, number, snapshot) for number, finding in enumerate(new)]


def unreported_deletion(
    snapshot: DatedSnapshot, *, before: DatedSnapshot | None, known: Iterable[StoredEvent]
) -> list[NewEvent]:
    """Return the deletion of a package that OneSpan no longer has, unless the deletion is already known."""
    after, until = iso(before.settled_at) if before else EPOCH, iso(snapshot.answered_at)
    is_known = any(event.name == "PACKAGE_DELETE" and event.at > after for event in known)
    if is_known or (before and before.read_at > snapshot.read_at):
        return []
    return [_event(Finding("PACKAGE_DELETE", after, until, iso(snapshot.read_at)), 0, snapshot)]


def _is_newer(package: PackageSnapshot, began: str) -> bool:
    return bool(package.created) and str(package.created) > began


def _event(finding: Finding, number: int, snapshot: DatedSnapshot) -> NewEvent:
    callback = Callback(
        name=finding.name,
        package_id=snapshot.package.id,
        session_user=finding.signer_id,
        document_id=finding.document_id,
        message=finding.message,
        happened_at=datetime.fromisoformat(finding.at),
        extra=dict(finding.extra),
    )
    after = datetime.fromisoformat(finding.after) if finding.after != EPOCH else None
    return NewEvent(
        fingerprint=f"found by {snapshot.journal_id}, {number}",
        callback=callback,
        happened_at=datetime.fromisoformat(finding.at),
        received_at=snapshot.received_at,
        found=(after, datetime.fromisoformat(finding.until)),
    )
