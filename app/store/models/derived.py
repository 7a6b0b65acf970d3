"""Counters and search texts: both follow from the other tables."""

from datetime import date

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Id


class PackageCount(Base):
    """How many packages have these flags, this type and this status; an unknown type or status is empty."""

    __tablename__ = "package_counts"

    trashed: Mapped[bool] = mapped_column(primary_key=True)
    deleted: Mapped[bool] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(String(40), primary_key=True)
    status: Mapped[str] = mapped_column(String(80), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class CallbackCount(Base):
    """How many digested callbacks were received in a minute, which is counted from 1970 (UTC)."""

    __tablename__ = "callback_counts"

    minute: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class EventCount(Base):
    """How many events of a name happened on a day (UTC), by their source.

    One that reconcile found and a callback confirmed later counts as reported by a callback.
    """

    __tablename__ = "event_counts"

    day: Mapped[date] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Id, primary_key=True)
    source: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class MissedCount(Base):
    """How many events of a name that happened on a day (UTC) are missed, by cause."""

    __tablename__ = "missed_counts"

    day: Mapped[date] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Id, primary_key=True)
    cause: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class Search(Base):
    """The folded text that a package is found by. See `app.store.search`.

    On PostgreSQL a trigram index belongs to it, `ix_searches_text`, which the migration creates where `pg_trgm` may be
    installed. SQLite keeps the rows in the order of the ids, so that those it finds are sorted already.
    """

    __tablename__ = "searches"

    package_id: Mapped[str] = mapped_column(Id, primary_key=True)
    text: Mapped[str] = mapped_column(Text)

    __table_args__ = ({"sqlite_with_rowid": False},)
