"""What can become of a package: whole lives, as acts to perform one after another. Drawn from the dice, told by tables.

A life is a story, its signers' visits with the mishaps that befall them, and what the sender does afterwards.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from random import Random
from types import MappingProxyType

from app.simulator import anomalies, ids, people
from app.simulator.actions import with_signer
from app.simulator.anomalies import NOTHING_ODD, Rates
from app.simulator.packages import Act, Package
from app.simulator.quirks import USUAL, Quirks

Acts = list[Act]
Story = Callable[[Random, Package], Acts]

REASONS = (
    "The amount on page 2 is not what we agreed.",
    "I would like my lawyer to read this first, and that will take me until the end of next week at the very least.",
    "Wrong person: please ask my colleague.",
    "Ik ga hier niet mee akkoord: de bijlage is één pagina te kort 🙁",
)
OPT_OUTS = ("I prefer to sign on paper.", "I do not sign on screens.")
BOUNCES = ("BOUNCE", "COMPLAINT", "OOTO", "UNKNOWN")
QUESTIONS = ("Which of the two addresses do I fill in?", "The page stays empty on my phone.")

CREATE, ACTIVATE, DEACTIVATE = Act("create"), Act("activate"), Act("deactivate")
COMPLETE, EXPIRE, EXTEND, ARCHIVE = Act("complete"), Act("expire"), Act("extend"), Act("archive")
TRASH, RESTORE, DELETE = Act("trash"), Act("restore"), Act("delete")

# How often a mishap befalls a signer whom it can befall.
MISHAPS = MappingProxyType({"bounce": 0.12, "reassign": 0.08, "fail kba": 0.5, "lock": 0.3, "cobrowse": 0.06})
VIEWS = 0.4  # of the documents are opened before they are signed
RETURNS = 0.4  # of the packages that ended early are sent again

# What the sender does when a package has ended, and how often.
AFTERWARDS: Mapping[str, Sequence[tuple[tuple[Act, ...], int]]] = MappingProxyType(
    {
        "completed": (
            ((), 10),
            ((ARCHIVE,), 4),
            ((ARCHIVE, TRASH), 1),
            ((TRASH,), 1),
            ((TRASH, RESTORE), 1),
            ((TRASH, RESTORE, ARCHIVE), 1),
            ((TRASH, DELETE), 1),
            ((DELETE,), 1),
        ),
        "ended": (((), 5), ((TRASH,), 2), ((TRASH, RESTORE), 1), ((TRASH, DELETE), 1), ((DELETE,), 1)),
        "draft": (((), 3), ((TRASH,), 2), ((TRASH, DELETE), 2), ((DELETE,), 1)),
        "template": (((), 4), ((TRASH,), 1), ((TRASH, RESTORE), 1), ((DELETE,), 1)),
    }
)


def life(dice: Random, package: Package, *, odd: Rates = NOTHING_ODD, quirks: Quirks = USUAL) -> Acts:
    """All that will be done to a package, from its making to its end."""
    if package.type != "PACKAGE":
        return anomalies.ended(dice, [CREATE, *_afterwards(dice, "template")], rates=odd, quirks=quirks)
    more = anomalies.one_more(dice, odd)
    story = dice.choices(list(STORIES), list(STORIES.values()))[0]
    package = with_signer(package, more) if more else package
    acts = [CREATE, *story(dice, package)]
    acts = anomalies.changed(dice, package, acts, rates=odd)
    acts = anomalies.ended(dice, anomalies.sent_with(acts, more) if more else acts, rates=odd, quirks=quirks)
    return [anomalies.handed_over(package, act, quirks=quirks) for act in acts]


def _signed(dice: Random, package: Package) -> Acts:
    """Sent, signed by all, completed."""
    return [ACTIVATE, *_all_sign(dice, package)]


def _recalled(dice: Random, package: Package) -> Acts:
    """Sent too early, taken back before anybody signed, corrected, sent again."""
    return [ACTIVATE, DEACTIVATE, *_signed(dice, package)]


def _rescued(dice: Random, package: Package) -> Acts:
    """Thrown away as a draft, fetched back, sent after all."""
    return [TRASH, RESTORE, *_signed(dice, package)]


def _abandoned(dice: Random, _: Package) -> Acts:
    """Never sent."""
    return _afterwards(dice, "draft")


def _left(verb: str, reasons: Sequence[str]) -> Story:
    """Some sign, then the next one ends it for everybody; what was declined may be sent again."""

    def story(dice: Random, package: Package) -> Acts:
        visits = _visits(dice, package)
        before = dice.randrange(len(visits))
        leaving = visits[before][-1].role
        told = [ACTIVATE, *_flat(visits[:before]), Act("view", leaving), Act(verb, leaving, text=dice.choice(reasons))]
        if verb == "decline" and dice.random() < RETURNS:
            return [*told, ACTIVATE, *_finish(dice, package, visits[before:])]
        return [*told, *_afterwards(dice, "ended")]

    return story


def _expired(dice: Random, package: Package) -> Acts:
    """Some sign, then its time is over; the sender may give it more."""
    visits = _visits(dice, package)
    before = dice.randrange(len(visits))
    told = [ACTIVATE, *_flat(visits[:before]), EXPIRE]
    if dice.random() < RETURNS:
        return [*told, EXTEND, ACTIVATE, *_finish(dice, package, visits[before:])]
    return [*told, *_afterwards(dice, "ended")]


# Each story and how often it is told.
STORIES: Mapping[Story, int] = MappingProxyType(
    {
        _signed: 60,
        _recalled: 6,
        _rescued: 3,
        _abandoned: 6,
        _left("decline", REASONS): 11,
        _left("opt out", OPT_OUTS): 3,
        _expired: 9,
    }
)


def _all_sign(dice: Random, package: Package) -> Acts:
    return _finish(dice, package, _visits(dice, package))


def _finish(dice: Random, package: Package, visits: Sequence[Acts]) -> Acts:
    """These visits, parallel ones mixed, then the sender's completing where that is asked, then the rest of life."""
    turns = groupby(visits, key=lambda visit: package.roles[visit[0].role].index)
    signed = [act for _, same_turn in turns for act in _mixed(dice, list(same_turn))]
    by_hand = [] if package.autocomplete else [COMPLETE]
    return [*signed, *by_hand, *_afterwards(dice, "completed")]


def _visits(dice: Random, package: Package) -> list[Acts]:
    """What each signer does, in signing order."""
    signing = {approval.role for approval in package.approvals()}
    ordered = sorted(signing, key=lambda place: (package.roles[place].index, place))
    return [list(_visit(dice, package, place)) for place in ordered]


def _visit(dice: Random, package: Package, place: int) -> Iterator[Act]:
    """Invited, let in, consenting, signing one document after another."""
    yield from () if package.roles[place].is_sender else _mishaps(dice, package, place)
    asked = [n for n, document in enumerate(package.documents) if any(one.role == place for one in document.approvals)]
    for document in asked:
        if document == asked[-1] and package.roles[place].attachment:
            yield Act("upload", place)
        if dice.random() < VIEWS:
            yield Act("view", place, document)
        yield Act("sign", place, document)


def _mishaps(dice: Random, package: Package, place: int) -> Iterator[Act]:
    scheme = package.roles[place].scheme
    if _befalls(dice, "bounce"):
        yield Act("bounce", place, text=dice.choice(BOUNCES))
        yield Act("readdress", place, text=people.mailbox(dice))
    if _befalls(dice, "reassign"):
        yield Act("view", place)
        yield Act("reassign", place, text=ids.uuid(dice), person=people.signer(dice))
    if scheme == "KBA" and _befalls(dice, "fail kba"):
        yield from [Act("fail kba", place)] * dice.randint(1, 2)
    if scheme in ("SMS", "CHALLENGE") and _befalls(dice, "lock"):
        yield Act("lock", place)
        yield Act("unlock", place)
    if _befalls(dice, "cobrowse"):
        yield Act("cobrowse", place, text=dice.choice(QUESTIONS))


def _befalls(dice: Random, mishap: str) -> bool:
    return dice.random() < MISHAPS[mishap]


def _afterwards(dice: Random, what: str) -> Acts:
    ways, weights = zip(*AFTERWARDS[what], strict=True)
    return list(dice.choices(ways, weights)[0])


def _mixed(dice: Random, visits: list[Acts]) -> Iterator[Act]:
    """The acts of several visits at once, each visit in its own order."""
    waiting = [list(reversed(visit)) for visit in visits]
    while waiting:
        visit = dice.choice(waiting)
        yield visit.pop()
        waiting = [one for one in waiting if one]


def _flat(visits: Sequence[Acts]) -> Acts:
    return [act for visit in visits for act in visit]
