"""Search: the folded text of every package, and the condition that finds words in it.

PostgreSQL searches with a trigram index if it has one; SQLite reads every text. The texts have their own table,
`searches`, because most writes to a package do not change its text, and a trigram index is slow to update. Only this
module writes that table.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.engine import Connection

from app.onespan.values import Package as PackageValue
from app.store.bulk import upsert_all
from app.store.db import unindexed
from app.store.models import Package, Search

# Only the first letters of a word are looked up in the index: few texts match these, and each trigram costs time.
INDEXED_LETTERS = 16
# Letters that Unicode does not decompose into a plain letter and an accent.
PLAIN_LETTERS = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "æ": "ae",
        "œ": "oe",
        "ħ": "h",
        "ŧ": "t",
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    }
)
ACCENTS = dict.fromkeys(range(0x300, 0x370))


def fold(text: str) -> str:
    """Remove case and accents from a text: "Łódź Straße" becomes "lodz strasse". Letters of other scripts stay.

    Format characters, such as a soft hyphen, are removed.
    """
    if text.isascii():
        return text.casefold()
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", plain.translate(ACCENTS)).translate(PLAIN_LETTERS)


def text_of(package: PackageValue) -> str:
    """Return the folded text by which a search finds a package: its id, name, sender and signers, one per line."""
    sender = package.sender
    parts = [package.id, package.name, sender.id, sender.name, sender.email]
    for signer in package.signers:
        parts += [signer.id, signer.name, signer.email]
    return fold("\n".join(filter(None, parts)))


def words_of(query: str) -> list[str]:
    """Return the folded words of a search query, without duplicates."""
    return list(dict.fromkeys(fold(query).split()))


def has_words(words: Sequence[str]) -> ColumnElement[bool]:
    """Return the SQL condition that a package's text contains all given words, anywhere and in any order.

    The condition makes SQLite read all texts once and then the packages in their order. SQLite's own plan would look up
    each found package and sort the packages, which takes three times as long for a frequent word.
    """
    return unindexed(Package.id).in_(select(Search.package_id).where(*_contains(words)))


def has_words_itself(words: Sequence[str]) -> ColumnElement[bool]:
    """Return a condition like `has_words` that looks up each package's text, for queries that leave few packages."""
    return exists().where(Search.package_id == Package.id, *_contains(words))


def _contains(words: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    for word in words:
        yield Search.text.contains(word[:INDEXED_LETTERS], autoescape=True)
        if len(word) > INDEXED_LETTERS:  # after a second LIKE, PostgreSQL would expect hardly any rows
            yield func.replace(Search.text, word, "") != Search.text


def write(connection: Connection, texts: Mapping[str, str]) -> None:
    """Store the search texts of packages, given by package id."""
    rows: list[dict[str, Any]] = [
        {"package_id": package_id, "text": text} for package_id, text in sorted(texts.items())
    ]
    upsert_all(connection, Search, rows)


def erase(connection: Connection, package_ids: Sequence[str]) -> None:
    """Delete the search texts of packages."""
    connection.execute(delete(Search).where(Search.package_id.in_(package_ids)))
