"""Accounts with many packages whose stories have ended: for benchmarks and long lists.

A few hundred stories are played. All packages are copies of the played packages with their own people, ids and times.
A copy keeps the document ids, as when an integrator chooses the same document ids for many packages.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random

from app.simulator import ids, people
from app.simulator.account import SENDERS, Account
from app.simulator.anomalies import Rates
from app.simulator.features import NO_FEATURES
from app.simulator.packages import Approval, Document, Package, Role
from app.simulator.people import Person
from app.simulator.quirks import DEFAULT_QUIRKS, Quirks

SAMPLE_SIZE = 300
YEAR = timedelta(days=365)
STEP_INTERVAL = timedelta(minutes=7)  # simulated time between two steps of the played stories
SAMPLE_START = datetime(2026, 1, 1, tzinfo=UTC)  # start of the played stories; copies have other times


def populated(
    seed: int,
    count: int,
    *,
    now: datetime,
    span: timedelta = YEAR,
    senders: int = SENDERS,
    quirks: Quirks = DEFAULT_QUIRKS,
    features: Rates = NO_FEATURES,
) -> Account:
    """Return an account with `count` packages without planned actions, updated between `now - span` and `now`.

    The function takes some seconds for 100,000 packages. No package is deleted.
    """
    account = Account(seed, packages=0, senders=senders, quirks=quirks)
    rng = Random(f"{seed}:population")
    samples = _samples(seed, tuple(features.items()))
    with _garbage_collection_off():
        account.load(_copies(rng, samples, count, senders=account.people, now=now, span=span))
        account.read_list(lambda list_view: list_view.index("updated"), now=now)
    return account


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Turn the garbage collector off, which would scan the growing account again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@lru_cache(8)
def _samples(seed: int, features: tuple[tuple[str, float], ...]) -> Sequence[Package]:
    account, now = Account(seed, packages=SAMPLE_SIZE, features=dict(features)), SAMPLE_START
    while not account.is_over:
        account.step(now)
        now += STEP_INTERVAL
    return tuple(package for package in account.packages() if not package.deleted)


def _copies(
    rng: Random, samples: Sequence[Package], count: int, *, senders: Sequence[Person], now: datetime, span: timedelta
) -> Iterator[Package]:
    for _ in range(count):
        package = rng.choice(samples)
        shift = now - span * rng.random() - package.updated
        yield _copy(rng, package, shift - timedelta(microseconds=shift.microseconds % 1000), sender=rng.choice(senders))


def _copy(rng: Random, package: Package, shift: timedelta, *, sender: Person) -> Package:
    people_now = {role.person: _other_person(rng, role, sender) for role in package.roles if role.person}
    for role in package.roles:
        people_now |= {member: people.sender(rng) for member in _members(role) if member not in people_now}
    return replace(
        package,
        id=ids.package_id(rng),
        sender=sender,
        roles=tuple(_copy_role(role, people_now) for role in package.roles),
        documents=tuple(_shifted(document, shift) for document in package.documents),
        messages=tuple(
            replace(message, at=message.at + shift, by=people_now.get(message.by) or message.by)
            for message in package.messages
        ),
        created=package.created + shift,
        updated=package.updated + shift,
        due=package.due and package.due + shift,
        completed=package.completed and package.completed + shift,
    )


def _other_person(rng: Random, role: Role, sender: Person) -> Person:
    """Return another person for a role. A group keeps its name, and a person without an address has none again."""
    if role.is_sender or role.person is None:
        return sender
    if role.group:
        return replace(role.person, id=ids.uuid(rng))
    person = people.signer(rng)
    return person if role.person.email else replace(person, email=None, phone=role.person.phone)


def _members(role: Role) -> Sequence[Person]:
    return role.group.members if role.group else ()


def _copy_role(role: Role, people_now: Mapping[Person, Person]) -> Role:
    if role.person is None:
        return role
    members = tuple(people_now[member] for member in _members(role))
    return replace(role, person=people_now[role.person], group=role.group and replace(role.group, members=members))


def _shifted(document: Document, shift: timedelta) -> Document:
    """Return a document with the times of its signatures moved by `shift`.

    The function calls constructors, because `replace` takes twice as long for hundreds of thousands of documents.
    """
    approvals = tuple(
        _shifted_approval(approval, shift) if approval.accepted else approval for approval in document.approvals
    )
    return Document(document.id, document.name, document.pages, approvals)


def _shifted_approval(approval: Approval, shift: timedelta) -> Approval:
    return Approval(
        approval.id,
        approval.role,
        approval.accepted and approval.accepted + shift,
        approval.signed and approval.signed + shift,
        approval.optional,
        approval.disabled,
        approval.fields,
    )
