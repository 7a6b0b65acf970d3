"""What lists are found and counted by: shelves, tallies and the text of packages; indexes for each order and filter."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

Id = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
Label = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)

CHUNK = 1000  # packages in memory at once
SORTED_BY = ("updated_at", "created_at", "due_at", "status_at", "title")
INDEXES = (
    *((f"ix_packages_shelf_{name}", "packages", ["shelf", name, "id"], None) for name in SORTED_BY),
    ("ix_packages_shelf_id", "packages", ["shelf", "id"], None),
    ("ix_signers_id", "signers", ["id"], None),
    ("ix_signers_address", "signers", ["address"], None),
    ("ix_events_found_id", "events", ["id"], "source = 'reconcile'"),
    ("ix_dispatches_finished_at", "dispatches", ["finished_at"], None),
    *((f"ix_missed_{name}_event_id", "missed", [name, "event_id"], None) for name in ("package_id", "name", "cause")),
    ("ix_missed_untold", "missed", ["event_id"], "told_at IS NULL"),
    ("ix_missed_told", "missed", ["event_id"], "told_at IS NOT NULL"),
)
GRAMS = {
    "postgresql": "CREATE TABLE grams (id BIGINT PRIMARY KEY, grams INTEGER[] NOT NULL)",
    "sqlite": "CREATE VIRTUAL TABLE grams USING fts5(words, content='', columnsize=0, detail=none, tokenize=ascii)",
}
ADD_GRAMS = {
    "postgresql": "INSERT INTO grams (id, grams) VALUES (:number, :grams)",
    "sqlite": "INSERT INTO grams (rowid, words) VALUES (:number, :grams)",
}
AS_GRAMS = {"postgresql": sorted, "sqlite": lambda grams: " ".join(map(str, sorted(grams)))}

packages = sa.table("packages", *map(sa.column, ("id", "name", "type", "status", "sender_id", "sender_name")))
for one in ("sender_email", "shelf", "title"):
    packages.append_column(sa.column(one))
packages.append_column(sa.column("trashed", sa.Boolean()))
packages.append_column(sa.column("deleted", sa.Boolean()))
signers = sa.table("signers", *map(sa.column, ("package_id", "id", "name", "email", "address")))
events = sa.table("events", *map(sa.column, ("name", "source", "confirmation")), sa.column("happened_at", Moment))
missed = sa.table("missed", *map(sa.column, ("name", "cause", "told_at")), sa.column("happened_at", Moment))
journal = sa.table("journal", *map(sa.column, ("kind", "digested_at", "unreadable")), sa.column("received_at", Moment))


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", Label, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_tallies")),
    )
    op.create_table(
        "searches",
        sa.Column("id", Serial, nullable=False),
        sa.Column("package_id", Id, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
        sa.UniqueConstraint("package_id", name=op.f("uq_searches_package_id")),
    )
    op.add_column("packages", sa.Column("shelf", Label, server_default=sa.text("''"), nullable=False))
    op.add_column("packages", sa.Column("title", Label, server_default=sa.text("''"), nullable=False))
    op.add_column("signers", sa.Column("address", Label, nullable=True))
    op.add_column("reconciles", sa.Column("found", sa.Integer(), nullable=True))
    connection = op.get_bind()
    op.execute(GRAMS[connection.dialect.name])
    _place_all(connection)
    _tally_all(connection)
    connection.execute(sa.text(FOUND))
    for name, table, columns, where in INDEXES:
        condition = sa.text(where) if where else None
        op.create_index(name, table, columns, postgresql_where=condition, sqlite_where=condition)
    if connection.dialect.name == "postgresql":
        # What is to be sorted in yet is read at every search, so that is kept short.
        op.execute("CREATE INDEX ix_grams_grams ON grams USING gin (grams) WITH (gin_pending_list_limit = 512)")


def downgrade() -> None:
    for name, table, _, _ in INDEXES:
        op.drop_index(name, table_name=table)
    for table in ("grams", "searches", "tallies"):
        op.drop_table(table)
    for table, column in (
        ("packages", "shelf"),
        ("packages", "title"),
        ("signers", "address"),
        ("reconciles", "found"),
    ):
        op.drop_column(table, column)


def _place_all(connection: sa.Connection) -> None:
    """Let every package be found: by its kind, by its name, by its text."""
    last, number, dialect = "", 0, connection.dialect.name
    chunk = sa.select(packages).where(packages.c.id > sa.bindparam("last")).order_by(packages.c.id).limit(CHUNK)
    while rows := connection.execute(chunk, {"last": last}).all():
        last = rows[-1].id
        signed: dict[str, list[Any]] = {}
        for one in connection.execute(sa.select(signers).where(signers.c.package_id.in_([row.id for row in rows]))):
            signed.setdefault(one.package_id, []).append(one)
        found = []
        for number, row in enumerate(rows, start=number + 1):  # noqa: B020  (it counts on from chunk to chunk)
            shelf = _key(int(row.trashed), int(row.deleted), row.type, row.status)
            words = _words(row, sorted(signed.get(row.id, ()), key=lambda one: one.id))
            found.append(
                {
                    "number": number,
                    "package": row.id,
                    "shelf": shelf,
                    "title": (row.name or "").casefold()[:100],
                    "text": words,
                    "grams": AS_GRAMS[dialect](_grams(words)),
                }
            )
        addressed = [
            {"package": one.package_id, "signer": one.id, "address": one.email.casefold()[:256]}
            for parts in signed.values()
            for one in parts
            if one.email
        ]
        for statement, values in ((PLACE, found), (SEARCH, found), (ADD_GRAMS[dialect], found), (ADDRESS, addressed)):
            if values:
                connection.execute(sa.text(statement), values)
    if dialect == "postgresql":
        connection.execute(sa.text("SELECT setval('searches_id_seq', :next, false)"), {"next": number + 1})


def _words(row: Any, people: Iterable[Any]) -> str:
    told = [row.id, row.name, row.sender_id, row.sender_name, row.sender_email]
    for one in people:
        told += [one.id, one.name, one.email]
    return "\n".join(filter(None, told)).casefold()


def _grams(words: str) -> set[int]:
    codes, modulus, ascii_ = [ord(letter) for letter in words], 2**31 - 1, 127
    found = {(a * 2**14 + b * 2**7 + c) % modulus for a, b, c in zip(codes, codes[1:], codes[2:], strict=False)}
    if not words.isascii():
        found |= {(a * 2**7 + b + 1) % modulus for a, b in pairwise(codes) if max(a, b) > ascii_}
        found |= {a for a in codes if a > ascii_}
    return found


def _tally_all(connection: sa.Connection) -> None:
    """Count what there is."""
    shelved = connection.execute(sa.select(packages.c.shelf, sa.func.count()).group_by(packages.c.shelf))
    _tally(connection, "packages", ((row[0], row[1]) for row in shelved))
    untold = (events.c.source == "reconcile") & events.c.confirmation.is_(None)
    _tally(connection, "told", _by_day(connection, events.c.happened_at, ~untold, events.c.name))
    _tally(connection, "found", _by_day(connection, events.c.happened_at, untold, events.c.name))
    still = missed.c.told_at.is_(None)
    _tally(connection, "missed", _by_day(connection, missed.c.happened_at, still, missed.c.name, missed.c.cause))
    came = (journal.c.kind == "callback") & journal.c.digested_at.is_not(None) & journal.c.unreadable.is_(None)
    minutes = (
        (f"{row[0].replace(' ', 'T')}Z", row[1]) for row in _grouped(connection, journal.c.received_at, 16, came)
    )
    _tally(connection, "callbacks", minutes)


def _by_day(
    connection: sa.Connection, moment: Any, condition: sa.ColumnElement[bool], *columns: Any
) -> Iterator[tuple[str, int]]:
    for day, *parts, number in _grouped(connection, moment, 10, condition, *columns):
        yield _key(day, *parts), number


def _grouped(
    connection: sa.Connection, moment: Any, letters: int, condition: sa.ColumnElement[bool], *columns: Any
) -> list[Any]:
    """How many there are by the first letters of their time, and by these columns."""
    at = sa.func.substr(sa.cast(moment, sa.Text()), 1, letters)  # sessions on PostgreSQL have UTC as their zone
    found = sa.select(at, *columns, sa.func.count()).where(condition).group_by(at, *columns)
    return [tuple(row) for row in connection.execute(found)]


def _tally(connection: sa.Connection, kind: str, numbers: Iterable[tuple[str, int]]) -> None:
    rows = [{"kind": kind, "key": key, "number": number} for key, number in Counter(dict(numbers)).items()]
    if rows:
        connection.execute(sa.text("INSERT INTO tallies (kind, key, number) VALUES (:kind, :key, :number)"), rows)


def _key(*parts: object) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


PLACE = "UPDATE packages SET shelf = :shelf, title = :title WHERE id = :package"
SEARCH = "INSERT INTO searches (id, package_id, text) VALUES (:number, :package, :text)"
ADDRESS = "UPDATE signers SET address = :address WHERE package_id = :package AND id = :signer"
FOUND = """
    UPDATE reconciles SET found = (
        SELECT count(*) FROM events WHERE source = 'reconcile'
        AND first_received_at >= reconciles.began_at AND first_received_at <= reconciles.finished_at
    ) WHERE finished_at IS NOT NULL
"""
