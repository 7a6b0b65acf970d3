"""Search: the folded text of every package, and the condition that finds words in it. The only writer of `searches`.

The database does the searching: PostgreSQL with a trigram index if it has one, SQLite by reading every text. The text
has its own table because most writes to a package do not change it, and a trigram index is slow to update.
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

INDEXED_LETTERS = 16  # of a word that are looked up in the index: few texts match those, and each trigram costs time
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
    """Remove case and accents: "Łódź Straße" becomes "lodz strasse". Letters of other scripts stay.

    Format characters, such as a soft hyphen, are removed.
    """
    if text.isascii():
        return text.casefold()
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", plain.translate(ACCENTS)).translate(PLAIN_LETTERS)


def text_of(package: PackageValue) -> str:
    """The folded text that a package is found by: its id, name, sender and signers, one per line."""
    sender = package.sender
    parts = [package.id, package.name, sender.id, sender.name, sender.email]
    for signer in package.signers:
        parts += [signer.id, signer.name, signer.email]
    return fold("\n".join(filter(None, parts)))


def words_of(query: str) -> list[str]:
    """The folded words of a query, each once."""
    return list(dict.fromkeys(fold(query).split()))


def has_words(words: Sequence[str]) -> ColumnElement[bool]:
    """The condition that a package's text contains each of these words, anywhere and in any order.

    SQLite is made to read all texts once and then the packages in their order. Its own plan looks up each package
    found and sorts them, which takes three times as long for a frequent word.
    """
    return unindexed(Package.id).in_(select(Search.package_id).where(*_contains(words)))


def has_words_itself(words: Sequence[str]) -> ColumnElement[bool]:
    """Like `has_words`, for queries whose other conditions leave few packages: looks up the text of each."""
    return exists().where(Search.package_id == Package.id, *_contains(words))


def _contains(words: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    for word in words:
        yield Search.text.contains(word[:INDEXED_LETTERS], autoescape=True)
        if len(word) > INDEXED_LETTERS:  # a second LIKE would make PostgreSQL expect hardly any rows
            yield func.replace(Search.text, word, "") != Search.text


def write(connection: Connection, texts: Mapping[str, str]) -> None:
    """Store texts by package id."""
    rows: list[dict[str, Any]] = [
        {"package_id": package_id, "text": text} for package_id, text in sorted(texts.items())
    ]
    upsert_all(connection, Search, rows)


def erase(connection: Connection, package_ids: Sequence[str]) -> None:
    """Delete the texts of packages."""
    connection.execute(delete(Search).where(Search.package_id.in_(package_ids)))
