"""Two snapshots of a package and the known events between them. The functions are pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.onespan.event_catalogue import event_type
from app.onespan.seats import SIGNATURE_TOLERANCE, SeatDuty
from app.onespan.snapshot import PackageSnapshot
from app.types import iso


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event that is already stored. `at` is its time on OneSpan's clock; `who` is the id of a signer or a role.

    `to` is the id of the new role after a reassignment. If a snapshot showed the event (`found`), `who` is the seat's
    signer or role; in a callback, `who` may also be a person who acted for a group. If no callback has confirmed the
    found event yet, `at` is an estimate, and `after` is the time after which it happened.
    """

    name: str
    at: str
    who: str | None = None
    document_id: str | None = None
    message: str | None = None
    to: str | None = None
    found: bool = False
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An event that no callback reported. The event happened in (`after`, `until`], in OneSpan's time (ISO 8601).

    `at` is the event's time in the snapshot if `dated`, otherwise an estimate. If several people share a role,
    `signer_id` is the role's id, because a snapshot does not show which of the people acted.
    """

    name: str
    after: str
    until: str
    at: str
    signer_id: str | None = None
    document_id: str | None = None
    message: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    dated: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotTimes:
    """When a snapshot was taken, in OneSpan's time (ISO 8601): between `seen` and `until`.

    The snapshot includes everything until `seen`, but status changes and signatures only until `settled`, because
    OneSpan's API may lag its own callbacks.
    """

    settled: str
    seen: str
    until: str

    @classmethod
    def at(cls, seen: str, *, until: str | None = None) -> "SnapshotTimes":
        """Return the times of a snapshot that includes everything until `seen`."""
        return cls(seen, seen, until or seen)


@dataclass(frozen=True, slots=True)
class Interval:
    """The snapshots `before` (taken at `after`) and `now` (taken at `at`), and the known events between them.

    `now` perhaps includes what happened between `at.seen` and `at.until`. `late` are known events that are dated after
    `at.until` and that `now` may include, because such events cannot soon happen twice. `earlier` are known events from
    before: a signature that was only begun in `before` may have been reported by one of them.
    """

    before: PackageSnapshot | None
    after: SnapshotTimes
    now: PackageSnapshot
    at: SnapshotTimes
    events: tuple[StoredEvent, ...]
    late: tuple[StoredEvent, ...] = ()
    earlier: tuple[StoredEvent, ...] = ()

    @property
    def is_incomplete(self) -> bool:
        """Whether one of the two snapshots is incomplete."""
        return self.now.incomplete or (self.before is not None and self.before.incomplete)

    @property
    def is_stale(self) -> bool:
        """Whether `now` shows the package as it was before `before`: some servers of OneSpan lag behind others."""
        return self.at.settled < self.after.settled

    def has_event(
        self,
        name: str,
        *,
        who: Collection[str] = (),
        document_id: str | None = None,
        since: str = "",
        earlier_since: str | None = None,
    ) -> bool:
        """Whether an event of this name is known: by one of the ids `who` and about `document_id`, if given.

        If `earlier_since` is given, the earlier events after that time count too.
        """
        earlier = (event for event in self.earlier if earlier_since and event.at > earlier_since)
        return any(
            event.name == name
            and event.at > since
            and (not who or event.who is None or self.is_by(event, who))
            and (document_id is None or event.document_id == document_id)
            for event in (*earlier, *self.events, *self.late)
        )

    def is_by(self, event: StoredEvent, who: Collection[str]) -> bool:
        """Whether a person caused the event who is, or who acted for, one of the ids `who` of a role and its people.

        An event of a person who may have acted for several seats is by no one in particular; see `ambiguous`.
        """
        seats = self._seats_of(event)
        return seats[0].signer_id in who if len(seats) == 1 else not seats and event.who in who

    def ambiguous(self) -> Iterator[tuple[StoredEvent, set[str]]]:
        """Yield the known events that may be about several signatures, each with the ids of the seats concerned.

        Their person may have acted for several seats, or no signer or document could be read in their callback.
        """
        for event in (*self.events, *self.late):
            seats = self._seats_of(event) if event_type(event.name).by_signer else ()
            is_vague = event.name == "DOCUMENT_SIGNED" and event.document_id is None
            if len(seats) > 1 or is_vague:
                seats = seats or (self.now.duties.seats if event.who is None else ())
                yield event, {user_id for seat in seats for user_id in (seat.signer_id, seat.role_id)}

    def _seats_of(self, event: StoredEvent) -> Sequence[SeatDuty]:
        """Return the seats for which the person in an event may have acted; empty if no snapshot shows any."""
        for snapshot in (self.now, self.before):
            if event.who and snapshot:
                duties, who = snapshot.duties, event.who
                own = duties.own_seat(who) if event.found else None
                at = None if event.name == "PACKAGE_ATTACHMENT" else event.at  # uploaded before or after the signature
                seats = [own] if own else duties.seats_of(who, document_id=event.document_id, at=at)
                if seats:
                    return seats
        return ()


def before_click(clicked_at: str) -> str:
    """Return the earliest date that the callback of a signature may have whose block was clicked at this time."""
    return iso(datetime.fromisoformat(clicked_at) - SIGNATURE_TOLERANCE)


def new_finding(
    interval: Interval,
    name: str,
    at: str | None,
    *,
    signer_id: str | None = None,
    document_id: str | None = None,
    message: str | None = None,
) -> Finding:
    """Return a finding that happened at the time `at`, if that lies between the snapshots; else at a likely time."""
    after, until = interval.after.settled, interval.at.until
    likely = within(at or interval.now.updated, after, until, otherwise=interval.at.seen)
    return Finding(name, after, until, likely, signer_id, document_id, message, dated=likely == at)


def within(at: str | None, after: str, until: str, *, otherwise: str) -> str:
    """Return the first of the times `at` and `otherwise` that lies in (`after`, `until`], else `until`."""
    return next((time for time in (at, otherwise) if time and after < time <= until), until)


def signatures(snapshot: PackageSnapshot) -> Iterable[str]:
    """Yield the times of all signatures in a snapshot."""
    for document in snapshot.documents:
        for signature in (document.signatures or {}).values():
            if signature.signed_at:
                yield signature.signed_at
