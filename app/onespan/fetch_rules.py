"""The rules that decide which callbacks and snapshots require a fetch from OneSpan. The functions are pure.

A fetch is needed after a callback that contradicts the stored state, or that does not describe the whole change, and
after a snapshot that shows less than an earlier callback.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from app.onespan.callbacks import Callback
from app.onespan.claims import MAX_LAG, settled_at
from app.onespan.event_catalogue import event_type
from app.onespan.lifecycle import COMPLETE_STATUSES, TRANSITIONS
from app.onespan.merge import EPOCH, NO_CLAIM, PACKAGE, State, TimedValue, last_snapshot_value, newest_claim_at
from app.onespan.seats import People
from app.onespan.snapshot import DocumentSnapshot, PackageSnapshot, Seat
from app.onespan.subjects import SubjectClaims
from app.onespan.values import Package, SignatureState, Signer
from app.types import iso

CONSENT = "default-consent"
# OneSpan's API may lag its own callbacks. Delays of the fetches after a snapshot that shows less than a callback; the
# last of them outranks the callback.
LAG_DELAYS = (timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=5))
DELIVERY_TIME = timedelta(hours=12)  # a callback that takes longer may be dated before the window of the next run
COMPLETION_TOLERANCE = timedelta(minutes=1)  # how far the date of a completion and its callback's date may differ
# Events that need a fetch unless this condition holds: then the callback describes the whole change.
SELF_CONTAINED: Mapping[str, Callable[[Callback, Package | None], bool]] = {
    "PACKAGE_ATTACHMENT": lambda callback, _: bool(callback.message),
    "PACKAGE_RESTORE": lambda _, before: bool(before and before.trashed),
}


def fetch_reason(callback: Callback, *, before: Package | None, after: Package, late: bool = False) -> str | None:
    """Return a short reason why the package must be fetched after this callback; None if no fetch is needed.

    `before` and `after` are the package before and after the callback. `late` says that the callback changed a
    value although a newer snapshot or list page had already shown the package, or that no run will look for it.
    """
    reasons = {
        "unknown": before is None or before.read_at is None,
        "unread": callback.is_partly_read,
        "structure": event_type(callback.name).needs_fetch and not _is_self_contained(callback, before),
        "step": _is_unexpected_status(callback, before, after),
        "signer": not _is_known_signer(callback, before) or _adds_signer(before, after),
        "document": not _is_known_document(callback, before),
        "late": late,
        "open signatures": after.status in COMPLETE_STATUSES and _has_open_signatures(after),
        "deleted": not after.deleted and (callback.name == "PACKAGE_DELETE" or bool(before and before.deleted)),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _has_open_signatures(package: Package) -> bool:
    """Whether a complete package has signatures, or signers, whose time no callback has reported."""
    signatures = (signature for document in package.documents for signature in document.signatures)
    is_open = any(signature.state != SignatureState.SIGNED and signature.required for signature in signatures)
    return is_open or any(signer.owes and signer.status_at is None for signer in package.signers)


def is_behind(snapshot: PackageSnapshot, state: State, *, settled_at: datetime, answered_at: datetime) -> bool:
    """Whether a snapshot shows a status or a signature from before a callback that is dated before `answered_at`.

    `state` are the merged claims, this snapshot's included. The snapshot may be from a server of OneSpan that lags.
    """
    people, at = People.of(state), iso(answered_at)
    deletion = people.about.attributes.get("deleted", {}).get("event", NO_CLAIM)

    def is_newer(claims: SubjectClaims, attribute: str, shown: object) -> bool:
        return claims.value(attribute) != shown and claims.at(attribute) <= at

    return (
        (snapshot.status is not None and is_newer(people.about, "status", snapshot.status))
        or (deletion[1] is True and iso(settled_at) < deletion[0] <= at)
        or any(is_newer(people.about_seat(seat.signer_id), "done", shown=False) for seat in _open_seats(snapshot))
        or any(
            seat.signer_id in people.signed[document.id] and people.signed[document.id][seat.signer_id] <= at
            for document in snapshot.documents
            for seat in snapshot.seats
            if snapshot.has_parts and _is_open(document, seat)
        )
    )


def is_unconfirmed(state: State, *, listed_at: datetime | None = None) -> bool:
    """Whether OneSpan's last answer about the package does not certainly include its newest callback, or is not whole.

    `listed_at` is when the list last showed the package. A row that shows it whole confirms what it equals, and
    other rows have been followed by a fetch.
    """
    if last_snapshot_value(state, PACKAGE, "whole") is False and not _last_answer(state)[1]:
        return True
    confirmed_until = max(_confirmed_until(state), iso(listed_at - MAX_LAG) if listed_at else EPOCH)
    return newest_claim_at(state, "event") > confirmed_until


def is_missing(state: State, *, since: datetime | None) -> bool:
    """Whether a package needs a fetch that the list of the packages updated after `since` does not show.

    OneSpan updated it later, so it may be deleted; or its newest callback is not confirmed and may be false.
    """
    updated = last_snapshot_value(state, PACKAGE, "updated")
    is_before_window = since is not None and updated is not None and updated < iso(since)
    return is_unconfirmed(state) or not (_last_answer(state)[1] or is_before_window)


def _confirmed_until(state: State) -> str:
    """Return the time until which OneSpan's last answer about a package certainly includes all callbacks."""
    at, is_deleted = _last_answer(state)
    if is_deleted or at == EPOCH:
        return at
    updated = last_snapshot_value(state, PACKAGE, "updated")
    return iso(settled_at(updated, at=datetime.fromisoformat(at)))


def _last_answer(state: State) -> TimedValue:
    """Return when OneSpan last answered about the package, and whether the package was deleted then."""
    return state.get(PACKAGE, {}).get("deleted", {}).get("snapshot", NO_CLAIM)


def next_lag_fetch(number: int, since: datetime | None, *, answered_at: datetime) -> tuple[int, datetime]:
    """Return the number of the next fetch of a package that lags, and when the first such snapshot was taken.

    `number` and `since` are those of the fetch that took the present snapshot, which came at `answered_at`. After the
    last fetch, a snapshot that is still behind begins a new series.
    """
    if since is None or number >= len(LAG_DELAYS):
        return 1, answered_at
    return number + 1, since


def _open_seats(snapshot: PackageSnapshot) -> Iterable[Seat]:
    return (seat for seat in snapshot.seats if snapshot.has_parts and seat.completed is False)


def _is_open(document: DocumentSnapshot, seat: Seat) -> bool:
    signature = (document.signatures or {}).get(seat.role_id)
    return signature is not None and signature.is_open


def _is_self_contained(callback: Callback, before: Package | None) -> bool:
    condition = SELF_CONTAINED.get(callback.name)
    return condition is not None and condition(callback, before)


def _is_unexpected_status(callback: Callback, before: Package | None, after: Package) -> bool:
    """Whether the callback's status cannot follow the stored status, or loses against a newer claim."""
    claimed = event_type(callback.name).package.get("status")
    if not isinstance(claimed, str):
        return False
    stored = (before.status or "") if before else ""
    if before and claimed == stored:
        is_older = before.status_at == after.status_at and callback.happened_at != after.status_at
        return is_older or _moves_completion(before, after)
    if claimed != after.status:
        return True
    return TRANSITIONS.get((stored, claimed), "") != callback.name


def _moves_completion(before: Package, after: Package) -> bool:
    """Whether the callback gives a package that was complete another time of its completion."""
    known, claimed = before.completed_at, after.completed_at
    return bool(known and claimed and abs(claimed - known) > COMPLETION_TOLERANCE)


def _is_known_signer(callback: Callback, package: Package | None) -> bool:
    """Whether it is known for which seat the signer in a callback acted."""
    user = callback.session_user if event_type(callback.name).by_signer else None
    signers = package.signers if package else ()
    ids = {user, *(signer.id for signer in signers if signer.role_id == user)}
    seats = {signer.role_id: signer for signer in signers if ids & {signer.id, signer.role_id, *_members(signer)}}
    return user is None or (bool(seats) and sum(signer.owes for signer in seats.values()) <= 1)


def _members(signer: Signer) -> tuple[str, ...]:
    return signer.group.members if signer.group else ()


def _adds_signer(before: Package | None, after: Package) -> bool:
    """Whether the callback added a signer who was not known before."""
    known = {signer.id for signer in before.signers} if before else set()
    return bool({signer.id for signer in after.signers} - known)


def _is_known_document(callback: Callback, package: Package | None) -> bool:
    documents = package.documents if package else ()
    return callback.document_id in (None, CONSENT, *(document.id for document in documents))
