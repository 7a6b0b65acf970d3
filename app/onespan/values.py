"""The current state of a package, as immutable values. The JSON API, the pages and the handlers use them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class SignerStatus(StrEnum):
    """The progress of a signer. A locked signer cannot sign until the sender unlocks the signer."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    LOCKED = "LOCKED"
    DECLINED = "DECLINED"
    OPTED_OUT = "OPTED_OUT"
    REASSIGNED = "REASSIGNED"


OPEN_SIGNER_STATUSES = (SignerStatus.PENDING, SignerStatus.LOCKED)  # the statuses of signers who still have to sign


class AttentionReason(StrEnum):
    """The reasons why a package needs a person to act, in the order of lists."""

    SIGNER_LOCKED = "SIGNER_LOCKED"
    KBA_FAILURE = "KBA_FAILURE"
    EMAIL_BOUNCE = "EMAIL_BOUNCE"
    ATTACHMENT_REJECTED = "ATTACHMENT_REJECTED"
    ATTACHMENT_MISSING = "ATTACHMENT_MISSING"
    READY_FOR_COMPLETION = "READY_FOR_COMPLETION"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"
    OUT_OF_OFFICE = "OUT_OF_OFFICE"
    PARKED_HANDLER = "PARKED_HANDLER"


@dataclass(frozen=True, slots=True)
class Event:
    """A fact about a package, as handlers receive it.

    `key` is the same for every run of one handler for one event; use it as an idempotency key.
    `source` says how the event became known: `callback` or `reconcile`.
    `session_user` is the id of the sender or signer who caused the event in OneSpan. `signer_id` is the same id, if
    OneSpan's documentation says that the id names a signer; the id may be that of the signer or of the role.
    `extra` holds further members of the callback, such as `newRoleId` or `phone`. Times are UTC.
    """

    id: int
    name: str
    package_id: str
    signer_id: str | None
    document_id: str | None
    message: str | None
    happened_at: datetime
    source: str
    key: str
    session_user: str | None
    extra: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of a package."""

    id: str | None = None
    name: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Attention:
    """A reason why a package needs the sender's attention, open since `since`.

    `who` is the signer's id, or the handler's name for `PARKED_HANDLER`; None if no particular signer is concerned.
    `detail` is the kind of bounce, the reason for declining, or the handler's error.
    """

    reason: str
    since: datetime | None
    who: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A group that signs as one: any member may sign for it. `members` are the ids of persons."""

    name: str | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Signer:
    """A person or a group in a role.

    `order` is the position in the signing order, from OneSpan's `index`; signers with equal numbers sign in parallel.
    `status` is a `SignerStatus`; None if the package asks this person for no signature, and then `owes` is false.
    `begun_at` is when the signer accepted or signed the first signature. `group` is set if the signer is a group.
    `email_bounce` is BOUNCE, COMPLAINT, OOTO or UNKNOWN after an email bounced, and None once that is resolved.
    `attachments` are the names of the uploaded attachments.
    """

    id: str
    role_id: str | None = None
    name: str | None = None
    email: str | None = None
    order: int | None = None
    status: str | None = SignerStatus.PENDING.value
    status_at: datetime | None = None
    locked: bool = False
    email_bounce: str | None = None
    kba_failures: int = 0
    attachments: tuple[str, ...] = ()
    owes: bool = True
    begun_at: datetime | None = None
    group: Group | None = None


class SignatureState(StrEnum):
    """How far a signer is with one document. A signer who has accepted but not confirmed it has *begun*."""

    OPEN = "OPEN"
    BEGUN = "BEGUN"
    SIGNED = "SIGNED"


@dataclass(frozen=True, slots=True)
class Signature:
    """What one signer owes to one document. `state` is a `SignatureState`, `at` when it began.

    `required` is false if all signatures of this signer in the document are optional.
    """

    signer_id: str
    state: str = SignatureState.OPEN.value
    at: datetime | None = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Document:
    """A document. `signed_by` are the ids of signers who signed it; `signed_at` is the time of the last signature.

    `signatures` has an entry for each signer who is asked to sign the document, and for each who signed it.
    """

    id: str
    name: str | None = None
    signed_by: tuple[str, ...] = ()
    signed_at: datetime | None = None
    signatures: tuple[Signature, ...] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """The ids of the signers who are asked to sign the document, or who signed it."""
        return tuple(signature.signer_id for signature in self.signatures)


@dataclass(frozen=True, slots=True)
class Unverified:
    """Since when OneSpan does not show a package to the configured credentials, and why."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Package:
    """The current state of a package (a *transaction* on OneSpan's pages). Times are UTC; None means not known yet.

    `status` is OneSpan's, possibly a status that this version does not know; `status_at` is when it began.
    `trashed` and `deleted` are independent of the status. `next_signers` are the ids of the signers whose turn it is.
    `last_event_at` is OneSpan's time of the newest event, `read_at` that of the newest snapshot. `data` are the
    attributes that the sender gave the package in OneSpan. `unverified` is set while OneSpan does not show it.
    """

    id: str
    name: str | None = None
    type: str | None = None
    status: str | None = None
    status_at: datetime | None = None
    trashed: bool = False
    deleted: bool = False
    sender: Sender = Sender()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    due_at: datetime | None = None
    completed_at: datetime | None = None
    signers_total: int = 0
    signers_completed: int = 0
    attention: tuple[Attention, ...] = ()
    documents: tuple[Document, ...] = ()
    signers: tuple[Signer, ...] = ()
    next_signers: tuple[str, ...] = ()
    last_event_at: datetime | None = None
    read_at: datetime | None = None
    description: str | None = None
    data: Mapping[str, object] | None = None
    unverified: Unverified | None = None
