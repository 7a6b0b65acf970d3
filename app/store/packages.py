"""The status store: packages, signers, documents, attention and changes. Only this module writes their tables.

Callers of its writing functions hold the write lock (`db.take_write_lock`).
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.engine import Connection

from app.onespan.merge import State, document, signer
from app.onespan.values import Attention as OpenReason
from app.onespan.values import Document as DocumentValue
from app.onespan.values import Group, Signature
from app.onespan.values import Package as PackageValue
from app.onespan.values import Signer as SignerValue
from app.store import counters, search
from app.store.bulk import any_of, insert_all, upsert_all
from app.store.counters import PackageKind
from app.store.models import Attention, Change, Document, Fetch, Package, Search, Signer
from app.store.states import UnverifiedReason

# The attributes whose changes are recorded; all others are derived from these, or are times.
OF_PACKAGE = ("name", "type", "status", "trashed", "deleted", "description", "data")
OF_SIGNER = (
    *("status", "name", "email", "order", "role_id", "locked", "email_bounce", "kba_failures", "attachments"),
    *("begun_at", "group"),
)
OF_DOCUMENT = ("name", "asked", "signed_by")
ADDRESS_LENGTH = 256  # characters of an e-mail address that are compared when signers are looked up
SORT_NAME_LENGTH = 100  # characters of a name that the sort order uses; cursors contain them and must fit into a URL


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of a change. `kind` is `callback`, `snapshot`, `dispatch`, `person`, `rebuild`, `fetch` or `reconcile`.

    `id` is the journal id of a callback or snapshot, or the id of a dispatch or reconcile run. For a person, `id` is
    the name given at login, `api:<label of the token>` or `cli:<login name>`. For a fetch that failed, it is the error.
    """

    kind: str
    id: int | str


@dataclass(frozen=True, slots=True)
class NewChange:
    """A change of one attribute that is to be recorded."""

    package_id: str
    subject: str
    attribute: str
    old: object
    new: object
    happened_at: datetime
    cause: Cause


def load_claims(connection: Connection, package_ids: Iterable[str]) -> dict[str, State]:
    """Return the merged claims of the given packages, by package id; unknown packages are left out."""
    return {package_id: stored.claims for package_id, stored in load(connection, package_ids).items()}


def load(connection: Connection, package_ids: Iterable[str]) -> dict[str, "StoredPackage"]:
    """Return what is stored of the given packages, by package id; unknown packages are left out."""
    return {
        row.id: StoredPackage(row.claims, row.projection_version, _list_entry(row))
        for row in connection.execute(_STORED, {"ids": list(package_ids)})
    }


def packages_after(connection: Connection, package_id: str, *, limit: int) -> list[str]:
    """Return the next package ids after the given id, in ascending order."""
    found = select(Package.id).where(Package.id > package_id).order_by(Package.id).limit(limit)
    return list(connection.execute(found).scalars())


@dataclass(frozen=True, slots=True)
class ListEntry:
    """What lists need of a package: the kind for counting, the name for sorting and the text for searching."""

    kind: PackageKind
    sort_name: str
    text: str | None


class StoredPackage(NamedTuple):
    """The merged claims of a package, the version of the code that derived it, and its list entry."""

    claims: State
    version: int
    entry: ListEntry


def list_entries(connection: Connection, package_ids: Iterable[str]) -> dict[str, ListEntry]:
    """Return the stored list entries of the given packages, by package id."""
    return {row.id: _list_entry(row) for row in connection.execute(_LIST_ENTRIES, {"ids": list(package_ids)})}


def _list_entry(row: Any) -> ListEntry:
    return ListEntry(PackageKind(row.trashed, row.deleted, row.type, row.status), row.sort_name, row.text)


def list_entry(package: PackageValue) -> ListEntry:
    """Derive from a package the list entry that should be stored."""
    return ListEntry(
        PackageKind(package.trashed, package.deleted, package.type, package.status),
        search.fold(package.name or "")[:SORT_NAME_LENGTH],
        search.text_of(package),
    )


def count_kinds(connection: Connection) -> Counter[PackageKind]:
    """Count the packages of each kind in the table of packages. The counters must equal these numbers."""
    columns = (Package.trashed, Package.deleted, Package.type, Package.status)
    found = connection.execute(select(*columns, func.count()).group_by(*columns))
    return Counter({PackageKind(*row[:-1]): row[-1] for row in found})


def erase(connection: Connection, package_ids: Sequence[str]) -> None:
    """Delete the given packages, about which the journal has no rows."""
    counters.add_packages(connection, _decrements(list_entries(connection, package_ids)))
    search.erase(connection, package_ids)
    for table in (Signer, Document, Attention):
        connection.execute(delete(table).where(table.package_id.in_(package_ids)))
    connection.execute(delete(Package).where(Package.id.in_(package_ids)))


def changes_between(
    old: PackageValue | None, new: PackageValue, *, happened_at: datetime, cause: Cause
) -> Iterator[NewChange]:
    """Yield one change for every attribute that differs between two values of a package.

    The old values of a new package, signer or document are None. Its empty values (false, 0, an empty list) are no
    change.
    """
    for attribute, before, after in _compared(old or PackageValue(new.id), new):
        if before != after:
            yield NewChange(new.id, *attribute, before, after, happened_at, cause)


Compared = tuple[tuple[str, str], object, object]  # (subject, attribute), old value, new value


def _compared(old: PackageValue, new: PackageValue) -> Iterator[Compared]:
    for name in OF_PACKAGE:
        yield ("package", name), getattr(old, name), getattr(new, name)
    yield ("package", "due_at"), _iso(old.due_at), _iso(new.due_at)
    yield ("package", "sender_id"), old.sender.id, new.sender.id
    yield from _compared_parts(OF_SIGNER, _signers_by_subject(old), _signers_by_subject(new))
    yield from _compared_parts(OF_DOCUMENT, _documents_by_subject(old), _documents_by_subject(new))
    before, after = set(map(_open_reason, old.attention)), set(map(_open_reason, new.attention))
    for reason in sorted(before ^ after):
        yield reason, True if reason in before else None, True if reason in after else None


def _signers_by_subject(package: PackageValue) -> dict[str, SignerValue]:
    return {signer(seat.id): seat for seat in package.signers}


def _documents_by_subject(package: PackageValue) -> dict[str, DocumentValue]:
    return {document(part.id): part for part in package.documents}


def _compared_parts(names: Sequence[str], old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Compared]:
    for subject in {**old, **new}:
        old_part, new_part = old.get(subject), new.get(subject)
        for name in names if old_part != new_part else ():
            before, after = _plain(getattr(old_part, name, None)), _plain(getattr(new_part, name, None))
            # An empty value of a new or deleted signer or document is no change. `order` 0 is not an empty value.
            if (old_part and new_part) or before or after or name == "order":
                yield (subject, name), before, after


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _open_reason(reason: OpenReason) -> tuple[str, str]:
    return signer(reason.who) if reason.who else "package", f"attention {reason.reason}"


def _plain(value: object) -> object:
    """Return a value as JSON."""
    match value:
        case tuple():
            return [_plain(item) for item in value]
        case datetime():
            return _iso(value)
        case Group() | Signature():
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def record_changes(connection: Connection, changes: Sequence[NewChange], *, now: datetime) -> None:
    """Append changes to the history, in the given order."""
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


def write_packages(
    connection: Connection,
    new: Mapping[str, tuple[State, PackageValue]],
    old: Mapping[str, PackageValue],
    *,
    entries: Mapping[str, ListEntry],
    version: int,
) -> None:
    """Overwrite the rows of packages with new values and merged claims.

    `old` are the packages and `entries` the list entries as stored before; both may have more packages. `version` comes
    from `versions.version_to_write`.
    """
    packages = [package for _, package in new.values()]
    before = {package_id: entries[package_id] for package_id in new if package_id in entries}
    after = {package.id: list_entry(package) for package in packages}
    upsert_all(
        connection,
        Package,
        [
            {**_package(state, package, after[package.id].sort_name), "projection_version": version}
            for state, package in new.values()
        ],
    )
    numbers = Counter(entry.kind for entry in after.values())
    numbers.update(_decrements(before))
    counters.add_packages(connection, numbers)
    stored_texts = {package_id: entry.text for package_id, entry in before.items()}
    texts = {package_id: entry.text or "" for package_id, entry in after.items()}
    search.write(connection, {key: text for key, text in texts.items() if stored_texts.get(key) != text})
    pairs = [(package, old.get(package.id)) for package in packages]
    _write_parts(connection, Signer, [(package.id, _signers(package), _signers(stored)) for package, stored in pairs])
    _write_parts(
        connection, Document, [(package.id, _documents(package), _documents(stored)) for package, stored in pairs]
    )
    _write_attention(connection, [package for package, stored in pairs if _attention_changed(package, stored)])


def set_version(connection: Connection, package_ids: Sequence[str], version: int) -> None:
    """Set the projection version of packages without any other change."""
    connection.execute(update(Package).where(Package.id.in_(package_ids)).values(projection_version=version))


def begin_unverified(
    connection: Connection, reasons: Mapping[str, UnverifiedReason], *, cause: Cause, now: datetime
) -> None:
    """Record that OneSpan does not show the given packages, and why. Unknown and deleted packages are left out."""
    stored = select(Package.id, Package.unverified_reason).where(Package.id.in_(reasons), Package.deleted.is_(False))
    changes = [
        NewChange(row.id, "package", "unverified", row.unverified_reason, reasons[row.id].value, now, cause)
        for row in connection.execute(stored)
        if row.unverified_reason != reasons[row.id]
    ]
    since = func.coalesce(Package.unverified_since, now)
    for change in changes:
        values = {"unverified_since": since, "unverified_reason": change.new}
        connection.execute(update(Package).where(Package.id == change.package_id).values(values))
    record_changes(connection, changes, now=now)


def end_unverified(connection: Connection, shown: Mapping[str, Cause], *, now: datetime) -> None:
    """Record that the given packages are verified again, each with its cause."""
    if not shown:
        return
    stored = select(Package.id, Package.unverified_reason).where(
        Package.id.in_(shown), Package.unverified_since.is_not(None)
    )
    changes = [
        NewChange(row.id, "package", "unverified", row.unverified_reason, None, now, shown[row.id])
        for row in connection.execute(stored)
    ]
    ended = update(Package).where(Package.id.in_([change.package_id for change in changes]))
    if changes:
        connection.execute(ended.values(unverified_since=None, unverified_reason=None))
    record_changes(connection, changes, now=now)


def unverified(connection: Connection, package_ids: Iterable[str]) -> set[str]:
    """Return those of the given packages that OneSpan does not show."""
    found = select(Package.id).where(Package.id.in_(package_ids), Package.unverified_since.is_not(None))
    return set(connection.execute(found).scalars())


def never_read(connection: Connection) -> list[str]:
    """Return the ids of packages that only callbacks reported, and whose fetch has failed so far."""
    found = (
        select(Package.id)
        .join(Fetch, Fetch.package_id == Package.id)
        .where(
            Fetch.error.is_not(None),
            Package.read_at.is_(None),
            Package.deleted.is_(False),
            Package.unverified_since.is_(None),
        )
    )
    return list(connection.execute(found).scalars())


def _decrements(before: Mapping[str, ListEntry]) -> dict[PackageKind, int]:
    return {kind: -number for kind, number in Counter(entry.kind for entry in before.values()).items()}


def _package(state: State, package: PackageValue, sort_name: str) -> dict[str, Any]:
    plain = {name: getattr(package, name) for name in _PLAIN_PACKAGE}
    return {
        **plain,
        "sender_id": package.sender.id,
        "sender_name": package.sender.name,
        "sender_email": package.sender.email,
        "next_signers": list(package.next_signers),
        "data": package.data,
        "sort_name": sort_name,
        "claims": state,
    }


def _signers(package: PackageValue | None) -> dict[str, dict[str, Any]]:
    if package is None:
        return {}
    return {
        seat.id: {
            "package_id": package.id,
            "address": address(seat.email),
            **{name: getattr(seat, name) for name in _SIGNER},
            "attachments": list(seat.attachments),
            "group": _plain(seat.group),
        }
        for seat in package.signers
    }


def address(email: str | None) -> str | None:
    """Shorten an e-mail address and convert it to lower case, the form by which signers are looked up."""
    return email.casefold()[:ADDRESS_LENGTH] if email else None


def _documents(package: PackageValue | None) -> dict[str, dict[str, Any]]:
    if package is None:
        return {}
    return {
        part.id: {
            "package_id": package.id,
            "position": position,
            "id": part.id,
            "name": part.name,
            "signed_by": list(part.signed_by),
            "signed_at": part.signed_at,
            "signatures": _plain(part.signatures),
        }
        for position, part in enumerate(package.documents)
    }


Parts = dict[str, dict[str, Any]]


def _write_parts(
    connection: Connection, table: type[Signer] | type[Document], changed: Iterable[tuple[str, Parts, Parts]]
) -> None:
    written: list[dict[str, Any]] = []
    gone: list[dict[str, str]] = []
    for package_id, new, old in changed:
        written += [row for part_id, row in new.items() if old.get(part_id) != row]
        gone += [{"package": package_id, "part": part_id} for part_id in old if part_id not in new]
    upsert_all(connection, table, written)
    if gone:
        statement = delete(table).where(table.package_id == bindparam("package"), table.id == bindparam("part"))
        connection.execute(statement, gone)


def _attention_changed(new: PackageValue, old: PackageValue | None) -> bool:
    return new.attention != (old.attention if old else ())


def _write_attention(connection: Connection, packages: Sequence[PackageValue]) -> None:
    if not packages:
        return
    connection.execute(delete(Attention).where(Attention.package_id.in_([package.id for package in packages])))
    rows = [
        {"package_id": package.id, "position": position, **dataclasses.asdict(reason)}
        for package in packages
        for position, reason in enumerate(package.attention)
    ]
    insert_all(connection, Attention, rows)


_LIST_ENTRIES = (
    select(Package.id, Package.trashed, Package.deleted, Package.type, Package.status, Package.sort_name, Search.text)
    .outerjoin(Search, Search.package_id == Package.id)
    .where(any_of(Package.id, "ids"))
)
_STORED = _LIST_ENTRIES.add_columns(Package.claims, Package.projection_version)
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
    "description",
)
_SIGNER = tuple(field.name for field in dataclasses.fields(SignerValue))
