"""The tables of counters and search texts, which are derived from the other tables."""

from datetime import date

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Id


class PackageCount(Base):
    """The number of packages with certain flags, type and status. An unknown type or status is an empty string."""

    __tablename__ = "package_counts"

    trashed: Mapped[bool] = mapped_column(primary_key=True)
    deleted: Mapped[bool] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(String(40), primary_key=True)
    status: Mapped[str] = mapped_column(String(80), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class CallbackCount(Base):
    """The number of digested callbacks that were received in one minute. Minutes are counted from 1970 (UTC)."""

    __tablename__ = "callback_counts"

    minute: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class EventCount(Base):
    """The number of events with one name and source that happened on one day (UTC).

    An event that reconcile found and a callback confirmed later counts as reported by a callback.
    """

    __tablename__ = "event_counts"

    day: Mapped[date] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Id, primary_key=True)
    source: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class MissedCount(Base):
    """The number of missed events with one name and cause that happened on one day (UTC)."""

    __tablename__ = "missed_counts"

    day: Mapped[date] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Id, primary_key=True)
    cause: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class Search(Base):
    """The folded text by which a search finds a package. See `app.store.search`.

    On PostgreSQL the table has a trigram index, `ix_searches_text`, which the migration creates if `pg_trgm` may be
    installed. SQLite keeps the rows in the order of the ids, so that the rows it finds are already sorted.
    """

    __tablename__ = "searches"

    package_id: Mapped[str] = mapped_column(Id, primary_key=True)
    text: Mapped[str] = mapped_column(Text)

    __table_args__ = ({"sqlite_with_rowid": False},)
