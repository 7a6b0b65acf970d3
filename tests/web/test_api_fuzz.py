"""Any request that the API's document allows is answered as it says, and none that it does not breaks anything."""

from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.handling import GiveUp, Handlers
from app.simulator.account import Account
from app.simulator.population import populated
from app.work.reconcile import Asked
from tests.conftest import ADA, BEN, HOUR, NOON, TOKEN
from tests.support.simulation import World, knowing_onespan
from tests.support.strategies import examples

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = examples(20)  # requests to each operation
LONGEST = 0.05  # seconds that a request may be held here
KNOWN = {
    "package_id": st.sampled_from(["lease", "a/b", "nobody"]),
    **dict.fromkeys(("event_id", "journal_id", "dispatch_id", "run_id"), st.integers(1, 12)),
}


@pytest.fixture(name="settings")
def settings_of_a_service_that_asks(settings):
    """The service knows where OneSpan is."""
    return knowing_onespan(settings)


@pytest.fixture
def busy(app: Flask, service, post, tell, work, *, handlers: Handlers, clock) -> Flask:
    """The service with something of everything: facts, repeats, parked runs, what is unreadable, unknown and waits."""
    world = World(service, post, handlers=handlers, clock=clock)

    @handlers.on("EMAIL_BOUNCE", "PACKAGE_DECLINE")
    def tell_cleo(event, package) -> None:
        raise GiveUp("nobody answers")

    for _ in range(2):
        tell("EMAIL_BOUNCE", package="lease", sessionUser=BEN, message="BOUNCE", happened_at=NOON - HOUR)
    tell("KBA_FAILURE", package="lease", sessionUser=ADA, happened_at=NOON - HOUR)
    tell("PACKAGE_DECLINE", package="a/b", sessionUser=BEN, message="<b>no</b> \0", happened_at=NOON - HOUR)
    tell("PACKAGE_LAMINATED", package="lease", happened_at=None, extra={"deep": [1, 2.5, None, "\ud800"]})
    assert post(b"\xff{").status_code == 400
    world.connect(Account(1, packages=0).hold(populated(1, 20, now=NOON - 900 * HOUR).packages()))
    world.settle()
    world.reconcile(Asked(fires=True))
    service.presence.beat()
    tell("PACKAGE_CREATE", package="waits")
    return app


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"])
def test_every_answer_is_one_that_the_document_promises(busy, mode):
    """No fault of ours, and no status, header or member that the document does not speak of."""
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", busy)
    asked = [result.ok() for result in schema.get_all_operations()]

    assert len(asked) > 20
    for operation in asked:
        if mode is GenerationMode.POSITIVE or operation.query.items or operation.body.items:
            ask_anything(operation, mode)


def ask_anything(operation: APIOperation, mode: GenerationMode) -> None:
    """Send requests of every kind, some of them for what there is, and hold the answers against the document."""
    places = st.fixed_dictionaries({one.name: KNOWN[one.name] for one in operation.path_parameters.items})

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), there=st.none() | places)
    def ask(case: Case, there: dict[str, Any] | None) -> None:
        case.path_parameters |= there or {}
        hurry(case)
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)

    ask()


def hurry(case: Case) -> None:
    """Hold no request for long."""
    with suppress(KeyError, TypeError, ValueError):
        case.query["wait"] = min(float(case.query["wait"]), LONGEST)
