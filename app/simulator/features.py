"""Features of packages that not every account uses, such as groups, reviewers and optional signatures.

Each feature occurs at a given rate, by default never. `flask simulate` shows some of each.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

from app.simulator import ids, people
from app.simulator.anomalies import Rates, occurs
from app.simulator.packages import CONSENT, INPUT, Action, Approval, Group, Package, Role
from app.simulator.people import Person
from app.simulator.quirks import Quirks
from app.simulator.signing import with_role

# The rate of each feature in `flask simulate`, and its description. The rate is the share of the packages, or of the
# signers, attachments or deletions, to which the feature can happen.
FEATURES: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "group": (0.12, "a signer is a group whose members have logins, and any member signs"),
        "ad-hoc-group": (0.1, "a signer is a group whose members are other roles of the package"),
        "signing-member": (0.0, "a member of an ad hoc group also signs for themselves"),
        "reviewer": (0.15, "a role has no signature"),
        "optional": (0.15, "a signer has optional signatures, perhaps no others"),
        "disabled": (0.1, "a condition disables signatures"),
        "acceptance": (0.1, "a document is only filled in and accepted, not signed"),
        "begun": (0.2, "a signer clicks signatures of a document before confirming it, which may never happen"),
        "rejected": (0.4, "the sender rejects an attachment, and the signer may upload another"),
        "undeleted": (0.3, "OneSpan's support brings a deleted package back"),
        "sms": (0.08, "a signer has a phone and no email address"),
        "attributes": (0.3, "the package has a description and attributes of its sender"),
    }
)
NO_FEATURES: Rates = MappingProxyType({})
SOME: Rates = MappingProxyType({name: rate for name, (rate, _) in FEATURES.items()})

GROUP_NAMES = ("Legal team", "Purchasing", "Reception")
AD_HOC_NAMES = ("Board of directors", "Parents", "Tenants")
COMMENTS = ("The scan cannot be read.", "This document has expired.", "Please send both sides.")
DESCRIPTIONS = ("Agreed on the phone.", "For the new branch.", "Renewal of last year's contract.")
ONLY_OPTIONAL_RATE = 0.5  # share of signers with optional signatures who have no others
UNFINISHED_RATE = 0.4  # share of stories that end with a begun signature or a rejected attachment

Feature = Callable[[Random, Package], Package]


def with_features(rng: Random, package: Package, *, rates: Rates) -> Package:
    """Return a new package with the features that occur. Templates and layouts have none."""
    for name, feature in DRAFTED.items():
        if package.type == "PACKAGE" and occurs(rng, rates, name):
            package = feature(rng, package)
    return package


def with_feature_actions(rng: Random, package: Package, actions: list[Action], *, rates: Rates) -> list[Action]:
    """Insert the clicks, rejections and restorations that occur. Some end the story."""
    inserted: list[Action] = []
    for action in actions:
        if action.verb == "sign" and _may_be_disabled(package, action) and occurs(rng, rates, "disabled"):
            inserted.append(replace(action, verb="disable", text=""))
            continue
        if action.verb == "sign" and _needs_click(package, action) and occurs(rng, rates, "begun"):
            inserted.append(replace(action, verb="begin"))
            if rng.random() < UNFINISHED_RATE:
                return inserted
        inserted.append(action)
        if action.verb == "upload" and occurs(rng, rates, "rejected"):
            inserted.append(replace(action, verb="reject", text=rng.choice(COMMENTS)))
            if rng.random() < UNFINISHED_RATE:
                return inserted
            inserted.append(action)
    if inserted[-1].verb == "delete" and package.type == "PACKAGE" and occurs(rng, rates, "undeleted"):
        inserted.append(Action("undelete"))
    return inserted


def with_reviewer_views(package: Package, actions: list[Action], *, quirks: Quirks) -> list[Action]:
    """Let each reviewer open the first document after sending, if the quirk `reviewer_views` says so."""
    if quirks.reviewer_views == "no":
        return actions
    views = [Action("view", position) for position in range(len(package.roles)) if package.is_reviewer(position)]
    return [step for action in actions for step in ([action, *views] if action.verb == "activate" else [action])]


def _may_be_disabled(package: Package, action: Action) -> bool:
    """Whether the signer has other documents than this one, and something to sign here."""
    others = [number for number in _signed_documents(package, action.role) if number != action.document]
    is_open = any(not approval.disabled for approval in package.approvals(action.role, document=action.document))
    return bool(others) and is_open and package.documents[action.document].id != CONSENT


def _needs_click(package: Package, action: Action) -> bool:
    owed = package.approvals(action.role, document=action.document)
    return any(not approval.is_acceptance and not approval.disabled for approval in owed)


def _group(rng: Random, package: Package) -> Package:
    members = tuple(people.sender(rng) for _ in range(rng.randint(2, 3)))
    return _with_group(rng, package, Group(ids.uuid(rng), rng.choice(GROUP_NAMES), members), people.mailbox(rng))


def _ad_hoc_group(rng: Random, package: Package) -> Package:
    members = tuple(people.signer(rng) for _ in range(rng.randint(2, 3)))
    group = Group(ids.uuid(rng), rng.choice(AD_HOC_NAMES), members, is_ad_hoc=True)
    address = f"{ids.uuid(rng)}@adhoc.groups.e-signlive.com"
    grouped = _with_group(rng, package, group, address)
    if grouped is package:
        return package
    return replace(grouped, roles=(*grouped.roles, *(Role(member.id, 1, member) for member in members)))


def _signing_member(rng: Random, package: Package) -> Package:
    """Make a signer of the package a member of its ad hoc group, if it has one."""
    seats = [n for n, role in enumerate(package.roles) if role.group and role.group.is_ad_hoc]
    signers = [position for position in _signers(package) if package.person(position).email]
    if not seats or not signers:
        return package
    group = package.roles[seats[0]].group
    assert group
    members = (*group.members, package.person(rng.choice(signers)))
    return with_role(package, seats[0], {"group": replace(group, members=members)})


def _with_group(rng: Random, package: Package, group: Group, address: str) -> Package:
    """Give the seat of a random signer to a group."""
    positions = _signers(package)
    if not positions:
        return package
    position = rng.choice(positions)
    person = Person(package.person(position).id, group.name, "", address, "")
    return with_role(package, position, {"person": person, "group": group, "scheme": "NONE"})


def _reviewer(rng: Random, package: Package) -> Package:
    index = rng.randint(1, max(role.index for role in package.roles))
    return replace(package, roles=(*package.roles, Role(ids.uuid(rng), index, people.signer(rng))))


def _optional(rng: Random, package: Package) -> Package:
    position = rng.choice(_signers(package))
    if rng.random() < ONLY_OPTIONAL_RATE:
        return _only_optional(package, position)
    return _with_further(rng, package, position, optional=True)


def _only_optional(package: Package, position: int) -> Package:
    """Make all signatures of a role optional. The role need not accept the consent."""
    documents = []
    for document in package.documents:
        approvals = [
            replace(approval, optional=True) if approval.role == position else approval
            for approval in document.approvals
            if approval.role != position or document.id != CONSENT
        ]
        documents.append(replace(document, approvals=tuple(approvals)))
    return replace(package, documents=tuple(documents))


def _with_further(rng: Random, package: Package, position: int, *, optional: bool) -> Package:
    """Request one more signature of a role, optional or disabled, in a random document that the role signs."""
    number = rng.choice(_signed_documents(package, position))
    document = package.documents[number]
    further = Approval(ids.uuid(rng), position, optional=optional, disabled=not optional)
    changed = replace(document, approvals=(*document.approvals, further))
    return replace(package, documents=(*package.documents[:number], changed, *package.documents[number + 1 :]))


def _disabled(rng: Random, package: Package) -> Package:
    """Request a further signature of a random signer, which is disabled from the start."""
    return _with_further(rng, package, rng.choice(_signers(package)), optional=False)


def _acceptance(_: Random, package: Package) -> Package:
    """Let the last document be only filled in and accepted."""
    last = package.documents[-1]
    approvals = tuple(replace(approval, fields=INPUT) for approval in last.approvals)
    return replace(package, documents=(*package.documents[:-1], replace(last, approvals=approvals)))


def _sms(rng: Random, package: Package) -> Package:
    position = rng.choice(_signers(package))
    if package.roles[position].group:
        return package
    person = replace(package.person(position), email=None, phone=f"+3225550{rng.randrange(10**4):04d}")
    return with_role(package, position, {"person": person, "scheme": "SMS"})


def _attributes(rng: Random, package: Package) -> Package:
    data = {"case": f"C-{rng.randrange(10**5):05d}", "branch": rng.choice(("Ghent", "Lyon", "Porto"))}
    return replace(package, description=rng.choice(DESCRIPTIONS), data=data)


def _signers(package: Package) -> list[int]:
    """Return the positions of the roles that sign, except groups and the sender."""
    signing = {approval.role for approval in package.approvals()}
    return sorted(n for n in signing if not package.roles[n].is_sender and not package.roles[n].group)


def _signed_documents(package: Package, position: int) -> list[int]:
    """Return the positions of the documents that a role signs, except the consent."""
    return [
        number
        for number, document in enumerate(package.documents)
        if document.id != CONSENT and package.approvals(position, document=number)
    ]


# The features that a new package has, with the function that adds each.
DRAFTED: Mapping[str, Feature] = MappingProxyType(
    {
        "reviewer": _reviewer,
        "optional": _optional,
        "disabled": _disabled,
        "acceptance": _acceptance,
        "sms": _sms,
        "group": _group,
        "ad-hoc-group": _ad_hoc_group,
        "signing-member": _signing_member,
        "attributes": _attributes,
    }
)
