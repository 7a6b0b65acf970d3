"""What callbacks and snapshots claim about a package, its signers and its documents. The functions are pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from app.onespan.callbacks import Callback
from app.onespan.event_catalogue import event_type
from app.onespan.merge import FIRST, PACKAGE, Claim, document, signer
from app.onespan.snapshot import MISSING, REJECTED, DocumentSnapshot, PackageSnapshot, Seat
from app.types import iso

# How far a callback's date may be after its arrival. A later date is replaced by the time of arrival.
MAX_CLOCK_AHEAD = timedelta(minutes=15)
MAX_LAG = timedelta(minutes=10)  # how long OneSpan's API may show a status or a signature from before a callback
UPDATED_RESOLUTION = timedelta(seconds=1)  # how much later than `updated` OneSpan may date the callback of a change
OUT_OF_OFFICE = "OOTO"  # the `message` of an EMAIL_BOUNCE that is an out-of-office reply
RESOLVED: Mapping[str, object] = {"kba": False, "email_bounce": None, "out_of_office": False}  # once someone has signed
MAY_BE_MISSING = ("completed", "done", "done_at", "begun", "declined", "opted_out")  # in a snapshot that lags
CLEARED = ("due", "completed", "email_bounce", "description", "data")  # what a snapshot without a value takes back


def callback_claims(callback: Callback, *, received_at: datetime) -> list[Claim]:
    """Return the claims of a callback.

    A callback without a date, or dated more than `MAX_CLOCK_AHEAD` after its arrival, counts as dated at its arrival.
    Otherwise a callback dated 2099 would outrank every later snapshot. `received_at` is a time of OneSpan's clock.
    """
    at = iso(claim_time(callback, received_at=received_at))
    kind = event_type(callback.name)
    package: dict[str, object] = {"event": True, **kind.package}
    if kind.starts:
        package |= {"created": at, **({"sender_id": callback.session_user} if callback.session_user else {})}
    if callback.name == "PACKAGE_COMPLETE":
        package["completed"] = at
    if callback.name == "PACKAGE_ACTIVATE":
        package["sent"] = True
    claims = [Claim(PACKAGE, attribute, value, at, "event") for attribute, value in package.items()]
    return claims + [
        Claim(subject, attribute, value, at, "event")
        for subject, attributes in _claims_about_parts(callback, at).items()
        for attribute, value in attributes.items()
    ]


def claim_time(callback: Callback, *, received_at: datetime) -> datetime:
    """Return the time of a callback's claims, on OneSpan's clock."""
    if callback.happened_at is None or callback.happened_at > received_at + MAX_CLOCK_AHEAD:
        return received_at
    return callback.happened_at


def _claims_about_parts(callback: Callback, at: str) -> dict[str, dict[str, object]]:
    """Return an event's claims about signers and documents.

    Without a `sessionUser`, the claims about the signer become claims about the package.
    """
    kind = event_type(callback.name)
    subject = signer(callback.session_user) if callback.session_user else PACKAGE
    of_signer: dict[str, object] = dict(kind.signer)
    if kind.by_signer and callback.session_user:
        of_signer["seen"] = True
    claimed: dict[str, dict[str, object]] = {subject: of_signer} if of_signer else {}
    match callback.name:
        case "PACKAGE_DECLINE" | "PACKAGE_OPT_OUT":
            of_signer["reason"] = callback.message
        case "KBA_FAILURE":
            of_signer[f"kba_failure {at}"] = True
        case "EMAIL_BOUNCE":
            is_away = callback.message == OUT_OF_OFFICE
            claimed[subject] = {"out_of_office": True} if is_away else {"email_bounce": callback.message or "UNKNOWN"}
        case "PACKAGE_ATTACHMENT" if callback.message:
            of_signer[f"attachment {callback.message}"] = True
        case "ROLE_REASSIGN" if new := callback.extra.get("newRoleId"):
            claimed[signer(str(new))] = {"seen": True, "reassigned": False}
        case "DOCUMENT_SIGNED" if callback.document_id:
            claimed[document(callback.document_id)] = {"seen": True, f"signed {callback.session_user or ''}": at}
    return claimed


def settled_at(updated: str | None, *, at: datetime, outranks_until: datetime | None = None) -> datetime:
    """Return the time until which a snapshot taken `at` certainly includes status changes and signatures.

    OneSpan's API may lag its own callbacks: then the package's `updated` is older than the callback, and the snapshot
    may be as old as `updated`, but no older than `MAX_LAG`. A snapshot that was taken again for this reason outranks
    the callbacks dated until `outranks_until`.
    """
    updated_at = datetime.fromisoformat(updated) if updated else at - MAX_LAG
    return min(at, max(updated_at + UPDATED_RESOLUTION, at - MAX_LAG, outranks_until or updated_at))


def snapshot_claims(snapshot: PackageSnapshot, *, at: datetime, outranks_until: datetime | None = None) -> list[Claim]:
    """Return the claims of a snapshot, one for each attribute that the snapshot includes.

    The claims are dated `at`, a time of OneSpan's clock that is not after the moment of the snapshot. Those that a
    callback may outrun are dated `settled_at`.
    """
    subjects = {PACKAGE: _claims_about_package(snapshot)}
    if snapshot.has_parts:
        subjects |= {signer(seat.signer_id): _claims_about_seat(seat, snapshot) for seat in snapshot.seats}
        subjects |= {document(item.id): _claims_about_document(item, snapshot) for item in snapshot.documents}
    read, settled = iso(at), iso(settled_at(snapshot.updated, at=at, outranks_until=outranks_until))
    return [
        Claim(subject, attribute, value, settled if may_lag(attribute, value) else read, "snapshot")
        for subject, attributes in subjects.items()
        for attribute, value in attributes.items()
    ]


def may_lag(attribute: str, value: object) -> bool:
    """Whether a value of a snapshot may be from before a callback: a status, or a signature that is not there yet."""
    is_step = attribute in MAY_BE_MISSING or attribute.startswith(("signed ", "begun "))
    return attribute in ("status", "ready") or (is_step and not value)


def _claims_about_package(snapshot: PackageSnapshot) -> dict[str, object]:
    claimed: dict[str, object] = {
        "read": True,
        "name": snapshot.name,
        "type": snapshot.type,
        "status": snapshot.status,
        "trashed": snapshot.trashed,
        "deleted": False,
        "sender_id": snapshot.sender.id,
        "sender_name": snapshot.sender.name,
        "sender_email": snapshot.sender.email,
        "created": snapshot.created,
        "updated": snapshot.updated,
        "due": snapshot.due,
        "completed": snapshot.completed,
        "ready": snapshot.ready,
        "description": snapshot.description,
        "data": snapshot.data,
        "seats": [[seat.signer_id, seat.role_id] for seat in snapshot.seats],
        "documents": [item.id for item in snapshot.documents],
        "whole": snapshot.is_whole,
        # A claim about an unknown signer ends when it holds for no known signer.
        **({} if any(seat.locked is not False for seat in snapshot.seats) else {"locked": False}),
        **(RESOLVED if snapshot.all_signed else {}),
    }
    return {name: value for name, value in claimed.items() if _is_claimed(name, value, has_parts=snapshot.has_parts)}


def _claims_about_seat(seat: Seat, snapshot: PackageSnapshot) -> dict[str, object]:
    return {
        "role_id": seat.role_id,
        **({"person": True} if seat.occupied else {}),  # an empty seat is identified by its role's id
        "order": seat.order,
        "name": seat.name,
        "email": seat.email,
        f"{FIRST}email {seat.email or ''}": True,
        "group": {"name": seat.group.name, "members": list(seat.group.members)} if seat.group else None,
        **({"asked": snapshot.status != "DRAFT"} if snapshot.status else {}),
        **({} if seat.locked is None else {"locked": seat.locked}),
        **({} if seat.owes is None else {"owes": seat.owes, "begun": seat.begun_at}),
        **({} if seat.completed is None else {"done": seat.completed, "done_at": seat.completed_at}),
        **({**RESOLVED, "has_disabled": seat.has_disabled} if seat.completed else {}),
        **_ended_by(seat.signer_id, snapshot),
        **{f"attachment {name}": True for name in seat.uploaded or ()},
        **({} if seat.attachments is None else {"requirements": _unfulfilled(seat.attachments)}),
    }


def _unfulfilled(requirements: Mapping[str, str | None]) -> dict[str, str]:
    return {name: status for name, status in requirements.items() if status in (REJECTED, MISSING)}


def _claims_about_document(item: DocumentSnapshot, snapshot: PackageSnapshot) -> dict[str, object]:
    """Return the claims about a document. Only a document that is certainly open is claimed to be not signed."""
    claimed: dict[str, object] = {"name": item.name}
    if item.signatures is None:
        return claimed
    by_role = item.signatures
    owed = [(seat.signer_id, by_role[seat.role_id]) for seat in snapshot.seats if seat.role_id in by_role]
    claimed["asked"] = [[signer_id, signature.required] for signer_id, signature in owed]
    for signer_id, signature in owed:
        claimed[f"begun {signer_id}"] = signature.begun_at
        if signature.signed_at or signature.is_open:
            claimed[f"signed {signer_id}"] = signature.signed_at
    return claimed


def _ended_by(signer_id: str, snapshot: PackageSnapshot) -> dict[str, object]:
    """Return the claims that say whether this signer declined or opted out; both false unless the status says so."""
    ended = {"DECLINED": "declined", "OPTED_OUT": "opted_out"}.get(snapshot.status or "")
    if ended is None:
        return {"declined": False, "opted_out": False}
    if snapshot.ended_by is None:
        return {}
    seat = snapshot.duties.seat_of(snapshot.ended_by.person_id, at=snapshot.ended_by.at)
    if signer_id != (seat.signer_id if seat else snapshot.ended_by.person_id):
        return {ended: False}
    return {ended: True, "reason": snapshot.ended_by.reason}


def _is_claimed(attribute: str, value: object, *, has_parts: bool) -> bool:
    """Whether a snapshot claims this value.

    In a snapshot with all parts, some missing values are None, such as a missing due date; others claim nothing.
    """
    if has_parts:
        return value is not None or attribute in CLEARED
    return attribute in ("deleted", "read", "whole") or (bool(value) and attribute not in ("seats", "documents"))
