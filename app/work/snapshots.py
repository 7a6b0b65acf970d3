"""Turn OneSpan's answers into journal entries, dated so that they claim no more than OneSpan showed."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from app.onespan import merge
from app.onespan.claims import snapshot_claims
from app.onespan.client import Answer
from app.onespan.fetch_rules import is_unconfirmed
from app.onespan.list_scan import ListItem
from app.onespan.merge import State
from app.onespan.snapshot import PackageSnapshot
from app.store import journal, list_state
from app.store.journal import Entry
from app.store.states import Emit, JournalKind
from app.types import iso

LIST_LAG = timedelta(minutes=10)  # how late a change may appear in OneSpan's list


def snapshot_entry(
    answer: Answer,
    package_id: str,
    *,
    now: datetime,
    key: str | None,
    kind: str = JournalKind.SNAPSHOT,
    emit: str = Emit.NEW,
) -> Entry:
    """Create the journal entry for OneSpan's answer about one package: a snapshot or an absence."""
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
    """Create the journal entry for a package in OneSpan's list."""
    body = json.dumps(item.json, separators=(",", ":")).encode()
    at = _listed_at(answer, item.snapshot.updated)
    return replace(snapshot_entry(answer, item.snapshot.id, now=now, key=key, emit=emit), body=body, read_at=at)


def listed_snapshot(item: ListItem, state: State) -> PackageSnapshot:
    """Return a listed package as a snapshot.

    `has_parts` is false if some parts cannot be parsed, or if the list shows fewer parts than are stored. `has_parts`
    is also false if the list shows a package without any signature marks that is not a draft.
    """
    snapshot = item.snapshot
    is_whole = (
        snapshot.has_parts and not snapshot.incomplete and _has_parts(snapshot) and not _shows_less(snapshot, state)
    )
    return replace(snapshot, has_parts=is_whole)


def is_conclusive(snapshot: PackageSnapshot, state: State, answer: Answer) -> bool:
    """Return whether a listed package can be journaled without a fetch.

    The package must have all parts and be as new as the stored claims: a list that lags shows the package as it was
    before a callback or a snapshot.
    """
    updated = snapshot.updated
    if updated is None or not snapshot.has_parts:
        return False
    newer_than_read = iso(_listed_at(answer, updated)) > merge.newest_claim_at(state, "snapshot")
    return updated >= merge.newest_claim_at(state, "event") and newer_than_read


def is_known(snapshot: PackageSnapshot, state: State, *, at: datetime, listed_at: datetime | None = None) -> bool:
    """Whether a listed package changes nothing: it equals the last snapshot, and no callback is unconfirmed.

    `at` is when the list was read, and `listed_at` when it last showed the package before.
    """
    if not snapshot.has_parts and is_unconfirmed(state, listed_at=listed_at):
        return False
    shown = (claim for claim in snapshot_claims(snapshot, at=at) if snapshot.has_parts or claim.attribute != "whole")
    return merge.agrees(state, shown)


def _has_parts(snapshot: PackageSnapshot) -> bool:
    return snapshot.status == "DRAFT" or any(document.signatures for document in snapshot.documents)


def _shows_less(snapshot: PackageSnapshot, state: State) -> bool:
    """Return whether the list shows fewer signers, documents or signature marks than are stored.

    Either the list is incomplete, or the parts were removed.
    """
    seats, documents = (merge.last_snapshot_value(state, merge.PACKAGE, part) or [] for part in ("seats", "documents"))
    people, occupied = sum(signer != role for signer, role in seats), sum(seat.occupied for seat in snapshot.seats)
    if len(seats) > len(snapshot.seats) or people > occupied or len(documents) > len(snapshot.documents):
        return True
    for document in snapshot.documents:
        asked = merge.last_snapshot_value(state, merge.document(document.id), "asked") or []
        signers = {signer for signer, _ in asked}
        if not {role for signer, role in seats if signer in signers} <= set(document.signatures or ()):
            return True
    return False


def was_read(connection: Connection, package_id: str, *, key: str | None) -> bool:
    """Return whether the credentials `key` have seen this package: only then does a 404 mean that it is deleted."""
    last = journal.last_snapshot(connection, package_id)
    return (last is not None and last.key == key) or list_state.was_listed(connection, package_id, key=key)


def _listed_at(answer: Answer, updated: str | None) -> datetime:
    """Return the date of a listed package: `LIST_LAG` before the answer, but not before the package's `updated`."""
    settled = answer.read_at - LIST_LAG
    return min(answer.read_at, max(settled, datetime.fromisoformat(updated) if updated else settled))
