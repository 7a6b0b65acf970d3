"""Dispatches, each of which is one run of one handler for one event. Only this module writes their table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import (
    Text,
    TextClause,
    and_,
    bindparam,
    cast,
    func,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection, Row

from app.errors import DispatchRunning
from app.store.bulk import any_of, insert_all
from app.store.db import take_write_lock
from app.store.models import DUE, PARKED, RUNNING, Dispatch
from app.store.packages import Cause, NewChange
from app.store.states import DispatchState


@dataclass(frozen=True, slots=True)
class TakenDispatch:
    """A dispatch leased to this process. Only the holder of `fence` may store its result.

    `attempt` is the number of the current attempt. `error` is the error of the previous attempt, if any.
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
    """The result of a run. `state` is `due` (again, at `due_at`), `done`, `parked` or `discarded`.

    If `counts` is false, the run does not count as an attempt.
    """

    taken: TakenDispatch
    state: DispatchState
    due_at: datetime
    error: str | None = None
    counts: bool = True


def enqueue(connection: Connection, runs: Iterable[tuple[int, str, str]], *, now: datetime) -> None:
    """Add a due dispatch for each triple of event, package and handler."""
    rows = [
        {"event_id": event, "package_id": package, "handler": handler, "state": DispatchState.DUE, "due_at": now}
        for event, package, handler in runs
    ]
    insert_all(connection, Dispatch, rows)


def due(connection: Connection, limits: Mapping[str, int], *, now: datetime) -> list[int]:
    """Return the ids of due dispatches: for each handler in `limits` the longest waiting, up to its limit."""
    if not limits:
        return []
    parameters: dict[str, object] = {"now": now}
    for index, (handler, limit) in enumerate(limits.items()):
        parameters |= {f"handler{index}": handler, f"limit{index}": limit}
    return list(connection.execute(_due(len(limits)), parameters).scalars())


def suspect(connection: Connection, handlers: Iterable[str], *, now: datetime) -> list[int]:
    """Return the id of the longest waiting suspect, if any.

    A suspect is a dispatch whose process died during the second or a later attempt. The dispatch may have killed the
    process, so `due` omits suspects. A process that runs a suspect starts no other dispatch until the suspect has run
    for a while. Thus a poison dispatch uses up only its own attempts.
    """
    return list(connection.execute(_SUSPECT, {"handlers": list(handlers), "now": now}).scalars())


def take(connection: Connection, ids: Sequence[int], *, now: datetime, lease: timedelta) -> list[TakenDispatch]:
    """Lease the given dispatches to this process, except those that another process has leased meanwhile.

    If several processes lease a dispatch at once, exactly one of them gets it. The lease counts as an attempt, and
    `due_at` becomes the end of the lease. If the process dies, the dispatch is due again when the lease ends.
    """
    free = list(connection.execute(_FREE, {"ids": ids, "now": now}).scalars())
    return [TakenDispatch(*row) for row in connection.execute(_TAKE, {"ids": free, "until": now + lease})]


def settle(connection: Connection, outcomes: Iterable[Outcome], *, now: datetime) -> list[Outcome]:
    """Store the results of runs, except results with an old fence. Returns the outcomes that parked a dispatch."""
    ended = sorted(outcomes, key=lambda outcome: outcome.taken.id)
    done = [outcome.taken for outcome in ended if outcome.state == DispatchState.DONE]
    if done:
        leases = [f"{taken.id} {taken.fence}" for taken in done]
        connection.execute(_DONE, {"ids": [taken.id for taken in done], "leases": leases, "now": now})
    others = [outcome for outcome in ended if outcome.state != DispatchState.DONE]
    settled = [outcome for outcome in others if connection.execute(_SETTLE, _settled_values(outcome, now)).rowcount]
    return [outcome for outcome in settled if outcome.state == DispatchState.PARKED]


def _settled_values(outcome: Outcome, now: datetime) -> dict[str, object]:
    return {
        "dispatch": outcome.taken.id,
        "held_fence": outcome.taken.fence,
        "state": outcome.state,
        "due_at": outcome.due_at,
        "error": outcome.error,
        "finished_at": None if outcome.state == DispatchState.DUE else now,
        "attempts": outcome.taken.attempt if outcome.counts else outcome.taken.attempt - 1,
    }


def give_back(connection: Connection, ids: Sequence[int], *, lease_end: datetime, now: datetime) -> None:
    """Make those of the given dispatches due again that are leased until `lease_end`, as if they had not been taken.

    The end of the lease identifies the lease, because a taken fence may have been rolled back and given to another.
    """
    connection.execute(_GIVE_BACK, {"ids": ids, "lease_end": lease_end, "due_at": now})


def renew(connection: Connection, running: Iterable[TakenDispatch], *, until: datetime) -> None:
    """Extend the leases of running dispatches."""
    for taken in sorted(running, key=lambda taken: taken.id):
        connection.execute(_RENEW, {"dispatch": taken.id, "held_fence": taken.fence, "due_at": until})


def replay(connection: Connection, dispatch: int, *, by: str, now: datetime) -> list[NewChange] | None:
    """Make a dispatch due again and reset its attempts. Returns the changes to record, or None if it does not exist.

    Raises `DispatchRunning` while the dispatch runs. Takes the write lock.
    """
    rows = _lock(connection, [dispatch])
    if any(row.state == DispatchState.RUNNING and row.due_at > now for row in rows):
        raise DispatchRunning
    return _make_due(connection, rows, by=by, now=now) if rows else None


def replay_all(connection: Connection, ids: Sequence[int], *, by: str, now: datetime) -> tuple[int, list[NewChange]]:
    """Make dispatches due again unless they are running. Returns their number and the changes to record."""
    rows = [row for row in _lock(connection, ids) if row.state != DispatchState.RUNNING]
    return len(rows), _make_due(connection, rows, by=by, now=now) if rows else []


LockedRow = Row[int, str, str, str, datetime]


def _lock(connection: Connection, ids: Sequence[int]) -> Sequence[LockedRow]:
    """Select dispatches by id and lock their rows until the transaction ends."""
    found = select(Dispatch.id, Dispatch.package_id, Dispatch.handler, Dispatch.state, Dispatch.due_at)
    return connection.execute(found.where(Dispatch.id.in_(ids)).order_by(Dispatch.id).with_for_update()).all()


def _make_due(connection: Connection, rows: Sequence[LockedRow], *, by: str, now: datetime) -> list[NewChange]:
    changes = [replay_change(row.package_id, row.handler, old=row.state, by=by, now=now) for row in rows]
    parked = [(row.package_id, row.handler, row.id) for row in rows if row.state == DispatchState.PARKED]
    changes += _attention_changes(connection, parked, parked=False, now=now)
    ids = [row.id for row in rows]
    connection.execute(update(Dispatch).where(Dispatch.id.in_(ids)).values(_reset_values(now)))
    return changes


def replay_change(package_id: str, handler: str, *, old: str | None, by: str, now: datetime) -> NewChange:
    """Return the change to record when a person makes a run due. `old` is the previous state; None for a new run."""
    return NewChange(package_id, f"handler:{handler}", "replay", old, DispatchState.DUE.value, now, Cause("person", by))


def parked_changes(connection: Connection, parked: Iterable[Outcome], *, now: datetime) -> list[NewChange]:
    """Return the changes to record for dispatches that were just parked. Takes the write lock."""
    dispatches = [(outcome.taken.package_id, outcome.taken.handler, outcome.taken.id) for outcome in parked]
    return _attention_changes(connection, dispatches, parked=True, now=now)


def _attention_changes(
    connection: Connection, dispatches: Iterable[tuple[str, str, int]], *, parked: bool, now: datetime
) -> list[NewChange]:
    """Return a change for each package and handler that got its first or loses its last parked dispatch."""
    take_write_lock(connection)
    changed: dict[tuple[str, str], list[int]] = {}
    for package_id, handler, dispatch in dispatches:
        changed.setdefault((package_id, handler), []).append(dispatch)
    pair = (Dispatch.package_id, Dispatch.handler)
    counts = select(*pair, func.count()).where(
        Dispatch.package_id.in_({package_id for package_id, _ in changed}), Dispatch.state == PARKED
    )
    parked_now = {(package_id, handler): n for package_id, handler, n in connection.execute(counts.group_by(*pair))}
    return [
        _attention_change(*key, ids[0], parked=parked, now=now)
        for key, ids in changed.items()
        if parked_now.get(key) == len(ids)  # no other dispatch of this package and handler is parked
    ]


def _attention_change(package_id: str, handler: str, dispatch: int, *, parked: bool, now: datetime) -> NewChange:
    return NewChange(
        package_id=package_id,
        subject=f"handler:{handler}",
        attribute="attention PARKED_HANDLER",
        old=None if parked else True,
        new=True if parked else None,
        happened_at=now,
        cause=Cause("dispatch", dispatch),
    )


def _reset_values(now: datetime) -> dict[str, object]:
    return {
        "state": DispatchState.DUE,
        "due_at": now,
        "attempts": 0,
        "fence": Dispatch.fence + 1,
        "finished_at": None,
        "error": None,
    }


# The dispatcher's statements are built once, because building a statement costs more than running it.
_IS_DUE = and_(Dispatch.state.in_((DUE, RUNNING)), Dispatch.due_at <= bindparam("now"))
_IS_LEASED = and_(
    Dispatch.id == bindparam("dispatch"), Dispatch.fence == bindparam("held_fence"), Dispatch.state == RUNNING
)
_FREE = (
    select(Dispatch.id)
    .where(any_of(Dispatch.id, "ids"), _IS_DUE)
    .order_by(Dispatch.id)
    .with_for_update(skip_locked=True)
)
_SUSPECT = (
    select(Dispatch.id)
    .where(
        any_of(Dispatch.handler, "handlers"),
        _IS_DUE,
        Dispatch.state == DispatchState.RUNNING,
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
    .where(any_of(Dispatch.id, "ids"))
    .values(
        state=DispatchState.RUNNING.value,
        attempts=Dispatch.attempts + 1,
        fence=Dispatch.fence + 1,
        due_at=bindparam("until"),
    )
    .returning(*_TAKEN)
)
_SETTLE = (
    update(Dispatch)
    .where(_IS_LEASED)
    .values(
        state=bindparam("state"),
        due_at=bindparam("due_at"),
        error=bindparam("error"),
        finished_at=bindparam("finished_at"),
        attempts=bindparam("attempts"),
        fence=Dispatch.fence + 1,
    )
)
_GIVE_BACK = (
    update(Dispatch)
    .where(
        any_of(Dispatch.id, "ids"),
        Dispatch.state == DispatchState.RUNNING,
        Dispatch.due_at == bindparam("lease_end", type_=Dispatch.due_at.type),
    )
    .values(
        state=DispatchState.DUE.value,
        due_at=bindparam("due_at"),
        attempts=Dispatch.attempts - 1,
        fence=Dispatch.fence + 1,
    )
)
_LEASE = cast(Dispatch.id, Text) + " " + cast(Dispatch.fence, Text)
_DONE = (
    update(Dispatch)
    .where(any_of(Dispatch.id, "ids"), any_of(_LEASE, "leases"), Dispatch.state == RUNNING)
    .values(
        state=DispatchState.DONE.value,
        due_at=bindparam("now"),
        finished_at=bindparam("now"),
        error=None,
        fence=Dispatch.fence + 1,
    )
)
_RENEW = update(Dispatch).where(_IS_LEASED).values(due_at=bindparam("due_at"))


@cache
def _due(handlers: int) -> TextClause:
    """Build the query for due dispatches of several handlers, which costs one index lookup per handler."""
    of_handler = """
        SELECT id FROM (
            SELECT id FROM dispatches
            WHERE handler = :handler{index} AND state IN ('due', 'running') AND due_at <= :now
            AND NOT (state = 'running' AND attempts > 1)
            ORDER BY due_at LIMIT :limit{index}
        ) AS of{index}
    """
    statement = text(" UNION ALL ".join(of_handler.format(index=index) for index in range(handlers)))
    return statement.bindparams(bindparam("now", type_=Dispatch.due_at.type))
