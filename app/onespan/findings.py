"""What happened between two readings of a package and was never told: the difference, as events. Pure.

Two readings differ; the events that callbacks told in between explain some of it. The rest are findings. Nothing is
guessed: a status step is found only along the lifecycle that OneSpan documents, and a step for which it has no event
(un-archiving, an expired package back in draft) is none.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.onespan.claims import EPOCH
from app.onespan.lifecycle import BORN, SIGNED, UNBORN, arrived_by, path, path_to_step
from app.onespan.packages import PackageReading, Seat
from app.types import iso

# Findings of one instant are told in this order.
ORDER = (
    "PACKAGE_CREATE",
    "TEMPLATE_CREATE",
    "PACKAGE_ACTIVATE",
    "PACKAGE_DEACTIVATE",
    "ROLE_REASSIGN",
    "SIGNER_LOCKED",
    "PACKAGE_ATTACHMENT",
    "DOCUMENT_SIGNED",
    "SIGNER_COMPLETE",
    "PACKAGE_READY_FOR_COMPLETE",
    "PACKAGE_COMPLETE",
    "PACKAGE_DECLINE",
    "PACKAGE_OPT_OUT",
    "PACKAGE_EXPIRE",
    "PACKAGE_ARCHIVE",
    "PACKAGE_TRASH",
    "PACKAGE_RESTORE",
    "PACKAGE_DELETE",
)
# What no reading can show, so that no finding is ever made of it.
NEVER_FOUND = frozenset({"KBA_FAILURE", "EMAIL_BOUNCE", "DOCUMENT_VIEWED", "COBROWSE_REQUEST"})
# Of these a reading shows when they happened; of the others it is estimated.
DATED = frozenset({"PACKAGE_CREATE", "TEMPLATE_CREATE", "DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_COMPLETE"})
# OneSpan's clocks may differ, and `createdDate` may be the time of sending: a callback that is dated so much later than
# what a reading found still tells the same, where that cannot have happened a second time meanwhile.
CLOCKS_DIFFER, A_LIFE = timedelta(minutes=1), timedelta(days=36_500)
ONCE: Mapping[str, timedelta] = {
    **dict.fromkeys(("PACKAGE_CREATE", "TEMPLATE_CREATE", "PACKAGE_DELETE"), A_LIFE),
    **dict.fromkeys(("PACKAGE_COMPLETE", "DOCUMENT_SIGNED", "SIGNER_COMPLETE"), CLOCKS_DIFFER),
}


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """An event that is known already. `at` is OneSpan's time; `who` is a signer's or a role's id, as it was told.

    `to` is the role that took over from them.
    """

    name: str
    at: str
    who: str | None = None
    document_id: str | None = None
    message: str | None = None
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact that no callback told. It happened in (`after`, `until`], most likely `at`; all OneSpan's time, ISO.

    `dated`: the reading shows when it happened; otherwise `at` is an estimate. `signer_id` is the role's id where
    several sit in it: a reading shows what was done by one of them, and not by whom.
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
class Interval:
    """Two readings and what was told between them.

    What happened by `seen` is in the newer one; what happened from then `until` its answer came may be. `late` was told
    to have happened thereafter, but may be what the newer one shows: it happens once.
    """

    before: PackageReading | None
    after: str
    now: PackageReading
    seen: str
    until: str
    told: tuple[ToldEvent, ...]
    late: tuple[ToldEvent, ...] = ()

    @property
    def is_vague(self) -> bool:
        """Whether one of them does not show who is who."""
        return self.now.vague or (self.before is not None and self.before.vague)

    def is_told(self, name: str, *, who: Iterable[str] = (), document_id: str | None = None) -> bool:
        """Whether an event of this name came between them, by one of these and about this document where given."""
        known = tuple(who)
        return any(
            one.name == name
            and (not known or one.who is None or one.who in known)
            and (document_id is None or one.document_id == document_id)
            for one in (*self.told, *self.late)
        )


def findings(
    before: PackageReading | None,
    now: PackageReading,
    *,
    after: str = EPOCH,
    seen: str | None = None,
    until: str,
    told: Iterable[ToldEvent],
) -> list[Finding]:
    """What happened after the reading `before` (at `after`) and until the reading `now` and was not told.

    OneSpan looked between `seen` (`until`, where that is not known better) and `until`, so of what is told to have
    happened in between it may have shown nothing yet. `told` are the events of this package in that time, in any
    order. In the order in which they must have happened.
    """
    since = sorted((one for one in told if after < one.at), key=lambda one: (one.at, _rank(one.name)))
    between = tuple(one for one in since if one.at <= until)
    late = tuple(one for one in since if until < one.at <= _until(one.name, until))
    interval = Interval(before, after, now, max(after, seen or until), until, between, late)
    steps = (one for one in _steps(interval) if not any(one.name == other.name for other in late))
    found = [*steps, *_trash(interval), *_of_signers(interval), *_ready(interval)]
    return sorted(found, key=lambda one: (one.at, _rank(one.name), one.signer_id or "", one.document_id or ""))


def _until(name: str, until: str) -> str:
    """Until when a callback of this name may be dated that tells what happened until then."""
    return iso(datetime.fromisoformat(until) + ONCE[name]) if name in ONCE else until


def _rank(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _steps(interval: Interval) -> Iterator[Finding]:
    """Walk from status to status along what was told, and tell the steps that must have been taken besides."""
    now, status, since = interval.now, _status(interval), interval.after
    born = BORN.get(now.type or "")
    perhaps_seen = {status}  # one of these was the newest when OneSpan looked
    for one in interval.told:
        arrived = arrived_by(one.name)
        if arrived is None:
            continue
        step = "PACKAGE_CREATE" if one.name in BORN.values() else one.name
        way = path_to_step(status, step) if arrived != status else ()
        yield from _one_after_another(_step(name, born, since, one.at, at=one.at, now=now) for name in way)
        passed = {arrived, *filter(None, map(arrived_by, way))}
        perhaps_seen = {arrived} if one.at <= interval.seen else perhaps_seen | passed
        status, since = arrived, one.at
    way = () if now.status in perhaps_seen else path(status, now.status)
    if way and way[-1] == "PACKAGE_DEACTIVATE" and not _was_taken_back(interval):
        way = way[:-1]
    yield from _one_after_another(_step(name, born, since, interval.until, at=interval.seen, now=now) for name in way)


def _one_after_another(steps: Iterable[Finding | None]) -> list[Finding]:
    """Those that have an event; none of them later than the next, whose date may be shown."""
    found = [one for one in steps if one]
    for place in range(len(found) - 2, -1, -1):
        if found[place].at > found[place + 1].at:
            found[place] = replace(found[place], at=found[place + 1].at)
    return found


def _was_taken_back(interval: Interval) -> bool:
    """Whether one that was out and is a draft cannot have expired meanwhile: then it would have another due date."""
    return interval.before is not None and interval.before.due == interval.now.due


def _step(
    name: str | None, born: str | None, after: str, until: str, *, at: str, now: PackageReading
) -> Finding | None:
    name = born if name == "PACKAGE_CREATE" else name
    if name is None:
        return None
    dates = {"PACKAGE_CREATE": now.created, "TEMPLATE_CREATE": now.created, "PACKAGE_COMPLETE": now.completed}
    shown = dates.get(name)
    likely = shown or (_first_signature(now) if name == "PACKAGE_ACTIVATE" else None) or now.updated
    place = _within(likely, after, until, otherwise=at)
    found = Finding(name, after, until, place, dated=place == shown)
    if name in ("PACKAGE_DECLINE", "PACKAGE_OPT_OUT") and now.ended_by:
        found = replace(found, signer_id=now.ended_by.signer_id, message=now.ended_by.reason)
    return found


def _status(interval: Interval) -> str | None:
    """Where the package stood before; None where that is not shown."""
    return interval.before.status if interval.before else UNBORN


def _trash(interval: Interval) -> Iterator[Finding]:
    in_trash = interval.before.trashed if interval.before else False
    perhaps_seen, since = {in_trash, None}, interval.after
    for one in interval.told:
        if one.name in ("PACKAGE_TRASH", "PACKAGE_RESTORE"):
            in_trash, since = one.name == "PACKAGE_TRASH", one.at
            perhaps_seen = {in_trash, None} if one.at <= interval.seen else {True, False, None}
    if in_trash is not None and interval.now.trashed not in perhaps_seen:
        name = "PACKAGE_TRASH" if interval.now.trashed else "PACKAGE_RESTORE"
        likely = _within(interval.now.updated, since, interval.until, otherwise=interval.seen)
        yield Finding(name, since, interval.until, likely)


def _of_signers(interval: Interval) -> Iterator[Finding]:
    seats = interval.before.seats if interval.before else ()
    before = {seat.signer_id: seat for seat in seats} | {seat.role_id: seat for seat in seats}
    roles: dict[str, list[Seat]] = {}
    for seat in interval.now.seats:
        roles.setdefault(seat.role_id, []).append(seat)
    for role_id, sitting in roles.items():
        who = (role_id, *(one.signer_id for one in (*sitting, *seats) if one.role_id == role_id))
        earlier = next((before[one] for one in who if one in before), None)
        if interval.is_vague and role_id not in before:
            continue  # who is there may have sat elsewhere
        who = () if interval.is_vague else who
        signer_id = role_id if len(sitting) > 1 else sitting[0].signer_id
        yield from _of_role(interval, earlier, sitting[0], who=who, signer_id=signer_id)
    yield from _handed_over(interval, seats)


def _of_role(
    interval: Interval, before: Seat | None, now: Seat, *, who: tuple[str, ...], signer_id: str
) -> Iterator[Finding]:
    """What a role did, by any of its people, now or before (`who`, with its own id; empty where not all are shown).

    Each seat in it shows the same.
    """
    signed = {one.id: at for one in interval.now.documents if (at := (one.signed or {}).get(now.role_id))}
    for document_id, at in signed.items():
        is_new = at > interval.after and _was_open(interval, document_id, role_id=(before or now).role_id)
        if is_new and not interval.is_told("DOCUMENT_SIGNED", who=who, document_id=document_id):
            yield _found(interval, "DOCUMENT_SIGNED", at, signer_id=signer_id, document_id=document_id)
    was_open = not (interval.before and interval.before.half_shown) and not (before and before.completed)
    if now.completed and was_open and not interval.is_told("SIGNER_COMPLETE", who=who):
        yield _found(interval, "SIGNER_COMPLETE", max(signed.values(), default=None), signer_id=signer_id)
    was_free = before is None or before.locked is False
    if now.locked and was_free and not interval.is_told("SIGNER_LOCKED", who=who):
        yield _found(interval, "SIGNER_LOCKED", None, signer_id=signer_id)
    uploaded = before.attachments if before else ()
    if uploaded is not None:
        for name in sorted({*(now.attachments or ())} - {*uploaded}):
            if not _is_uploaded(interval, name, who=who):
                yield _found(interval, "PACKAGE_ATTACHMENT", None, signer_id=signer_id, message=name)


def _is_uploaded(interval: Interval, name: str, *, who: tuple[str, ...]) -> bool:
    """Whether it was told: two may be asked for the same, so by nobody who sits elsewhere; by who sat here before."""
    others = {one for seat in interval.now.seats if seat.role_id not in who for one in (seat.signer_id, seat.role_id)}
    told = (one for one in interval.told if one.name == "PACKAGE_ATTACHMENT" and one.message == name)
    return any(not who or one.who not in others for one in told)


def _handed_over(interval: Interval, before: Iterable[Seat]) -> Iterator[Finding]:
    """Seats in which somebody else sits now, of a package that was out all the time: in others senders change them."""
    holders = {seat.role_id: seat for seat in interval.now.seats}
    present = {seat.signer_id for seat in interval.now.seats}
    for seat in before if _was_out(interval) and not interval.is_vague else ():
        holder = holders.get(seat.role_id)
        if not seat.taken or seat.signer_id in present or holder is None or not holder.taken:
            continue
        if not _is_handed_over(interval, seat, holder):
            found = _found(interval, "ROLE_REASSIGN", None, signer_id=seat.signer_id)
            yield replace(found, extra={"newRoleId": holder.role_id})


def _was_out(interval: Interval) -> bool:
    """Whether it was out for signature, and is so still or complete, and nothing else was told in between."""
    told = {arrived_by(one.name) for one in interval.told}
    return _status(interval) == "SENT" and interval.now.status in {"SENT", *SIGNED} and told <= {None, *SIGNED}


def _is_handed_over(interval: Interval, seat: Seat, holder: Seat) -> bool:
    """Whether it was told: of who sat there, to who sits there now, or by the sender."""
    return any(
        one.name == "ROLE_REASSIGN"
        and (
            one.who in (None, seat.signer_id, seat.role_id)
            or one.to in (holder.role_id, holder.signer_id)
            or (one.to is None and one.who == interval.now.sender.id)
        )
        for one in interval.told
    )


def _ready(interval: Interval) -> Iterator[Finding]:
    """All have signed and the sender must complete it, or has done so since."""
    before, now = interval.before, interval.now
    was_open = before is None or (before.ready is False and before.status not in {None, *SIGNED})
    by_hand = now.status in SIGNED and now.autocomplete is False and now.all_signed
    if was_open and (now.ready or by_hand) and not interval.is_told("PACKAGE_READY_FOR_COMPLETE"):
        yield _found(interval, "PACKAGE_READY_FOR_COMPLETE", _last_signature(now))


def _found(
    interval: Interval,
    name: str,
    at: str | None,
    *,
    signer_id: str | None = None,
    document_id: str | None = None,
    message: str | None = None,
) -> Finding:
    likely = _within(at or interval.now.updated, interval.after, interval.until, otherwise=interval.seen)
    return Finding(name, interval.after, interval.until, likely, signer_id, document_id, message, dated=likely == at)


def _within(at: str | None, after: str, until: str, *, otherwise: str) -> str:
    """The time that is shown, where it fits in between; otherwise the other one, or else the end."""
    return next((one for one in (at, otherwise) if one and after < one <= until), until)


def _was_open(interval: Interval, document_id: str, *, role_id: str) -> bool:
    """Whether a document is known not to have been signed there before."""
    before = interval.before
    earlier = next((one for one in before.documents if one.id == document_id), None) if before else None
    if earlier is None:
        return before is None or not before.half_shown
    return earlier.signed is not None and not earlier.signed.get(role_id)


def _signatures(reading: PackageReading) -> list[str]:
    return [at for document in reading.documents for at in (document.signed or {}).values() if at]


def _first_signature(reading: PackageReading) -> str | None:
    return min(_signatures(reading), default=None)


def _last_signature(reading: PackageReading) -> str | None:
    return max(_signatures(reading), default=None)
