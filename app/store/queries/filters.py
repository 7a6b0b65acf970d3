"""Which packages are wanted: each condition of the filter as SQL. How to find them is the database's business."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from app.store.db import unindexed
from app.store.models import PARKED, Attention, Dispatch, Package, Signer
from app.store.packages import address
from app.store.search import has_words_itself, words_of

ANY, NONE, PARKED_HANDLER = "any", "none", "PARKED_HANDLER"


@dataclass(frozen=True, slots=True)
class PackageFilter:
    """Which packages are wanted; everything given must fit. `types` are any of these; None: not known yet."""

    status: Sequence[str] = ()
    trashed: bool | None = None
    deleted: bool | None = None
    type: str | None = None
    types: Sequence[str | None] = ()
    q: str | None = None
    signer: str | None = None
    attention: str | None = None
    updated_since: datetime | None = None
    updated_until: datetime | None = None
    created_since: datetime | None = None
    created_until: datetime | None = None


HasWords = Callable[[Sequence[str]], ColumnElement[bool]]


def alternatives(wanted: PackageFilter, *, has_words: HasWords) -> list[list[ColumnElement[bool]]]:
    """Lists of conditions: a package is wanted where all conditions of one list hold.

    What may be true for either of two reasons is in two lists, for a database finds packages by one index at a time.
    Where an index leaves few packages their texts are looked up, otherwise they are searched by `has_words`.
    """
    common, words = list(_conditions(wanted)), words_of(wanted.q or "")
    choices = [choice for choice in (_signed_by(wanted.signer), _needs_attention(wanted.attention)) if choice]
    if words:
        are_few = choices and wanted.attention != NONE
        common.append(has_words_itself(words) if are_few else has_words(words))
    return [[*common, *chosen] for chosen in product(*choices)]


def _conditions(wanted: PackageFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.status:
        yield _any_of(Package.status, wanted.status)
    if wanted.type is not None:
        yield Package.type == wanted.type
    if wanted.types:
        yield _any_of(Package.type, wanted.types)
    for flag, is_up in ((Package.trashed, wanted.trashed), (Package.deleted, wanted.deleted)):
        if is_up is not None:
            yield flag.is_(is_up)
    yield from _between(Package.updated_at, wanted.updated_since, wanted.updated_until)
    yield from _between(Package.created_at, wanted.created_since, wanted.created_until)


def _any_of(column: InstrumentedAttribute[str | None], values: Sequence[str | None]) -> ColumnElement[bool]:
    known = sorted({value for value in values if value is not None})
    if None in values:  # most packages: SQLite would look each of them up by an index and sort them
        return or_(unindexed(column).in_(known), unindexed(column).is_(None))
    return column == known[0] if len(known) == 1 else column.in_(known)


def _between(
    column: InstrumentedAttribute[datetime | None], since: datetime | None, until: datetime | None
) -> Iterator[ColumnElement[bool]]:
    if since is not None:
        yield column >= since
    if until is not None:
        yield column <= until


def _signed_by(signer: str | None) -> list[ColumnElement[bool]]:
    """That somebody with this id, or with this e-mail address, is one of the signers."""
    if signer is None:
        return []
    either = [Signer.id == signer] + [Signer.address == found for found in filter(None, [address(signer)])]
    return [Package.id.in_(select(Signer.package_id).where(condition)) for condition in either]


def _needs_attention(reason: str | None) -> list[ColumnElement[bool]]:
    """That there is this reason to act, or any, or none. A parked handler is in a table of its own."""
    if not reason:
        return []
    stored = select(Attention.package_id)
    is_parked = Package.id.in_(select(Dispatch.package_id).where(Dispatch.state == PARKED))
    if reason == NONE:  # NOT IN would make PostgreSQL read all of both tables
        has_reason = exists().where(Attention.package_id == Package.id)
        has_parked = exists().where(Dispatch.package_id == Package.id, Dispatch.state == PARKED)
        return [~has_reason & ~has_parked]
    if reason == ANY:
        return [Package.id.in_(stored), is_parked]
    return [is_parked if reason == PARKED_HANDLER else Package.id.in_(stored.where(Attention.reason == reason))]
