"""Anomalies: changes of packages that no callback reports, or whose event is unknown.

Each anomaly happens at a given rate, by default never. Without anomalies callbacks report every change.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random
from types import MappingProxyType

from app.simulator import ids, people
from app.simulator.actions import LIES
from app.simulator.packages import ARCHIVAL_STATUSES, Action, Package
from app.simulator.quirks import Quirks

Rates = Mapping[str, float]

# The rate of each anomaly on a bad day, and its description. The rate is the share of the packages to which the
# anomaly can happen. A bad day has no lies, because handlers run for them.
ANOMALIES: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "redate": (0.1, "the due date changes; no event reports it"),
        "rename": (0.1, "the package's name changes; no event reports it"),
        "readdress": (0.1, "a signer's email address is corrected; no event reports it"),
        "add-signer": (0.1, "a signer is added after sending; no event reports it"),
        "unarchive": (0.3, "an archived package is brought back; the quirk `unarchive_event` names its event"),
        "archival": (0.1, "a completed package takes the ARCHIVAL_... statuses of Arkhineo; no event reports it"),
        "retention": (0.05, "a retention rule deletes the package; the quirk `retention_event` names its event"),
        "layout": (0.05, "a layout is created instead of a package; no event reports it"),
        "lie": (0.0, "a callback reports what did not happen, such as a signature or a deletion"),
    }
)
NO_ANOMALIES: Rates = MappingProxyType({})
BAD_DAY: Rates = MappingProxyType({name: rate for name, (rate, _) in ANOMALIES.items()})
# The verbs after which a package still has the status SENT.
SIGNING = frozenset(
    {"view", "begin", "sign", "finish", "disable", "enable", "upload", "reject", "bounce", "readdress", "reassign"}
    | {"fail kba", "lock", "unlock", "cobrowse", "add signer", "redate", "rename"}
)


def occurs(rng: Random, rates: Rates, anomaly: str) -> bool:
    """Return whether the anomaly happens now. If the rate is 0, no random number is drawn."""
    rate = rates.get(anomaly, 0)
    return rate > 0 and rng.random() < rate


def extra_signer(rng: Random, rates: Rates) -> Action | None:
    """Return an action that adds a signer, or None if the anomaly `add-signer` does not happen."""
    if not occurs(rng, rates, "add-signer"):
        return None
    return Action("add signer", text=ids.uuid(rng), person=people.signer(rng))


def with_silent_changes(rng: Random, package: Package, actions: list[Action], *, rates: Rates) -> list[Action]:
    """Insert changes that no event reports at random positions while the package is SENT."""
    signers = [
        position for position, role in enumerate(package.roles) if role.person and not role.is_sender and not role.group
    ]
    if occurs(rng, rates, "redate"):
        actions = _insert_while_sent(rng, actions, Action("redate", due=timedelta(days=rng.randint(1, 90))))
    if occurs(rng, rates, "rename"):
        actions = _insert_while_sent(rng, actions, Action("rename", text=f"{package.name} (corrected)"))
    if signers and occurs(rng, rates, "readdress"):
        actions = _insert_while_sent(rng, actions, Action("readdress", rng.choice(signers), text=people.mailbox(rng)))
    return actions


def insert_after_sending(actions: list[Action], action: Action) -> list[Action]:
    """Insert an action right after the package is sent, or after its creation if it is never sent."""
    position = _first_activation(actions) + 1
    return [*actions[:position], action, *actions[position:]]


def with_ending(rng: Random, actions: list[Action], *, rates: Rates, quirks: Quirks) -> list[Action]:
    """Append the anomalies that can follow the last action of a story."""
    last = actions[-1].verb
    if last == "archive" and occurs(rng, rates, "unarchive"):
        actions = [*actions, Action("unarchive", text=_event_or_none(quirks.unarchive_event))]
    elif last in ("sign", "complete") and occurs(rng, rates, "archival"):
        actions = [*actions, *(Action("archival", text=status) for status in _archival_path(rng))]
    if last != "delete" and occurs(rng, rates, "retention"):
        actions = [*actions, Action("retain", text=_event_or_none(quirks.retention_event))]
    return actions


def with_lie(rng: Random, package: Package, actions: list[Action], *, rates: Rates) -> list[Action]:
    """Insert a callback about something that did not happen, at a random position before a deletion."""
    signers = sorted({approval.role for approval in package.approvals()})
    if not signers or not occurs(rng, rates, "lie"):
        return actions
    role = rng.choice(signers)
    asked = [n for n in range(len(package.documents)) if package.approvals(role, document=n)]
    lie = Action("lie", role, rng.choice(asked), text=rng.choice(list(LIES)))
    deletions = (n for n, action in enumerate(actions) if action.verb in ("delete", "retain"))
    first = next((n + 1 for n, action in enumerate(actions) if action.verb == "add signer"), 1)
    position = rng.randint(first, next(deletions, len(actions)))
    return [*actions[:position], lie, *actions[position:]]


def with_reassign_quirk(package: Package, action: Action, *, quirks: Quirks) -> Action:
    """Return a reassignment as the quirk `reassign_role` prescribes, and any other action unchanged."""
    if action.verb != "reassign" or action.person is None or quirks.reassign_role == "changes":
        return action
    new_role_id = action.person.id if quirks.reassign_role == "signer" else package.roles[action.role].id
    return replace(action, verb="reassign in place", text=new_role_id)


def _insert_while_sent(rng: Random, actions: list[Action], action: Action) -> list[Action]:
    """Insert an action at a random position between the sending of a package and the end of its signing."""
    first = _first_activation(actions) + 1
    following = range(first, len(actions))
    after = next((position for position in following if actions[position].verb not in SIGNING), len(actions))
    position = rng.randint(first, max(first, after - 1))
    return [*actions[:position], action, *actions[position:]]


def _first_activation(actions: list[Action]) -> int:
    return next((position for position, action in enumerate(actions) if action.verb == "activate"), 0)


def _archival_path(rng: Random) -> list[str]:
    """Return the statuses that a package takes during archiving. Two of three draws include the last status."""
    pending, validating, intervention, completed = ARCHIVAL_STATUSES
    return rng.choice([[pending], [pending, validating, completed], [pending, validating, intervention, completed]])


def _event_or_none(name: str) -> str:
    return "" if name == "none" else name
