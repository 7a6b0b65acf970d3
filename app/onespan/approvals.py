"""What a seat owes, from the approvals of the documents. The functions are pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Approval:
    """One signature block of a role in a document. Times are ISO 8601 texts in UTC.

    `accepted` is when the signer clicked the block, `signed` when the signer confirmed the document (OneSpan community,
    comment 137076). `needs_confirmation` says that the block has a signature field. Without a signature field,
    `accepted` alone is the signature: OneSpan's SDK tests expect no more of documents that are only accepted.
    """

    role_id: str
    signed: str | None
    accepted: str | None
    required: bool
    needs_confirmation: bool


@dataclass(frozen=True, slots=True)
class SeatSignature:
    """What a seat owes to one document, as a snapshot shows it.

    `begun_at` is the time of the first click, `signed_at` that of the signature. `is_open` says that the snapshot shows
    that the document is not signed: a required block was not even clicked.
    """

    begun_at: str | None
    signed_at: str | None
    required: bool
    is_open: bool


def seat_signature(approvals: Sequence[Approval], *, is_complete: bool) -> SeatSignature:
    """Return what a seat owes to a document with these approvals. `is_complete` says that the package is complete.

    In a complete package a click counts as a signature, and no signature is open any more.
    """
    signed = [signed_at(approval, is_complete=is_complete) for approval in approvals]
    begun = [at for approval in approvals if (at := approval.accepted or approval.signed)]
    required = [approval for approval in approvals if approval.required]
    missing = [approval for approval in required if not signed_at(approval, is_complete=is_complete)]
    ended = None if missing else max(filter(None, signed), default=None)
    is_open = not is_complete and any(not approval.accepted for approval in missing)
    return SeatSignature(min(begun, default=None), ended, bool(required), is_open=is_open)


def signed_at(approval: Approval, *, is_complete: bool) -> str | None:
    """Return when a block was signed; None if it was not signed, or only clicked."""
    counts = is_complete or not approval.needs_confirmation
    return approval.signed or (approval.accepted if counts else None)


def is_seat_complete(signatures: Iterable[SeatSignature], *, is_complete: bool) -> bool | None:
    """Return whether a seat has signed all that it owes; None if a snapshot cannot tell.

    A signer with only optional signatures may finish without signing (OneSpan's guide to optional signatures), and a
    click is not yet a signature.
    """
    found = list(signatures)
    if any(signature.is_open for signature in found):
        return False
    required = [signature for signature in found if signature.required]
    signed = [signature.signed_at is not None for signature in required or found]
    if all(signed) or (is_complete and not required and any(signed)):
        return True if signed else None
    return None
