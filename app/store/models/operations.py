"""The tables of what is asked of OneSpan, and of what went missing."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Id, Serial


class Read(Base):
    """A package that OneSpan is to be asked for. `due_at` is from when; while somebody asks, when their lease ends.

    `wanted_at` is when the newest reason came up: what is read from before then is not enough. `asked_at` is when a
    reconcile asked for it, which then waits for it. `rank`: 0 where a callback surprised us, 1 where a reconcile asks,
    which is served after the others. `tells` is what the snapshot will have there; `error` names what the last try
    met.
    """

    __tablename__ = "reads"

    package_id: Mapped[str] = mapped_column(Id, primary_key=True)
    reason: Mapped[str] = mapped_column(String(40))
    wanted_at: Mapped[datetime]
    asked_at: Mapped[datetime | None]
    due_at: Mapped[datetime]
    rank: Mapped[int] = mapped_column(Integer, server_default="0")
    tells: Mapped[str | None] = mapped_column(String(10))
    error: Mapped[str | None] = mapped_column(String(40))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    fence: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        Index("ix_reads_rank_due_at", "rank", "due_at"),
        Index(
            "ix_reads_error",
            "error",
            postgresql_where=text("error IS NOT NULL"),
            sqlite_where=text("error IS NOT NULL"),
        ),
    )


class ListState(Base):
    """When OneSpan's list last had a package, and when OneSpan last refused to show it.

    The last pass that met it was `pass_number`, from 0, through `folder` (its index in the run's plan) of `run_id`.
    `seen_at` is OneSpan's time of that, and `key` the name of the credentials. `refused_at`: the last 404 or 403.
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
    """One time of asking OneSpan what changed: a `reconcile`, a `sweep` or a `backfill`, for a `reason`.

    While `state` is `running`, `due_at` is when somebody may go on with it: the end of a lease, or of a wait. Its
    window goes back to `since` (null: to the beginning), and `until` is up to when all is known once it is done, both
    OneSpan's time. `progress` is where it has come to. What it did is counted, at its end what was `found` too; `error`
    is what it met last. `by` is who asked for it, where somebody did.
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
    """How many requests were made of OneSpan in a minute, by all processes."""

    __tablename__ = "requests"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    made: Mapped[int]


class Process(Base):
    """A process of ours, from its start until it was last seen; `stopped_at` where it said good-bye."""

    __tablename__ = "processes"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    takes_callbacks: Mapped[bool]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    stopped_at: Mapped[datetime | None]


class Outage(Base):
    """A time in which callbacks may have been lost, or OneSpan could not be asked; our time.

    `kind`: `down` (no process took callbacks), `refused` (neither database nor spool took one), `spooled` (the
    database was away), `unreachable` (OneSpan did not answer).
    """

    __tablename__ = "outages"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = ({"sqlite_autoincrement": True},)


class Missed(Base):
    """A fact that a reading found and no callback told within the time of grace.

    `cause`: `down`, `refused`, `never told` or `no trace`; `told_at` is when a callback told it all the same.
    """

    __tablename__ = "missed"

    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"), primary_key=True, autoincrement=False)
    package_id: Mapped[str] = mapped_column(Id)
    name: Mapped[str] = mapped_column(Id)
    happened_at: Mapped[datetime] = mapped_column(index=True)
    found_at: Mapped[datetime]
    noted_at: Mapped[datetime]
    cause: Mapped[str] = mapped_column(String(20))
    told_at: Mapped[datetime | None]

    __table_args__ = (
        *(Index(f"ix_missed_{name}_event_id", name, "event_id") for name in ("package_id", "name", "cause")),
        Index(
            "ix_missed_untold",
            "event_id",
            postgresql_where=text("told_at IS NULL"),
            sqlite_where=text("told_at IS NULL"),
        ),
        Index(
            "ix_missed_told",
            "event_id",
            postgresql_where=text("told_at IS NOT NULL"),
            sqlite_where=text("told_at IS NOT NULL"),
        ),
    )
