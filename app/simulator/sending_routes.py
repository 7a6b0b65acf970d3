"""Routes that create packages: from JSON, from JSON with files, and from a template."""

from collections.abc import Mapping
from dataclasses import replace

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.simulator import edits, json_values, package_json, role_json
from app.simulator.packages import Action, Document, Package, Role
from app.simulator.people import Person
from app.simulator.routes import BadRequest, RouteContext, files, json_object

# The first actions on a new package, by the status in the request body.
FIRST_ACTIONS = {"": ("create",), "DRAFT": ("create",), "SENT": ("create", "activate")}


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes that create packages."""
    blueprint = Blueprint("sending", __name__, url_prefix="/api/packages")

    @blueprint.post("")
    def create() -> ResponseReturnValue:
        """Create a package as a draft; status SENT sends it at once."""
        body = json_object()
        return _add(context, _package(context, body, files=files()), body)

    @blueprint.post("/<package_id>/clone")
    def clone(package_id: str) -> ResponseReturnValue:
        """Create a package from a template or another package. A role in the body fills the seat of its id or name."""
        original, body = context.package(package_id), json_object()
        base = _package(context, {"name": original.name, "autocomplete": original.autocomplete, **body, "roles": []})
        package = replace(
            base,
            roles=tuple(_filled(context, role, body, base.sender) for role in original.roles),
            documents=tuple(_unsigned(document) for document in original.documents),
            description=base.description or original.description,
            data={**original.data, **base.data},
            members={**original.members, **base.members},
        )
        return _add(context, package, body)

    return blueprint


def _package(context: RouteContext, body: Mapping[str, object], files: list[bytes] | None = None) -> Package:
    sender = _sender(context, json_values.child(body, "sender"))
    return package_json.package(body, sender=sender, rng=context.rng, now=context.clock(), files=files or ())


def _sender(context: RouteContext, wanted: Mapping[str, object]) -> Person:
    """Return the sender that the body names by id or e-mail address, or else the caller."""
    email = json_values.text(wanted, "email")
    if not (email or wanted.get("id")):
        return context.caller.person
    for person in context.account.people:
        if person.id == wanted.get("id") or role_json.is_same_address(person.email, email):
            return person
    raise BadRequest("the sender is not of this account")


def _add(context: RouteContext, package: Package, body: Mapping[str, object]) -> ResponseReturnValue:
    status = json_values.text(body, "status")
    if status not in FIRST_ACTIONS:
        raise BadRequest("status must be DRAFT or SENT")
    if package.type != "LAYOUT":
        package = edits.with_consent(package, rng=context.rng)
    actions = [Action(verb) for verb in FIRST_ACTIONS[status]]
    context.notify(context.account.create(package, *actions, now=context.clock()))
    return {"id": package.id}


def _filled(context: RouteContext, role: Role, body: Mapping[str, object], sender: Person) -> Role:
    """Return a role of the original with the signer that the body names for it, if any."""
    if role.is_sender:
        return replace(role, person=replace(sender, members={}))
    fresh = replace(role, kba="NOT_YET_ATTEMPTED", locked=False, finished=None)
    given = [part for part in json_values.objects(body, "roles") if role.id in (part.get("id"), part.get("name"))]
    return role_json.role(given[0], rng=context.rng, before=fresh) if given else fresh


def _unsigned(document: Document) -> Document:
    unsigned = [replace(approval, accepted=None, signed=None) for approval in document.approvals]
    return replace(document, approvals=tuple(unsigned))
