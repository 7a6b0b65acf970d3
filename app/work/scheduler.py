"""Call periodic turns in the background. The database decides whether a turn has work.

The intervals of APScheduler start again with every process, so only the delay of a turn may depend on them.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from app.logs import error_fields

log = structlog.get_logger()


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
            self._scheduler.add_job(turn, IntervalTrigger(seconds=every.total_seconds()), id=name)
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the scheduler after the running turns have ended."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=True)
            self._scheduler = None


def _log_failure(failure: JobExecutionEvent) -> None:
    log.error("turn.failed", turn=failure.job_id, **error_fields(failure.exception))
