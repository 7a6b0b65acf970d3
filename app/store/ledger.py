"""The ledger: which handler owes which event a run, and how it went. The only writer of the dispatches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from operator import eq, ge, lt
from typing import Literal

from sqlalchemy import (
    ColumnElement,
    Select,
    TextClause,
    and_,
    bindparam,
    exists,
    func,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.engine import Connection

from app.errors import StillRunning
from app.store.db import insert_all
from app.store.models import DUE, RUNNING, Dispatch, Event
from app.store.picture import Cause, NewChange


@dataclass(frozen=True, slots=True)
class Taken:
    """A dispatch that is ours until its lease ends; `attempt` counts this one. Who holds `fence` settles it."""

    id: int
    event_id: int
    package_id: str
    handler: str
    attempt: int
    fence: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `due` again at `due_at`, or `done`, `parked`, `discarded`."""

    taken: Taken
    state: Literal["due", "done", "parked", "discarded"]
    due_at: datetime
    error: str | None = None
    counts: bool = True


def oblige(connection: Connection, owed: Iterable[tuple[int, str, str]], *, now: datetime) -> None:
    """Write down that each (event, package, handler) is owed a run, from now on."""
    rows = [
        {"event_id": event, "package_id": package, "handler": handler, "state": "due", "due_at": now}
        for event, package, handler in owed
    ]
    insert_all(connection, Dispatch, rows)


def due(connection: Connection, room: Mapping[str, int], *, now: datetime) -> list[int]:
    """Ids of dispatches that want work, the longest waiting first: of each handler as many as it has room for."""
    if not room:
        return []
    wanted: dict[str, object] = {"now": now}
    for place, (handler, places) in enumerate(room.items()):
        wanted |= {f"handler{place}": handler, f"places{place}": places}
    return list(connection.execute(_due(len(room)), wanted).scalars())


def survivor(connection: Connection, handlers: Iterable[str], *, now: datetime) -> list[int]:
    """At most one dispatch that was running at two deaths of a process or more, the longest waiting.

    Any of them may be what the process died of. `due` leaves them out: whoever runs one runs no other beside it,
    so that the guilty one uses up its own attempts and nobody else's.
    """
    return list(connection.execute(_SURVIVOR, {"handlers": list(handlers), "now": now}).scalars())


def take(connection: Connection, ids: Sequence[int], *, now: datetime, lease: timedelta) -> list[Taken]:
    """Take these dispatches for ourselves, but for those somebody else took meanwhile.

    Any number of processes may call this at once: each row goes to exactly one of them. Taking counts as an
    attempt and moves `due_at` forward by the lease; if we die half-way the row simply becomes due again.
    """
    free = list(connection.execute(_FREE, {"ids": ids, "now": now}).scalars())
    return [Taken(*row) for row in connection.execute(_TAKE, {"ids": free, "until": now + lease})]


def settle(connection: Connection, outcomes: Iterable[Outcome], *, now: datetime) -> list[Outcome]:
    """Note how runs ended; who lost the fence changes nothing. Returns those that are parked by it."""
    ended = sorted(outcomes, key=lambda one: one.taken.id)
    done = [(one.taken.id, one.taken.fence) for one in ended if one.state == "done"]
    if done:
        connection.execute(_DONE, {"held": done, "now": now})
    settled = [one for one in ended if one.state != "done" and connection.execute(_SETTLE, _settled(one, now)).rowcount]
    return [one for one in settled if one.state == "parked"]


def _settled(outcome: Outcome, now: datetime) -> dict[str, object]:
    return {
        "ours": outcome.taken.id,
        "held": outcome.taken.fence,
        "state": outcome.state,
        "due_at": outcome.due_at,
        "error": outcome.error,
        "finished_at": None if outcome.state == "due" else now,
        "attempts": outcome.taken.attempt if outcome.counts else outcome.taken.attempt - 1,
    }


def renew(connection: Connection, running: Iterable[Taken], *, until: datetime) -> None:
    """Keep what we still work on ours until then."""
    for taken in sorted(running, key=lambda one: one.id):
        connection.execute(_RENEW, {"ours": taken.id, "held": taken.fence, "due_at": until})


def replay(connection: Connection, dispatch: int, *, now: datetime) -> list[NewChange] | None:
    """Make one dispatch due again, with all its attempts before it. Returns what the history must say of that.

    None: there is no such dispatch. Raises `StillRunning` while it runs.
    """
    found = select(Dispatch.state, Dispatch.due_at).where(Dispatch.id == dispatch).with_for_update()
    row = connection.execute(found).one_or_none()
    if row is None:
        return None
    if row.state == "running" and row.due_at > now:
        raise StillRunning
    changes = unparked_changes(connection, [dispatch], now=now)
    connection.execute(update(Dispatch).where(Dispatch.id == dispatch).values(_afresh(now)))
    return changes


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dispatches are meant. Everything given must fit; times are OneSpan's (`happened_at`), UTC."""

    event_name: str | None = None
    handler: str | None = None
    state: str | None = None
    package: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def of_events(self) -> ColumnElement[bool]:
        """The condition on the events."""
        wanted = [
            (self.event_name, Event.name, eq),
            (self.package, Event.package_id, eq),
            (self.since, Event.happened_at, ge),
            (self.until, Event.happened_at, lt),
        ]
        return and_(true(), *(compare(column, given) for given, column, compare in wanted if given is not None))


def chosen(choice: Choice) -> Select[int]:
    """Ids of the chosen dispatches that do not run right now."""
    found = select(Dispatch.id).join(Event).where(choice.of_events(), Dispatch.state != "running")
    if choice.handler:
        found = found.where(Dispatch.handler == choice.handler)
    return found.where(Dispatch.state == choice.state) if choice.state else found


def count(connection: Connection, choice: Choice) -> int:
    """How many dispatches are chosen."""
    return connection.scalar(select(func.count()).select_from(chosen(choice).subquery())) or 0


def next_chosen(connection: Connection, choice: Choice, *, after: int, limit: int) -> list[int]:
    """The next chosen dispatches, in order of their ids."""
    return list(
        connection.execute(
            chosen(choice).where(Dispatch.id > after).order_by(Dispatch.id).limit(limit).with_for_update(of=Dispatch)
        ).scalars()
    )


def make_due(connection: Connection, ids: Sequence[int], *, now: datetime) -> int:
    """Make these dispatches due again, with all their attempts before them. Returns how many it did."""
    statement = update(Dispatch).where(Dispatch.id.in_(ids), Dispatch.state != "running").values(_afresh(now))
    return connection.execute(statement).rowcount


def never_told(
    connection: Connection, choice: Choice, *, names: Sequence[str] | None, after: int, limit: int
) -> list[tuple[int, str]]:
    """(id, package id) of the next chosen events the chosen handler has no dispatch for. `names`: those it wants."""
    found = _never_told(choice, names).where(Event.id > after).order_by(Event.id).limit(limit)
    return [(row.id, row.package_id) for row in connection.execute(found)]


def count_never_told(connection: Connection, choice: Choice, *, names: Sequence[str] | None) -> int:
    """How many those are."""
    return connection.scalar(select(func.count()).select_from(_never_told(choice, names).subquery())) or 0


def _never_told(choice: Choice, names: Sequence[str] | None) -> Select[int, str]:
    told = exists().where(Dispatch.event_id == Event.id, Dispatch.handler == choice.handler)
    found = select(Event.id, Event.package_id).where(choice.of_events(), ~told)
    return found if names is None else found.where(Event.name.in_(names))


def parked_changes(parked: Iterable[Outcome], *, now: datetime) -> list[NewChange]:
    """What the history says of dispatches that were parked just now."""
    return [_parking(one.taken.package_id, one.taken.handler, one.taken.id, parked=True, now=now) for one in parked]


def unparked_changes(connection: Connection, ids: Iterable[int], *, now: datetime) -> list[NewChange]:
    """What the history will say once these dispatches, as far as they are parked, are due again."""
    parked = select(Dispatch.id, Dispatch.package_id, Dispatch.handler).where(
        Dispatch.id.in_(list(ids)), Dispatch.state == "parked"
    )
    return [_parking(row.package_id, row.handler, row.id, parked=False, now=now) for row in connection.execute(parked)]


def _parking(package_id: str, handler: str, dispatch: int, *, parked: bool, now: datetime) -> NewChange:
    return NewChange(
        package_id=package_id,
        subject=f"handler:{handler}",
        attribute="attention PARKED_HANDLER",
        old=None if parked else True,
        new=True if parked else None,
        happened_at=now,
        cause=Cause("dispatch", dispatch),
    )


def _afresh(now: datetime) -> dict[str, object]:
    return {
        "state": "due",
        "due_at": now,
        "attempts": 0,
        "fence": Dispatch.fence + 1,
        "finished_at": None,
        "error": None,
    }


# What every turn says to the database, put together once: to do so each time costs more than to run it.
_IS_DUE = and_(Dispatch.state.in_((DUE, RUNNING)), Dispatch.due_at <= bindparam("now"))
_IS_OURS = and_(Dispatch.id == bindparam("ours"), Dispatch.fence == bindparam("held"), Dispatch.state == RUNNING)
_FREE = (
    select(Dispatch.id)
    .where(Dispatch.id.in_(bindparam("ids", expanding=True)), _IS_DUE)
    .order_by(Dispatch.id)
    .with_for_update(skip_locked=True)
)
_SURVIVOR = (
    select(Dispatch.id)
    .where(
        Dispatch.handler.in_(bindparam("handlers", expanding=True)),
        _IS_DUE,
        Dispatch.state == "running",
        Dispatch.attempts > 1,
    )
    .order_by(Dispatch.due_at)
    .limit(1)
)
_TAKE = (
    update(Dispatch)
    .where(Dispatch.id.in_(bindparam("ids", expanding=True)))
    .values(state="running", attempts=Dispatch.attempts + 1, fence=Dispatch.fence + 1, due_at=bindparam("until"))
    .returning(Dispatch.id, Dispatch.event_id, Dispatch.package_id, Dispatch.handler, Dispatch.attempts, Dispatch.fence)
)
_SETTLE = (
    update(Dispatch)
    .where(_IS_OURS)
    .values(
        state=bindparam("state"),
        due_at=bindparam("due_at"),
        error=bindparam("error"),
        finished_at=bindparam("finished_at"),
        attempts=bindparam("attempts"),
        fence=Dispatch.fence + 1,
    )
)
_DONE = (
    update(Dispatch)
    .where(tuple_(Dispatch.id, Dispatch.fence).in_(bindparam("held", expanding=True)), Dispatch.state == RUNNING)
    .values(state="done", due_at=bindparam("now"), finished_at=bindparam("now"), error=None, fence=Dispatch.fence + 1)
)
_RENEW = update(Dispatch).where(_IS_OURS).values(due_at=bindparam("due_at"))


@cache
def _due(handlers: int) -> TextClause:
    """The due dispatches of so many handlers: a look into the index for each, however many wait."""
    of_one = """
        SELECT id FROM (
            SELECT id FROM dispatches
            WHERE handler = :handler{place} AND state IN ('due', 'running') AND due_at <= :now
            AND NOT (state = 'running' AND attempts > 1)
            ORDER BY due_at LIMIT :places{place}
        ) AS of{place}
    """
    statement = text(" UNION ALL ".join(of_one.format(place=place) for place in range(handlers)))
    return statement.bindparams(bindparam("now", type_=Dispatch.due_at.type))
