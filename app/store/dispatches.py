"""The ledger: which handler owes which event a run, and how it went. The only writer of the dispatches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Literal

from sqlalchemy import (
    TextClause,
    and_,
    bindparam,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.engine import Connection, Row

from app.errors import StillRunning
from app.store.bulk import insert_all
from app.store.db import take_pen
from app.store.models import DUE, PARKED, RUNNING, Dispatch
from app.store.packages import Cause, NewChange


@dataclass(frozen=True, slots=True)
class Taken:
    """A dispatch that is ours until its lease ends; `attempt` counts this one. Who holds `fence` settles it.

    `error` is what became of the attempt before, where it said anything.
    """

    id: int
    event_id: int
    package_id: str
    handler: str
    attempt: int
    fence: int
    error: str | None = None


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
    """At most one dispatch whose process died while it ran, and not for its first attempt; the longest waiting.

    Any of them may be what the process died of. `due` leaves them out: whoever runs one begins no other until it has
    lived for a while, so that the guilty one uses up its own attempts and nobody else's.
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


def replay(connection: Connection, dispatch: int, *, by: str, now: datetime) -> list[NewChange] | None:
    """Make one dispatch due again, with all its attempts before it. Returns what the history must say of that.

    None: there is no such dispatch. Raises `StillRunning` while it runs. Takes the pen.
    """
    rows = _hold(connection, [dispatch])
    if any(row.state == "running" and row.due_at > now for row in rows):
        raise StillRunning
    return _begin_again(connection, rows, by=by, now=now) if rows else None


def replay_all(connection: Connection, ids: Sequence[int], *, by: str, now: datetime) -> tuple[int, list[NewChange]]:
    """The same with many, but for those that run. Returns how many it were, and what the history must say."""
    rows = [row for row in _hold(connection, ids) if row.state != "running"]
    return len(rows), _begin_again(connection, rows, by=by, now=now) if rows else []


Held = Row[int, str, str, str, datetime]


def _hold(connection: Connection, ids: Sequence[int]) -> Sequence[Held]:
    """These dispatches, which nobody else changes until this transaction ends."""
    found = select(Dispatch.id, Dispatch.package_id, Dispatch.handler, Dispatch.state, Dispatch.due_at)
    return connection.execute(found.where(Dispatch.id.in_(ids)).order_by(Dispatch.id).with_for_update()).all()


def _begin_again(connection: Connection, rows: Sequence[Held], *, by: str, now: datetime) -> list[NewChange]:
    changes = [begun(row.package_id, row.handler, old=row.state, by=by, now=now) for row in rows]
    parked = [(row.package_id, row.handler, row.id) for row in rows if row.state == "parked"]
    changes += _parking(connection, parked, parked=False, now=now)
    ids = [row.id for row in rows]
    connection.execute(update(Dispatch).where(Dispatch.id.in_(ids)).values(_afresh(now)))
    return changes


def begun(package_id: str, handler: str, *, old: str | None, by: str, now: datetime) -> NewChange:
    """What the history says of a run that a person made due; `old` is its state before, None where there was none."""
    return NewChange(package_id, f"handler:{handler}", "replay", old, "due", now, Cause("person", by))


def parked_changes(connection: Connection, parked: Iterable[Outcome], *, now: datetime) -> list[NewChange]:
    """What the history says of dispatches that were parked just now. Takes the pen."""
    places = [(one.taken.package_id, one.taken.handler, one.taken.id) for one in parked]
    return _parking(connection, places, parked=True, now=now)


def _parking(
    connection: Connection, places: Iterable[tuple[str, str, int]], *, parked: bool, now: datetime
) -> list[NewChange]:
    """A change for each package and handler of which the first dispatch is parked, or the last no longer."""
    take_pen(connection)
    touched: dict[tuple[str, str], list[int]] = {}
    for package_id, handler, dispatch in places:
        touched.setdefault((package_id, handler), []).append(dispatch)
    here = (Dispatch.package_id, Dispatch.handler)
    found = select(*here, func.count()).where(
        Dispatch.package_id.in_({package_id for package_id, _ in touched}), Dispatch.state == PARKED
    )
    there = {(package_id, handler): count for package_id, handler, count in connection.execute(found.group_by(*here))}
    return [
        _parked_or_not(*place, ids[0], parked=parked, now=now)
        for place, ids in touched.items()
        if there.get(place) == len(ids)  # nobody else's was or will be parked there
    ]


def _parked_or_not(package_id: str, handler: str, dispatch: int, *, parked: bool, now: datetime) -> NewChange:
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
_TAKEN = tuple(
    Dispatch.__table__.c[name] for name in ("id", "event_id", "package_id", "handler", "attempts", "fence", "error")
)
_TAKE = (
    update(Dispatch)
    .where(Dispatch.id.in_(bindparam("ids", expanding=True)))
    .values(state="running", attempts=Dispatch.attempts + 1, fence=Dispatch.fence + 1, due_at=bindparam("until"))
    .returning(*_TAKEN)
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
