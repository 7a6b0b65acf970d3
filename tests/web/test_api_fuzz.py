"""Requests generated from the OpenAPI document, valid and invalid: every answer conforms to the document."""

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
from app.work.reconcile import RunRequest
from tests.conftest import ADA, BEN, HOUR, NOON, TOKEN
from tests.support.simulation import Simulation, with_onespan
from tests.support.strategies import examples

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = examples(20)  # generated requests to each operation
MAX_WAIT_SECONDS = 0.05
EXISTING = {
    "package_id": st.sampled_from(["lease", "a/b", "unknown"]),
    **dict.fromkeys(("event_id", "journal_id", "dispatch_id", "run_id"), st.integers(1, 12)),
}


@pytest.fixture(name="settings")
def settings_with_onespan(settings):
    """Settings with a connection to OneSpan."""
    return with_onespan(settings)


@pytest.fixture
def busy(app: Flask, service, post, send_callback, work, *, handlers: Handlers, clock) -> Flask:
    """An app with rows of every kind: parked dispatches, and repeated, unreadable, unknown and waiting callbacks."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)

    @handlers.on("EMAIL_BOUNCE", "PACKAGE_DECLINE")
    def notify_cleo(event, package) -> None:
        raise GiveUp("no answer")

    for _ in range(2):
        send_callback("EMAIL_BOUNCE", package="lease", sessionUser=BEN, message="BOUNCE", happened_at=NOON - HOUR)
    send_callback("KBA_FAILURE", package="lease", sessionUser=ADA, happened_at=NOON - HOUR)
    send_callback("PACKAGE_DECLINE", package="a/b", sessionUser=BEN, message="<b>no</b> \0", happened_at=NOON - HOUR)
    send_callback("PACKAGE_LAMINATED", package="lease", happened_at=None, extra={"deep": [1, 2.5, None, "\ud800"]})
    assert post(b"\xff{").status_code == 400
    simulation.connect(Account(1, packages=0).load(populated(1, 20, now=NOON - 900 * HOUR).packages()))
    simulation.settle()
    simulation.reconcile(RunRequest(fires=True))
    service.heartbeat.beat()
    send_callback("PACKAGE_CREATE", package="waits")
    return app


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_every_answer_conforms_to_the_document(busy, mode):
    """No answer is a server error or has a status, header or member that the OpenAPI document lacks."""
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", busy)
    operations = [result.ok() for result in schema.get_all_operations()]

    assert len(operations) > 20
    for operation in operations:
        if mode is GenerationMode.POSITIVE or operation.query.items or operation.body.items:
            send_generated_requests(operation, mode)


def send_generated_requests(operation: APIOperation, mode: GenerationMode) -> None:
    """Send generated requests, some with existing ids, and validate the answers against the OpenAPI document."""
    ids = st.fixed_dictionaries(
        {parameter.name: EXISTING[parameter.name] for parameter in operation.path_parameters.items}
    )

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), existing=st.none() | ids)
    def send(case: Case, existing: dict[str, Any] | None) -> None:
        case.path_parameters |= existing or {}
        limit_wait(case)
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)

    send()


def limit_wait(case: Case) -> None:
    """Limit the parameter `wait` of a generated request to `MAX_WAIT_SECONDS`."""
    with suppress(KeyError, TypeError, ValueError):
        case.query["wait"] = min(float(case.query["wait"]), MAX_WAIT_SECONDS)
