"""Search: the folded text of every package, and the condition that finds words in it. The only writer of `searches`.

The database does the searching: PostgreSQL by a trigram index where it has one, SQLite by reading every text. The text
has a table of its own because most writes to a package leave it alone, and a trigram index is slow to write.
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

INDEXED = 16  # letters of a word that an index is asked for: few texts have those, and each trigram costs time
# Letters that Unicode does not take apart into a plain one and an accent.
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
    """A text without its case and accents: "Łódź Straße" is "lodz strasse". Letters of other scripts stay.

    Characters that only say how a text is laid out, such as a soft hyphen, are left out.
    """
    if text.isascii():
        return text.casefold()
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", plain.translate(ACCENTS)).translate(PLAIN_LETTERS)


def text_of(package: PackageValue) -> str:
    """All that a package is found by, folded: its id, its name, its sender and its signers; a line for each."""
    sender = package.sender
    parts = [package.id, package.name, sender.id, sender.name, sender.email]
    for signer in package.signers:
        parts += [signer.id, signer.name, signer.email]
    return fold("\n".join(filter(None, parts)))


def words_of(query: str) -> list[str]:
    """The words that a query asks for, folded."""
    return list(dict.fromkeys(fold(query).split()))


def has_words(words: Sequence[str]) -> ColumnElement[bool]:
    """The condition on a package that its text has each of these words, anywhere and in any order.

    SQLite reads all texts once and then takes the packages in their order; by itself it would look up each package
    found and sort them, which takes three times as long for a word that many have.
    """
    return unindexed(Package.id).in_(select(Search.package_id).where(*_mentions(words)))


def has_words_itself(words: Sequence[str]) -> ColumnElement[bool]:
    """The same where few packages are left: the text of each is looked up."""
    return exists().where(Search.package_id == Package.id, *_mentions(words))


def _mentions(words: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    for word in words:
        yield Search.text.contains(word[:INDEXED], autoescape=True)
        if len(word) > INDEXED:  # LIKE once more would make PostgreSQL expect hardly any rows
            yield func.replace(Search.text, word, "") != Search.text


def write(connection: Connection, texts: Mapping[str, str]) -> None:
    """Store the texts of packages, by id."""
    rows: list[dict[str, Any]] = [{"package_id": package, "text": text} for package, text in sorted(texts.items())]
    upsert_all(connection, Search, rows)


def erase(connection: Connection, package_ids: Sequence[str]) -> None:
    """Delete the texts of packages."""
    connection.execute(delete(Search).where(Search.package_id.in_(package_ids)))
