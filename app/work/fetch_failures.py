"""What to do after a failed fetch: when to retry, when to give up, and whether reconcile runs wait for it."""

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

# Delays after the first, second, ... failure; later failures have the last delay.
FETCH_RETRY_DELAYS = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
)
LONGEST_DELAY = timedelta(hours=6)  # the longest delay that OneSpan's `Retry-After` can request


@dataclass(frozen=True, slots=True)
class FailureRule:
    """The rule for one kind of error of a fetch.

    From attempt number `package_only_from` on, the error concerns only the fetched package, and reconcile runs do not
    wait for that package. None means that the error always concerns all of OneSpan.

    `delays` are the delays after each attempt. A package whose delays are used up counts as refused. If `delays` is
    None, the fetch is retried without end, with the usual delays. `delays_if_unseen` replaces `delays` for a package
    that these credentials have never seen.
    """

    package_only_from: int | None
    delays: tuple[timedelta, ...] | None = None
    delays_if_unseen: tuple[timedelta, ...] | None = None


# An error of any other kind may concern all of OneSpan, or only one package.
OTHER_ERRORS = FailureRule(package_only_from=len(FETCH_RETRY_DELAYS))
REFUSAL_DELAYS = (*FETCH_RETRY_DELAYS, *(timedelta(days=1),) * 10)
FAILURE_RULES: Mapping[type[OneSpanError], FailureRule] = {
    UnreadableAnswer: FailureRule(package_only_from=1),
    NotPermitted: FailureRule(package_only_from=1, delays=REFUSAL_DELAYS, delays_if_unseen=()),
    RequestRejected: FailureRule(package_only_from=1, delays=REFUSAL_DELAYS, delays_if_unseen=()),
    # A package that these credentials have never seen may be too new to be found.
    OneSpanNotFound: FailureRule(package_only_from=1, delays=(), delays_if_unseen=FETCH_RETRY_DELAYS[:2]),
    CredentialsRejected: FailureRule(package_only_from=None),
    UnsendableRequest: FailureRule(package_only_from=None),
    Throttled: FailureRule(package_only_from=None),
    OneSpanNotConfigured: FailureRule(package_only_from=None),
}
# The `package_only_from` of each kind of error, by class name. The key None holds the value for all other errors.
PACKAGE_ONLY_FROM: Mapping[str | None, int | None] = {
    None: OTHER_ERRORS.package_only_from,
    **{error.__name__: rule.package_only_from for error, rule in FAILURE_RULES.items()},
}


def failure_rule(problem: OneSpanError) -> FailureRule:
    """Return the rule for an error of a fetch."""
    return FAILURE_RULES.get(type(problem), OTHER_ERRORS)


def delay_after_error(attempt: int) -> timedelta:
    """Return the delay after an error of this service itself: none after the first, then the usual delays."""
    return FETCH_RETRY_DELAYS[min(attempt - 1, len(FETCH_RETRY_DELAYS)) - 1] if attempt > 1 else timedelta(0)


def retry_delay(attempt: int, problem: OneSpanError) -> timedelta:
    """Return the delay after attempt number `attempt`, counted from 1. OneSpan's `Retry-After` can make it longer."""
    seconds = problem.seconds or 0 if isinstance(problem, Throttled) else 0
    retry_after = timedelta(seconds=min(seconds, LONGEST_DELAY.total_seconds()))
    return max(FETCH_RETRY_DELAYS[min(max(attempt, 1), len(FETCH_RETRY_DELAYS)) - 1], retry_after)
