"""Runs of the reconciler, what callbacks never told, and how many of them come."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, func, literal_column, select
from sqlalchemy.engine import Connection

from app.onespan.catalogue import CATALOGUE
from app.onespan.findings import DATED, NEVER_FOUND
from app.store import tallies
from app.store.models import CALLBACK, Event, Journal, Missed, Run, Tally
from app.store.outages import DOWN, REFUSED
from app.store.queries.newest import COUNTED, Way, count_some, newest
from app.store.queries.shown import Page

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
    to 10,000. `by` is who asked for it, where somebody did; null: the service by itself.
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
    of ours took callbacks), `refused` (we answered 503), `never told` (no callback of this name ever came: is the
    event switched on in OneSpan?) or `no trace`. `told_at`: when a callback told it all the same.
    """

    id: int
    name: str
    package_id: str
    happened_at: datetime
    found_at: datetime
    late: float | None
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


def missed_page(connection: Connection, wanted: MissedFilter, *, limit: int, before: int | None) -> Page[MissedDetail]:
    """A page of missed facts that were found before the event with this id, newest first.

    It is a short one, with a `next` all the same, where what is wanted is rare among what has to be looked through.
    """
    ids, further = newest(connection, Missed.__table__.c.event_id, _ways(wanted), limit=limit, before=before)
    found = select(*Missed.__table__.c, Event.found_after).join(Event, Event.id == Missed.event_id)
    found = found.where(Missed.event_id.in_(ids)).order_by(Missed.event_id.desc())
    return Page(list(map(_missed, connection.execute(found))), str(further) if further else None)


def _ways(wanted: MissedFilter) -> list[Way]:
    asked = ((Missed.package_id, wanted.package), (Missed.name, wanted.name), (Missed.cause, wanted.cause))
    conditions: list[ColumnElement[bool]] = [column == value for column, value in asked if value is not None]
    if wanted.told is not None:
        conditions.append(Missed.told_at.is_not(None) if wanted.told else Missed.told_at.is_(None))
    return [Way(Missed.__table__.c.event_id, where=one, fits=one) for one in conditions]


def delivery(connection: Connection, *, now: datetime, days: int) -> Delivery:
    """The delivery rate of the last days."""
    since = now.astimezone(UTC) - timedelta(days=days - 1)
    findable = [name for name in CATALOGUE if name not in NEVER_FOUND]
    came, found = (_tally(connection, kind, since=since, names=findable) for kind in (tallies.TOLD, tallies.FOUND))
    lost = _tally(connection, tallies.MISSED, since=since)
    dates = [tallies.day(since + timedelta(days=day)) for day in range(days)]
    names = [name for name in findable if came.by_name[name] or found.by_name[name]]
    total = _rate("all", came.by_day.total(), lost.by_day.total())
    return Delivery(
        days,
        total.told,
        total.missed,
        total.rate,
        [_rate(day, came.by_day[day], lost.by_day[day]) for day in dates],
        [_rate(name, came.by_name[name], lost.by_name[name]) for name in names],
        dict(sorted(lost.by_cause.items())),
        silence(connection),
    )


def missed_by_cause(connection: Connection, *, since: datetime) -> dict[str, int]:
    """How many facts of that day and later nobody has told, by likely cause."""
    return dict(sorted(_tally(connection, tallies.MISSED, since=since).by_cause.items()))


def silence(connection: Connection) -> Silence | None:
    """Whether no callback comes any more: the last facts were all missed, and nothing was told since they happened.

    What happened while we were down, or refused callbacks, does not count: that it was not told is explained.
    """
    unexplained = (Missed.told_at.is_(None), Missed.cause.not_in((DOWN, REFUSED)))
    last_ones = (
        select(Missed.__table__).where(unexplained[0]).order_by(Missed.event_id.desc()).limit(LOOKED_AT).subquery()
    )
    of_no_cause = select(last_ones.c.happened_at).where(last_ones.c.cause.not_in((DOWN, REFUSED)))
    happened = list(connection.execute(of_no_cause.order_by(last_ones.c.event_id.desc()).limit(SILENT)).scalars())
    if len(happened) < SILENT:
        return None
    last = connection.scalar(
        select(Journal.received_at).where(Journal.kind == CALLBACK).order_by(Journal.id.desc()).limit(1)
    )
    if last is not None and last >= min(happened):
        return None
    untold = select(Missed.event_id).where(*unexplained).limit(COUNTED)
    missed = count_some(connection, untold.where(Missed.happened_at > last) if last else untold)
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


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many, by each of the parts of what they are counted by."""

    by_day: Counter[str]
    by_name: Counter[str]
    by_cause: Counter[str]


# A key is a JSON list: the day, and then the name and what else there is.
_DAY = func.substr(Tally.key, len('["') + 1, len("2026-01-31"))
_REST = func.substr(Tally.key, len('["2026-01-31",') + 1)


def _tally(connection: Connection, kind: str, *, since: datetime, names: Collection[str] = ()) -> Numbers:
    """How many there are of that day and later; of these names only, if there are any. Nothing more may follow them."""
    wanted = [Tally.kind == kind, Tally.key >= tallies.first_of(since), Tally.number != 0]
    if names:
        wanted.append(_REST.in_([tallies.key(name).removeprefix("[") for name in names]))
    by_day, by_name, by_cause = Counter[str](), Counter[str](), Counter[str]()
    days, rests = (select(part, func.sum(Tally.number)).where(*wanted).group_by(part) for part in (_DAY, _REST))
    for day, number in connection.execute(days):
        by_day[day] = int(number)
    for rest, number in connection.execute(rests):
        name, *causes = map(str, tallies.parts_of(f"[{rest}"))
        by_name[name] += int(number)
        for cause in causes:
            by_cause[cause] += int(number)
    return Numbers(by_day, by_name, by_cause)


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
