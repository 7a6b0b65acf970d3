"""The picture and its history: packages, signers, documents, attention, changes. Their only writer.

Whoever calls this holds the pen (`db.take_pen`).
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.engine import Connection

from app.onespan.claims import State, document, signer
from app.onespan.values import Attention as OpenReason
from app.onespan.values import Document as DocumentValue
from app.onespan.values import Package as PackageValue
from app.onespan.values import Signer as SignerValue
from app.store import counters, search
from app.store.bulk import insert_all, upsert_all
from app.store.counters import PackageKind
from app.store.models import Attention, Change, Document, Package, Search, Signer

# What each change is about; the rest of the picture follows from these, or is when and not what.
OF_PACKAGE = ("name", "type", "status", "trashed", "deleted")
OF_SIGNER = ("status", "name", "email", "order", "role_id", "locked", "email_bounce", "kba_failures", "attachments")
OF_DOCUMENT = ("name", "signed_by")
ADDRESS = 256  # characters of an e-mail address that count when it is looked up
SORT_NAME = 100  # characters of a name that its place in the order depends on; a cursor must fit a URL


@dataclass(frozen=True, slots=True)
class Cause:
    """What made a change: a `callback` or a `snapshot` (journal id), a `dispatch` (its id), a `person`, or a `rebuild`.

    A person is called by the name told at login, `api:<label of the token>` or `cli:<login name>`.
    """

    kind: str
    id: int | str


@dataclass(frozen=True, slots=True)
class NewChange:
    """One change still to be written."""

    package_id: str
    subject: str
    attribute: str
    old: object
    new: object
    happened_at: datetime
    cause: Cause


def states(connection: Connection, package_ids: Iterable[str]) -> dict[str, State]:
    """All that is claimed of these packages; those never heard of are left out."""
    return {row.id: row.claims for row in connection.execute(_STATES, {"ids": list(package_ids)})}


def packages_after(connection: Connection, package_id: str, *, limit: int) -> list[str]:
    """The ids of the next stored packages, in their own order."""
    found = select(Package.id).where(Package.id > package_id).order_by(Package.id).limit(limit)
    return list(connection.execute(found).scalars())


@dataclass(frozen=True, slots=True)
class ListEntry:
    """What lists find a package by: the kind it is counted as, the name it is sorted by, the text it is searched by."""

    kind: PackageKind
    sort_name: str
    text: str | None


def list_entries(connection: Connection, package_ids: Iterable[str]) -> dict[str, ListEntry]:
    """What lists find the stored packages by, by id."""
    return {
        row.id: ListEntry(PackageKind(row.trashed, row.deleted, row.type, row.status), row.sort_name, row.text)
        for row in connection.execute(_LIST_ENTRIES, {"ids": list(package_ids)})
    }


def list_entry(package: PackageValue) -> ListEntry:
    """What lists are to find a package by."""
    return ListEntry(
        PackageKind(package.trashed, package.deleted, package.type, package.status),
        search.fold(package.name or "")[:SORT_NAME],
        search.text_of(package),
    )


def count_kinds(connection: Connection) -> Counter[PackageKind]:
    """How many packages there are of each kind, counted anew: what the counters must say."""
    columns = (Package.trashed, Package.deleted, Package.type, Package.status)
    found = connection.execute(select(*columns, func.count()).group_by(*columns))
    return Counter({PackageKind(*row[:-1]): row[-1] for row in found})


def erase(connection: Connection, package_ids: Sequence[str]) -> None:
    """Forget packages that nobody ever told of."""
    counters.add_packages(connection, _fewer(list_entries(connection, package_ids)))
    search.erase(connection, package_ids)
    for table in (Signer, Document, Attention):
        connection.execute(delete(table).where(table.package_id.in_(package_ids)))
    connection.execute(delete(Package).where(Package.id.in_(package_ids)))


def differences(
    old: PackageValue | None, new: PackageValue, *, happened_at: datetime, cause: Cause
) -> Iterator[NewChange]:
    """One change for every attribute that differs.

    What was not there before was None. What appears with nothing in it, a flag that is down or a count of none,
    is no change.
    """
    for place, was, is_ in _differences(old or PackageValue(new.id), new):
        if was != is_:
            yield NewChange(new.id, *place, was, is_, happened_at, cause)


Difference = tuple[tuple[str, str], object, object]


def _differences(old: PackageValue, new: PackageValue) -> Iterator[Difference]:
    for name in OF_PACKAGE:
        yield ("package", name), getattr(old, name), getattr(new, name)
    yield ("package", "due_at"), _iso(old.due_at), _iso(new.due_at)
    yield ("package", "sender_id"), old.sender.id, new.sender.id
    yield from _of_parts(
        OF_SIGNER, {signer(one.id): one for one in old.signers}, {signer(one.id): one for one in new.signers}
    )
    yield from _of_parts(
        OF_DOCUMENT, {document(one.id): one for one in old.documents}, {document(one.id): one for one in new.documents}
    )
    before, after = set(map(_place, old.attention)), set(map(_place, new.attention))
    for place in sorted(before ^ after):
        yield place, True if place in before else None, True if place in after else None


def _of_parts(names: Sequence[str], old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Difference]:
    for part in {**old, **new}:
        was, is_ = old.get(part), new.get(part)
        for name in names if was != is_ else ():
            before, value = _plain(getattr(was, name, None)), _plain(getattr(is_, name, None))
            # What comes or goes with nothing in it is no change.
            if (was and is_) or before or value or name == "order":  # the first place in the order is 0
                yield (part, name), before, value


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _place(reason: OpenReason) -> tuple[str, str]:
    return signer(reason.who) if reason.who else "package", f"attention {reason.reason}"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def record(connection: Connection, changes: Sequence[NewChange], *, now: datetime) -> None:
    """Append changes to the history, in their order."""
    if changes:
        rows = [
            {
                "package_id": change.package_id,
                "subject": change.subject,
                "attribute": change.attribute,
                "old": change.old,
                "new": change.new,
                "happened_at": change.happened_at,
                "recorded_at": now,
                "cause_kind": change.cause.kind,
                "cause_id": str(change.cause.id),
            }
            for change in changes
        ]
        insert_all(connection, Change, rows)


def paint(
    connection: Connection, new: Mapping[str, tuple[State, PackageValue]], old: Mapping[str, PackageValue]
) -> None:
    """Write what we now believe of each package, and all that is claimed of it, over what stood there before."""
    packages = [package for _, package in new.values()]
    before, after = list_entries(connection, new), {package.id: list_entry(package) for package in packages}
    upsert_all(
        connection,
        Package,
        [_package(state, package, after[package.id].sort_name) for state, package in new.values()],
    )
    more = Counter(entry.kind for entry in after.values())
    more.update(_fewer(before))
    counters.add_packages(connection, more)
    stored = {package_id: entry.text for package_id, entry in before.items()}
    texts = {package_id: entry.text or "" for package_id, entry in after.items()}
    search.write(connection, {key: text for key, text in texts.items() if stored.get(key) != text})
    _write_parts(connection, Signer, [(one.id, _signers(one), _signers(old.get(one.id))) for one in packages])
    _write_parts(connection, Document, [(one.id, _documents(one), _documents(old.get(one.id))) for one in packages])
    _write_attention(connection, [one for one in packages if _attention_changed(one, old.get(one.id))])


def _fewer(before: Mapping[str, ListEntry]) -> dict[PackageKind, int]:
    return {kind: -number for kind, number in Counter(entry.kind for entry in before.values()).items()}


def _package(state: State, package: PackageValue, sort_name: str) -> dict[str, Any]:
    plain = {name: getattr(package, name) for name in _PLAIN_PACKAGE}
    return {
        **plain,
        "sender_id": package.sender.id,
        "sender_name": package.sender.name,
        "sender_email": package.sender.email,
        "next_signers": list(package.next_signers),
        "sort_name": sort_name,
        "claims": state,
    }


def _signers(package: PackageValue | None) -> dict[str, dict[str, Any]]:
    if package is None:
        return {}
    return {
        one.id: {
            "package_id": package.id,
            "address": address(one.email),
            **{name: _plain(getattr(one, name)) for name in _SIGNER},
        }
        for one in package.signers
    }


def address(email: str | None) -> str | None:
    """An e-mail address without its case, as signers are looked up by it."""
    return email.casefold()[:ADDRESS] if email else None


def _documents(package: PackageValue | None) -> dict[str, dict[str, Any]]:
    if package is None:
        return {}
    return {
        one.id: {
            "package_id": package.id,
            "position": position,
            **{name: _plain(getattr(one, name)) for name in _DOCUMENT},
        }
        for position, one in enumerate(package.documents)
    }


Parts = dict[str, dict[str, Any]]


def _write_parts(
    connection: Connection, table: type[Signer] | type[Document], changed: Iterable[tuple[str, Parts, Parts]]
) -> None:
    written: list[dict[str, Any]] = []
    gone: list[dict[str, str]] = []
    for package_id, new, old in changed:
        written += [row for part, row in new.items() if old.get(part) != row]
        gone += [{"package": package_id, "part": part} for part in old if part not in new]
    upsert_all(connection, table, written)
    if gone:
        statement = delete(table).where(table.package_id == bindparam("package"), table.id == bindparam("part"))
        connection.execute(statement, gone)


def _attention_changed(new: PackageValue, old: PackageValue | None) -> bool:
    return new.attention != (old.attention if old else ())


def _write_attention(connection: Connection, packages: Sequence[PackageValue]) -> None:
    if not packages:
        return
    connection.execute(delete(Attention).where(Attention.package_id.in_([one.id for one in packages])))
    rows = [
        {"package_id": package.id, "position": position, **dataclasses.asdict(reason)}
        for package in packages
        for position, reason in enumerate(package.attention)
    ]
    insert_all(connection, Attention, rows)


_STATES = select(Package.id, Package.claims).where(Package.id.in_(bindparam("ids", expanding=True)))
_LIST_ENTRIES = (
    select(Package.id, Package.trashed, Package.deleted, Package.type, Package.status, Package.sort_name, Search.text)
    .outerjoin(Search, Search.package_id == Package.id)
    .where(Package.id.in_(bindparam("ids", expanding=True)))
)
_PLAIN_PACKAGE = (
    "id",
    "name",
    "type",
    "status",
    "status_at",
    "trashed",
    "deleted",
    "created_at",
    "updated_at",
    "due_at",
    "completed_at",
    "signers_total",
    "signers_completed",
    "last_event_at",
    "read_at",
)
_SIGNER = tuple(field.name for field in dataclasses.fields(SignerValue))
_DOCUMENT = tuple(field.name for field in dataclasses.fields(DocumentValue))
