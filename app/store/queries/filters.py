"""Which packages are wanted: each condition of the filter as SQL. How to find them is the database's business."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, or_, select, union_all
from sqlalchemy.orm import InstrumentedAttribute

from app.store.models import PARKED, Attention, Dispatch, Package, Signer
from app.store.picture import address
from app.store.search import has_words, words_of

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


def conditions(wanted: PackageFilter) -> Iterator[ColumnElement[bool]]:
    """The conditions on a package, all of which must hold."""
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
    if wanted.signer is not None:
        yield Package.id.in_(_signed_by(wanted.signer))
    if wanted.attention:
        yield _needs_attention(wanted.attention)
    if words := words_of(wanted.q or ""):
        yield has_words(words)


def _any_of(column: InstrumentedAttribute[str | None], values: Sequence[str | None]) -> ColumnElement[bool]:
    known = sorted({value for value in values if value is not None})
    alike = column == known[0] if len(known) == 1 else column.in_(known)
    return or_(alike, column.is_(None)) if None in values else alike


def _between(
    column: InstrumentedAttribute[datetime | None], since: datetime | None, until: datetime | None
) -> Iterator[ColumnElement[bool]]:
    if since is not None:
        yield column >= since
    if until is not None:
        yield column <= until


def _signed_by(signer: str) -> Select[str]:
    """The packages of a signer, by their id or their e-mail address."""
    return select(Signer.package_id).where(or_(Signer.id == signer, Signer.address == address(signer)))


def _needs_attention(reason: str) -> ColumnElement[bool]:
    stored, parked = select(Attention.package_id), select(Dispatch.package_id).where(Dispatch.state == PARKED)
    if reason == NONE:  # NOT IN would make PostgreSQL read all of both
        return ~exists().where(Attention.package_id == Package.id) & ~exists().where(
            Dispatch.package_id == Package.id, Dispatch.state == PARKED
        )
    found: dict[str, Any] = {ANY: union_all(stored, parked), PARKED_HANDLER: parked}
    return Package.id.in_(found.get(reason, stored.where(Attention.reason == reason)))
