"""The stories of packages: lists of actions to perform in order, drawn at random from weighted tables.

A story consists of a plot, with the visits and mishaps of signers, and of what the sender does afterwards.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from random import Random
from types import MappingProxyType

from app.simulator import anomalies, ids, people
from app.simulator.actions import with_signer
from app.simulator.anomalies import NO_ANOMALIES, Rates
from app.simulator.features import NO_FEATURES, with_feature_actions, with_reviewer_views
from app.simulator.packages import Action, Package
from app.simulator.quirks import DEFAULT_QUIRKS, Quirks
from app.simulator.signing import REQUIRED

Actions = list[Action]
Plot = Callable[[Random, Package], Actions]

REASONS = (
    "The amount on page 2 is not what we agreed.",
    "I would like my lawyer to read this first, and that will take me until the end of next week at the very least.",
    "Wrong person: please ask my colleague.",
    "Ik ga hier niet mee akkoord: de bijlage is één pagina te kort 🙁",
)
OPT_OUTS = ("I prefer to sign on paper.", "I do not sign on screens.")
BOUNCES = ("BOUNCE", "COMPLAINT", "OOTO", "UNKNOWN")
QUESTIONS = ("Which of the two addresses do I fill in?", "The page stays empty on my phone.")

CREATE, ACTIVATE, DEACTIVATE = Action("create"), Action("activate"), Action("deactivate")
COMPLETE, EXPIRE, EXTEND, ARCHIVE = Action("complete"), Action("expire"), Action("extend"), Action("archive")
TRASH, RESTORE, DELETE = Action("trash"), Action("restore"), Action("delete")

# The probability of each mishap of a signer.
MISHAP_RATES = MappingProxyType({"bounce": 0.12, "reassign": 0.08, "fail kba": 0.5, "lock": 0.3, "cobrowse": 0.06})
VIEW_RATE = 0.4  # share of documents that are opened before they are signed
LEAVE_OUT_RATE = 0.5  # share of documents in which a signer leaves out the optional signatures
RESEND_RATE = 0.4  # share of declined or expired packages that the sender sends again

# What the sender does after a package has ended, with weights.
AFTERWARDS: Mapping[str, Sequence[tuple[tuple[Action, ...], int]]] = MappingProxyType(
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


def story(
    rng: Random,
    package: Package,
    *,
    rates: Rates = NO_ANOMALIES,
    features: Rates = NO_FEATURES,
    quirks: Quirks = DEFAULT_QUIRKS,
) -> Actions:
    """Return all actions on a package, from its creation to its end."""
    if package.type != "PACKAGE":
        return anomalies.with_ending(rng, [CREATE, *_afterwards(rng, "template")], rates=rates, quirks=quirks)
    addition = anomalies.extra_signer(rng, rates)
    plot = rng.choices(list(PLOTS), list(PLOTS.values()))[0]
    package = with_signer(package, addition) if addition else package
    actions = [CREATE, *plot(rng, package)]
    actions = anomalies.with_silent_changes(rng, package, actions, rates=rates)
    if addition:
        actions = anomalies.insert_after_sending(actions, addition)
    actions = with_feature_actions(rng, package, actions, rates=features)
    actions = with_reviewer_views(package, actions, quirks=quirks)
    actions = anomalies.with_ending(rng, actions, rates=rates, quirks=quirks)
    actions = anomalies.with_lie(rng, package, actions, rates=rates)
    return [anomalies.with_reassign_quirk(package, action, quirks=quirks) for action in actions]


def _signed(rng: Random, package: Package) -> Actions:
    """Return a plot in which the package is sent, signed by all signers and completed."""
    return [ACTIVATE, *_all_sign(rng, package)]


def _recalled(rng: Random, package: Package) -> Actions:
    """Return a plot in which the package is sent, recalled before the first signature, sent again and signed."""
    return [ACTIVATE, DEACTIVATE, *_signed(rng, package)]


def _rescued(rng: Random, package: Package) -> Actions:
    """Return a plot in which the package is trashed as a draft, restored, sent and signed."""
    return [TRASH, RESTORE, *_signed(rng, package)]


def _abandoned(rng: Random, _: Package) -> Actions:
    """Return a plot in which the package is never sent."""
    return _afterwards(rng, "draft")


def _refused(verb: str, reasons: Sequence[str]) -> Plot:
    """Return a plot in which some signers sign, then another signer ends the package for all signers.

    A declined package may be sent again.
    """

    def plot(rng: Random, package: Package) -> Actions:
        visits = _visits(rng, package)
        before = rng.randrange(len(visits))
        signer = visits[before][-1].role
        view, refuse = Action("view", signer), Action(verb, signer, text=rng.choice(reasons))
        actions = [ACTIVATE, *_flattened(visits[:before]), view, refuse]
        if verb == "decline" and rng.random() < RESEND_RATE:
            return [*actions, ACTIVATE, *_finish(rng, package, visits[before:])]
        return [*actions, *_afterwards(rng, "ended")]

    return plot


def _expired(rng: Random, package: Package) -> Actions:
    """Return a plot in which some signers sign, then the package expires. The sender may extend the due date."""
    visits = _visits(rng, package)
    before = rng.randrange(len(visits))
    actions = [ACTIVATE, *_flattened(visits[:before]), EXPIRE]
    if rng.random() < RESEND_RATE:
        return [*actions, EXTEND, ACTIVATE, *_finish(rng, package, visits[before:])]
    return [*actions, *_afterwards(rng, "ended")]


# The weight of each plot in the random choice.
PLOTS: Mapping[Plot, int] = MappingProxyType(
    {
        _signed: 60,
        _recalled: 6,
        _rescued: 3,
        _abandoned: 6,
        _refused("decline", REASONS): 11,
        _refused("opt out", OPT_OUTS): 3,
        _expired: 9,
    }
)


def _all_sign(rng: Random, package: Package) -> Actions:
    return _finish(rng, package, _visits(rng, package))


def _finish(rng: Random, package: Package, visits: Sequence[Actions]) -> Actions:
    """Return the actions of these visits, the sender's completion if required, and what the sender does afterwards.

    The actions of signers who sign in parallel are interleaved.
    """
    turns = groupby(visits, key=lambda visit: package.roles[visit[0].role].index)
    signed = [action for _, same_turn in turns for action in _interleaved(rng, list(same_turn))]
    completion = [] if package.autocomplete else [COMPLETE]
    return [*signed, *completion, *_afterwards(rng, "completed")]


def _visits(rng: Random, package: Package) -> list[Actions]:
    """Return the actions of each signer, in signing order."""
    signing = {approval.role for approval in package.approvals() if not approval.disabled}
    ordered = sorted(signing, key=lambda position: (package.roles[position].index, position))
    return [[_by_member(rng, package, action) for action in _visit(rng, package, position)] for position in ordered]


def _by_member(rng: Random, package: Package, action: Action) -> Action:
    """Return the action as that of a random member, if the role is a group's."""
    group = package.roles[action.role].group
    return replace(action, member=rng.randrange(len(group.members))) if group else action


def _visit(rng: Random, package: Package, position: int) -> Iterator[Action]:
    """Yield a signer's mishaps, then the actions on one document after another, with the consent first.

    A signer may leave out optional signatures, and finishes explicitly if all are optional.
    """
    yield from () if package.roles[position].is_sender else _mishaps(rng, package, position)
    documents = [n for n in range(len(package.documents)) if package.owed(position, document=n)]
    only_optional, leaves_out = all(approval.optional for approval in package.owed(position)), False
    for document in documents:
        if document == documents[-1] and package.roles[position].attachment:
            yield Action("upload", position)
        if rng.random() < VIEW_RATE:
            yield Action("view", position, document)
        leaves_out_here = _has_optional(package, position, document) and rng.random() < LEAVE_OUT_RATE
        if only_optional and leaves_out_here:
            leaves_out = True
        else:
            yield Action("sign", position, document, text=REQUIRED if leaves_out_here else "")
    if leaves_out:
        yield Action("finish", position)


def _has_optional(package: Package, position: int, document: int) -> bool:
    return any(approval.optional for approval in package.approvals(position, document=document))


def _mishaps(rng: Random, package: Package, position: int) -> Iterator[Action]:
    scheme = package.roles[position].scheme
    if _occurs(rng, "bounce") and package.person(position).email:
        yield Action("bounce", position, text=rng.choice(BOUNCES))
        yield Action("readdress", position, text=people.mailbox(rng))
    if _occurs(rng, "reassign") and not package.roles[position].group:
        yield Action("view", position)
        yield Action("reassign", position, text=ids.uuid(rng), person=people.signer(rng))
    if scheme == "KBA" and _occurs(rng, "fail kba"):
        yield from [Action("fail kba", position)] * rng.randint(1, 2)
    if scheme in ("SMS", "CHALLENGE") and _occurs(rng, "lock"):
        yield Action("lock", position)
        yield Action("unlock", position)
    if _occurs(rng, "cobrowse"):
        yield Action("cobrowse", position, text=rng.choice(QUESTIONS))


def _occurs(rng: Random, mishap: str) -> bool:
    return rng.random() < MISHAP_RATES[mishap]


def _afterwards(rng: Random, ending: str) -> Actions:
    choices, weights = zip(*AFTERWARDS[ending], strict=True)
    return list(rng.choices(choices, weights)[0])


def _interleaved(rng: Random, visits: list[Actions]) -> Iterator[Action]:
    """Yield the actions of several visits in random order. Each visit keeps its own order."""
    waiting = [list(reversed(visit)) for visit in visits]
    while waiting:
        visit = rng.choice(waiting)
        yield visit.pop()
        waiting = [visit for visit in waiting if visit]


def _flattened(visits: Sequence[Actions]) -> Actions:
    return [action for visit in visits for action in visit]
