"""The tables of reconcile and operation: fetches, list state, runs, requests, processes, outages, missed events."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Id, Serial


class Fetch(Base):
    """A package to be fetched, and the reason.

    `due_at` is when the fetch may start or, while `process` fetches it, when its lease ends. `wanted_at` is the time of
    the newest reason; an older snapshot does not satisfy the fetch. `asked_at` is when a reconcile run, which waits for
    the fetch, enqueued it. `rank` is 0 for fetches after callbacks and 1 for fetches for reconcile, which come later.
    `emit` is copied to the snapshot, and `error` names the error of the last attempt. `lag_fetches` counts the fetches
    since the snapshot of `lagged_at`, which showed less than an earlier callback; both are copied to the snapshot too.
    """

    __tablename__ = "fetches"

    package_id: Mapped[str] = mapped_column(Id, primary_key=True)
    reason: Mapped[str] = mapped_column(String(40))
    wanted_at: Mapped[datetime]
    asked_at: Mapped[datetime | None]
    due_at: Mapped[datetime]
    rank: Mapped[int] = mapped_column(Integer, server_default="0")
    emit: Mapped[str] = mapped_column(String(10))
    error: Mapped[str | None] = mapped_column(String(40))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    fence: Mapped[int] = mapped_column(Integer, server_default="0")
    lag_fetches: Mapped[int] = mapped_column(Integer, server_default="0")
    lagged_at: Mapped[datetime | None]
    process: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("ix_fetches_rank_due_at", "rank", "due_at"),
        Index(
            "ix_fetches_error",
            "error",
            postgresql_where=text("error IS NOT NULL"),
            sqlite_where=text("error IS NOT NULL"),
        ),
        Index(
            "ix_fetches_process",
            "process",
            postgresql_where=text("process IS NOT NULL"),
            sqlite_where=text("process IS NOT NULL"),
        ),
    )


class ListState(Base):
    """When OneSpan's list last contained a package, and when OneSpan last refused to show the package.

    The last pass that met the package had the number `pass_number`, from 0. The run `run_id` made this pass through the
    folder with the index `folder` in its plan, at OneSpan's time `seen_at`, with the credentials named `key`.
    `refused_at` is OneSpan's time of the last 404 or 403.
    """

    __tablename__ = "list_state"

    package_id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(BigInteger, server_default="0")
    folder: Mapped[int] = mapped_column(Integer, server_default="0")
    pass_number: Mapped[int] = mapped_column(Integer, server_default="0")
    seen_at: Mapped[datetime | None]
    key: Mapped[str | None] = mapped_column(String(40))
    refused_at: Mapped[datetime | None]


class Run(Base):
    """One reconcile run; `kind` is a `RunKind`, `state` a `RunState`.

    While the run is running, a process may continue it at `due_at`, the end of a lease or of a pause. The run's window
    begins at `since` (null: no limit). Once the run is done, all changes up to `until` are known. `since` and `until`
    are OneSpan's times. `progress` is the run's position, and `error` is its last error. `found` is counted when the
    run ends. `by` is the person who started the run by hand.
    """

    __tablename__ = "reconciles"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(10))
    fires: Mapped[bool]
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    began_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    due_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    fence: Mapped[int] = mapped_column(Integer, server_default="0")
    process: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    by: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[dict[str, Any]]
    requests: Mapped[int] = mapped_column(Integer, server_default="0")
    shown: Mapped[int] = mapped_column(Integer, server_default="0")
    changed: Mapped[int] = mapped_column(Integer, server_default="0")
    asked: Mapped[int] = mapped_column(Integer, server_default="0")
    unreadable: Mapped[int] = mapped_column(Integer, server_default="0")
    found: Mapped[int | None]

    __table_args__ = (
        Index(
            "uq_reconciles_running",
            "state",
            unique=True,
            postgresql_where=text("state = 'running'"),
            sqlite_where=text("state = 'running'"),
        ),
        {"sqlite_autoincrement": True},
    )


class Request(Base):
    """The number of requests that all processes together sent to OneSpan in one minute."""

    __tablename__ = "requests"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    made: Mapped[int]


class OneSpanAccess(Base):
    """Whether OneSpan accepts this service's requests: one row, whose `id` is 1.

    `key` names the credentials. OneSpan last accepted or refused them at `checked_at`, and has refused them since
    `refused_since` because of `error`. The next check is due at `due_at`, unless an earlier request shows the answer.
    """

    __tablename__ = "onespan_access"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(String(40))
    checked_at: Mapped[datetime | None]
    due_at: Mapped[datetime]
    refused_since: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)


class MisdirectedCallback(Base):
    """The number of POST requests with a valid callback key to a path that is not the receiver's, and the last time."""

    __tablename__ = "misdirected_callbacks"

    path: Mapped[str] = mapped_column(String(200), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    last_at: Mapped[datetime]


class Process(Base):
    """A process of this service, whose code has this `projection_version`.

    `seen_at` is its last heartbeat; `stopped_at` is set when it shuts down normally.
    """

    __tablename__ = "processes"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    takes_callbacks: Mapped[bool]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    stopped_at: Mapped[datetime | None]
    projection_version: Mapped[int] = mapped_column(Integer, server_default="1")


class OneSpanClock(Base):
    """The newest measurement of OneSpan's clock, in one row. `offset_seconds` is positive if that clock is ahead."""

    __tablename__ = "onespan_clock"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    offset_seconds: Mapped[float]
    measured_at: Mapped[datetime]


class Outage(Base):
    """A period, by this service's clock, in which callbacks may have been lost or OneSpan was unreachable.

    `kind` is an `OutageKind`.
    """

    __tablename__ = "outages"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = ({"sqlite_autoincrement": True},)


class Missed(Base):
    """An event that reconcile found and no callback reported within the grace period.

    `cause` is a `MissedCause`. `reported_at` is when a callback reported the event late.
    """

    __tablename__ = "missed"

    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), primary_key=True, autoincrement=False)
    package_id: Mapped[str] = mapped_column(Id)
    name: Mapped[str] = mapped_column(Id)
    happened_at: Mapped[datetime] = mapped_column(index=True)
    found_at: Mapped[datetime]
    noted_at: Mapped[datetime]
    cause: Mapped[str] = mapped_column(String(20))
    reported_at: Mapped[datetime | None]

    __table_args__ = (
        *(Index(f"ix_missed_{name}_event_id", name, "event_id") for name in ("package_id", "name", "cause")),
        Index(
            "ix_missed_unreported",
            "event_id",
            postgresql_where=text("reported_at IS NULL"),
            sqlite_where=text("reported_at IS NULL"),
        ),
        Index(
            "ix_missed_reported",
            "event_id",
            postgresql_where=text("reported_at IS NOT NULL"),
            sqlite_where=text("reported_at IS NOT NULL"),
        ),
    )
