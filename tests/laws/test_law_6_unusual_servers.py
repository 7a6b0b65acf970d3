"""Law 6 with a OneSpan whose clocks differ, which dates callbacks otherwise, or which does not show everything."""

# ruff: noqa: F401, F811  (fixtures come by their names)

import json
from collections import Counter
from collections.abc import Callable
from email.utils import format_datetime
from random import Random
from typing import Any

import pytest

from app.onespan.client import OneSpan
from app.onespan.findings import ONCE
from app.simulator import people
from app.simulator.account import Account
from app.simulator.quirks import Quirks
from tests.conftest import HOUR, in_all, on_sqlite, onespan_time
from tests.service.test_reconcile import world
from tests.support.simulation import ADDRESS, SECOND, World, knowing_onespan
from tests.unit.test_findings import SAYS_SOMETHING

Answer = tuple[list[tuple[str, str]], bytes]


@pytest.fixture
def settings(settings):
    """The service knows where OneSpan is."""
    return knowing_onespan(settings)


def answers(world: World, change: Callable[[list[tuple[str, str]], bytes], Answer]) -> None:
    """From now on each answer of OneSpan is changed so."""
    adapter = world.handlers.onespan._session.adapters[ADDRESS]
    inner = adapter._app

    def app(environ: Any, start: Any) -> list[bytes]:
        said: list[Any] = []
        body = b"".join(inner(environ, lambda status, headers, *_: said.extend((status, headers))))
        headers, body = change([one for one in said[1] if one[0].lower() != "content-length"], body)
        start(said[0], [*headers, ("Content-Length", str(len(body)))])
        return [body]

    adapter._app = app


def told_too_often(world: World) -> dict[str, Counter[str]]:
    """What the handlers were told of that did not happen so often."""
    often = {one: told - world.happened.get(one, Counter()) for one, told in world.told.items() if one != "before"}
    return {one: more for one, more in often.items() if more}


@on_sqlite
@pytest.mark.parametrize("behind", [10, *in_all(2, 40)])
def test_law_6_a_date_header_that_is_behind_tells_nothing_twice(world, clock, behind):
    """The clock of OneSpan's front is not that of its database; callbacks come late, and it is read meanwhile."""
    account = Account(2, packages=6)
    world.connect(account)

    def dated(headers: list[tuple[str, str]], body: bytes) -> Answer:
        others = [one for one in headers if one[0].lower() != "date"]
        return [*others, ("Date", format_datetime(clock.now - behind * SECOND, usegmt=True))], body

    answers(world, dated)
    waiting, dice = [], Random(1)
    while not account.is_over:
        clock.forward(SECOND)
        waiting += world._noted(account.step(clock.now))
        while waiting and dice.random() < 0.5:
            world.post(waiting.pop(0))
        for turn in (world.service.digest, world.service.refresh, world.service.digest):
            turn.turn()
    world.post(*waiting)
    world.settle()

    assert told_too_often(world) == {}


@on_sqlite
@pytest.mark.parametrize("seed", [0, *in_all(1, 2)])
def test_law_6_a_callback_that_is_dated_when_it_was_sent_tells_nothing_twice_that_happens_once(world, clock, seed):
    """Nobody says what `createdDate` dates; half of them are sent some seconds after a reading has found them."""
    account, dice = Account(seed, packages=5, quirks=Quirks(created_date="sent")), Random(seed)
    world.connect(account)
    while not account.is_over:
        late = []
        for body in world.step():
            if dice.random() < 0.5:
                late.append(body)
            else:
                world.post(sent(body, clock))
        world.settle()
        world.post(*(sent(one, clock) for one in late))
        world.settle()

    assert {one: more for one, more in told_too_often(world).items() if more.keys() & ONCE.keys()} == {}


def sent(body: bytes, clock: Any) -> bytes:
    """The same callback, dated now."""
    return json.dumps({**json.loads(body), "createdDate": onespan_time(clock.now)}).encode()


@on_sqlite
@pytest.mark.parametrize("seed", [0, 1, *in_all(2, 3)])
def test_law_10_what_is_not_shown_for_a_while_tells_nothing(world, clock, seed):
    """One value in twenty is null, in every answer; a third of all callbacks is lost."""
    dice = Random(seed)

    def vague(shown: Any) -> Any:
        if isinstance(shown, list):
            return [vague(one) for one in shown]
        if not isinstance(shown, dict):
            return shown
        kept = {"id", *SAYS_SOMETHING} if "visibility" in shown else SAYS_SOMETHING
        return {name: None if name not in kept and dice.random() < 0.05 else vague(one) for name, one in shown.items()}

    account = Account(seed, packages=8)
    world.connect(account)
    answers(world, lambda headers, body: (headers, json.dumps(vague(json.loads(body))).encode()))
    world.live(drop=0.3, dice=Random(seed))
    world.settle()

    assert told_too_often(world) == {}


@pytest.mark.parametrize("names_the_role", [True, False])
def test_law_6_a_hand_over_that_was_found_is_confirmed_by_its_sender(world, clock, names_the_role):
    """Senders, too, put somebody else into a seat; then `sessionUser` is theirs."""
    account = Account(5, packages=1)
    world.connect(account)
    while not (seats := _waiting(account)):
        world.post(*world.step())
        world.settle()
    (package,) = account.packages()
    (body,) = world.act(
        package.id, "hand over", role=seats[0], text=package.roles[seats[0]].id, person=people.signer(Random(1))
    )
    clock.forward(6 * HOUR)
    world.reconcile()
    assert world.told[package.id]["ROLE_REASSIGN"] == 1
    told = {**json.loads(body), "sessionUser": package.sender.id}

    world.post(json.dumps(told if names_the_role else {**told, "newRoleId": None}).encode())
    world.settle()

    assert world.told[package.id]["ROLE_REASSIGN"] == 1


def _waiting(account: Account) -> list[int]:
    return [
        place
        for package in account.packages()
        for place, role in enumerate(package.roles)
        if package.status == "SENT" and role.person and not role.is_sender and not package.is_signed(place)
    ]
