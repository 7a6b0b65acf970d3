"""Which callbacks are repeats, and which confirm an event that a snapshot had found. Pure.

Both keep every fact one event: a repeat only counts, and a callback of a found event confirms it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from app.onespan.callbacks import Callback
from app.onespan.event_catalogue import event_type
from app.onespan.lifecycle import status_after
from app.onespan.merge import State
from app.onespan.seats import DATE_TOLERANCE, People
from app.types import iso

# Identical callbacks without `createdDate` count as one event if they arrive within this time of each other.
REPEAT_WINDOW = timedelta(minutes=5)
# Events for which a snapshot names the person, perhaps a member of a group, and not the seat.
BY_PERSON = ("PACKAGE_DECLINE", "PACKAGE_OPT_OUT")


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event that a snapshot found and no callback has reported yet. It happened in (`after`, `until`]."""

    id: int
    package_id: str
    name: str
    signer_id: str | None
    document_id: str | None
    message: str | None
    extra: Mapping[str, object]
    at: datetime
    after: datetime | None
    until: datetime

    @classmethod
    def of(cls, event_id: int, callback: Callback, *, at: datetime, after: datetime | None, until: datetime) -> Self:
        """Create the found event for a new event in the form of a callback."""
        return cls(
            event_id,
            callback.package_id,
            callback.name,
            callback.session_user,
            callback.document_id,
            callback.message,
            callback.extra,
            at,
            after,
            until,
        )

    def is_reported_by(self, callback: Callback, *, who: Collection[object], happened_at: datetime) -> bool:
        """Whether a callback reports this event. `who` contains the ids of the person in the callback.

        The event of an undated callback happened at the callback's arrival or shortly before. So the callback may
        report an event that a snapshot found just before. A callback of an event that cannot soon happen twice may
        have a later date, up to `max_date_lag`. A reassignment is recognised by the person who left the seat, or by
        the role.
        """
        tolerance = REPEAT_WINDOW if callback.happened_at is None else event_type(self.name).max_date_lag
        is_same_person = self.signer_id is None or callback.session_user is None or self.signer_id in who
        return (
            callback.name == self.name
            and callback.package_id == self.package_id
            and (self.after is None or self.after < happened_at)
            and happened_at <= self.until + tolerance
            and (callback.name != "PACKAGE_ATTACHMENT" or callback.message == self.message)
            and callback.document_id in (None, self.document_id)
            and (is_same_person or self._is_reassigned_to(who))
        )

    def _is_reassigned_to(self, who: Collection[object]) -> bool:
        return self.name == "ROLE_REASSIGN" and self.extra.get("newRoleId") in who


def confirmed_event(
    callback: Callback, unconfirmed: Iterable[FoundEvent], *, state: State | None, happened_at: datetime
) -> FoundEvent | None:
    """Return the event that a callback confirms, the nearest in time; None if there is none.

    `state` are the claims before the callback. If two steps of the package may be meant, and one of them can only have
    happened after the other, then the callback means the later one.
    The callback may name the signer, the role, or a member of a group; a snapshot names the seat, or the person who
    declined or opted out.
    """
    candidates = [event for event in unconfirmed if event.name == callback.name]
    if not candidates:
        return None
    new_role = callback.extra.get("newRoleId")
    names = {callback.session_user, new_role}
    if state:
        people = People.of(state)
        for name in filter(None, (callback.session_user, new_role)):
            names |= _names_of(str(name), people, callback, happened_at=happened_at)
        if callback.name in BY_PERSON:
            found_by = {event.signer_id for event in candidates if event.signer_id}
            names |= {who for who in found_by if names & _names_of(who, people, callback, happened_at=happened_at)}
        is_in_snapshots = callback.session_user in {*people.roles, *people.roles.values()}
        if callback.name == "PACKAGE_ATTACHMENT" and not is_in_snapshots:  # perhaps a person who gave the role away
            names |= {event.signer_id for event in candidates}
        by_sender = callback.session_user == people.about.value("sender_id")
        if callback.name == "ROLE_REASSIGN" and by_sender and new_role is None:
            callback = replace(callback, session_user=None)  # the sender is not the signer whose role is reassigned
    confirmed = [event for event in candidates if event.is_reported_by(callback, who=names, happened_at=happened_at)]
    is_step = status_after(callback.name) is not None

    def rank(event: FoundEvent) -> tuple[bool, bool, timedelta]:
        is_before_another = is_step and any(other.after and event.at <= other.after for other in confirmed)
        return event.until < happened_at, is_before_another, abs(event.at - happened_at)

    return min(confirmed, key=rank, default=None)


def _names_of(name: str, people: People, callback: Callback, *, happened_at: datetime) -> set[object]:
    """Return the ids under which a snapshot may show a person. An undated callback may arrive a little late.

    A person may upload an attachment after their seat has signed.
    """
    acted_at = happened_at if callback.happened_at else happened_at - REPEAT_WINDOW
    at = None if callback.name == "PACKAGE_ATTACHMENT" else iso(acted_at)
    person = people.person(name, document_id=callback.document_id, at=at)
    seats = people.duties.seats_of(name, document_id=callback.document_id, at=at, tolerance=DATE_TOLERANCE)
    of_role = (signer_id for signer_id, role_id in people.roles.items() if role_id == name)
    role_ids = (role_id for signer_id, role_id in people.roles.items() if signer_id == person)
    return {person, *role_ids, *of_role, *(seat.signer_id for seat in seats)}


class KnownFingerprints:
    """The fingerprints of known events: those given at creation, and those that `identify` added."""

    def __init__(self, fingerprints: Iterable[str] = ()) -> None:
        self._known = set(fingerprints)
        self._undated: dict[str, list[tuple[datetime, str]]] = {}
        for fingerprint in self._known:
            self._remember(fingerprint)

    def identify(self, callback: Callback, *, received_at: datetime) -> tuple[str, bool]:
        """Return the fingerprint of the event that a callback reports, and whether the callback is a repeat."""
        fingerprint = callback.fingerprint
        if callback.happened_at is None:
            near = [
                (abs(at - received_at), known)
                for at, known in self._undated.get(fingerprint, ())
                if abs(at - received_at) <= REPEAT_WINDOW
            ]
            fingerprint = min(near)[1] if near else undated(fingerprint, received_at)
        repeat = fingerprint in self._known
        if not repeat:
            self._known.add(fingerprint)
            self._remember(fingerprint)
        return fingerprint, repeat

    def _remember(self, fingerprint: str) -> None:
        content, _, at = fingerprint.partition("@")
        if at:
            self._undated.setdefault(content, []).append((datetime.fromisoformat(at), fingerprint))


def undated(content: str, at: datetime) -> str:
    """Return the fingerprint of an event whose callback has no date and arrived `at`."""
    return f"{content}@{at.isoformat(timespec='microseconds')}"
