"""List state: when OneSpan's list last contained a package, and when OneSpan last refused to show the package.

Only this module writes the table `list_state`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, func, or_, select, text, update
from sqlalchemy.engine import Connection

from app.store.bulk import any_of
from app.store.models import ListState, Package


@dataclass(frozen=True, slots=True)
class ListPass:
    """One pass of a reconcile run through one of OneSpan's folders."""

    run_id: int
    folder: int
    number: int


def seen_in_passes(connection: Connection, package_ids: Collection[str], *, until: ListPass) -> dict[str, int]:
    """Return the given packages that the passes through a folder met, each with the number of its last pass."""
    found = select(ListState.package_id, ListState.pass_number).where(
        ListState.package_id.in_(package_ids),
        ListState.run_id == until.run_id,
        ListState.folder == until.folder,
        ListState.pass_number <= until.number,
    )
    return {row.package_id: row.pass_number for row in connection.execute(found)}


class ListTimes(NamedTuple):
    """When OneSpan's list last contained a package, and when OneSpan last refused to show it, by OneSpan's clock."""

    seen_at: datetime | None = None
    refused_at: datetime | None = None


def times(connection: Connection, package_ids: Collection[str]) -> dict[str, ListTimes]:
    """Return the times of the given packages, by package id. A package that has none may be left out."""
    rows = connection.execute(_TIMES, {"ids": list(package_ids)})
    return {row.package_id: ListTimes(row.seen_at, row.refused_at) for row in rows}


def was_listed(connection: Connection, package_id: str, *, key: str | None) -> bool:
    """Whether OneSpan's list was read with the given credentials when it last contained a package."""
    found = select(ListState.key).where(ListState.package_id == package_id, ListState.seen_at.is_not(None))
    return key is not None and connection.scalar(found) == key


def record_page(
    connection: Connection, package_ids: Iterable[str], *, during: ListPass, at: datetime, key: str | None
) -> None:
    """Record that a pass through a folder met the given packages at OneSpan's time `at`."""
    scan = {"run": during.run_id, "folder": during.folder, "pass": during.number, "at": at, "key": key}
    rows = [{"id": package_id, **scan} for package_id in sorted(package_ids)]
    if rows:
        connection.execute(_NOTE, rows)


def record_refusal(connection: Connection, package_id: str, *, at: datetime) -> None:
    """Record that OneSpan refused to show a package, which is then not fetched again without a new reason.

    `at` is the time of OneSpan's clock.
    """
    connection.execute(_REFUSED, {"id": package_id, "at": at})


def end_refusal(connection: Connection, package_id: str) -> None:
    """Record that OneSpan answers requests for a package again."""
    refused = ListState.package_id == package_id, ListState.refused_at.is_not(None)
    connection.execute(update(ListState).where(*refused).values(refused_at=None))


def unlisted(connection: Connection, *, run_id: int, since: datetime | None, after: str, limit: int) -> list[str]:
    """Return the next ids above `after`, in ascending order, of packages in a run's window that the run did not meet.

    Packages that OneSpan has refused to show since they last changed are left out. Without a window, `since`, so are
    deleted packages: the run listed all that exist.
    """
    newest = func.coalesce(Package.updated_at, Package.last_event_at, Package.read_at)
    found = (
        select(Package.id)
        .outerjoin(ListState, ListState.package_id == Package.id)
        .where(
            Package.id > after,
            Package.deleted.is_(False) if since is None else Package.updated_at >= since,
            or_(ListState.run_id.is_(None), ListState.run_id != run_id),
            or_(ListState.refused_at.is_(None), ListState.refused_at < newest),
        )
        .order_by(Package.id)
        .limit(limit)
    )
    return list(connection.execute(found).scalars())


def overdue(connection: Connection, *, now: datetime, limit: int) -> list[str]:
    """Return the ids of sent packages that were not read since their due date passed. These packages may have expired.

    `now` is the time of OneSpan's clock, as are the due dates and all times of list states.
    OneSpan does not document whether expiry changes `updated`, by which a reconcile run finds changed packages.
    """
    looked = or_(Package.read_at > Package.due_at, ListState.seen_at > Package.due_at)
    found = (
        select(Package.id)
        .outerjoin(ListState, ListState.package_id == Package.id)
        .where(
            Package.status == "SENT",
            Package.due_at < now,
            Package.trashed.is_(False),
            Package.deleted.is_(False),
            or_(looked.is_(None), looked.is_(False)),
            or_(ListState.refused_at.is_(None), ListState.refused_at < Package.due_at),
        )
        .order_by(Package.due_at)
        .limit(limit)
    )
    return list(connection.execute(found).scalars())


_TIMES = select(ListState.package_id, ListState.seen_at, ListState.refused_at).where(
    any_of(ListState.package_id, "ids")
)
_NOTE = text(
    """INSERT INTO list_state (package_id, run_id, folder, pass_number, seen_at, key)
    VALUES (:id, :run, :folder, :pass, :at, :key)
    ON CONFLICT (package_id) DO UPDATE SET run_id = excluded.run_id, folder = excluded.folder,
    pass_number = excluded.pass_number, seen_at = excluded.seen_at, key = excluded.key,
    refused_at = NULL"""
).bindparams(bindparam("at", type_=ListState.seen_at.type))
_REFUSED = text(
    """INSERT INTO list_state (package_id, refused_at) VALUES (:id, :at)
    ON CONFLICT (package_id) DO UPDATE SET refused_at = excluded.refused_at"""
).bindparams(bindparam("at", type_=ListState.refused_at.type))
