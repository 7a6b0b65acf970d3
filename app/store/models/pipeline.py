"""The tables of the data flow: journal, events, the status store, changes, dispatches."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Id, Label, Serial
from app.store.states import DispatchState, EventSource, JournalKind, literal


def _where(condition: str) -> dict[str, Any]:
    """Return the options of a partial index, for both databases."""
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


def _where_true(flag: str) -> dict[str, Any]:
    """Return the options of a partial index of rows with a set flag, as SQLAlchemy renders flags on each database."""
    return {"postgresql_where": text(f"{flag} IS true"), "sqlite_where": text(f"{flag} IS 1")}


SORT_COLUMNS = ("updated_at", "created_at", "due_at", "status_at", "sort_name")


class Journal(Base):
    """Callbacks and snapshots as received, in order of arrival. Rows are only added; `kind` is a `JournalKind`.

    A snapshot shows all changes up to `read_at` by OneSpan's clock and none after `answered_at`. `key` is the
    label of the callback key, or the name of the credentials that read the snapshot. `emit` is an `Emit`. `state` is
    a `JournalState`; `digested_at` is null while the row is pending, and `error` says why a row has no effect.
    `clock_offset` are the seconds by which OneSpan's clock was ahead when the row was digested. `lag_fetches` counts
    the fetches since the snapshot of `lagged_at`, which showed less than an earlier callback.
    """

    __tablename__ = "journal"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    received_at: Mapped[datetime]
    read_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    key: Mapped[str | None] = mapped_column(String(40))
    package_id: Mapped[str | None] = mapped_column(Id)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    emit: Mapped[str] = mapped_column(String(10))
    spool_id: Mapped[str | None] = mapped_column(String(40), unique=True)
    state: Mapped[str] = mapped_column(String(10))
    error: Mapped[str | None] = mapped_column(Text)
    digested_at: Mapped[datetime | None]
    event_id: Mapped[int | None] = mapped_column(ForeignKey("events.id"), index=True)
    clock_offset: Mapped[float | None]
    lag_fetches: Mapped[int] = mapped_column(Integer, server_default="0")
    lagged_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_journal_pending", "id", **_where("state = 'pending'")),
        Index("ix_journal_package_id_id", "package_id", "id"),
        Index("ix_journal_callbacks", "id", **_where("kind = 'callback'")),
        Index("ix_journal_callbacks_key", "key", "id", **_where("kind = 'callback'")),
        Index("ix_journal_callbacks_error", "id", **_where("kind = 'callback' AND error IS NOT NULL")),
        Index("ix_journal_snapshots", "id", **_where("kind <> 'callback'")),
        {"sqlite_autoincrement": True},
    )


class Event(Base):
    """One fact about a package, stored once. `repeats` counts the callbacks that reported the fact again.

    An event that a snapshot showed (`source` is `reconcile`) happened after `found_after` and not after `found_until`.
    `confirmation` is the fingerprint of the callback that reported the event later; if that callback has a date, the
    two times then include only this date.
    """

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    fingerprint: Mapped[str] = mapped_column(
        String(100, collation="C").with_variant(String(100), "sqlite"), unique=True
    )
    name: Mapped[str] = mapped_column(Id)
    package_id: Mapped[str] = mapped_column(Id)
    session_user: Mapped[str | None] = mapped_column(Id)
    signer_id: Mapped[str | None] = mapped_column(Id)
    document_id: Mapped[str | None] = mapped_column(Id)
    message: Mapped[str | None] = mapped_column(Text)
    extra: Mapped[dict[str, Any]]
    happened_at: Mapped[datetime]
    first_received_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(String(10))
    repeats: Mapped[int] = mapped_column(Integer, server_default="0")
    found_after: Mapped[datetime | None]
    found_until: Mapped[datetime | None]
    confirmation: Mapped[str | None] = mapped_column(String(100, collation="C").with_variant(String(100), "sqlite"))

    __table_args__ = (
        Index("ix_events_confirmation", "confirmation", unique=True),
        Index("ix_events_package_id_id", "package_id", "id"),
        Index("ix_events_name_id", "name", "id"),
        Index("ix_events_happened_at_name", "happened_at", "name"),
        Index("ix_events_found", "first_received_at", **_where("source = 'reconcile'")),
        Index("ix_events_found_id", "id", **_where("source = 'reconcile'")),
        Index("ix_events_found_name_id", "name", "id", **_where("source = 'reconcile'")),
    )


class Package(Base):
    """A package as projected. `claims` contains the merged claims of callbacks and snapshots about the package.

    `sort_name` is the folded name, which both databases sort in the same order. `projection_version` is the version of
    the code that derived the row, or 0 if the row must be derived again. `unverified_since` is set while OneSpan does
    not show the package.
    """

    __tablename__ = "packages"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str | None] = mapped_column(Text)
    type: Mapped[str | None] = mapped_column(String(40))
    status: Mapped[str | None] = mapped_column(String(80))
    status_at: Mapped[datetime | None]
    trashed: Mapped[bool]
    deleted: Mapped[bool]
    sender_id: Mapped[str | None] = mapped_column(Id)
    sender_name: Mapped[str | None] = mapped_column(Text)
    sender_email: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime | None]
    updated_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    signers_total: Mapped[int]
    signers_completed: Mapped[int]
    next_signers: Mapped[list[Any]]
    last_event_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    sort_name: Mapped[str] = mapped_column(Label)
    claims: Mapped[dict[str, Any]]
    description: Mapped[str | None] = mapped_column(Text)
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    unverified_since: Mapped[datetime | None]
    unverified_reason: Mapped[str | None] = mapped_column(String(40))
    projection_version: Mapped[int] = mapped_column(Integer, server_default="1")

    __table_args__ = (
        *(Index(f"ix_packages_{name}_id", name, "id") for name in SORT_COLUMNS if name != "updated_at"),
        # This index filters by creation time in the order of updates, without a lookup of each package.
        Index("ix_packages_updated_at_id_created_at", "updated_at", "id", "created_at"),
        *(Index(f"ix_packages_status_{name}_id", "status", name, "id") for name in SORT_COLUMNS),
        Index("ix_packages_type_updated_at_id", "type", "updated_at", "id"),
        *(Index(f"ix_packages_{name}", "updated_at", "id", **_where_true(name)) for name in ("trashed", "deleted")),
        Index("ix_packages_unverified", "updated_at", "id", **_where("unverified_since IS NOT NULL")),
        Index("ix_packages_projection_version_id", "projection_version", "id"),
    )


class Signer(Base):
    """A signer of a package. `id` is unique within the package, and `address` is the email address in lower case.

    `status` is null if the package asks the person for no signature.
    """

    __tablename__ = "signers"

    package_id: Mapped[str] = mapped_column(Id, ForeignKey("packages.id"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    role_id: Mapped[str | None] = mapped_column(Id)
    name: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    order: Mapped[int | None]
    status: Mapped[str | None] = mapped_column(String(20))
    status_at: Mapped[datetime | None]
    locked: Mapped[bool]
    email_bounce: Mapped[str | None] = mapped_column(Text)
    kba_failures: Mapped[int]
    attachments: Mapped[list[Any]]
    address: Mapped[str | None] = mapped_column(Label)
    owes: Mapped[bool] = mapped_column(server_default=true())
    begun_at: Mapped[datetime | None]
    group: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (
        Index("ix_signers_id_package_id", "id", "package_id"),
        Index("ix_signers_address_package_id", "address", "package_id"),
    )


class Document(Base):
    """A document of a package. `id` is unique within the package, and `position` its place in the package."""

    __tablename__ = "documents"

    package_id: Mapped[str] = mapped_column(Id, ForeignKey("packages.id"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    position: Mapped[int]
    name: Mapped[str | None] = mapped_column(Text)
    signed_by: Mapped[list[Any]]
    signed_at: Mapped[datetime | None]
    signatures: Mapped[list[Any] | None] = mapped_column(JSON)


class Attention(Base):
    """An open reason why a package needs attention. Parked dispatches are also a reason, but stay in `dispatches`."""

    __tablename__ = "attention"

    package_id: Mapped[str] = mapped_column(Id, ForeignKey("packages.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reason: Mapped[str] = mapped_column(String(40))
    since: Mapped[datetime | None]
    who: Mapped[str | None] = mapped_column(Id)
    detail: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("ix_attention_reason_package_id", "reason", "package_id"),
        Index("ix_attention_reason_since", "reason", "since", "package_id", "position"),
    )


class Change(Base):
    """One change of one attribute: old value, new value and cause. Ids grow in the order of commits."""

    __tablename__ = "changes"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    package_id: Mapped[str] = mapped_column(Id)
    subject: Mapped[str] = mapped_column(Text)
    attribute: Mapped[str] = mapped_column(String(80))
    old: Mapped[Any] = mapped_column(JSON, nullable=True)
    new: Mapped[Any] = mapped_column(JSON, nullable=True)
    happened_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    cause_kind: Mapped[str] = mapped_column(String(20))
    cause_id: Mapped[str] = mapped_column(Id)

    __table_args__ = (Index("ix_changes_package_id_id", "package_id", "id"), {"sqlite_autoincrement": True})


# Conditions use these values as SQL literals, because partial indexes do not match parameters.
DUE = literal(DispatchState.DUE)
RUNNING = literal(DispatchState.RUNNING)
PARKED = literal(DispatchState.PARKED)
SOURCE_RECONCILE = literal(EventSource.RECONCILE)
KIND_CALLBACK = literal(JournalKind.CALLBACK)


class Dispatch(Base):
    """One run of one handler for one event; `state` is a `DispatchState`.

    `due_at` is when the run may start or, while it runs, when its lease ends. `fence` grows whenever a run is taken,
    ended or replayed, so that a process that lost its lease cannot store a result.
    """

    __tablename__ = "dispatches"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"))
    package_id: Mapped[str] = mapped_column(Id)
    handler: Mapped[str] = mapped_column(Id)
    state: Mapped[str] = mapped_column(String(10))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    fence: Mapped[int] = mapped_column(Integer, server_default="0")
    due_at: Mapped[datetime]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("event_id", "handler"),
        Index("ix_dispatches_due", "handler", "due_at", **_where("state IN ('due', 'running')")),
        Index("ix_dispatches_parked", "package_id", **_where("state = 'parked'")),
        Index("ix_dispatches_parked_since", "finished_at", "package_id", **_where("state = 'parked'")),
        Index("ix_dispatches_state_event_id_id", "state", "event_id", "id"),
        Index("ix_dispatches_handler_event_id_id", "handler", "event_id", "id"),
        Index("ix_dispatches_handler_state_event_id", "handler", "state", "event_id"),
        {"sqlite_autoincrement": True},
    )
