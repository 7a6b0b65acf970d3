"""What we believe of a package, as immutable values. The JSON API, the pages and the handlers all show these."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """A fact about a package, as handlers get it.

    `key` is the same for every run of one handler for one fact: hand it to whatever must not happen twice.
    `source`: `callback` or `reconcile`, how we know. `session_user` is who caused it in OneSpan, sender or signer;
    `signer_id` is the same where OneSpan's documentation says that it is a signer, by their own id or by their role's.
    `extra` holds what else the callback carried (`newRoleId`, `phone`, ...). Times are UTC.
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
    """Who sent the package."""

    id: str | None = None
    name: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Attention:
    """A reason the sender must act on, open since `since`.

    `who` is the signer's id (the handler's name for `PARKED_HANDLER`), None where nobody in particular is meant;
    `detail` is what we were told besides: the kind of bounce, the reason for declining, the handler's error.
    """

    reason: str
    since: datetime | None
    who: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Signer:
    """A person in a seat. `order` is their place in the signing order, from OneSpan's `index`; equal ones sign at once.

    `status`: PENDING, COMPLETED, LOCKED, DECLINED, OPTED_OUT or REASSIGNED.
    `email_bounce`: BOUNCE, COMPLAINT, OOTO or UNKNOWN once an e-mail to them came back, until it is seen solved.
    `attachments`: names of what they uploaded.
    """

    id: str
    role_id: str | None = None
    name: str | None = None
    email: str | None = None
    order: int | None = None
    status: str = "PENDING"
    status_at: datetime | None = None
    locked: bool = False
    email_bounce: str | None = None
    kba_failures: int = 0
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A document; `signed_by` are ids of signers, `signed_at` is the last time one of them signed it."""

    id: str
    name: str | None = None
    signed_by: tuple[str, ...] = ()
    signed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """A package (a *transaction* in OneSpan's pages) as we believe it to be. Times are UTC; None: not known yet.

    `status` is one of OneSpan's, or a newer one this version has not heard of; `status_at` since when.
    `trashed` and `deleted` stand beside the status. `next_signers`: ids of those whose turn it is.
    `last_event_at`: OneSpan's time of the newest event; `read_at`: of the newest reading through the REST API.
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
