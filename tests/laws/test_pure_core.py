"""Random histories of one package on the pure core (`tests/support/prove_core.py`), and mutants that they find.

`python -m tests.support.prove_core` tries a million histories. Each mutant builds one mistake into the core.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from app.onespan import claims, merge, packages
from app.onespan.merge import Claim
from app.work import parsing, snapshot_events
from tests.support import prove_core

Patch = pytest.MonkeyPatch
# Two groups and a person in no list; and packages that are sent again while the API lags or callbacks are late.
FAILED_BEFORE = (
    567889,
    4019827,
    4022473,
    4056528,
    4060354,
    10013791,
    20200047,
    20230863,
    20261474,
    51004546,
    52371770,
    54235791,
    60227035,
    61219858,
    61321915,
)
HISTORIES = 200  # histories that the core passes in the ordinary tests
MOST = 2000  # histories in which each mutant must fail; most fail within a hundred


def test_random_histories_keep_the_laws():
    """Whatever is lost, late, repeated or shown late: the truth wins, and every fact is one event."""
    assert prove_core.faults_in(0, HISTORIES) == []


def test_histories_that_failed_before_keep_the_laws():
    """The counterexamples of earlier versions of the core, by number."""
    assert [fault for number in FAILED_BEFORE if (fault := prove_core.fault_in(number))] == []


@pytest.mark.xfail(strict=True, reason="OneSpan's servers lag by different times while a package is sent twice")
def test_known_limit():
    """A snapshot of a server that lags is compared with the next one, so the second sending is not found."""
    assert prove_core.fault_in(62402816) is None


def nothing_may_lag(patch: Patch) -> None:
    """Mutant: a snapshot that lags takes back what a callback reported."""
    patch.setattr(claims, "may_lag", lambda *_: False)


def always_settled(patch: Patch) -> None:
    """Mutant: a snapshot includes everything until it was taken, although OneSpan's API may lag."""
    for module in (claims, parsing):
        patch.setattr(module, "settled_at", lambda _, *, at, **__: at)


def clicked_is_signed(patch: Patch) -> None:
    """Mutant: a click counts as a signature."""
    real = packages._approval

    def approval(item: Any) -> Any:
        found = real(item)
        return found and replace(found, needs_confirmation=False)

    patch.setattr(packages, "_approval", approval)


def groups_are_persons(patch: Patch) -> None:
    """Mutant: a group is a person, so what a member does is not what the group does."""
    patch.setattr(packages, "_group", lambda _: None)


def optional_is_required(patch: Patch) -> None:
    """Mutant: a signer must sign what is optional."""
    real = packages._approval

    def approval(item: Any) -> Any:
        found = real(item)
        return found and replace(found, required=True)

    patch.setattr(packages, "_approval", approval)


def nothing_is_confirmed(patch: Patch) -> None:
    """Mutant: a callback that arrives after its event was found is a new event."""
    patch.setattr(prove_core, "confirmed_event", lambda *_, **__: None)


def everything_is_found(patch: Patch) -> None:
    """Mutant: a snapshot reports what callbacks have reported before."""
    real = snapshot_events.findings
    patch.setattr(snapshot_events, "findings", lambda *shown, **more: real(*shown, **{**more, "known": ()}))


def last_arrival_wins(patch: Patch) -> None:
    """Mutant: of two claims, the one that arrives later wins."""
    patch.setattr(merge, "_wins", lambda *_: True)


def deletions_are_final(patch: Patch) -> None:
    """Mutant: no later event or snapshot ends a deletion."""
    for module, name in ((prove_core, "callback_claims"), (parsing, "snapshot_claims")):
        patch.setattr(module, name, _without_life(getattr(module, name)))


def _without_life(real: Callable[..., list[Claim]]) -> Callable[..., list[Claim]]:
    return lambda *given, **more: [
        claim for claim in real(*given, **more) if (claim.attribute, claim.value) != ("deleted", False)
    ]


@pytest.mark.parametrize(
    "mutant",
    [
        nothing_may_lag,
        always_settled,
        clicked_is_signed,
        groups_are_persons,
        optional_is_required,
        nothing_is_confirmed,
        everything_is_found,
        last_arrival_wins,
        deletions_are_final,
    ],
    ids=lambda mutant: mutant.__name__,
)
def test_random_histories_find_every_mutant(mutant, monkeypatch):
    """A mistake in the core makes some history fail, so a history that passes shows something."""
    mutant(monkeypatch)

    assert any(prove_core.fault_in(number) for number in range(MOST))
