"""The package filter as SQL conditions. The database's planner decides how to find the packages."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from app.onespan.values import AttentionReason
from app.store.db import unindexed
from app.store.models import PARKED, Attention, Dispatch, Package, Signer
from app.store.packages import address
from app.store.search import has_words_itself, words_of

ANY, NONE = "any", "none"


@dataclass(frozen=True, slots=True)
class PackageFilter:
    """A filter for packages. Every given condition must hold. `types` lists accepted types; None is an unknown type."""

    status: Sequence[str] = ()
    trashed: bool | None = None
    deleted: bool | None = None
    unverified: bool | None = None
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
    """Return lists of SQL conditions. A package matches if all conditions of at least one list hold.

    A condition with two alternatives makes two lists, because a database uses one index at a time. If an index leaves
    few packages, the search looks up their texts. Otherwise the search reads all texts with `has_words`.
    """
    common, words = list(_conditions(wanted)), words_of(wanted.q or "")
    groups = [group for group in (_signed_by(wanted.signer), _needs_attention(wanted.attention)) if group]
    if words:
        are_few = groups and wanted.attention != NONE
        common.append(has_words_itself(words) if are_few else has_words(words))
    return [[*common, *conditions] for conditions in product(*groups)]


def _conditions(wanted: PackageFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.status:
        yield _any_of(Package.status, wanted.status)
    if wanted.type is not None:
        yield Package.type == wanted.type
    if wanted.types:
        yield _any_of(Package.type, wanted.types)
    for flag, value in ((Package.trashed, wanted.trashed), (Package.deleted, wanted.deleted)):
        if value is not None:
            yield flag.is_(value)
    if wanted.unverified is not None:
        yield Package.unverified_since.is_not(None) if wanted.unverified else Package.unverified_since.is_(None)
    yield from _between(Package.updated_at, wanted.updated_since, wanted.updated_until)
    yield from _between(Package.created_at, wanted.created_since, wanted.created_until)


def _any_of(column: InstrumentedAttribute[str | None], values: Sequence[str | None]) -> ColumnElement[bool]:
    known = sorted({value for value in values if value is not None})
    if None in values:  # most packages match; SQLite would otherwise look up each in an index and sort the results
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
    """Return the two alternative conditions that a package's signer has the given id, or the given e-mail address."""
    if signer is None:
        return []
    conditions = [Signer.id == signer, *(Signer.address == email for email in filter(None, [address(signer)]))]
    return [Package.id.in_(select(Signer.package_id).where(condition)) for condition in conditions]


def _needs_attention(reason: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions that a package needs attention for the given reason, for any reason, or not at all.

    Parked runs are a reason that only the table of dispatches contains.
    """
    if not reason:
        return []
    stored = select(Attention.package_id)
    is_parked = Package.id.in_(select(Dispatch.package_id).where(Dispatch.state == PARKED))
    if reason == NONE:  # with NOT IN, PostgreSQL would read the tables of attention and dispatches completely
        has_reason = exists().where(Attention.package_id == Package.id)
        has_parked = exists().where(Dispatch.package_id == Package.id, Dispatch.state == PARKED)
        return [~has_reason & ~has_parked]
    if reason == ANY:
        return [Package.id.in_(stored), is_parked]
    return [
        is_parked
        if reason == AttentionReason.PARKED_HANDLER
        else Package.id.in_(stored.where(Attention.reason == reason))
    ]
