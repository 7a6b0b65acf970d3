"""The views of how the service is: one document with all that a page about its health shows, and the flow."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from app.checks import Check, said_of_run, said_of_silence
from app.store import queries
from app.store.db import Database
from app.store.queries import Flow, Pulse, RunDetail
from app.web.api.answers import Backlog, Dwell, OneSpanSide, Reconciles, Vitals
from app.web.api.endpoints import Endpoints
from app.web.metrics import quantile_of
from app.web.ops import failing

LATEST = 10  # runs that are looked at: the newest may be under way, others may have been given up


@dataclass(frozen=True, slots=True)
class Bedside:
    """What the view looks at beside the database."""

    checks: Sequence[Check]
    notes: Sequence[Check]
    spooled: Callable[[], int]
    every: timedelta
    why_nothing_is_asked: Callable[[], str | None]

    def look(self) -> tuple[list[str], list[str]]:
        """What makes us unready, and what is worth a look."""
        return list(failing(self.checks)), list(failing(self.notes))


def add_views(endpoints: Endpoints, database: Database, *, at: Bedside, clock: Callable[[], datetime]) -> None:
    """Add them."""

    @endpoints.get("/api/flow", answer=Flow)
    def flow() -> Flow:
        """How many callbacks came in each of the last 60 minutes, and in each of the last 48 hours."""
        with database.read() as connection:
            return queries.flow(connection, now=clock())

    @endpoints.get("/api/health", answer=Vitals)
    def health() -> Vitals:
        """How the service is: what waits, how long things take, what was asked of OneSpan, and who is there."""
        looked = at.look()
        with database.read() as connection:
            return vitals(connection, at, looked, now=clock())


def vitals(connection: Connection, at: Bedside, looked: tuple[list[str], list[str]], *, now: datetime) -> Vitals:
    """The same, for whoever shows it; `looked` is what its `look` has told."""
    reasons, notes = looked
    why_not = at.why_nothing_is_asked()
    pulse = queries.pulse(connection, now=now)
    newest = queries.run_page(connection, limit=LATEST, before=None)
    of_asking = (said_of_silence(pulse.silence), said_of_run(_first(newest)))
    return Vitals(
        is_ready=not reasons,
        reasons=reasons,
        notes=[*filter(None, of_asking), *notes],
        dwell=_dwell(pulse.dwell),
        backlog=_backlog(pulse, at.spooled()),
        reconciles=_reconciles(connection, newest, now=now, every=at.every, is_asked=why_not is None),
        missed=pulse.missed,
        silence=pulse.silence,
        onespan=OneSpanSide(why_not is None, why_not, queries.reach(connection)),
        processes=queries.processes(connection, now=now),
        outages=queries.outages(connection),
    )


def _dwell(rising: Sequence[float]) -> Dwell:
    return Dwell(len(rising), *(quantile_of(rising, one) if rising else None for one in (0.5, 0.95, 0.99)))


def _backlog(pulse: Pulse, spooled: int) -> Backlog:
    states = pulse.dispatches
    waits = (pulse.undigested, pulse.oldest_undigested, spooled)
    return Backlog(*waits, states["due"], states["running"], states["parked"])


def _reconciles(
    connection: Connection, newest: Sequence[RunDetail], *, now: datetime, every: timedelta, is_asked: bool
) -> Reconciles:
    running = _first(one for one in newest if one.state == "running")
    last = _first(one for one in newest if one.state == "done")
    due_at = queries.next_due(connection, now=now, every=every) if is_asked else None
    return Reconciles(running, last, every / timedelta(hours=1), due_at)


def _first(runs: Iterable[RunDetail]) -> RunDetail | None:
    return next(iter(runs), None)
