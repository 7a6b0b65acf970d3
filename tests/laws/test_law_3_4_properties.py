"""Laws 3 and 4 as properties, against an independent reading of the same facts (`tests/support/reference.py`)."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app import Service
from app.onespan import claims
from app.onespan.callbacks import read_callback
from app.onespan.claims import Claim, State
from app.onespan.packages import read_package
from app.onespan.projection import derive
from app.onespan.values import Package
from app.store import journal, models, queries
from app.store.journal import Entry
from app.work.dispatch import Handlers
from tests.conftest import on_both
from tests.support import strategies
from tests.support.fixtures import JSON
from tests.support.reference import believe, each_once, seen
from tests.support.strategies import LATER, Facts, examples

pytestmark = on_both

Telling = JSON | tuple[JSON, datetime]  # a callback's body, or a snapshot and its date

PURE = settings(max_examples=examples(200))
# The fixtures are made once for all examples; each example speaks of packages of its own.
STORED = settings(
    deadline=None,
    print_blob=True,
    max_examples=examples(50),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# What is claimed is of no concern to merging: few places, few times, values of every kind.
drawn_claims = st.lists(
    st.builds(
        Claim,
        subject=st.sampled_from(("package", "signer:ada")),
        attribute=st.sampled_from(("status", "locked")),
        value=st.sampled_from(("SENT", "COMPLETED", "UNHEARD_OF", True, False, None, 7, ["a", "b"])),
        at=strategies.times.map(claims.iso),
        witness=st.sampled_from(("event", "snapshot")),
    ),
    max_size=8,
)


@PURE
@given(drawn_claims, drawn_claims)
def test_law_4_merging_is_commutative(some, others):
    """Whose claims come first does not matter."""
    assert _merged(some, others) == _merged(others, some)


@PURE
@given(drawn_claims, drawn_claims, drawn_claims)
def test_law_4_merging_is_associative(some, others, more):
    """Nor does how they are grouped: what was merged elsewhere can be merged in."""
    apart = _merged(others, more)

    assert _merged(some, others, more) == _merged(some, _all_of(apart))


@PURE
@given(drawn_claims, drawn_claims)
def test_law_3_merging_is_idempotent(some, others):
    """Who hears everything again has learned nothing, and gets the very same state back."""
    state = _merged(some, others)

    assert claims.merge(state, [*others, *some, *others]) is state


@PURE
@given(drawn_claims, drawn_claims)
def test_law_4_a_state_that_was_stored_merges_as_before(some, others):
    """A state lives as JSON in the database."""
    stored = json.loads(json.dumps(_merged(some)))

    assert _plain(claims.merge(stored, others)) == _plain(_merged(some, others))


@PURE
@given(strategies.facts, st.data())
def test_law_4_every_order_and_repetition_derives_one_picture(facts, data):
    """The picture is a function of the set of facts, and it is the one that OneSpan's words describe."""
    told = _claims(facts)
    again = data.draw(st.permutations([*told, *data.draw(st.lists(st.sampled_from(told), max_size=5))]))

    package = derive("pkg-1", _merged(*told))

    assert derive("pkg-1", _merged(*again)) == package
    assert derive("pkg-1", json.loads(_plain(_merged(*told)))) == package
    assert seen(package) == _expected(facts)


@STORED
@given(strategies.facts, st.data())
def test_law_3_and_4_every_order_repetition_and_batching_is_stored_alike(digested, facts, data):
    """Straight or shuffled, once or more often, in one batch or in many: one picture, one event, one dispatch."""
    told = [*facts.callbacks, *facts.snapshots]
    repeated = data.draw(st.lists(st.sampled_from(told), max_size=4))
    again = [_retold(one, data) for one in data.draw(st.permutations([*told, *repeated]))]

    straight = digested(told)
    shuffled = digested(again, limits=data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))

    assert shuffled.said == straight.said
    assert straight.said == _expected(facts)
    assert straight.events == shuffled.events == _expected_events(facts)
    assert straight.dispatches == shuffled.dispatches == _expected_dispatches(facts)
    assert shuffled.repeats + sum(shuffled.events.values()) == sum(not isinstance(one, tuple) for one in again)


@STORED
@given(strategies.undated)
def test_law_3_undated_callbacks_are_told_apart_by_their_arrival(digested, told):
    """Without a date the same words within five minutes are one fact; later they are news."""
    found = digested([body for body, _ in told], received_at=[at for _, at in told])

    assert found.said == believe(told, [])
    assert sum(found.events.values()) == len(each_once(told))


@STORED
@given(strategies.facts, st.data())
def test_law_8_every_value_has_a_cause_and_every_change_follows_the_one_before(digested, facts, data):
    """History is a chain: each change starts where the last one ended, and ends in what is shown."""
    told = data.draw(st.permutations([*facts.callbacks, *facts.snapshots]))

    found = digested(told, limits=[1, 3])

    shown: dict[tuple[str, str], Any] = {}
    for change in found.changes:
        place = (change.subject, change.attribute)
        assert _or_nothing(place, change.old) == shown.get(place)
        assert (change.cause.kind, change.cause.id) in found.journal
        shown[place] = _or_nothing(place, change.new)
    assert {place: value for place, value in shown.items() if value is not None} == _values_of(found.package)


class Digested:
    """What became of some journal rows about one package."""

    def __init__(self, service: Service, package_id: str) -> None:
        entry, event, dispatch = models.Journal, models.Event, models.Dispatch
        rows = select(entry.kind, entry.id, entry.error, entry.digested_at).where(entry.package_id == package_id)
        events = select(event.name, event.repeats).where(event.package_id == package_id)
        owed = select(event.name, dispatch.handler).join(event).where(dispatch.package_id == package_id)
        with service.database.read() as connection:
            self.package = queries.packages(connection, [package_id])[package_id]
            self.changes = queries.history(connection, package_id, limit=10_000, after=0)
            entries, told = connection.execute(rows).all(), connection.execute(events).all()
            self.dispatches = Counter(map(tuple, connection.execute(owed)))
        assert all(row.digested_at and not row.error for row in entries)
        self.journal = {(row.kind, row.id) for row in entries}
        self.events = Counter(row.name for row in told)
        self.repeats = sum(row.repeats for row in told)
        self.said = seen(self.package)


@pytest.fixture
def digested(service: Service, handlers: Handlers) -> Callable[..., Digested]:
    """Write facts into the journal as those of a fresh package, digest them in batches, and show what came of it."""
    numbers = itertools.count(1)

    @handlers.on("*")
    def see_all(*_: object) -> None: ...

    @handlers.on("PACKAGE_COMPLETE", "SIGNER_COMPLETE")
    def see_some(*_: object) -> None: ...

    def digested(
        told: Sequence[Telling], *, limits: Sequence[int] = (500,), received_at: Sequence[datetime] | None = None
    ) -> Digested:
        package_id = f"pkg-{next(numbers)}"
        arrivals = received_at or [LATER + timedelta(seconds=place) for place in range(len(told))]
        with service.database.write() as connection:
            journal.add(connection, [_entry(one, package_id, at) for one, at in zip(told, arrivals, strict=True)])
        for limit in itertools.islice(itertools.chain(limits, itertools.repeat(500)), 1000):
            if not service.digest.turn(limit=limit):
                return Digested(service, package_id)
        raise AssertionError("there is always more to digest")

    return digested


def _claims(facts: Facts) -> list[list[Claim]]:
    callbacks = (read_callback(json.dumps(body).encode()) for body in facts.callbacks)
    return [
        *(claims.told_by(callback, received_at=LATER) for callback in callbacks),
        *(claims.shown_by(read_package(shown), at=at) for shown, at in facts.snapshots),
    ]


def _merged(*bundles: Sequence[Claim]) -> State:
    state: State = {}
    for bundle in bundles:
        state = claims.merge(state, bundle)
    return state


def _all_of(state: State) -> list[Claim]:
    return [
        Claim(subject, attribute, value, at, witness)
        for subject, attributes in state.items()
        for attribute, registers in attributes.items()
        for witness, (at, value) in registers.items()
    ]


def _plain(state: State) -> str:
    return json.dumps(state, sort_keys=True)


def _retold(one: Telling, data: st.DataObject) -> Telling:
    return one if isinstance(one, tuple) else data.draw(strategies.retold(one))


def _entry(one: Telling, package_id: str, received_at: datetime) -> Entry:
    body, read_at = one if isinstance(one, tuple) else (one, None)
    name, kind = ("packageId", "callback") if read_at is None else ("id", "snapshot")
    told = json.dumps({**body, name: package_id}).encode()
    return Entry(kind, received_at, told, package_id=package_id, read_at=read_at)


def _expected(facts: Facts) -> dict[str, Any]:
    return believe([(body, LATER) for body in facts.callbacks], facts.snapshots)


def _expected_events(facts: Facts) -> Counter[str]:
    return Counter(body["name"] for body, _ in each_once((body, LATER) for body in facts.callbacks))


def _expected_dispatches(facts: Facts) -> Counter[tuple[str, str]]:
    events = _expected_events(facts)
    owed = {(name, "see_all"): times for name, times in events.items()}
    return Counter(
        owed | {(name, "see_some"): events[name] for name in ("PACKAGE_COMPLETE", "SIGNER_COMPLETE") if events[name]}
    )


def _values_of(package: Package) -> dict[tuple[str, str], Any]:
    """Every value of a picture that the history tells of, and that says something."""
    values: dict[tuple[str, str], Any] = {
        ("package", name): getattr(package, name) for name in ("name", "type", "status", "trashed", "deleted")
    }
    values["package", "due_at"] = package.due_at.isoformat().replace("+00:00", "Z") if package.due_at else None
    values["package", "sender_id"] = package.sender.id
    for one in package.signers:
        for name in ("status", "name", "email", "order", "role_id", "locked", "email_bounce", "kba_failures"):
            values[f"signer:{one.id}", name] = getattr(one, name)
        values[f"signer:{one.id}", "attachments"] = list(one.attachments)
    for one in package.documents:
        values[f"document:{one.id}", "name"] = one.name
        values[f"document:{one.id}", "signed_by"] = list(one.signed_by)
    for reason in package.attention:
        values[f"signer:{reason.who}" if reason.who else "package", f"attention {reason.reason}"] = True
    return {place: value for place, value in values.items() if _or_nothing(place, value) is not None}


def _or_nothing(place: tuple[str, str], value: Any) -> Any:
    """None for what says nothing: a flag that is down, a count of none. Place 0 in the signing order is a place."""
    return value if value or (place[1] == "order" and value is not None) else None
