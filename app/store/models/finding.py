"""What lists are found and counted by. All of it follows from the other tables."""

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Id, Label, Serial


class Tally(Base):
    """How many there are of something: of a `kind`, those that `key` says. See `app.store.tallies`."""

    __tablename__ = "tallies"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    key: Mapped[str] = mapped_column(Label, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class Search(Base):
    """All the text that a package can be searched by, without its case. See `app.store.searches`.

    Its grams are a column more on PostgreSQL, and a table of its own kind on SQLite: neither is in a model.
    """

    __tablename__ = "searches"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    package_id: Mapped[str] = mapped_column(Id, unique=True)
    text: Mapped[str] = mapped_column(Text)
