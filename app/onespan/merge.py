"""The merge of claims, whose result does not depend on the order and the repetition of claims.

The functions are pure. A claim says that an attribute of a subject had a value at a time of OneSpan's clock. A state
holds the newest claim of each attribute per origin: *event* (from callbacks) and *snapshot* (from the REST API).
Merging keeps the larger of two claims by (time, rank of the value). That order is total, so the merge is commutative,
associative and idempotent.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.onespan.event_catalogue import STATUSES

ClaimOrigin = Literal["event", "snapshot"]
TimedValue = tuple[str, object]  # the time of a claim (ISO 8601) and its value
Registers = Mapping[ClaimOrigin, TimedValue]
State = Mapping[str, Mapping[str, Registers]]  # subject → attribute → newest claim of each origin

PACKAGE = "package"
FIRST = "first "  # attributes that begin so keep their oldest claim: when OneSpan first showed a value
EPOCH = "0001-01-01T00:00:00.000000+00:00"
NO_CLAIM: TimedValue = (EPOCH, None)


@dataclass(frozen=True, slots=True)
class Claim:
    """A value of one attribute of one subject, from one origin. `at` is ISO 8601, UTC, with microseconds."""

    subject: str
    attribute: str
    value: object
    at: str
    origin: ClaimOrigin


def signer(signer_id: str) -> str:
    """Return the subject of claims about a signer, or about a role without a signer."""
    return f"signer:{signer_id}"


def document(document_id: str) -> str:
    """Return the subject of claims about a document."""
    return f"document:{document_id}"


def merge_claims(state: State, claims: Iterable[Claim]) -> State:
    """Return the state with these claims merged in; the given state is not changed.

    Returns the same object if no claim is new.
    """
    changed: dict[str, dict[str, Registers]] = {}
    for claim in claims:
        attributes = changed.get(claim.subject) or state.get(claim.subject, {})
        registers = attributes.get(claim.attribute, {})
        newest, claimed = registers.get(claim.origin), (claim.at, claim.value)
        if newest is None or _wins(claim.attribute, claimed, newest):
            if claim.subject not in changed:
                changed[claim.subject] = {**attributes}
            changed[claim.subject][claim.attribute] = {**registers, claim.origin: claimed}
    return {**state, **changed} if changed else state


def union(states: Iterable[Mapping[str, Registers]]) -> Mapping[str, Registers]:
    """Merge the claims of several subjects that are the same signer or document."""
    merged: State = {}
    for attributes in states:
        merged = merge_claims(
            merged,
            (
                Claim("", attribute, value, at, origin)
                for attribute, registers in attributes.items()
                for origin, (at, value) in registers.items()
            ),
        )
    return merged.get("", {})


def current_value(registers: Registers) -> TimedValue:
    """Return the newer of the values from event and snapshot. On a tie the snapshot wins: it includes the event."""
    event, snapshot = registers.get("event"), registers.get("snapshot")
    if event and (not snapshot or event[0] > snapshot[0]):
        return event
    return snapshot or NO_CLAIM


def valid_since(registers: Registers) -> str:
    """Return since when the current value holds: the event's time if an event claims the value, else the snapshot's."""
    at, value = current_value(registers)
    event = registers.get("event")
    return event[0] if event and event[1] == value else at


def agrees(state: State, claims: Iterable[Claim]) -> bool:
    """Whether a snapshot with these claims changes nothing: the last snapshot had the same values, still current."""
    for claim in claims:
        registers = state.get(claim.subject, {}).get(claim.attribute, {})
        snapshot = registers.get("snapshot")
        if snapshot is None or snapshot[1] != claim.value or current_value(registers)[1] != claim.value:
            return False
    return True


def newest_claim_at(state: State, origin: ClaimOrigin) -> str:
    """Return OneSpan's time of the newest event or snapshot of the package."""
    attribute = "event" if origin == "event" else "read"
    return state.get(PACKAGE, {}).get(attribute, {}).get(origin, NO_CLAIM)[0]


def last_snapshot_value(state: State, subject: str, attribute: str) -> Any:
    """Return the attribute's value in the last snapshot that included it; None if no snapshot did."""
    return state.get(subject, {}).get(attribute, {}).get("snapshot", NO_CLAIM)[1]


def _wins(attribute: str, first: TimedValue, second: TimedValue) -> bool:
    """Whether the value `first` wins. The order is total: the winner does not depend on the order of arrival."""
    if first[0] == second[0]:
        return first[1] is not second[1] and not attribute.startswith(FIRST) and _rank(first[1]) > _rank(second[1])
    return (first[0] > second[0]) is not attribute.startswith(FIRST)


def _rank(value: object) -> tuple[bool, int, str]:
    return value is not None, (STATUSES.index(value) if value in STATUSES else -1), json.dumps(value, sort_keys=True)
