"""Queries for reconcile runs, missed events, and the share of events that callbacks report."""

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

from app.onespan.event_catalogue import CATALOGUE, event_type
from app.store import onespan_clock
from app.store.counters import day_of
from app.store.models import KIND_CALLBACK, Event, EventCount, Journal, Missed, MissedCount, Run
from app.store.queries.bounded import COUNT_LIMIT, count_rows, count_statement
from app.store.queries.details import Silence
from app.store.queries.paging import Page, following
from app.store.states import EventSource, OutageKind, RunState

FINDABLE = tuple(name for name, kind in CATALOGUE.items() if kind.in_snapshots)
RECENTLY_MISSED = 2000  # most missed events that the check for a silence reads
SILENCE_EVENTS = 3  # consecutive missed events without a later callback that make a silence


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A reconcile run.

    `kind` is `reconcile` (packages updated since a day before the last run), `sweep` (also the ids of all packages) or
    `backfill` (all packages completely). `reason` is `first`, `interval`, `outage` or `asked`. `state` is `running`,
    `done`, or `failed` if the run was given up because it made no progress. `by` is the person who requested the run,
    or null if the service began it.

    The run's window goes back to `since` (null: to the beginning). Once the run is done, everything that OneSpan had at
    `until` is known (null: changes before the window are unknown). While the run is running, it continues at `due_at`.
    `error` says what the run waits for, why it was given up, or what it left out.

    The run made `requests` for list pages, which contained `shown` packages. Of these packages, `changed` reported
    something, `asked` were queued to be read one by one, and `unreadable` could not be read. `found` counts the events
    without a callback that any snapshot found during the run, also by reads after callbacks. While the run is running,
    `found` stops at 500.
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
    """An event that a snapshot found and no callback reported in time. `id` is the id of the event.

    `late` is the longest possible time, in seconds, from the event until a snapshot found it; null if the event's
    earliest time is unknown. `cause` is the likely cause: `down` (no process took callbacks), `refused` (the service
    answered 503), `never reported` (no callback with this name ever arrived: is the event switched on in OneSpan?) or
    `no trace`. `reported_at` is when a callback reported the event after all.
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
    """A filter for missed events. Every given condition must hold."""

    package: str | None = None
    name: str | None = None
    cause: str | None = None
    reported: bool | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """How many events of a day (UTC) or of a name callbacks reported, and how many they missed.

    `of` is the day or name. `rate` is the share of reported events, 0 to 1; null if there were no events.
    """

    of: str
    reported: int
    missed: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How many events of the last days callbacks reported or missed: in total, by day and by name.

    Events within the grace period are not counted. Event names that no snapshot can find are left out, because
    missed events of these names cannot be known.
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
    """Return the reconcile run with the given id, or None if no run has this id."""
    row = connection.execute(select(*_RUN).where(Run.id == run_id)).one_or_none()
    return RunDetail(**row._asdict()) if row else None


def run_page(connection: Connection, *, limit: int, before: int | None) -> list[RunDetail]:
    """Reconcile runs older than the run with the id `before`, newest first."""
    after = None if before is None else [before]
    found = following(select(*_RUN), [Run.__table__.c.id], after=after, limit=limit)
    return [RunDetail(**row._asdict()) for row in connection.execute(found)]


def missed_page(connection: Connection, wanted: MissedFilter, *, limit: int, before: int | None) -> Page[MissedDetail]:
    """Return a page of missed events older than the event with the id `before`, newest first."""
    event_id, after = Missed.__table__.c.event_id, None if before is None else [before]
    found = select(*Missed.__table__.c, Event.found_after).join(Event, Event.id == event_id).where(*_conditions(wanted))
    rows = connection.execute(following(found, [event_id], after=after, limit=limit + 1)).all()
    offset = onespan_clock.offset(connection)
    shown = [_missed(row, offset=offset) for row in rows[:limit]]
    return Page(shown, str(rows[limit - 1].event_id) if len(rows) > limit else None)


def _conditions(wanted: MissedFilter) -> list[ColumnElement[bool]]:
    given = ((Missed.package_id, wanted.package), (Missed.name, wanted.name), (Missed.cause, wanted.cause))
    conditions: list[ColumnElement[bool]] = [column == value for column, value in given if value is not None]
    if wanted.reported is not None:
        conditions.append(Missed.reported_at.is_not(None) if wanted.reported else Missed.reported_at.is_(None))
    return conditions


def delivery(connection: Connection, *, now: datetime, days: int, silence: Silence | None) -> Delivery:
    """Return the share of events of the last days that callbacks reported, together with the given `silence`."""
    since = now.astimezone(UTC) - timedelta(days=days - 1)
    numbers = _numbers(connection, _REPORTED_AND_MISSED, since=since)
    reported, found, missed = numbers[REPORTED], numbers[FOUND_ONLY], numbers[MISSED]
    dates = [day_of(since + timedelta(days=day)).isoformat() for day in range(days)]
    names = [name for name in FINDABLE if reported.by_name[name] or found.by_name[name]]
    total = _rate("all", reported.by_day.total(), missed.by_day.total())
    return Delivery(
        days,
        total.reported,
        total.missed,
        total.rate,
        [_rate(day, reported.by_day[day], missed.by_day[day]) for day in dates],
        [_rate(name, reported.by_name[name], missed.by_name[name]) for name in names],
        dict(sorted(missed.by_cause.items())),
        silence,
    )


def missed_by_cause(connection: Connection, *, since: datetime) -> dict[str, int]:
    """Return the number of missed events from the day of `since` on, by likely cause."""
    return dict(sorted(_numbers(connection, _ONLY_MISSED, since=since)[MISSED].by_cause.items()))


def silence(connection: Connection) -> Silence | None:
    """Return a silence if the latest events were all missed and no callback arrived since they happened.

    Events missed while the service was down or refused callbacks do not count, because their cause is known.
    """
    happened = list(connection.execute(_LAST_MISSED).scalars())
    if len(happened) < SILENCE_EVENTS:
        return None
    last = connection.scalar(_LAST_CALLBACK)
    at = onespan_clock.onespan_time(connection, last) if last else None
    if at is not None and at >= min(happened):
        return None
    (missed,) = count_rows(
        connection, count_statement(_UNEXPLAINED.where(Missed.happened_at > at) if at else _UNEXPLAINED)
    )
    return Silence(last, missed, ADVICE)


ADVICE = (
    "Run `flask callback check` to see what OneSpan has registered (the URL, the key, the events that are switched on)."
    " Then check that the proxy in front of this service lets OneSpan's POST through."
)


def newest_run(connection: Connection) -> RunDetail | None:
    """Return the reconcile run that began last, or None if there were no runs."""
    return next(iter(run_page(connection, limit=1, before=None)), None)


def last_finished_at(connection: Connection) -> datetime | None:
    """Return when the newest completed reconcile run ended."""
    return connection.scalar(
        select(func.max(Run.finished_at, type_=Run.began_at.type)).where(Run.state == RunState.DONE)
    )


@dataclass(frozen=True, slots=True)
class Numbers:
    """Sums of event counters by day, by event name and by cause."""

    by_day: Counter[str]
    by_name: Counter[str]
    by_cause: Counter[str]


def _numbers(connection: Connection, sums: Select[*tuple[Any, ...]], *, since: datetime) -> Mapping[str, Numbers]:
    """Return the sums of counters from the day of `since` on, by kind of counter."""
    numbers: dict[str, Numbers] = defaultdict(lambda: Numbers(Counter(), Counter(), Counter()))
    for kind, day, name, cause, number in connection.execute(sums, {"since": day_of(since)}):
        if day is not None:
            numbers[kind].by_day[day.isoformat()] = int(number)
            continue
        numbers[kind].by_name[name] += int(number)
        numbers[kind].by_cause[cause] += int(number)
    return numbers


def _rate(of: str, reported: int, missed: int) -> Rate:
    total = reported + missed
    return Rate(of, reported, missed, round(reported / total, 4) if total else None)


def _missed(row: Row[*tuple[Any, ...]], *, offset: timedelta) -> MissedDetail:
    since = row.happened_at if event_type(row.name).dated_in_snapshots else row.found_after
    late = max(0.0, (row.found_at + offset - since).total_seconds()) if since else None
    return MissedDetail(
        row.event_id, row.name, row.package_id, row.happened_at, row.found_at, late, row.cause, row.reported_at
    )


_SO_FAR: ColumnElement[int] = literal_column(
    f"""(SELECT count(*) FROM (
        SELECT 1 FROM events WHERE source = 'reconcile' AND first_received_at >= reconciles.began_at LIMIT {COUNT_LIMIT}
    ) AS so_far)"""  # noqa: S608  (our own number)
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
    """Build the query for the counters of one kind. `cause` is an empty string for counters without a cause."""
    since = (table.day >= bindparam("since", type_=table.day.type), table.number != 0)
    kind_column: ColumnElement[str] = literal_column(f"'{kind}'")
    columns = (kind_column.label("kind"), table.day, table.name, cause.label("cause"), table.number)
    return select(*columns).where(*since, *conditions)


def _sums(*parts: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Build the query for the sums of the given counters by day, and by event name and cause."""
    row = union_all(*parts).cte("counted").c
    number = func.sum(row.number).label("number")
    no_text: ColumnElement[str] = literal_column("''")
    by_day = select(row.kind, row.day, no_text.label("name"), no_text.label("cause"), number)
    by_name = select(row.kind, null(), row.name, row.cause, number)
    both = union_all(by_day.group_by(row.kind, row.day), by_name.group_by(row.kind, row.name, row.cause)).subquery()
    return select(both)


# The names are literals. With parameters, PostgreSQL's cached plan would build no hash table for the IN condition.
_FINDABLE: BindParameter[str] = bindparam("findable", FINDABLE, expanding=True, literal_execute=True)
_NO_CAUSE: ColumnElement[str] = literal_column("''")
_REPORTED = _counts(
    REPORTED, EventCount, _NO_CAUSE, EventCount.source == EventSource.CALLBACK, EventCount.name.in_(_FINDABLE)
)
_FOUND_ONLY = _counts(FOUND_ONLY, EventCount, _NO_CAUSE, EventCount.source == EventSource.RECONCILE)
_MISSED = _counts(MISSED, MissedCount, MissedCount.cause.expression)


# These queries are built once, because they run in every health report.
_ONLY_MISSED, _REPORTED_AND_MISSED = _sums(_MISSED), _sums(_REPORTED, _FOUND_ONLY, _MISSED)
_RECENT = (
    select(Missed.__table__)
    .where(Missed.reported_at.is_(None))
    .order_by(Missed.event_id.desc())
    .limit(RECENTLY_MISSED)
    .subquery()
)
_LAST_MISSED = (
    select(_RECENT.c.happened_at)
    .where(_RECENT.c.cause.not_in((OutageKind.DOWN, OutageKind.REFUSED)))
    .order_by(_RECENT.c.event_id.desc())
    .limit(SILENCE_EVENTS)
)
_LAST_CALLBACK = select(Journal.received_at).where(Journal.kind == KIND_CALLBACK).order_by(Journal.id.desc()).limit(1)
_UNEXPLAINED = select(Missed.event_id).where(
    Missed.reported_at.is_(None), Missed.cause.not_in((OutageKind.DOWN, OutageKind.REFUSED))
)
