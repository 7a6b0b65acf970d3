"""`/metrics` for Prometheus. Each scrape reads the database, so all processes report the same values."""

from collections.abc import Callable, Iterable, Sequence

from flask import Blueprint
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.readiness import Bounded, Report
from app.store.journal import DATABASE_TIMEOUT_SECONDS
from app.store.queries import PipelineState
from app.store.queries.bounded import COUNT_LIMIT
from app.store.states import MissedCause

QUANTILES = (0.5, 0.95, 0.99)


def metrics(
    *, readiness: Callable[[], Report], pipeline: Callable[[], PipelineState | None], spooled: Callable[[], int]
) -> Blueprint:
    """Return the blueprint of `/metrics`. `pipeline` returns None while the database does not respond."""
    blueprint = Blueprint("metrics", __name__)
    bounded = Bounded(pipeline, quick=DATABASE_TIMEOUT_SECONDS)

    @blueprint.get("/metrics")
    def scrape() -> ResponseReturnValue:
        """Return all metrics as Prometheus text. The metrics contain no names and no ids."""
        registry = CollectorRegistry()
        wait = bounded.begin()
        report = readiness()
        try:
            state = wait()
        except TimeoutError:
            state = None
        registry.register(_ServiceCollector(report, state, spooled()))
        return generate_latest(registry), {"Content-Type": CONTENT_TYPE_LATEST}

    return blueprint


class _ServiceCollector(Collector):
    def __init__(self, report: Report, pipeline: PipelineState | None, spooled: int) -> None:
        self._report = report
        self._pipeline = pipeline
        self._spooled = spooled

    def collect(self) -> Iterable[Metric]:
        """Yield each metric under the name that it has in the logs."""
        yield GaugeMetricFamily(
            "ready", "1 if a callback posted now would be kept, else 0.", value=not self._report.reasons
        )
        yield GaugeMetricFamily(
            "database_writable", "1 if the database takes callbacks, else 0.", value=self._report.is_database_writable
        )
        yield GaugeMetricFamily(
            "spool_writable", "1 if the local spool takes callbacks, else 0.", value=self._report.is_spool_writable
        )
        yield GaugeMetricFamily(
            "callbacks_spooled", "Callbacks in the local spool, waiting for the database.", value=self._spooled
        )
        yield GaugeMetricFamily("database_up", "1 if the database responds, else 0.", value=self._pipeline is not None)
        if self._pipeline is not None:
            yield from _database_metrics(self._pipeline)


def _database_metrics(pipeline: PipelineState) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "journal_undigested",
        f"Journal entries waiting to be digested, counted up to {COUNT_LIMIT}.",
        value=pipeline.undigested,
    )
    yield GaugeMetricFamily(
        "journal_oldest_undigested_seconds",
        "Age of the oldest undigested journal entry, in seconds.",
        value=pipeline.oldest_undigested,
    )
    yield GaugeMetricFamily(
        "packages_outdated", "Packages to be derived again after an upgrade.", value=pipeline.outdated
    )
    states = GaugeMetricFamily(
        "dispatches", f"Due, running and parked dispatches, counted up to {COUNT_LIMIT} each.", labels=["state"]
    )
    for state, number in pipeline.dispatches.items():
        states.add_metric([state], number)
    yield states
    missed = GaugeMetricFamily(
        "callbacks_missed", "Events of the last 30 days without a callback, by likely cause.", labels=["cause"]
    )
    for cause in MissedCause:
        missed.add_metric([cause], pipeline.missed.get(cause, 0))
    yield missed
    yield GaugeMetricFamily(
        "callbacks_silent",
        "1 if reconcile finds events although no callback arrives, else 0.",
        value=pipeline.silence is not None,
    )
    yield GaugeMetricFamily(
        "callbacks_misdirected",
        "Callbacks with a valid key that were sent to a wrong path.",
        value=pipeline.misdirected,
    )
    yield GaugeMetricFamily(
        "onespan_refused", "1 if OneSpan refuses this service's requests, else 0.", value=pipeline.is_refused
    )
    if pipeline.reconciled is not None:
        yield GaugeMetricFamily(
            "reconcile_age_seconds",
            "Time since the last finished reconcile run, in seconds.",
            value=pipeline.reconciled,
        )
    yield GaugeMetricFamily(
        "packages_unverified",
        "Packages that OneSpan does not show to the configured credentials.",
        value=pipeline.unverified,
    )
    if pipeline.clock_offset is not None:
        yield GaugeMetricFamily(
            "onespan_clock_offset_seconds",
            "How far OneSpan's clock is ahead of this service's clock, in seconds.",
            value=pipeline.clock_offset,
        )
    dwell = GaugeMetricFamily(
        "dwell_seconds",
        "Time from a callback's arrival to the end of its handler, in seconds, over the most recent dispatches.",
        labels=["quantile"],
    )
    for quantile in QUANTILES if pipeline.dwell else ():
        dwell.add_metric([str(quantile)], quantile_of(pipeline.dwell, quantile))
    yield dwell


def quantile_of(ascending: Sequence[float], quantile: float) -> float:
    """Return the quantile (0 to 1) of sorted values."""
    return ascending[min(int(quantile * len(ascending)), len(ascending) - 1)]
