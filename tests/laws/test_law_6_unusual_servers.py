"""Law 6 if OneSpan's clocks differ, if OneSpan dates callbacks at their sending, or if answers hide values."""

# ruff: noqa: F401, F811  (pytest passes fixtures by name)

import json
from collections import Counter
from collections.abc import Callable
from email.utils import format_datetime
from random import Random
from typing import Any

import pytest

from app.onespan.client import OneSpan
from app.onespan.event_catalogue import CATALOGUE
from app.simulator import people
from app.simulator.account import Account
from app.simulator.quirks import Quirks
from tests.conftest import HOUR, in_all, on_sqlite, onespan_time
from tests.service.test_reconcile import simulation
from tests.support.simulation import ADDRESS, SECOND, Simulation, with_onespan
from tests.unit.test_findings import NULL_IS_A_VALUE

Answer = tuple[list[tuple[str, str]], bytes]


@pytest.fixture
def settings(settings):
    """Settings with the address of the simulated OneSpan."""
    return with_onespan(settings)


def change_answers(simulation: Simulation, change: Callable[[list[tuple[str, str]], bytes], Answer]) -> None:
    """Apply `change` to the headers and body of every later answer from OneSpan."""
    adapter = simulation.handlers.onespan._session.adapters[ADDRESS]
    inner = adapter._app

    def app(environ: Any, start: Any) -> list[bytes]:
        started: list[Any] = []
        body = b"".join(inner(environ, lambda status, headers, *_: started.extend((status, headers))))
        headers, body = change([header for header in started[1] if header[0].lower() != "content-length"], body)
        start(started[0], [*headers, ("Content-Length", str(len(body)))])
        return [body]

    adapter._app = app


def excess_runs(simulation: Simulation) -> dict[str, Counter[str]]:
    """Return, by package, the events that handlers got more often than the events happened."""
    often = {
        key: ran - simulation.happened.get(key, Counter()) for key, ran in simulation.handled.items() if key != "before"
    }
    return {key: more for key, more in often.items() if more}


@on_sqlite
@pytest.mark.parametrize("behind", [10, *in_all(2, 40)])
def test_law_6_date_header_that_is_behind_runs_nothing_twice(simulation, clock, behind):
    """If the `Date` header is behind the times of events, no handler runs twice, even with late callbacks."""
    account = Account(2, packages=6)
    simulation.connect(account)

    def dated(headers: list[tuple[str, str]], body: bytes) -> Answer:
        others = [header for header in headers if header[0].lower() != "date"]
        return [*others, ("Date", format_datetime(clock.now - behind * SECOND, usegmt=True))], body

    change_answers(simulation, dated)
    waiting, dice = [], Random(1)
    while not account.is_over:
        clock.forward(SECOND)
        waiting += simulation._record(account.step(clock.now))
        while waiting and dice.random() < 0.5:
            simulation.post(waiting.pop(0))
        for turn in (simulation.service.digest, simulation.service.fetcher, simulation.service.digest):
            turn.turn()
    simulation.post(*waiting)
    simulation.settle()

    assert excess_runs(simulation) == {}


@on_sqlite
@pytest.mark.parametrize("seed", [0, *in_all(1, 2)])
def test_law_6_callback_dated_at_its_sending_reports_no_single_fact_twice(simulation, clock, seed):
    """If `createdDate` is the time of sending, events that cannot soon happen twice are still handled once.

    OneSpan does not say what `createdDate` means. Half of the callbacks are sent seconds after a snapshot.
    """
    account, dice = Account(seed, packages=5, quirks=Quirks(created_date="sent")), Random(seed)
    simulation.connect(account)
    while not account.is_over:
        late = []
        for body in simulation.step():
            if dice.random() < 0.5:
                late.append(body)
            else:
                simulation.post(sent(body, clock))
        simulation.settle()
        simulation.post(*(sent(body, clock) for body in late))
        simulation.settle()

    seldom = {name for name, kind in CATALOGUE.items() if kind.again != "soon"}
    assert {key: more for key, more in excess_runs(simulation).items() if more.keys() & seldom} == {}


def sent(body: bytes, clock: Any) -> bytes:
    """Return the callback with the present time as its `createdDate`."""
    return json.dumps({**json.loads(body), "createdDate": onespan_time(clock.now)}).encode()


@on_sqlite
@pytest.mark.parametrize("seed", [0, 1, *in_all(2, 3)])
def test_law_10_values_hidden_for_a_while_report_nothing(simulation, clock, seed):
    """If one value in twenty is null and a third of the callbacks is lost, the service still invents no event."""
    dice = Random(seed)

    def with_nulls(shown: Any) -> Any:
        if isinstance(shown, list):
            return [with_nulls(item) for item in shown]
        if not isinstance(shown, dict):
            return shown
        kept = {"id", *NULL_IS_A_VALUE} if "visibility" in shown else NULL_IS_A_VALUE
        return {
            name: None if name not in kept and dice.random() < 0.05 else with_nulls(value)
            for name, value in shown.items()
        }

    account = Account(seed, packages=8)
    simulation.connect(account)
    change_answers(simulation, lambda headers, body: (headers, json.dumps(with_nulls(json.loads(body))).encode()))
    simulation.live(drop=0.3, dice=Random(seed))
    simulation.settle()

    assert excess_runs(simulation) == {}


@pytest.mark.parametrize("names_the_role", [True, False])
def test_law_6_hand_over_that_was_found_is_confirmed_by_its_sender(simulation, clock, names_the_role):
    """If the sender gave a role to another person, a callback with the sender's id confirms the event found before."""
    account = Account(5, packages=1)
    simulation.connect(account)
    while not (seats := _waiting(account)):
        simulation.post(*simulation.step())
        simulation.settle()
    (package,) = account.packages()
    (body,) = simulation.act(
        package.id, "reassign in place", role=seats[0], text=package.roles[seats[0]].id, person=people.signer(Random(1))
    )
    clock.forward(6 * HOUR)
    simulation.reconcile()
    assert simulation.handled[package.id]["ROLE_REASSIGN"] == 1
    callback = {**json.loads(body), "sessionUser": package.sender.id}

    simulation.post(json.dumps(callback if names_the_role else {**callback, "newRoleId": None}).encode())
    simulation.settle()

    assert simulation.handled[package.id]["ROLE_REASSIGN"] == 1


def _waiting(account: Account) -> list[int]:
    return [
        place
        for package in account.packages()
        for place, role in enumerate(package.roles)
        if package.status == "SENT" and role.person and not role.is_sender and not package.is_signed(place)
    ]
