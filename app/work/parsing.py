"""Parse journal rows: what each callback or snapshot claims, and when."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from app.onespan.callbacks import Callback, parse_callback
from app.onespan.claims import callback_claims, claim_time, settled_at, snapshot_claims
from app.onespan.event_catalogue import CLOCK_TOLERANCE
from app.onespan.fetch_rules import LAG_DELAYS
from app.onespan.merge import PACKAGE, Claim
from app.onespan.packages import parse_package
from app.onespan.snapshot import PackageSnapshot
from app.store.packages import Cause
from app.store.states import Emit, JournalKind
from app.types import iso


@dataclass(frozen=True, slots=True)
class ParsedEntry:
    """A parsed journal row. Without a `callback` and a `snapshot`, the row says that the package no longer exists.

    `clock_offset` are the seconds by which OneSpan's clock is ahead of the clock of `received_at`.
    """

    id: int
    received_at: datetime
    package_id: str
    callback: Callback | None = None
    snapshot: PackageSnapshot | None = None
    read_at: datetime | None = None
    answered_at: datetime | None = None
    emit: str = Emit.NEW
    lag_fetches: int = 0
    lagged_at: datetime | None = None
    clock_offset: float | None = None

    @property
    def claims(self) -> list[Claim]:
        """The claims that this journal row makes."""
        if self.callback:
            return callback_claims(self.callback, received_at=self._arrived_at)
        assert self.read_at
        if self.snapshot is None:
            at = iso(self.read_at)
            return [Claim(PACKAGE, name, value=True, at=at, origin="snapshot") for name in ("read", "deleted")]
        return snapshot_claims(self.snapshot, at=self.read_at, outranks_until=self.outranks_until)

    @property
    def outranks_until(self) -> datetime | None:
        """The time until which this snapshot outranks callbacks: it is the last of the fetches after a lag."""
        return self.lagged_at if self.lag_fetches >= len(LAG_DELAYS) else None

    @property
    def settled_at(self) -> datetime:
        """The time until which this snapshot certainly includes status changes and signatures."""
        assert self.read_at
        if self.snapshot is None:
            return self.read_at
        return settled_at(self.snapshot.updated, at=self.read_at, outranks_until=self.outranks_until)

    @property
    def happened_at(self) -> datetime:
        """The time of this row's claims, on OneSpan's clock."""
        if self.callback:
            return claim_time(self.callback, received_at=self._arrived_at)
        assert self.read_at
        return self.read_at

    @property
    def _arrived_at(self) -> datetime:
        """The time of arrival, on OneSpan's clock."""
        return self.received_at + timedelta(seconds=self.clock_offset or 0)

    @property
    def cause(self) -> Cause:
        """The cause that is stored with each change that this row makes."""
        return Cause(JournalKind.CALLBACK if self.callback else JournalKind.SNAPSHOT, self.id)


def parse(row: Any) -> ParsedEntry:
    """Parse a journal row from its raw bytes."""
    if row.kind == JournalKind.CALLBACK:
        callback = parse_callback(row.body)
        if row.package_id != callback.package_id:  # an earlier version read it differently
            callback = replace(callback, package_id=row.package_id)
        return ParsedEntry(
            row.id, row.received_at, callback.package_id, callback=callback, clock_offset=row.clock_offset
        )
    answered_at = row.answered_at or row.read_at
    if row.kind == JournalKind.ABSENCE:
        return ParsedEntry(row.id, row.received_at, row.package_id, read_at=row.read_at, answered_at=answered_at)
    snapshot = parse_package(json.loads(row.body))
    read_at, answered_at = time_of_reading(snapshot, row.read_at, answered_at)
    return ParsedEntry(
        row.id,
        row.received_at,
        snapshot.id,
        snapshot=snapshot,
        read_at=read_at,
        answered_at=answered_at,
        emit=row.emit,
        lag_fetches=row.lag_fetches,
        lagged_at=row.lagged_at,
    )


def time_of_reading(snapshot: PackageSnapshot, read_at: datetime, answered_at: datetime) -> tuple[datetime, datetime]:
    """Return the earliest and the latest time at which OneSpan can have read the package.

    Neither time is before the package's `updated`: `read_at` and `answered_at` are from the `Date` header, which may
    come from another clock. An `updated` more than `CLOCK_TOLERANCE` after `answered_at` is ignored.
    """
    changed = datetime.fromisoformat(snapshot.updated) if snapshot.updated else read_at
    if changed > answered_at + CLOCK_TOLERANCE:
        changed = read_at
    return max(read_at, changed), max(answered_at, changed)
