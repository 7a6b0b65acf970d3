"""`/metrics`, for Prometheus. Read from the database at every scrape, so that each process tells the same."""

from collections.abc import Callable, Iterable, Sequence

from flask import Blueprint
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.store.queries import Pulse
from app.store.queries.bounded import COUNTED

CAUSES = ("down", "refused", "never reported", "no trace")
QUANTILES = (0.5, 0.95, 0.99)


def metrics(*, pulse: Callable[[], Pulse | None], spooled: Callable[[], int]) -> Blueprint:
    """The blueprint of `/metrics`. `pulse` is None while the database does not answer."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def scrape() -> ResponseReturnValue:
        """How the road flows; no names, no ids."""
        registry = CollectorRegistry()
        registry.register(_Figures(pulse(), spooled()))
        return generate_latest(registry), {"Content-Type": CONTENT_TYPE_LATEST}

    return blueprint


class _Figures(Collector):
    def __init__(self, pulse: Pulse | None, spooled: int) -> None:
        self._pulse = pulse
        self._spooled = spooled

    def collect(self) -> Iterable[Metric]:
        """Each figure under the name that it has in the logs."""
        yield GaugeMetricFamily("callbacks_spooled", "Callbacks that wait for the database.", value=self._spooled)
        yield GaugeMetricFamily("database_up", "Whether the database answers.", value=self._pulse is not None)
        if self._pulse is not None:
            yield from _figures_of(self._pulse)


def _figures_of(pulse: Pulse) -> Iterable[Metric]:
    yield GaugeMetricFamily("journal_undigested", f"Entries to be digested, up to {COUNTED}.", value=pulse.undigested)
    yield GaugeMetricFamily(
        "journal_oldest_undigested_seconds", "How long the oldest waits.", value=pulse.oldest_undigested
    )
    states = GaugeMetricFamily(
        "dispatches", f"Handler runs that are open or parked, up to {COUNTED}.", labels=["state"]
    )
    for state, number in pulse.dispatches.items():
        states.add_metric([state], number)
    yield states
    missed = GaugeMetricFamily(
        "callbacks_missed", "Facts of the last 30 days that no callback told, by likely cause.", labels=["cause"]
    )
    for cause in CAUSES:
        missed.add_metric([cause], pulse.missed.get(cause, 0))
    yield missed
    yield GaugeMetricFamily(
        "callbacks_silent", "Facts are found, and no callback comes.", value=pulse.silence is not None
    )
    if pulse.reconciled is not None:
        yield GaugeMetricFamily(
            "reconcile_age_seconds", "How long ago the last reconcile ended.", value=pulse.reconciled
        )
    dwell = GaugeMetricFamily(
        "dwell_seconds", "From a callback's arrival to its handler's end, lately.", labels=["quantile"]
    )
    for quantile in QUANTILES if pulse.dwell else ():
        dwell.add_metric([str(quantile)], quantile_of(pulse.dwell, quantile))
    yield dwell


def quantile_of(rising: Sequence[float], quantile: float) -> float:
    """The value that so large a share of them does not exceed."""
    return rising[min(int(quantile * len(rising)), len(rising) - 1)]
