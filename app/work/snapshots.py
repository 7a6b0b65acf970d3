"""Turn OneSpan's answers into journal entries, dated so that they claim no more than OneSpan showed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

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
from app.onespan import claims
from app.onespan.claims import State
from app.onespan.client import Answer
from app.onespan.list_scan import ListItem
from app.onespan.packages import PackageSnapshot
from app.store import journal, list_state
from app.store.journal import Entry
from app.store.states import Emit, JournalKind
from app.types import iso

LIST_LAG = timedelta(minutes=10)  # how late a change may appear in OneSpan's list
# Delays after the first, second, ... failure; later failures have the last one.
RETRY_DELAYS = (
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


OTHER_ERRORS = FailureRule(package_only_from=len(RETRY_DELAYS))  # may concern all of OneSpan, or this package only
REFUSAL_DELAYS = (*RETRY_DELAYS, *(timedelta(days=1),) * 10)
FAILURE_RULES: Mapping[type[OneSpanError], FailureRule] = {
    UnreadableAnswer: FailureRule(package_only_from=1),
    NotPermitted: FailureRule(package_only_from=1, delays=REFUSAL_DELAYS, delays_if_unseen=()),
    RequestRejected: FailureRule(package_only_from=1, delays=REFUSAL_DELAYS, delays_if_unseen=()),
    OneSpanNotFound: FailureRule(package_only_from=1, delays=(), delays_if_unseen=RETRY_DELAYS[:2]),  # may be too new
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
    return max(RETRY_DELAYS[min(max(attempt, 1), len(RETRY_DELAYS)) - 1], retry_after)


def snapshot_entry(
    answer: Answer,
    package_id: str,
    *,
    now: datetime,
    key: str | None,
    kind: str = JournalKind.SNAPSHOT,
    emit: str = Emit.NEW,
) -> Entry:
    """Create the entry for OneSpan's answer about one package: a snapshot or an absence."""
    return Entry(
        kind,
        now,
        answer.body,
        key=key,
        package_id=package_id,
        emit=emit,
        read_at=answer.read_at,
        answered_at=answer.answered_at,
    )


def listed_entry(answer: Answer, item: ListItem, *, now: datetime, key: str | None, emit: str) -> Entry:
    """Create the entry for a package in OneSpan's list."""
    body = json.dumps(item.json, separators=(",", ":")).encode()
    at = _listed_at(answer, item.snapshot.updated)
    return replace(snapshot_entry(answer, item.snapshot.id, now=now, key=key, emit=emit), body=body, read_at=at)


def listed_snapshot(item: ListItem, state: State) -> PackageSnapshot:
    """Return a listed package as a snapshot.

    It is not `has_parts` if the list shows fewer parts than are stored, or a package that was sent without signatures.
    """
    snapshot = item.snapshot
    is_whole = (
        snapshot.has_parts and not snapshot.incomplete and _has_parts(snapshot) and not _shows_less(snapshot, state)
    )
    return replace(snapshot, has_parts=is_whole)


def is_conclusive(snapshot: PackageSnapshot, state: State, answer: Answer) -> bool:
    """Return whether a listed package can be journaled without a fetch: it is whole and as new as the stored claims.

    The list may lag, and then shows the package as it was before a callback or a snapshot.
    """
    updated = snapshot.updated
    if updated is None or not snapshot.has_parts:
        return False
    newer_than_read = iso(_listed_at(answer, updated)) > claims.newest_claim_at(state, "snapshot")
    return updated >= claims.newest_claim_at(state, "event") and newer_than_read


def _has_parts(snapshot: PackageSnapshot) -> bool:
    return snapshot.status == "DRAFT" or any(document.signed for document in snapshot.documents)


def _shows_less(snapshot: PackageSnapshot, state: State) -> bool:
    """Return whether more signers, documents or signatures are stored: the list is incomplete, or they were removed."""
    seats, documents = (
        claims.last_snapshot_value(state, claims.PACKAGE, part) or [] for part in ("seats", "documents")
    )
    people, occupied = sum(signer != role for signer, role in seats), sum(seat.occupied for seat in snapshot.seats)
    if len(seats) > len(snapshot.seats) or people > occupied or len(documents) > len(snapshot.documents):
        return True
    for document in snapshot.documents:
        signers = claims.required_signers(state, document.id)
        if not {role for signer, role in seats if signer in signers} <= set(document.signed or ()):
            return True
    return False


def was_read(connection: Connection, package_id: str, *, key: str | None) -> bool:
    """Return whether the credentials `key` have seen this package: only then does a 404 mean that it was deleted."""
    last = journal.last_snapshot(connection, package_id)
    return (last is not None and last.key == key) or list_state.was_listed(connection, package_id, key=key)


def _listed_at(answer: Answer, updated: str | None) -> datetime:
    """Return the date of a listed package: `LIST_LAG` before the answer, but not before its own `updated`."""
    settled = answer.read_at - LIST_LAG
    return min(answer.read_at, max(settled, datetime.fromisoformat(updated) if updated else settled))
