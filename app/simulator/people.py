"""The people of a simulated account, with invented names and companies drawn from a random generator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.simulator import ids

FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dara", "Emre", "Fenna", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Léa", "Zoë")
LAST_NAMES = ("Abel", "Brandt", "Costa", "Dijk", "Eriksen", "Fontaine", "Grün", "Hidalgo", "Ito", "Jansen", "Novák")
FIRMS = ("Blue Door Homes", "Harbour Bank", "Linden & Sons", "Northern Cycles", "Orchard Care")


def no_members() -> Any:
    """Return the field `members` of a dataclass: what a REST caller sent beside the members the simulator works with.

    The REST API shows them as they were sent.
    """
    return field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Person:
    """A sender or signer; `id` is the value that OneSpan sends as `sessionUser`.

    A person with a phone and no e-mail address is notified by SMS only.
    """

    id: str
    first_name: str
    last_name: str
    email: str | None
    company: str
    phone: str = ""
    members: Mapping[str, object] = no_members()

    @property
    def name(self) -> str:
        """The first and last name of the person."""
        return f"{self.first_name} {self.last_name}".strip()


def sender(rng: Random) -> Person:
    """Return a random person with a login at OneSpan."""
    return _person(ids.sender_id(rng), rng)


def signer(rng: Random) -> Person:
    """Return a random person who signs."""
    return _person(ids.uuid(rng), rng)


def mailbox(rng: Random) -> str:
    """Return a random e-mail address at example.com."""
    return f"mail{rng.randrange(10**6):06d}@example.com"


def _person(id_: str, rng: Random) -> Person:
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    return Person(id_, first, last, email=mailbox(rng), company=rng.choice(FIRMS))
