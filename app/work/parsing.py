"""Journal rows, read: what each of them says."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.onespan import claims
from app.onespan.callbacks import Callback, read_callback
from app.onespan.claims import PACKAGE, Claim
from app.onespan.findings import CLOCKS_DIFFER
from app.onespan.packages import PackageReading, read_package
from app.store.packages import Cause
from app.types import iso


@dataclass(frozen=True, slots=True)
class Told:
    """A journal row, read: a callback, a reading of a package, or (with neither) that it is there no more."""

    id: int
    received_at: datetime
    package_id: str
    callback: Callback | None = None
    reading: PackageReading | None = None
    read_at: datetime | None = None
    answered_at: datetime | None = None
    tells: str | None = None

    @property
    def claims(self) -> list[Claim]:
        """What it claims."""
        if self.callback:
            return claims.told_by(self.callback, received_at=self.received_at)
        assert self.read_at
        if self.reading is None:
            return [Claim(PACKAGE, "deleted", True, iso(self.read_at), "snapshot")]  # noqa: FBT003
        return claims.shown_by(self.reading, at=self.read_at)

    @property
    def happened_at(self) -> datetime:
        """OneSpan's time of what it claims."""
        if self.callback:
            return claims.dated(self.callback, received_at=self.received_at)
        assert self.read_at
        return self.read_at

    @property
    def cause(self) -> Cause:
        """How the history names it."""
        return Cause("callback" if self.callback else "snapshot", self.id)


def read(row: Any) -> Told:
    """Read a journal row again, from its raw bytes."""
    if row.kind == "callback":
        callback = read_callback(row.body)
        return Told(row.id, row.received_at, callback.package_id, callback=callback)
    answered_at = row.answered_at or row.read_at
    if row.kind == "absence":
        return Told(row.id, row.received_at, row.package_id, read_at=row.read_at, answered_at=answered_at)
    shown = read_package(json.loads(row.body))
    read_at, answered_at = _looked(shown, row.read_at, answered_at)
    return Told(row.id, row.received_at, shown.id, None, shown, read_at, answered_at, row.tells)


def _looked(shown: PackageReading, read_at: datetime, answered_at: datetime) -> tuple[datetime, datetime]:
    """Between which times OneSpan looked. A package that it shows as it was changed it did not look at before that.

    The header may be of another clock; it is not believed to be behind by more than `CLOCKS_DIFFER`.
    """
    changed = datetime.fromisoformat(shown.updated) if shown.updated else read_at
    if changed > answered_at + CLOCKS_DIFFER:
        changed = read_at
    return max(read_at, changed), max(answered_at, changed)
