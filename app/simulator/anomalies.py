"""What callbacks cannot tell, or nobody knows how they would: silent changes, newer statuses, rules that delete.

Each happens as often as the account is told, and by default never: then callbacks alone tell the whole truth.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random
from types import MappingProxyType

from app.simulator import ids, people
from app.simulator.packages import ARCHIVAL, Act, Package
from app.simulator.quirks import Quirks

Rates = Mapping[str, float]

# Each oddity, its rate on a bad day, and what it is. The rate is the share of packages that it befalls, of those that
# it can befall.
ODDITIES: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "redate": (0.1, "the due date is changed, silently"),
        "rename": (0.1, "the package is named otherwise, silently"),
        "readdress": (0.1, "a signer's e-mail address is corrected, silently"),
        "add-signer": (0.1, "one more signer is added after sending, silently"),
        "unarchive": (0.3, "an archived package is brought back; `unarchive_event` says what tells it"),
        "archival": (0.1, "a completed package takes the newer statuses of archiving with Arkhineo, silently"),
        "retention": (0.05, "a retention rule deletes the package at the end; `retention_event` says what tells it"),
        "layout": (0.05, "a layout is made instead of a package, silently"),
    }
)
NOTHING_ODD: Rates = MappingProxyType({})
BAD_DAY: Rates = MappingProxyType({name: rate for name, (rate, _) in ODDITIES.items()})
# While these are done a package stays SENT.
SIGNING = frozenset(
    {"view", "sign", "upload", "bounce", "readdress", "reassign", "fail kba", "lock", "unlock", "cobrowse"}
    | {"add signer", "redate", "rename"}
)


def befalls(dice: Random, rates: Rates, oddity: str) -> bool:
    """Whether it happens now; the dice rest where it never does."""
    rate = rates.get(oddity, 0)
    return rate > 0 and dice.random() < rate


def one_more(dice: Random, rates: Rates) -> Act | None:
    """The adding of a signer, where it happens."""
    if not befalls(dice, rates, "add-signer"):
        return None
    return Act("add signer", text=ids.uuid(dice), person=people.signer(dice))


def changed(dice: Random, package: Package, acts: list[Act], *, rates: Rates) -> list[Act]:
    """With silent changes somewhere while the package is out for signature."""
    signers = [place for place, role in enumerate(package.roles) if role.person and not role.is_sender]
    if befalls(dice, rates, "redate"):
        acts = _meanwhile(dice, acts, Act("redate", due=timedelta(days=dice.randint(1, 90))))
    if befalls(dice, rates, "rename"):
        acts = _meanwhile(dice, acts, Act("rename", text=f"{package.name} (corrected)"))
    if befalls(dice, rates, "readdress"):
        acts = _meanwhile(dice, acts, Act("readdress", dice.choice(signers), text=people.mailbox(dice)))
    return acts


def sent_with(acts: list[Act], act: Act) -> list[Act]:
    """With an act as soon as the package is sent, or made where it never is."""
    place = _first_sending(acts) + 1
    return [*acts[:place], act, *acts[place:]]


def ended(dice: Random, acts: list[Act], *, rates: Rates, quirks: Quirks) -> list[Act]:
    """With what befalls a package when all else is done."""
    last = acts[-1].verb
    if last == "archive" and befalls(dice, rates, "unarchive"):
        acts = [*acts, Act("unarchive", text=_event(quirks.unarchive_event))]
    elif last in ("sign", "complete") and befalls(dice, rates, "archival"):
        acts = [*acts, *(Act("archival", text=status) for status in _archival(dice))]
    if last != "delete" and befalls(dice, rates, "retention"):
        acts = [*acts, Act("retain", text=_event(quirks.retention_event))]
    return acts


def handed_over(package: Package, act: Act, *, quirks: Quirks) -> Act:
    """A reassigning that does to the role's id what the quirk says; any other act as it is."""
    if act.verb != "reassign" or act.person is None or quirks.reassign_role == "changes":
        return act
    told = act.person.id if quirks.reassign_role == "signer" else package.roles[act.role].id
    return replace(act, verb="hand over", text=told)


def _meanwhile(dice: Random, acts: list[Act], act: Act) -> list[Act]:
    """With one more, at any time between the sending and the last of the signing that follows."""
    first = _first_sending(acts) + 1
    after = next((place for place in range(first, len(acts)) if acts[place].verb not in SIGNING), len(acts))
    place = dice.randint(first, max(first, after - 1))
    return [*acts[:place], act, *acts[place:]]


def _first_sending(acts: list[Act]) -> int:
    return next((place for place, act in enumerate(acts) if act.verb == "activate"), 0)


def _archival(dice: Random) -> list[str]:
    """Some of the steps, and mostly the last."""
    pending, validating, intervention, completed = ARCHIVAL
    return dice.choice([[pending], [pending, validating, completed], [pending, validating, intervention, completed]])


def _event(name: str) -> str:
    return "" if name == "none" else name
