"""What callbacks and snapshots claim about a package, its signers and its documents. The functions are pure."""

from datetime import datetime, timedelta

from app.onespan.callbacks import Callback
from app.onespan.event_catalogue import event_type
from app.onespan.merge import PACKAGE, Claim, document, signer
from app.onespan.packages import PackageSnapshot
from app.types import iso

# How far a callback's date may be after its arrival. A later date is replaced by the time of arrival.
MAX_CLOCK_AHEAD = timedelta(minutes=15)


def callback_claims(callback: Callback, *, received_at: datetime) -> list[Claim]:
    """Return the claims of a callback.

    A callback without a date, or dated more than `MAX_CLOCK_AHEAD` after its arrival, counts as dated at its arrival.
    Otherwise a callback dated 2099 would outrank every later snapshot.
    """
    at = iso(claim_time(callback, received_at=received_at))
    kind = event_type(callback.name)
    package: dict[str, object] = {"event": True, **kind.package}
    if kind.starts:
        package |= {"created": at, **({"sender_id": callback.session_user} if callback.session_user else {})}
    if callback.name == "PACKAGE_COMPLETE":
        package["completed"] = at
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
            claimed[subject] = {"email_bounce": callback.message or "UNKNOWN"}
        case "PACKAGE_ATTACHMENT" if callback.message:
            of_signer[f"attachment {callback.message}"] = True
        case "ROLE_REASSIGN" if new := callback.extra.get("newRoleId"):
            claimed[signer(str(new))] = {"seen": True, "reassigned": False}
        case "DOCUMENT_SIGNED" if callback.document_id:
            claimed[document(callback.document_id)] = {"seen": True, f"signed {callback.session_user or ''}": at}
    return claimed


def snapshot_claims(snapshot: PackageSnapshot, *, at: datetime) -> list[Claim]:
    """Return the claims of a snapshot, one for each attribute that the snapshot includes.

    The claims are dated `at`, a time of OneSpan's clock that is not after the moment of the snapshot.
    """
    subjects: dict[str, dict[str, object]] = {
        PACKAGE: {
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
            "seats": [[seat.signer_id, seat.role_id] for seat in snapshot.seats],
            "documents": [item.id for item in snapshot.documents],
            # A claim about an unknown signer ends when it holds for no known signer.
            **({} if any(seat.locked is not False for seat in snapshot.seats) else {"locked": False}),
            **({"kba": False, "email_bounce": None} if snapshot.all_signed else {}),
        }
    }
    subjects[PACKAGE] = {
        name: value
        for name, value in subjects[PACKAGE].items()
        if _is_claimed(name, value, has_parts=snapshot.has_parts)
    }
    for seat in snapshot.seats if snapshot.has_parts else ():
        subjects[signer(seat.signer_id)] = {
            "role_id": seat.role_id,
            **({"person": True} if seat.occupied else {}),  # an empty seat is identified by its role's id
            "order": seat.order,
            "name": seat.name,
            "email": seat.email,
            **({"asked": snapshot.status != "DRAFT"} if snapshot.status else {}),
            **({} if seat.locked is None else {"locked": seat.locked}),
            **({} if seat.completed is None else {"done": seat.completed}),
            **({"kba": False, "email_bounce": None} if seat.completed else {}),
            **_ended_by(seat.signer_id, snapshot),
            **{f"attachment {name}": True for name in seat.attachments or ()},
        }
    for item in snapshot.documents if snapshot.has_parts else ():
        marks = item.signed or {}
        signed = {f"signed {seat.signer_id}": marks[seat.role_id] for seat in snapshot.seats if seat.role_id in marks}
        subjects[document(item.id)] = {"name": item.name, **signed}
    when = iso(at)
    return [
        Claim(subject, attribute, value, when, "snapshot")
        for subject, attributes in subjects.items()
        for attribute, value in attributes.items()
    ]


def _ended_by(signer_id: str, snapshot: PackageSnapshot) -> dict[str, object]:
    """Return the claims that say whether this signer declined or opted out; both false unless the status says so."""
    ended = {"DECLINED": "declined", "OPTED_OUT": "opted_out"}.get(snapshot.status or "")
    if ended is None:
        return {"declined": False, "opted_out": False}
    if snapshot.ended_by is None:
        return {}
    if snapshot.ended_by.signer_id != signer_id:
        return {ended: False}
    return {ended: True, "reason": snapshot.ended_by.reason}


def _is_claimed(attribute: str, value: object, *, has_parts: bool) -> bool:
    """Whether a snapshot claims this value.

    In a snapshot with all parts, a missing due date or completion time claims None; other missing values claim nothing.
    """
    if has_parts:
        return value is not None or attribute in ("due", "completed", "email_bounce")
    return attribute == "deleted" or (bool(value) and attribute not in ("seats", "documents"))
