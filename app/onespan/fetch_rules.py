"""What makes us ask OneSpan: a callback that does not fit what we know, or that tells less than we need. Pure."""

from collections.abc import Callable, Mapping

from app.onespan.callbacks import Callback
from app.onespan.catalogue import event_type
from app.onespan.lifecycle import STEPS
from app.onespan.values import Package

CONSENT = "default-consent"
WAITING = ("PENDING", "LOCKED")
# Structural events that need no asking where this holds: then the callback has told all that a reading would show.
TELLS_ALL: Mapping[str, Callable[[Callback, Package | None], bool]] = {
    "PACKAGE_ATTACHMENT": lambda callback, _: bool(callback.message),
    "PACKAGE_RESTORE": lambda _, before: bool(before and before.trashed),
}


def surprise(callback: Callback, *, before: Package | None, after: Package, late: bool = False) -> str | None:
    """Why a callback wants its package to be read, in one word; None where it told all there is.

    `before` and `after` are the package as it was believed to be before and after the callback. `late`: it changed
    what OneSpan has shown since, when this had happened already.
    """
    reasons = {
        "unknown": before is None or before.read_at is None,
        "structure": event_type(callback.name).surprises and not _tells_all(callback, before),
        "step": _is_no_step(callback, before, after),
        "signer": not _knows_signer(callback, before) or _brings_somebody(before, after),
        "document": not _knows_document(callback, before),
        "late": late,
        "open signers": after.status == "COMPLETED" and any(one.status in WAITING for one in after.signers),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _tells_all(callback: Callback, before: Package | None) -> bool:
    holds = TELLS_ALL.get(callback.name)
    return holds is not None and holds(callback, before)


def _is_no_step(callback: Callback, before: Package | None, after: Package) -> bool:
    """A status that cannot come after the one we knew, or one that is older than what we have read since."""
    arrived = event_type(callback.name).package.get("status")
    if not isinstance(arrived, str):
        return False
    known = (before.status or "") if before else ""
    if arrived == known:
        return bool(before and before.status_at == after.status_at and callback.happened_at != after.status_at)
    if arrived != after.status:
        return True
    return STEPS.get((known, arrived), "") != callback.name


def _knows_signer(callback: Callback, package: Package | None) -> bool:
    who = callback.session_user if event_type(callback.name).by_signer else None
    return who is None or any(who in (one.id, one.role_id) for one in (package.signers if package else ()))


def _brings_somebody(before: Package | None, after: Package) -> bool:
    """Whether somebody is a signer now of whom nobody knew."""
    return bool({one.id for one in after.signers} - {one.id for one in (before.signers if before else ())})


def _knows_document(callback: Callback, package: Package | None) -> bool:
    documents = package.documents if package else ()
    return callback.document_id in (None, CONSENT, *(one.id for one in documents))
