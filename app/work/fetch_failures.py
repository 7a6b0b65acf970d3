"""What to do after a failed fetch: when to retry, when to give up, whether reconcile waits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.errors import (
    CredentialsRejected,
    NotPermitted,
    OneSpanError,
    OneSpanNotConfigured,
    OneSpanNotFound,
    RequestRejected,
    Throttled,
    UnreadableAnswer,
    UnsendableRequest,
)

# Delays after the first, second, ... failure; later failures have the last one.
FETCH_RETRY_DELAYS = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
)
LONGEST_DELAY = timedelta(hours=6)  # the most that OneSpan's Retry-After can ask for


@dataclass(frozen=True, slots=True)
class FailureRule:
    """How to treat one kind of error of a fetch.

    From attempt number `package_only_from` on, the error concerns this package only, and reconcile runs do not wait
    for it (None: never). `delays` are the delays after each attempt; after the last one the package counts as refused.
    None: retry without end, with the usual delays. `delays_if_unseen` replaces `delays` for a package that these
    credentials have never seen.
    """

    package_only_from: int | None
    delays: tuple[timedelta, ...] | None = None
    delays_if_unseen: tuple[timedelta, ...] | None = None


OTHER_ERRORS = FailureRule(
    package_only_from=len(FETCH_RETRY_DELAYS)
)  # may concern all of OneSpan, or this package only
REFUSAL_DELAYS = (*FETCH_RETRY_DELAYS, *(timedelta(days=1),) * 10)
FAILURE_RULES: Mapping[type[OneSpanError], FailureRule] = {
    UnreadableAnswer: FailureRule(package_only_from=1),
    NotPermitted: FailureRule(package_only_from=1, delays=REFUSAL_DELAYS, delays_if_unseen=()),
    RequestRejected: FailureRule(package_only_from=1, delays=REFUSAL_DELAYS, delays_if_unseen=()),
    OneSpanNotFound: FailureRule(
        package_only_from=1, delays=(), delays_if_unseen=FETCH_RETRY_DELAYS[:2]
    ),  # may be too new
    CredentialsRejected: FailureRule(package_only_from=None),
    UnsendableRequest: FailureRule(package_only_from=None),
    Throttled: FailureRule(package_only_from=None),
    OneSpanNotConfigured: FailureRule(package_only_from=None),
}
# By error name: `FailureRule.package_only_from`. The key None holds the value for all other errors.
PACKAGE_ONLY_FROM: Mapping[str | None, int | None] = {
    None: OTHER_ERRORS.package_only_from,
    **{error.__name__: rule.package_only_from for error, rule in FAILURE_RULES.items()},
}


def failure_rule(problem: OneSpanError) -> FailureRule:
    """Return how to treat an error of a fetch."""
    return FAILURE_RULES.get(type(problem), OTHER_ERRORS)


def retry_delay(attempt: int, problem: OneSpanError) -> timedelta:
    """Return the delay after this attempt (the first is 1). OneSpan's `Retry-After` can make it longer."""
    seconds = problem.seconds or 0 if isinstance(problem, Throttled) else 0
    retry_after = timedelta(seconds=min(seconds, LONGEST_DELAY.total_seconds()))
    return max(FETCH_RETRY_DELAYS[min(max(attempt, 1), len(FETCH_RETRY_DELAYS)) - 1], retry_after)
