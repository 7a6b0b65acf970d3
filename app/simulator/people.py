"""Who lives in a simulated account: made-up people at made-up firms, every one drawn from the dice."""

from dataclasses import dataclass
from random import Random

from app.simulator import ids

FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dara", "Emre", "Fenna", "Goran", "Hana", "Ines", "Jonas", "Kofi", "Léa", "Zoë")
LAST_NAMES = ("Abel", "Brandt", "Costa", "Dijk", "Eriksen", "Fontaine", "Grün", "Hidalgo", "Ito", "Jansen", "Novák")
FIRMS = ("Blue Door Homes", "Harbour Bank", "Linden & Sons", "Northern Cycles", "Orchard Care")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who sends or signs; `id` is the sender's or the signer's, as OneSpan tells it in `sessionUser`."""

    id: str
    first_name: str
    last_name: str
    email: str
    company: str

    @property
    def name(self) -> str:
        """In full."""
        return f"{self.first_name} {self.last_name}"


def sender(dice: Random) -> Person:
    """Somebody with a login at OneSpan."""
    return _person(ids.sender_id(dice), dice)


def signer(dice: Random) -> Person:
    """Somebody who is asked to sign."""
    return _person(ids.uuid(dice), dice)


def mailbox(dice: Random) -> str:
    """An address that nobody has."""
    return f"mail{dice.randrange(10**6):06d}@example.com"


def _person(id_: str, dice: Random) -> Person:
    first, last = dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES)
    return Person(id_, first, last, email=mailbox(dice), company=dice.choice(FIRMS))
