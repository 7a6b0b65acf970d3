"""Runs of the reconciler, what callbacks never told, and how many of them come."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Select,
    bindparam,
    func,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.engine import Connection

from app.onespan.catalogue import CATALOGUE
from app.onespan.findings import DATED, NEVER_FOUND
from app.store.counters import day_of
from app.store.models import CALLBACK, Event, EventCount, Journal, Missed, MissedCount, Run
from app.store.outages import DOWN, REFUSED
from app.store.queries.bounded import COUNTED, counted, counts
from app.store.queries.details import Silence
from app.store.queries.paging import Page, following
from app.store.states import EventSource

FINDABLE = tuple(name for name in CATALOGUE if name not in NEVER_FOUND)
LOOKED_AT = 2000  # of the facts missed last
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
    told, by whatever reading: those for callbacks that surprised us are among them; while it runs they are counted up
    to 500. `by` is who asked for it, where somebody did; null: the service by itself.
    """

    id: int
    kind: str
    reason: str
    by: str | None
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

    `late`: at most so many seconds after it happened we learned of it; null where nothing says when it may have
    happened at the earliest. `cause`, as far as can be told: `down` (no process
    of ours took callbacks), `refused` (we answered 503), `never reported` (no callback of this name ever came: is the
    event switched on in OneSpan?) or `no trace`. `reported_at`: when its callback came after all.
    """

    id: int
    name: str
    package_id: str
    happened_at: datetime
    found_at: datetime
    late: float | None
    cause: str
    reported_at: datetime | None


@dataclass(frozen=True, slots=True)
class MissedFilter:
    """Which missed facts are wanted; everything given must fit."""

    package: str | None = None
    name: str | None = None
    cause: str | None = None
    reported: bool | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """Of what happened on a day (UTC), or under a name: how much callbacks told, how much they missed.

    `rate` is the share that was told, 0 to 1; null where nothing happened.
    """

    of: str
    reported: int
    missed: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How many of the facts of the last days callbacks told, in all, by day and by name; without those in grace.

    Names of which no reading can find a fact are left out: what is missed of them nobody knows.
    """

    days: int
    reported: int
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
    after = None if before is None else [before]
    found = following(select(*_RUN), [Run.__table__.c.id], after=after, limit=limit)
    return [RunDetail(**row._asdict()) for row in connection.execute(found)]


def missed_page(connection: Connection, wanted: MissedFilter, *, limit: int, before: int | None) -> Page[MissedDetail]:
    """A page of missed facts that were found before the event with this id, newest first."""
    event_id, after = Missed.__table__.c.event_id, None if before is None else [before]
    found = select(*Missed.__table__.c, Event.found_after).join(Event, Event.id == event_id).where(*_conditions(wanted))
    rows = connection.execute(following(found, [event_id], after=after, limit=limit + 1)).all()
    return Page(list(map(_missed, rows[:limit])), str(rows[limit - 1].event_id) if len(rows) > limit else None)


def _conditions(wanted: MissedFilter) -> list[ColumnElement[bool]]:
    asked = ((Missed.package_id, wanted.package), (Missed.name, wanted.name), (Missed.cause, wanted.cause))
    conditions: list[ColumnElement[bool]] = [column == value for column, value in asked if value is not None]
    if wanted.reported is not None:
        conditions.append(Missed.told_at.is_not(None) if wanted.reported else Missed.told_at.is_(None))
    return conditions


def delivery(connection: Connection, *, now: datetime, days: int, silence: Silence | None) -> Delivery:
    """The delivery rate of the last days, with what is known of a `silence`."""
    since = now.astimezone(UTC) - timedelta(days=days - 1)
    numbers = _numbers(connection, _REPORTED_AND_MISSED, since=since)
    came, found, lost = numbers[REPORTED], numbers[FOUND_ONLY], numbers[MISSED]
    dates = [day_of(since + timedelta(days=day)).isoformat() for day in range(days)]
    names = [name for name in FINDABLE if came.by_name[name] or found.by_name[name]]
    total = _rate("all", came.by_day.total(), lost.by_day.total())
    return Delivery(
        days,
        total.reported,
        total.missed,
        total.rate,
        [_rate(day, came.by_day[day], lost.by_day[day]) for day in dates],
        [_rate(name, came.by_name[name], lost.by_name[name]) for name in names],
        dict(sorted(lost.by_cause.items())),
        silence,
    )


def missed_by_cause(connection: Connection, *, since: datetime) -> dict[str, int]:
    """How many facts of that day and later nobody has told, by likely cause."""
    return dict(sorted(_numbers(connection, _ONLY_MISSED, since=since)[MISSED].by_cause.items()))


def silence(connection: Connection) -> Silence | None:
    """Whether no callback comes any more: the last facts were all missed, and nothing was told since they happened.

    What happened while we were down, or refused callbacks, does not count: that it was not told is explained.
    """
    happened = list(connection.execute(_LAST_MISSED).scalars())
    if len(happened) < SILENT:
        return None
    last = connection.scalar(_LAST_CALLBACK)
    if last is not None and last >= min(happened):
        return None
    (missed,) = counted(connection, counts(_UNEXPLAINED.where(Missed.happened_at > last) if last else _UNEXPLAINED))
    return Silence(last, missed, ADVICE)


ADVICE = (
    "Ask OneSpan what it has of us with `flask callback check` (the address, the key, the events that are switched on),"
    " and see whether the proxy before this service lets OneSpan's POST through."
)


def newest_run(connection: Connection) -> RunDetail | None:
    """The run that began last."""
    return next(iter(run_page(connection, limit=1, before=None)), None)


def last_done(connection: Connection) -> datetime | None:
    """When the newest run ended that came to its end."""
    return connection.scalar(select(func.max(Run.finished_at, type_=Run.began_at.type)).where(Run.state == "done"))


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many, by each of the parts of what they are counted by."""

    by_day: Counter[str]
    by_name: Counter[str]
    by_cause: Counter[str]


def _numbers(connection: Connection, sums: Select[*tuple[Any, ...]], *, since: datetime) -> Mapping[str, Numbers]:
    """How many there are of that day and later, by their kind."""
    numbers: dict[str, Numbers] = defaultdict(lambda: Numbers(Counter(), Counter(), Counter()))
    for kind, day, name, cause, number in connection.execute(sums, {"since": day_of(since)}):
        if day is not None:
            numbers[kind].by_day[day.isoformat()] = int(number)
            continue
        numbers[kind].by_name[name] += int(number)
        numbers[kind].by_cause[cause] += int(number)
    return numbers


def _rate(of: str, came: int, lost: int) -> Rate:
    return Rate(of, came, lost, round(came / (came + lost), 4) if came + lost else None)


def _missed(row: Row[*tuple[Any, ...]]) -> MissedDetail:
    since = row.happened_at if row.name in DATED else row.found_after
    late = (row.found_at - since).total_seconds() if since else None
    return MissedDetail(
        row.event_id, row.name, row.package_id, row.happened_at, row.found_at, late, row.cause, row.told_at
    )


_SO_FAR: ColumnElement[int] = literal_column(
    f"""(SELECT count(*) FROM (
        SELECT 1 FROM events WHERE source = 'reconcile' AND first_received_at >= reconciles.began_at LIMIT {COUNTED}
    ) AS so_far)"""  # noqa: S608  (a number of ours)
)
_FOUND = func.coalesce(Run.found, _SO_FAR).label("found")
_RUN = (
    *(
        Run.__table__.c[name]
        for name in (
            "id",
            "kind",
            "reason",
            "by",
            "state",
            "fires",
            "since",
            "until",
            "began_at",
            "finished_at",
            "due_at",
        )
    ),
    *(Run.__table__.c[name] for name in ("error", "requests", "shown", "changed", "asked", "unreadable")),
    _FOUND,
)

REPORTED, FOUND_ONLY, MISSED = "reported", "found", "missed"


def _counts(
    kind: str, table: type[EventCount] | type[MissedCount], cause: ColumnElement[str], *conditions: ColumnElement[bool]
) -> Select[*tuple[Any, ...]]:
    """The counters of one kind; `cause` is empty where they have none."""
    since = (table.day >= bindparam("since", type_=table.day.type), table.number != 0)
    kind_column: ColumnElement[str] = literal_column(f"'{kind}'")
    columns = (kind_column.label("kind"), table.day, table.name, cause.label("cause"), table.number)
    return select(*columns).where(*since, *conditions)


def _sums(*parts: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """The numbers by day, and by name and cause."""
    row = union_all(*parts).cte("counted").c
    number = func.sum(row.number).label("number")
    no_text: ColumnElement[str] = literal_column("''")
    by_day = select(row.kind, row.day, no_text.label("name"), no_text.label("cause"), number)
    by_name = select(row.kind, null(), row.name, row.cause, number)
    both = union_all(by_day.group_by(row.kind, row.day), by_name.group_by(row.kind, row.name, row.cause)).subquery()
    return select(both)


# Written into the statement: with parameters a plan that PostgreSQL keeps would not use a hash table for them.
_FINDABLE: BindParameter[str] = bindparam("findable", FINDABLE, expanding=True, literal_execute=True)
_NO_CAUSE: ColumnElement[str] = literal_column("''")
_REPORTED = _counts(
    REPORTED, EventCount, _NO_CAUSE, EventCount.source == EventSource.CALLBACK, EventCount.name.in_(_FINDABLE)
)
_FOUND_ONLY = _counts(FOUND_ONLY, EventCount, _NO_CAUSE, EventCount.source == EventSource.RECONCILE)
_MISSED = _counts(MISSED, MissedCount, MissedCount.cause.expression)


# Put together once: they run whenever somebody looks how the service is.
_ONLY_MISSED, _REPORTED_AND_MISSED = _sums(_MISSED), _sums(_REPORTED, _FOUND_ONLY, _MISSED)
_UNTOLD = select(Missed.__table__).where(Missed.told_at.is_(None)).order_by(Missed.event_id.desc()).limit(LOOKED_AT)
_LAST_ONES = _UNTOLD.subquery()
_LAST_MISSED = (
    select(_LAST_ONES.c.happened_at)
    .where(_LAST_ONES.c.cause.not_in((DOWN, REFUSED)))
    .order_by(_LAST_ONES.c.event_id.desc())
    .limit(SILENT)
)
_LAST_CALLBACK = select(Journal.received_at).where(Journal.kind == CALLBACK).order_by(Journal.id.desc()).limit(1)
_UNEXPLAINED = select(Missed.event_id).where(Missed.told_at.is_(None), Missed.cause.not_in((DOWN, REFUSED)))
