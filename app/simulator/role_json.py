"""The JSON of roles that a REST caller sends, with their signers, groups and requested attachments.

Members that the simulator does not work with are kept and shown as they were sent.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from app.simulator import ids
from app.simulator.json_values import Json, child, number, objects, others, text
from app.simulator.packages import Attachment, Group, Role
from app.simulator.people import Person
from app.simulator.routes import BadRequest

# The members that the simulator works with or that OneSpan sets. All others are kept as they are.
ROLE_MEMBERS = frozenset({"id", "index", "type", "locked", "signers", "attachmentRequirements"})
PERSON_MEMBERS = frozenset({"id", "name", "firstName", "lastName", "email", "company", "phone", "created", "updated"})
SIGNER_MEMBERS = PERSON_MEMBERS | {"signerType", "auth", "delivery", "group", "knowledgeBasedAuthentication"}
AD_HOC = "AD_HOC_GROUP_SIGNER"


def role(json: Json, *, rng: Random, before: Role | None = None) -> Role:
    """Return the role with these members. `before` is the role that the JSON changes, if any."""
    base = before or Role(text(json, "id") or ids.uuid(rng), index=0, person=None)
    attachments = [attachment(part, base.attachments, rng=rng) for part in objects(json, "attachmentRequirements")]
    changed = replace(
        base,
        index=number(json, "index", base.index),
        is_sender=base.is_sender or json.get("type") == "SENDER",
        attachments=tuple(attachments) or base.attachments,
        members={**base.members, **others(json, ROLE_MEMBERS)},
    )
    signers = objects(json, "signers")
    return with_signer(changed, signers[0], rng=rng) if signers else changed


def with_signer(role: Role, json: Json, *, rng: Random) -> Role:
    """Return the role with the person or the group of the JSON."""
    scheme = text(child(json, "auth"), "scheme", role.scheme)
    person = signer(json, rng=rng, before=role.person)
    return replace(role, person=person, scheme=scheme, group=group(json, rng=rng) or role.group)


def signer(json: Json, *, rng: Random, before: Person | None = None) -> Person:
    """Return the person with these members. The id changes only if the JSON has another id."""
    nested = {
        "auth": {"scheme": "NONE", "challenges": [], **child(json, "auth")},
        "delivery": {"email": True, "download": False, "provider": False, **child(json, "delivery")},
        "group": child(json, "group"),
    }
    kept = {**others(json, SIGNER_MEMBERS), **{name: value for name, value in nested.items() if json.get(name)}}
    if objects(child(json, "group"), "members"):
        del kept["group"]  # the simulator shows this group itself
    person = account_person(json, before=before or Person(ids.uuid(rng), "", "", None, ""))
    if not (person.email or person.phone or json.get("group")):
        raise BadRequest("a signer has no email")
    return replace(person, id=text(json, "id") or person.id, members={**person.members, **kept})


def account_person(json: Json, *, before: Person) -> Person:
    """Return the person with the names and addresses of the JSON."""
    return replace(
        before,
        first_name=text(json, "firstName", before.first_name),
        last_name=text(json, "lastName", before.last_name),
        email=text(json, "email") or before.email,
        company=text(json, "company", before.company),
        phone=text(json, "phone", before.phone),
    )


def group(json: Json, *, rng: Random) -> Group | None:
    """Return the group of a signer. A group without members is only shown, because no member could sign."""
    given = child(json, "group")
    members = tuple(_member(part, rng=rng) for part in objects(given, "members"))
    if not members:
        return None
    is_ad_hoc = json.get("signerType") == AD_HOC
    return Group(text(given, "id") or ids.uuid(rng), text(given, "name"), members, is_ad_hoc=is_ad_hoc)


def attachment(json: Json, known: Sequence[Attachment], *, rng: Random) -> Attachment:
    """Return a request for an attachment. The sender may accept or reject the file of a known one by its `status`."""
    new = Attachment(text(json, "id") or ids.uuid(rng), "")
    before = next((attachment for attachment in known if attachment.id == new.id), None)
    base = before or new
    return replace(
        base,
        name=text(json, "name", base.name),
        description=text(json, "description", base.description),
        required=json.get("required", base.required) is not False,
        status=text(json, "status", base.status) if before else base.status,
        comment=text(json, "comment", base.comment),
    )


def with_sender(roles: Sequence[Role], sender: Person, *, rng: Random) -> list[Role]:
    """Return the roles with one for the package's sender, who always has a role and signs last by default."""
    person = replace(sender, members={})
    marked = [replace(role, is_sender=True) if is_seat_of(role, person) else role for role in roles]
    if any(role.is_sender for role in marked):
        return [replace(role, person=role.person or person) if role.is_sender else role for role in marked]
    indexes = {role.index for role in roles} or {0}
    return [*marked, Role(ids.uuid(rng), max(indexes) + (len(indexes) > 1), person, is_sender=True)]


def with_linked_members(roles: Sequence[Role]) -> list[Role]:
    """Return the roles with the members of ad hoc groups who also have a role of their own, as the same people."""
    seated = {
        name: role.person for role in roles if role.person for name in (role.id, role.person.id, role.person.email)
    }
    linked = []
    for role in roles:
        members = role.group.members if role.group else ()
        people = tuple(seated.get(member.id) or seated.get(member.email) or member for member in members)
        linked.append(replace(role, group=replace(role.group, members=people)) if role.group else role)
    return linked


def is_seat_of(role: Role, person: Person) -> bool:
    """Return whether the role is that of a person with this id or e-mail address."""
    seated = role.person
    return seated is not None and (seated.id == person.id or is_same_address(seated.email, person.email))


def is_same_address(first: str | None, second: str | None) -> bool:
    """Return whether two e-mail addresses are the same, in any case of letters."""
    return bool(first and second) and str(first).lower() == str(second).lower()


def _member(json: Json, *, rng: Random) -> Person:
    return account_person(json, before=Person(text(json, "userId") or ids.uuid(rng), "", "", None, ""))
