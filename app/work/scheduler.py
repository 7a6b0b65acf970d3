"""Call periodic turns in the background. The database decides whether a turn has work.

The intervals of APScheduler start again with every process, so only the delay of a turn may depend on them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from app.logs import error_fields

log = structlog.get_logger()

RETRY_INTERVAL = timedelta(seconds=5)  # a turn that failed is taken again this soon, however long its interval is


@dataclass
class PeriodicTurn:
    """A turn that is offered every `tick`, and taken at every n-th offer (`ticks`) or if it failed before."""

    turn: Callable[[], object]
    tick: timedelta
    ticks: int
    offers: int = 0
    has_failed: bool = False

    @classmethod
    def every(cls, interval: timedelta, turn: Callable[[], object]) -> "PeriodicTurn":
        """Return a turn to be taken once per interval."""
        ticks = max(1, round(interval / RETRY_INTERVAL))
        return cls(turn, interval / ticks, ticks)

    def offer(self) -> None:
        """Take the turn if it is its time."""
        self.offers += 1
        if self.has_failed or self.offers % self.ticks == 0:
            self.has_failed = True
            self.turn()
            self.has_failed = False


class Scheduler:
    """A scheduler that calls turns in the background. Each of `turns` is (name, interval, function)."""

    def __init__(self, *turns: tuple[str, timedelta, Callable[[], object]]) -> None:
        self._turns = turns
        self._scheduler: BackgroundScheduler | None = None

    def start(self) -> None:
        """Start the background thread."""
        self._scheduler = BackgroundScheduler(
            daemon=True, timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._scheduler.add_listener(_log_failure, EVENT_JOB_ERROR)
        for name, every, turn in self._turns:
            periodic = PeriodicTurn.every(every, turn)
            self._scheduler.add_job(periodic.offer, IntervalTrigger(seconds=periodic.tick.total_seconds()), id=name)
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the scheduler after the running turns have ended."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=True)
            self._scheduler = None


def _log_failure(failure: JobExecutionEvent) -> None:
    log.error("turn.failed", turn=failure.job_id, **error_fields(failure.exception))
