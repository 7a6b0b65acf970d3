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
    READY_FOR_COMPLETION = "READY_FOR_COMPLETION"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"
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
class Signer:
    """A person in a role.

    `order` is the position in the signing order, from OneSpan's `index`; signers with equal numbers sign in parallel.
    `status` is a `SignerStatus`.
    `email_bounce` is BOUNCE, COMPLAINT, OOTO or UNKNOWN after an email bounced, and None once that is resolved.
    `attachments` are the names of the uploaded attachments.
    """

    id: str
    role_id: str | None = None
    name: str | None = None
    email: str | None = None
    order: int | None = None
    status: str = SignerStatus.PENDING.value
    status_at: datetime | None = None
    locked: bool = False
    email_bounce: str | None = None
    kba_failures: int = 0
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A document. `signed_by` are the ids of signers who signed it; `signed_at` is the time of the last signature."""

    id: str
    name: str | None = None
    signed_by: tuple[str, ...] = ()
    signed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """The current state of a package (a *transaction* on OneSpan's pages). Times are UTC; None means not known yet.

    `status` is OneSpan's, possibly a status that this version does not know; `status_at` is when it began.
    `trashed` and `deleted` are independent of the status. `next_signers` are the ids of the signers whose turn it is.
    `last_event_at` is OneSpan's time of the newest event, `read_at` that of the newest snapshot.
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
