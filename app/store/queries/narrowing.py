"""What packages are wanted: those on which shelves, and what narrows the list further."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from app.store import tallies
from app.store.picture import address
from app.store.queries.shown import PackageFilter
from app.store.searches import as_words, grams, grams_to_ask_for
from app.store.shelves import kind_on

ANY, NONE = "any", "none"
RANGES = ("updated_at", "created_at")
RAREST = 5  # so many grams of a text tell nearly as much as all of them


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A condition on the row `walked`, and the `candidates`: all ids that fit, by an index, from one query or more.

    `within` is the same condition where an index of the packages themselves has those that fit.
    """

    fits: str
    candidates: tuple[str, ...] = ()
    within: str | None = None


def shelves(connection: Connection, wanted: PackageFilter) -> dict[str, int]:
    """The shelves on which there is anything that may be wanted, and how much."""
    return {
        shelf: number
        for shelf, number in tallies.counted(connection, tallies.PACKAGES).items()
        if number > 0 and _stands_on(shelf, wanted)
    }


def _stands_on(shelf: str, wanted: PackageFilter) -> bool:
    type_, status, trashed, deleted = kind_on(shelf)
    return (
        wanted.trashed in (None, trashed)
        and wanted.deleted in (None, deleted)
        and wanted.type in (None, type_)
        and (not wanted.types or type_ in wanted.types)
        and (not wanted.status or status in wanted.status)
    )


def narrowings(wanted: PackageFilter, *, sort: str, dialect: str) -> list[Narrowing]:
    """What narrows the list, that which leaves the fewest first; but for a range of what it is sorted by."""
    found = []
    if wanted.signer is not None:
        found.append(_SIGNER)
    if wanted.attention:
        found.append(_ATTENTION.get(wanted.attention, _REASON))
    if wanted.q:
        found.append(_mentions(wanted.q.casefold(), dialect))
    return found + [_range(name, wanted) for name in RANGES if name != sort and limits(name, wanted)]


def limits(name: str, wanted: PackageFilter) -> list[str]:
    """Between which moments a column has to be."""
    since, until = (getattr(wanted, f"{name.removesuffix('_at')}_{end}", None) for end in ("since", "until"))
    return [f"{name} >= :{name}_since"] * (since is not None) + [f"{name} <= :{name}_until"] * (until is not None)


def parameters(wanted: PackageFilter, on: Iterable[str], *, dialect: str) -> dict[str, Any]:
    """What the conditions of this filter speak of, by name."""
    words = (wanted.q or "").casefold()
    return {
        "words": words,
        "grams": as_words(grams_to_ask_for(words)) if dialect == "sqlite" else sorted(grams(words)),
        "signer": wanted.signer,
        "address": address(wanted.signer),
        "reason": wanted.attention,
        "updated_at_since": wanted.updated_since,
        "updated_at_until": wanted.updated_until,
        "created_at_since": wanted.created_since,
        "created_at_until": wanted.created_until,
        **{f"shelf{place}": shelf for place, shelf in enumerate(on)},
    }


def _mentions(words: str, dialect: str) -> Narrowing:
    asked = len(grams(words))
    if not asked:
        return Narrowing(_HAS_WORDS[dialect])
    return Narrowing(_HAS_WORDS[dialect], (_MENTIONS[dialect] if asked <= RAREST else _MENTIONS_LONG[dialect],))


def _range(name: str, wanted: PackageFilter) -> Narrowing:
    within = " AND ".join(limits(name, wanted))
    return Narrowing(
        f"(SELECT {within} FROM packages WHERE id = walked.id)",  # noqa: S608  (names of ours)
        (f"SELECT id FROM packages WHERE {{on_shelves}} AND {within}",),  # noqa: S608
        f"{{on_shelves}} AND {within}",
    )


# Each judges one row by itself: an EXISTS would let PostgreSQL gather all rows of a table that fit, to look into them.
_TOLD = Narrowing(
    "(SELECT 1 FROM attention WHERE package_id = walked.id LIMIT 1) IS NOT NULL",
    ("SELECT package_id AS id FROM attention",),
)
_PARKED = Narrowing(
    "(SELECT 1 FROM dispatches WHERE package_id = walked.id AND state = 'parked' LIMIT 1) IS NOT NULL",
    ("SELECT package_id AS id FROM dispatches WHERE state = 'parked'",),
)
_REASON = Narrowing(
    "(SELECT 1 FROM attention WHERE package_id = walked.id AND reason = :reason LIMIT 1) IS NOT NULL",
    ("SELECT package_id AS id FROM attention WHERE reason = :reason",),
)
_ATTENTION = {
    "PARKED_HANDLER": _PARKED,
    ANY: Narrowing(f"({_TOLD.fits} OR {_PARKED.fits})", (*_TOLD.candidates, *_PARKED.candidates)),
    NONE: Narrowing(f"NOT ({_TOLD.fits} OR {_PARKED.fits})"),
}
_SIGNER = Narrowing(
    """(SELECT 1 FROM signers WHERE package_id = walked.id AND (signers.id = :signer OR address = :address) LIMIT 1)
    IS NOT NULL""",
    (
        "SELECT package_id AS id FROM signers WHERE signers.id = :signer",
        "SELECT package_id AS id FROM signers WHERE address = :address",
    ),
)
_HAS_WORDS = {
    "postgresql": "(SELECT strpos(text, :words) > 0 FROM searches WHERE package_id = walked.id)",
    "sqlite": "(SELECT instr(text, :words) > 0 FROM searches WHERE package_id = walked.id)",
}
_MENTIONS = {
    "postgresql": """SELECT package_id AS id FROM searches
        WHERE grams @> CAST(:grams AS integer[]) AND strpos(text, :words) > 0""",
    "sqlite": """SELECT package_id AS id FROM grams JOIN searches ON searches.id = grams.rowid
        WHERE grams MATCH :grams AND instr(text, :words) > 0""",
}
# PostgreSQL's statistics tell which grams are the most common; the others say enough, and each that is not looked up
# is time saved.
_MENTIONS_LONG = {
    **_MENTIONS,
    "postgresql": f"""SELECT package_id AS id FROM searches WHERE grams @> (SELECT array_agg(gram) FROM (
            SELECT gram FROM unnest(CAST(:grams AS integer[])) AS asked(gram) LEFT JOIN (
                SELECT unnest(CAST(CAST(most_common_elems AS text) AS integer[])) AS common,
                    unnest(most_common_elem_freqs) AS often
                FROM pg_stats
                WHERE schemaname = ANY(current_schemas(false)) AND tablename = 'searches' AND attname = 'grams'
            ) AS known ON common = gram ORDER BY often NULLS FIRST, gram DESC LIMIT {RAREST}
        ) AS rarest) AND strpos(text, :words) > 0""",  # noqa: S608  (a number of ours)
}
