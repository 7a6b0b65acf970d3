"""What lists are counted and searched by. All of it follows from the other tables."""

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Id, Label


class Tally(Base):
    """How many there are of something: of a `kind`, those that `key` says. See `app.store.counters`."""

    __tablename__ = "tallies"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    key: Mapped[str] = mapped_column(Label, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class Search(Base):
    """All the text that a package is found by, folded. See `app.store.search`.

    On PostgreSQL a trigram index belongs to it, `ix_searches_text`, which the migration creates where `pg_trgm` may be
    installed. SQLite keeps the rows in the order of the ids, so that those it finds are sorted already.
    """

    __tablename__ = "searches"

    package_id: Mapped[str] = mapped_column(Id, primary_key=True)
    text: Mapped[str] = mapped_column(Text)

    __table_args__ = ({"sqlite_with_rowid": False},)
