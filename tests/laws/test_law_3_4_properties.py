"""Laws 3 and 4 as properties, checked against an independent reference model (`tests/support/reference.py`)."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app import Service
from app.handling import Handlers, Package
from app.onespan import merge
from app.onespan.callbacks import parse_callback
from app.onespan.claims import callback_claims, snapshot_claims
from app.onespan.clock import OffsetRange
from app.onespan.merge import Claim, State
from app.onespan.packages import parse_package
from app.onespan.projection import derive
from app.onespan.values import Group
from app.store import journal, models, onespan_clock, queries
from app.store.journal import Entry
from app.types import iso
from tests.conftest import on_both
from tests.support import strategies
from tests.support.fixtures import JSON
from tests.support.reference import distinct_facts, expected_package, in_reference_form
from tests.support.strategies import LATER, Facts, examples

pytestmark = on_both

Input = JSON | tuple[JSON, datetime]  # a callback's body, or a snapshot and its date

PURE = settings(max_examples=examples(200))
# All examples of a test share the fixtures, so each example uses a package of its own.
STORED = settings(
    deadline=None,
    print_blob=True,
    max_examples=examples(50),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Merging ignores what claims mean, so the drawn claims have few subjects, few times and values of every kind.
drawn_claims = st.lists(
    st.builds(
        Claim,
        subject=st.sampled_from(("package", "signer:ada")),
        attribute=st.sampled_from(("status", "locked")),
        value=st.sampled_from(("SENT", "COMPLETED", "UNHEARD_OF", True, False, None, 7, ["a", "b"])),
        at=strategies.times.map(iso),
        origin=st.sampled_from(("event", "snapshot")),
    ),
    max_size=8,
)


@PURE
@given(drawn_claims, drawn_claims)
def test_law_4_merging_is_commutative(some, others):
    """Two sets of claims merge to the same state in either order."""
    assert _merged(some, others) == _merged(others, some)


@PURE
@given(drawn_claims, drawn_claims, drawn_claims)
def test_law_4_merging_is_associative(some, others, more):
    """Three sets of claims merge to the same state if two of the sets are merged with each other first."""
    apart = _merged(others, more)

    assert _merged(some, others, more) == _merged(some, _all_of(apart))


@PURE
@given(drawn_claims, drawn_claims)
def test_law_3_merging_is_idempotent(some, others):
    """Merging known claims again returns the same state object."""
    state = _merged(some, others)

    assert merge.merge_claims(state, [*others, *some, *others]) is state


@PURE
@given(drawn_claims, drawn_claims)
def test_law_4_a_state_that_was_stored_merges_as_before(some, others):
    """A state of merged claims that was stored as JSON, as in the database, merges like the original state."""
    stored = json.loads(json.dumps(_merged(some)))

    assert _plain(merge.merge_claims(stored, others)) == _plain(_merged(some, others))


@PURE
@given(strategies.facts, st.data())
def test_law_4_every_order_and_repetition_derives_one_package(facts, data):
    """Callbacks and snapshots derive the reference model's package in any order, however often they are repeated."""
    bundles = _claims(facts)
    again = data.draw(st.permutations([*bundles, *data.draw(st.lists(st.sampled_from(bundles), max_size=5))]))

    package = derive("pkg-1", _merged(*bundles))

    assert derive("pkg-1", _merged(*again)) == package
    assert derive("pkg-1", json.loads(_plain(_merged(*bundles)))) == package
    assert in_reference_form(package) == _expected(facts)


@STORED
@given(strategies.facts, st.data())
def test_law_3_and_4_every_order_repetition_and_batching_is_stored_alike(digested, facts, data):
    """Order, repetition and batch size do not change which package, events and dispatches the digest stores."""
    inputs = [*facts.callbacks, *facts.snapshots]
    repeated = data.draw(st.lists(st.sampled_from(inputs), max_size=4))
    again = [_rewritten(item, data) for item in data.draw(st.permutations([*inputs, *repeated]))]

    straight = digested(inputs)
    shuffled = digested(again, limits=data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))

    assert shuffled.values == straight.values
    assert straight.values == _expected(facts)
    assert straight.events == shuffled.events == _expected_events(facts)
    assert straight.dispatches == shuffled.dispatches == _expected_dispatches(facts)
    assert shuffled.repeats + sum(shuffled.events.values()) == sum(not isinstance(item, tuple) for item in again)


@STORED
@given(strategies.undated, st.sampled_from([0, 600, -600, 7200, -7200]))
def test_law_3_arrival_distinguishes_undated_callbacks(digested, service, arrivals, seconds):
    """Equal undated callbacks are one fact if they arrive within five minutes; a later callback is a new fact.

    OneSpan's clock may be hours ahead or behind.
    """
    offset = timedelta(seconds=seconds)
    with service.database.write() as connection:
        onespan_clock.record(connection, OffsetRange(offset, offset), now=LATER)
    found = digested([body for body, _ in arrivals], received_at=[at for _, at in arrivals])

    assert found.values == expected_package(arrivals, [], offset=offset)
    assert sum(found.events.values()) == len(distinct_facts(arrivals))


@STORED
@given(strategies.facts, st.data())
def test_law_8_every_value_has_a_cause_and_every_change_follows_the_previous_one(digested, facts, data):
    """Every change has a cause and starts at the previous change's value; the last change gives the shown value."""
    inputs = data.draw(st.permutations([*facts.callbacks, *facts.snapshots]))

    found = digested(inputs, limits=[1, 3])

    shown: dict[tuple[str, str], Any] = {}
    for change in found.changes:
        place = (change.subject, change.attribute)
        assert _or_none(place, change.old) == shown.get(place)
        assert (change.cause.kind, change.cause.id) in found.journal
        shown[place] = _or_none(place, change.new)
    assert {place: value for place, value in shown.items() if value is not None} == _values_of(found.package)


class Digested:
    """What the digest produced from the journal rows of one package."""

    def __init__(self, service: Service, package_id: str) -> None:
        entry, event, dispatch = models.Journal, models.Event, models.Dispatch
        rows = select(entry.kind, entry.id, entry.error, entry.digested_at).where(entry.package_id == package_id)
        events = select(event.name, event.repeats).where(event.package_id == package_id)
        runs = select(event.name, dispatch.handler).join(event).where(dispatch.package_id == package_id)
        with service.database.read() as connection:
            self.package = queries.packages(connection, [package_id])[package_id]
            self.changes = queries.history(connection, package_id, limit=10_000, after=0)
            entries, event_rows = connection.execute(rows).all(), connection.execute(events).all()
            self.dispatches = Counter(map(tuple, connection.execute(runs)))
        assert all(row.digested_at and not row.error for row in entries)
        self.journal = {(row.kind, row.id) for row in entries}
        self.events = Counter(row.name for row in event_rows)
        self.repeats = sum(row.repeats for row in event_rows)
        self.values = in_reference_form(self.package)


@pytest.fixture
def digested(service: Service, handlers: Handlers) -> Callable[..., Digested]:
    """Journal callbacks and snapshots for a new package, digest them in batches, and return the result."""
    numbers = itertools.count(1)

    @handlers.on("*")
    def see_all(*_: object) -> None: ...

    @handlers.on("PACKAGE_COMPLETE", "SIGNER_COMPLETE")
    def see_some(*_: object) -> None: ...

    def digested(
        inputs: Sequence[Input], *, limits: Sequence[int] = (500,), received_at: Sequence[datetime] | None = None
    ) -> Digested:
        package_id = f"pkg-{next(numbers)}"
        arrivals = received_at or [LATER + timedelta(seconds=place) for place in range(len(inputs))]
        with service.database.write() as connection:
            journal.add(connection, [_entry(item, package_id, at) for item, at in zip(inputs, arrivals, strict=True)])
        for limit in itertools.islice(itertools.chain(limits, itertools.repeat(500)), 1000):
            if not service.digest.turn(limit=limit):
                return Digested(service, package_id)
        raise AssertionError("the digest never ends")

    return digested


def _claims(facts: Facts) -> list[list[Claim]]:
    callbacks = (parse_callback(json.dumps(body).encode()) for body in facts.callbacks)
    return [
        *(callback_claims(callback, received_at=LATER) for callback in callbacks),
        *(snapshot_claims(parse_package(shown), at=at) for shown, at in facts.snapshots),
    ]


def _merged(*bundles: Sequence[Claim]) -> State:
    state: State = {}
    for bundle in bundles:
        state = merge.merge_claims(state, bundle)
    return state


def _all_of(state: State) -> list[Claim]:
    return [
        Claim(subject, attribute, value, at, origin)
        for subject, attributes in state.items()
        for attribute, registers in attributes.items()
        for origin, (at, value) in registers.items()
    ]


def _plain(state: State) -> str:
    return json.dumps(state, sort_keys=True)


def _rewritten(item: Input, data: st.DataObject) -> Input:
    return item if isinstance(item, tuple) else data.draw(strategies.rewritten(item))


def _entry(item: Input, package_id: str, received_at: datetime) -> Entry:
    body, read_at = item if isinstance(item, tuple) else (item, None)
    name, kind = ("packageId", "callback") if read_at is None else ("id", "snapshot")
    content = json.dumps({**body, name: package_id}).encode()
    return Entry(kind, received_at, content, package_id=package_id, read_at=read_at)


def _expected(facts: Facts) -> dict[str, Any]:
    return expected_package([(body, LATER) for body in facts.callbacks], facts.snapshots)


def _expected_events(facts: Facts) -> Counter[str]:
    return Counter(body["name"] for body, _ in distinct_facts((body, LATER) for body in facts.callbacks))


def _expected_dispatches(facts: Facts) -> Counter[tuple[str, str]]:
    events = _expected_events(facts)
    runs = {(name, "see_all"): times for name, times in events.items()}
    return Counter(
        runs | {(name, "see_some"): events[name] for name in ("PACKAGE_COMPLETE", "SIGNER_COMPLETE") if events[name]}
    )


# The values that the history records, besides those that need another form.
OF_PACKAGE = ("name", "type", "status", "trashed", "deleted", "description", "data")
OF_SIGNER = (
    *("status", "name", "email", "order", "role_id", "locked", "email_bounce", "kba_failures", "attachments"),
    *("begun_at", "group"),
)


def _values_of(package: Package) -> dict[tuple[str, str], Any]:
    """All values of a package that its history records, without empty values."""
    values: dict[tuple[str, str], Any] = {("package", name): getattr(package, name) for name in OF_PACKAGE}
    values["package", "due_at"] = _as_json(package.due_at)
    values["package", "sender_id"] = package.sender.id
    for signer in package.signers:
        for name in OF_SIGNER:
            values[f"signer:{signer.id}", name] = _as_json(getattr(signer, name))
    for document in package.documents:
        for name in ("name", "asked", "signed_by"):
            values[f"document:{document.id}", name] = _as_json(getattr(document, name))
    for reason in package.attention:
        values[f"signer:{reason.who}" if reason.who else "package", f"attention {reason.reason}"] = True
    return {place: value for place, value in values.items() if _or_none(place, value) is not None}


def _as_json(value: Any) -> Any:
    """Return a value as the history stores it."""
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case tuple():
            return [_as_json(item) for item in value]
        case Group():
            return {field.name: _as_json(getattr(value, field.name)) for field in fields(value)}
    return value


def _or_none(place: tuple[str, str], value: Any) -> Any:
    """Return None for an empty value: a false flag or a count of zero. A signing order of 0 is not empty."""
    return value if value or (place[1] == "order" and value is not None) else None
