"""The rules that decide which callbacks require a fetch from OneSpan. The functions are pure.

A fetch is needed after a callback that contradicts the stored state, or that does not describe the whole change.
"""

from collections.abc import Callable, Mapping

from app.onespan.callbacks import Callback
from app.onespan.event_catalogue import event_type
from app.onespan.lifecycle import TRANSITIONS
from app.onespan.values import OPEN_SIGNER_STATUSES, Package

CONSENT = "default-consent"
# Events that need a fetch unless this condition holds: then the callback describes the whole change.
SELF_CONTAINED: Mapping[str, Callable[[Callback, Package | None], bool]] = {
    "PACKAGE_ATTACHMENT": lambda callback, _: bool(callback.message),
    "PACKAGE_RESTORE": lambda _, before: bool(before and before.trashed),
}


def fetch_reason(callback: Callback, *, before: Package | None, after: Package, late: bool = False) -> str | None:
    """Return a short reason why the package must be fetched after this callback; None if no fetch is needed.

    `before` and `after` are the package before and after the callback. `late` says that the callback changed a
    value although a newer snapshot or list page had already shown the package.
    """
    reasons = {
        "unknown": before is None or before.read_at is None,
        "structure": event_type(callback.name).needs_fetch and not _is_self_contained(callback, before),
        "step": _is_unexpected_status(callback, before, after),
        "signer": not _is_known_signer(callback, before) or _adds_signer(before, after),
        "document": not _is_known_document(callback, before),
        "late": late,
        "open signers": after.status == "COMPLETED"
        and any(signer.status in OPEN_SIGNER_STATUSES for signer in after.signers),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _is_self_contained(callback: Callback, before: Package | None) -> bool:
    condition = SELF_CONTAINED.get(callback.name)
    return condition is not None and condition(callback, before)


def _is_unexpected_status(callback: Callback, before: Package | None, after: Package) -> bool:
    """Whether the callback's status cannot follow the stored status, or loses against a newer claim."""
    claimed = event_type(callback.name).package.get("status")
    if not isinstance(claimed, str):
        return False
    stored = (before.status or "") if before else ""
    if claimed == stored:
        return bool(before and before.status_at == after.status_at and callback.happened_at != after.status_at)
    if claimed != after.status:
        return True
    return TRANSITIONS.get((stored, claimed), "") != callback.name


def _is_known_signer(callback: Callback, package: Package | None) -> bool:
    user = callback.session_user if event_type(callback.name).by_signer else None
    signers = package.signers if package else ()
    return user is None or any(user in (signer.id, signer.role_id) for signer in signers)


def _adds_signer(before: Package | None, after: Package) -> bool:
    """Whether the callback added a signer who was not known before."""
    known = {signer.id for signer in before.signers} if before else set()
    return bool({signer.id for signer in after.signers} - known)


def _is_known_document(callback: Callback, package: Package | None) -> bool:
    documents = package.documents if package else ()
    return callback.document_id in (None, CONSENT, *(document.id for document in documents))
