"""Many packages at once, each at the end of its life: for benchmarks, and for lists that are long.

A few hundred lives are really lived; the others are copies of them with people, ids and times of their own. Documents
keep their ids in the copies, as those of an integrator do who names them.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random

from app.simulator import ids, people
from app.simulator.account import SENDERS, Account
from app.simulator.packages import Approval, Document, Package, Role
from app.simulator.people import Person
from app.simulator.quirks import USUAL, Quirks

LIVED = 300
YEAR = timedelta(days=365)
PACE = timedelta(minutes=7)  # between two steps of the lives that are lived
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)  # when those begin; their copies are moved to other times


def populated(
    seed: int,
    count: int,
    *,
    now: datetime,
    span: timedelta = YEAR,
    senders: int = SENDERS,
    quirks: Quirks = USUAL,
) -> Account:
    """An account of that many packages, last updated at any time from `span` before `now` to then; all is over.

    100,000 take some seconds. None is deleted.
    """
    account = Account(seed, packages=0, senders=senders, quirks=quirks)
    dice = Random(f"{seed}:population")
    lives = _lived(seed)
    with _no_garbage():
        account.hold(_copies(dice, lives, count, senders=account.people, now=now, span=span))
        account.listed(lambda shelf: shelf.index("updated"), now=now)
    return account


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Spare the collector from looking through all again and again while only new things are made."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@lru_cache(8)
def _lived(seed: int) -> Sequence[Package]:
    account, now = Account(seed, packages=LIVED), BEGAN
    while not account.is_over:
        account.step(now)
        now += PACE
    return tuple(one for one in account.packages() if not one.deleted)


def _copies(
    dice: Random, lives: Sequence[Package], count: int, *, senders: Sequence[Person], now: datetime, span: timedelta
) -> Iterator[Package]:
    for _ in range(count):
        one = dice.choice(lives)
        shift = now - span * dice.random() - one.updated
        yield _copy(dice, one, shift - timedelta(microseconds=shift.microseconds % 1000), sender=dice.choice(senders))


def _copy(dice: Random, one: Package, shift: timedelta, *, sender: Person) -> Package:
    roles = tuple(_seat(dice, role, sender) for role in one.roles)
    now_sits = {was.person: role.person for was, role in zip(one.roles, roles, strict=True) if was.person}
    return replace(
        one,
        id=ids.package_id(dice),
        sender=sender,
        roles=roles,
        documents=tuple(_later(document, shift) for document in one.documents),
        messages=tuple(
            replace(message, at=message.at + shift, by=now_sits.get(message.by) or message.by)
            for message in one.messages
        ),
        created=one.created + shift,
        updated=one.updated + shift,
        due=one.due and one.due + shift,
        completed=one.completed and one.completed + shift,
    )


def _seat(dice: Random, role: Role, sender: Person) -> Role:
    if role.person is None:
        return role
    return replace(role, person=sender if role.is_sender else people.signer(dice))


def _later(document: Document, shift: timedelta) -> Document:
    """Made from their members: it is done hundreds of thousands of times, and `replace` takes twice as long."""
    given = tuple(Approval(one.id, one.role, one.at + shift) if one.at else one for one in document.approvals)
    return Document(document.id, document.name, document.pages, given)
