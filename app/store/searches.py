"""What packages are searched by: their text, and its grams in an index. The only writer of both.

A gram is three letters in a row, as a number. Those that are not ASCII count alone and in pairs as well, for a name
may have two of them. Whatever has a text in it has all of its grams: the index says what may have them, the text what
does. The index is a GIN beside the text on PostgreSQL and an FTS5 table on SQLite, so neither needs an extension.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.engine import Connection

from app.onespan.values import Package
from app.store.models import Search

MODULUS = 2**31 - 1  # a gram fits an integer of either database
ASCII = 127
ASKED, LONGEST = 10, 3  # so many grams are asked for; the longest has so many letters


def words_of(package: Package) -> str:
    """All that a package can be searched by, without its case: a line for each."""
    sender = package.sender
    told = [package.id, package.name, sender.id, sender.name, sender.email]
    for one in package.signers:
        told += [one.id, one.name, one.email]
    return "\n".join(filter(None, told)).casefold()


def grams(words: str) -> set[int]:
    """The grams of a text without its case; none of ASCII that is shorter than three letters."""
    codes = [ord(letter) for letter in words]
    found = {(a * 2**14 + b * 2**7 + c) % MODULUS for a, b, c in zip(codes, codes[1:], codes[2:], strict=False)}
    if not words.isascii():
        found |= {(a * 2**7 + b + 1) % MODULUS for a, b in pairwise(codes) if max(a, b) > ASCII}
        found |= {a for a in codes if a > ASCII}
    return found


def grams_to_ask_for(words: str) -> set[int]:
    """Some of the grams of a text, from all over it: to look each up costs more than the rest of them would tell."""
    last = max(0, len(words) - LONGEST)
    parts = {words[last * place // (ASKED - 1) :][:LONGEST] for place in range(ASKED)}
    return set().union(*map(grams, parts)) if len(words) > LONGEST * 2 else grams(words)


def write(connection: Connection, new: Mapping[str, str]) -> None:
    """Let these packages, by id, be found by these texts."""
    rows = [{"package_id": one, "text": words} for one, words in sorted(new.items())]
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_WRITE_BOTH, [row | {"grams": sorted(grams(row["text"]))} for row in rows])
        return
    _forget_grams(connection, new)
    connection.execute(_WRITE, rows)
    numbered = connection.execute(_NUMBERS, {"ids": list(new)})
    connection.execute(_ADD, [{"id": row.id, "grams": as_words(grams(row.text))} for row in numbered])


def erase(connection: Connection, package_ids: Sequence[str]) -> None:
    """Let these packages no longer be found."""
    if connection.dialect.name == "sqlite":
        _forget_grams(connection, package_ids)
    connection.execute(delete(Search).where(Search.package_id.in_(package_ids)))


def _forget_grams(connection: Connection, package_ids: Iterable[str]) -> None:
    old = connection.execute(_NUMBERS, {"ids": list(package_ids)}).all()
    if old:  # FTS5 keeps no text, and is told again what it has to forget
        connection.execute(_FORGET, [{"id": row.id, "grams": as_words(grams(row.text))} for row in old])


def as_words(numbers: Iterable[int]) -> str:
    """Grams as FTS5 takes them."""
    return " ".join(map(str, sorted(numbers)))


_WRITE = text(
    """INSERT INTO searches (package_id, text) VALUES (:package_id, :text)
    ON CONFLICT (package_id) DO UPDATE SET text = excluded.text"""
)
_WRITE_BOTH = text(
    """INSERT INTO searches (package_id, text, grams) VALUES (:package_id, :text, :grams)
    ON CONFLICT (package_id) DO UPDATE SET text = excluded.text, grams = excluded.grams"""
)
_NUMBERS = select(Search.id, Search.package_id, Search.text).where(
    Search.package_id.in_(bindparam("ids", expanding=True))
)
_ADD = text("INSERT INTO grams (rowid, words) VALUES (:id, :grams)")
_FORGET = text("INSERT INTO grams (grams, rowid, words) VALUES ('delete', :id, :grams)")
