"""Which runs of the past are meant, when somebody wants them run again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import eq, ge, lt

from sqlalchemy import ColumnElement, Select, and_, exists, func, select, true
from sqlalchemy.engine import Connection

from app.store.models import Dispatch, Event


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dispatches are meant. Everything given must fit; times are OneSpan's (`happened_at`), UTC.

    `among` are ids: those counted before, so that what comes to fit meanwhile is not meant.
    """

    event_name: str | None = None
    handler: str | None = None
    state: str | None = None
    package: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    among: Sequence[int] | None = None

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
    if choice.among is not None:
        found = found.where(Dispatch.id.in_(choice.among))
    return found.where(Dispatch.state == choice.state) if choice.state else found


def count(connection: Connection, choice: Choice, *, at_most: int | None = None) -> int:
    """How many dispatches are chosen; who wants to know only whether they are few says how many `at_most` count."""
    return connection.scalar(select(func.count()).select_from(chosen(choice).limit(at_most).subquery())) or 0


def ids(connection: Connection, choice: Choice, *, at_most: int) -> list[int]:
    """Which dispatches are chosen; so many of them, where there are more."""
    return list(connection.execute(chosen(choice).limit(at_most)).scalars())


def next_chosen(connection: Connection, choice: Choice, *, after: int, limit: int) -> list[int]:
    """The next chosen dispatches, in order of their ids."""
    return list(
        connection.execute(
            chosen(choice).where(Dispatch.id > after).order_by(Dispatch.id).limit(limit).with_for_update(of=Dispatch)
        ).scalars()
    )


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
