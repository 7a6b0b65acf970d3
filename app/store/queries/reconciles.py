"""Runs of the reconciler, what callbacks never told, and how many of them come."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.engine import Connection

from app.onespan.catalogue import CATALOGUE
from app.onespan.findings import NEVER_FOUND
from app.store.models import Event, Journal, Missed, Run

SILENT = 3  # facts missed in a row, with no callback since, that make a silence


@dataclass(frozen=True, slots=True)
class RunDetail:
    """One time of asking OneSpan what changed.

    `kind`: `reconcile` (what was updated since the last one, and a day before), `sweep` (besides, the ids of all
    packages) or `backfill` (all packages, whole); `reason`: `first`, `interval`, `outage` or `asked`; `state`:
    `running`, `done`, or `failed` where it was given up, for it came no further. The window goes back to `since` (null:
    to the beginning); once done, all that OneSpan had by `until` is known (null: the window left a gap before it).
    While it runs, it goes on at `due_at`. `error` says what it waits for, why it was given up, or what it left out. It
    made `requests` for pages of the list, which showed `shown` packages; `changed` of them told something, and `asked`
    were to be read singly; `unreadable` could not be read. `found` facts came up in that time which no callback had
    told, by whatever reading: those for callbacks that surprised us are among them.
    """

    id: int
    kind: str
    reason: str
    state: str
    fires: bool
    since: datetime | None
    until: datetime | None
    began_at: datetime
    finished_at: datetime | None
    due_at: datetime
    error: str | None
    requests: int
    shown: int
    changed: int
    asked: int
    unreadable: int
    found: int


@dataclass(frozen=True, slots=True)
class MissedDetail:
    """A fact that a reading found and no callback told in time; `id` is its event's.

    `late` is how many seconds after it happened we learned of it. `cause`, as far as can be told: `down` (no process
    of ours took callbacks), `refused` (we answered 503), `never told` (no callback of this name ever came: is the
    event switched on in OneSpan?) or `no trace`. `told_at`: when a callback told it all the same.
    """

    id: int
    name: str
    package_id: str
    happened_at: datetime
    found_at: datetime
    late: float
    cause: str
    told_at: datetime | None


@dataclass(frozen=True, slots=True)
class MissedFilter:
    """Which missed facts are wanted; everything given must fit."""

    package: str | None = None
    name: str | None = None
    cause: str | None = None
    told: bool | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """Of what happened on a day (UTC), or under a name: how much callbacks told, how much they missed.

    `rate` is the share that was told, 0 to 1; null where nothing happened.
    """

    of: str
    told: int
    missed: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class Silence:
    """Reading keeps finding facts, and no callback comes: the last one at `since`, if ever; `missed` facts ago."""

    since: datetime | None
    missed: int
    advice: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """How many of the facts of the last days callbacks told, in all, by day and by name; without those in grace.

    Names of which no reading can find a fact are left out: what is missed of them nobody knows.
    """

    days: int
    told: int
    missed: int
    rate: float | None
    by_day: list[Rate]
    by_name: list[Rate]
    causes: dict[str, int]
    silence: Silence | None


def run(connection: Connection, run_id: int) -> RunDetail | None:
    """One run, or None."""
    row = connection.execute(select(*_RUN).where(Run.id == run_id)).one_or_none()
    return RunDetail(**row._asdict()) if row else None


def run_page(connection: Connection, *, limit: int, before: int | None) -> list[RunDetail]:
    """Runs older than the one with this id, newest first."""
    found = select(*_RUN).order_by(Run.id.desc()).limit(limit)
    if before is not None:
        found = found.where(Run.id < before)
    return [RunDetail(**row._asdict()) for row in connection.execute(found)]


def missed_page(connection: Connection, wanted: MissedFilter, *, limit: int, before: int | None) -> list[MissedDetail]:
    """Missed facts that were found before the event with this id, newest first."""
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (Missed.package_id, wanted.package),
            (Missed.name, wanted.name),
            (Missed.cause, wanted.cause),
        )
        if value is not None
    ]
    if wanted.told is not None:
        conditions.append(Missed.told_at.is_not(None) if wanted.told else Missed.told_at.is_(None))
    if before is not None:
        conditions.append(Missed.event_id < before)
    rows = connection.execute(
        select(*Missed.__table__.c).where(*conditions).order_by(Missed.event_id.desc()).limit(limit)
    )
    return [_missed(row) for row in rows]


def delivery(connection: Connection, *, now: datetime, days: int) -> Delivery:
    """The delivery rate of the last days."""
    since = (now - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    findable = [name for name in CATALOGUE if name not in NEVER_FOUND]
    happened = _tally(connection, Event, Event.happened_at >= since, Event.name.in_(findable))
    found = (Event.source == "reconcile", Event.confirmation.is_(None))
    untold = _tally(connection, Event, Event.happened_at >= since, Event.name.in_(findable), *found)
    missed = _tally(connection, Missed, Missed.happened_at >= since, Missed.told_at.is_(None))
    told = {place: number - untold.get(place, 0) for place, number in happened.items()}
    dates = [(since + timedelta(days=day)).date().isoformat() for day in range(days)]
    causes = connection.execute(
        select(Missed.cause, func.count())
        .where(Missed.happened_at >= since, Missed.told_at.is_(None))
        .group_by(Missed.cause)
    )
    total = _rate("all", told.values(), missed.values())
    return Delivery(
        days,
        total.told,
        total.missed,
        total.rate,
        [_rate(day, _of(told, 0, day), _of(missed, 0, day)) for day in dates],
        [_rate(name, _of(told, 1, name), _of(missed, 1, name)) for name in findable if _of(happened, 1, name)],
        {row[0]: row[1] for row in causes},
        silence(connection),
    )


def missed_by_cause(connection: Connection, *, since: datetime) -> dict[str, int]:
    """How many facts of that time nobody has told, by likely cause."""
    found = select(Missed.cause, func.count()).where(Missed.happened_at >= since, Missed.told_at.is_(None))
    return {row[0]: row[1] for row in connection.execute(found.group_by(Missed.cause))}


def silence(connection: Connection) -> Silence | None:
    """Whether no callback comes any more: the last facts were all missed, and nothing was told since they happened."""
    newest = select(Missed.happened_at).where(Missed.told_at.is_(None)).order_by(Missed.event_id.desc()).limit(SILENT)
    happened = list(connection.execute(newest).scalars())
    if len(happened) < SILENT:
        return None
    last = connection.scalar(
        select(Journal.received_at).where(Journal.kind == "callback").order_by(Journal.id.desc()).limit(1)
    )
    if last is not None and last >= min(happened):
        return None
    counted = select(func.count()).select_from(Missed).where(Missed.told_at.is_(None))
    missed = connection.scalar(counted.where(Missed.happened_at > last) if last else counted) or 0
    return Silence(last, missed, ADVICE)


ADVICE = (
    "Ask OneSpan what it has of us with `flask callback check` (the address, the key, the events that are switched on),"
    " and see whether the proxy before this service lets OneSpan's POST through."
)


def hindered(connection: Connection) -> RunDetail | None:
    """The newest run, where it waits for something, was given up, or left something out; None where all went well."""
    newest = run_page(connection, limit=1, before=None)
    return next((one for one in newest if one.error), None)


def last_done(connection: Connection) -> datetime | None:
    """When the newest run ended that came to its end."""
    return connection.scalar(select(func.max(Run.finished_at, type_=Run.began_at.type)).where(Run.state == "done"))


Tally = Mapping[tuple[str, str], int]


def _tally(connection: Connection, table: type[Event] | type[Missed], *conditions: ColumnElement[bool]) -> Tally:
    """How many by day and name."""
    day = func.date(table.happened_at)
    rows = connection.execute(select(day, table.name, func.count()).where(*conditions).group_by(day, table.name))
    return {(str(row[0]), row[1]): row[2] for row in rows}


def _of(tally: Tally, place: int, value: str) -> list[int]:
    return [number for key, number in tally.items() if key[place] == value]


def _rate(of: str, told: Collection[int], missed: Collection[int]) -> Rate:
    came, lost = sum(told), sum(missed)
    return Rate(of, came, lost, round(came / (came + lost), 4) if came + lost else None)


def _missed(row: Row[*tuple[Any, ...]]) -> MissedDetail:
    late = (row.found_at - row.happened_at).total_seconds()
    return MissedDetail(
        row.event_id, row.name, row.package_id, row.happened_at, row.found_at, late, row.cause, row.told_at
    )


_FOUND = (
    select(func.count())
    .where(
        Event.source == "reconcile",
        Event.first_received_at >= Run.began_at,
        (Run.finished_at.is_(None)) | (Event.first_received_at <= Run.finished_at),
    )
    .correlate(Run)
    .scalar_subquery()
    .label("found")
)
_RUN = (
    *(
        Run.__table__.c[name]
        for name in ("id", "kind", "reason", "state", "fires", "since", "until", "began_at", "finished_at", "due_at")
    ),
    *(Run.__table__.c[name] for name in ("error", "requests", "shown", "changed", "asked", "unreadable")),
    _FOUND,
)
