"""The endpoints of the health report and of callback rates."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from app.checks import Check, reconcile_note, silence_note, upgrade_note
from app.readiness import Report
from app.store import queries
from app.store.db import Database
from app.store.queries import CallbackRates, PipelineState, RunDetail
from app.store.states import DispatchState, RunState
from app.web.api.answers import Backlog, Dwell, HealthReport, OneSpanConnection, ReconcileStatus
from app.web.api.endpoints import Endpoints
from app.web.metrics import quantile_of
from app.web.probes import problems

RECENT_RUNS = 10  # enough runs to find the last run that is done, because newer runs may be running or failed


@dataclass(frozen=True, slots=True)
class HealthSources:
    """The sources of the health report besides the database."""

    readiness: Callable[[], Report]
    notes: Sequence[Check]
    spooled: Callable[[], int]
    every: timedelta
    why_not_connected: Callable[[], str | None]

    def run_checks(self) -> tuple[list[str], list[str]]:
        """Run the health checks. Return the reasons why the service is not ready, and the notes."""
        report = self.readiness()
        return report.reasons, [*report.notes, *problems(self.notes)]


def add_views(
    endpoints: Endpoints, database: Database, *, sources: HealthSources, clock: Callable[[], datetime]
) -> None:
    """Register the health endpoints."""

    @endpoints.get("/api/flow", answer=CallbackRates)
    def flow() -> CallbackRates:
        """Return the number of callbacks in each of the last 60 minutes and in each of the last 48 hours."""
        with database.read() as connection:
            return queries.callback_rates(connection, now=clock())

    @endpoints.get("/api/health", answer=HealthReport)
    def health() -> HealthReport:
        """Return the health report: readiness, backlog, latency, reconcile runs, OneSpan, processes and outages."""
        results = sources.run_checks()
        with database.read() as connection:
            return health_report(connection, sources, results, now=clock())


def health_report(
    connection: Connection, sources: HealthSources, results: tuple[list[str], list[str]], *, now: datetime
) -> HealthReport:
    """Return the health report. `results` comes from `sources.run_checks()`, which runs before the transaction."""
    reasons, notes = results
    why_not = sources.why_not_connected()
    pipeline = queries.pipeline_state(connection, now=now)
    runs = queries.run_page(connection, limit=RECENT_RUNS, before=None)
    upgrade = queries.upgrade_progress(connection, now=now)
    stored_notes = (silence_note(pipeline.silence), reconcile_note(_first(runs)), upgrade_note(upgrade))
    return HealthReport(
        is_ready=not reasons,
        reasons=reasons,
        notes=[*filter(None, stored_notes), *notes],
        dwell=_dwell(pipeline.dwell),
        backlog=_backlog(pipeline, sources.spooled()),
        reconciles=_reconcile_status(connection, runs, now=now, every=sources.every, is_connected=why_not is None),
        missed=pipeline.missed,
        silence=pipeline.silence,
        onespan=OneSpanConnection(why_not is None, why_not, queries.onespan_status(connection)),
        access=queries.onespan_access(connection),
        processes=queries.processes(connection, now=now),
        outages=queries.outages(connection),
        upgrade=upgrade,
        unverified=pipeline.unverified,
        clock_offset=pipeline.clock_offset,
    )


def _dwell(seconds: Sequence[float]) -> Dwell:
    return Dwell(len(seconds), *(quantile_of(seconds, quantile) if seconds else None for quantile in (0.5, 0.95, 0.99)))


def _backlog(pipeline: PipelineState, spooled: int) -> Backlog:
    states = pipeline.dispatches
    callbacks = (pipeline.undigested, pipeline.oldest_undigested, spooled)
    return Backlog(*callbacks, states[DispatchState.DUE], states[DispatchState.RUNNING], states[DispatchState.PARKED])


def _reconcile_status(
    connection: Connection, runs: Sequence[RunDetail], *, now: datetime, every: timedelta, is_connected: bool
) -> ReconcileStatus:
    running = _first(run for run in runs if run.state == RunState.RUNNING)
    last = _first(run for run in runs if run.state == RunState.DONE)
    due_at = queries.next_due(connection, now=now, every=every) if is_connected else None
    return ReconcileStatus(running, last, every / timedelta(hours=1), due_at)


def _first(runs: Iterable[RunDetail]) -> RunDetail | None:
    return next(iter(runs), None)
