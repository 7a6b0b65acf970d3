"""Routes that change, delete or trash packages, and unlock or remind signers."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.simulator import json_values, package_json, rest_json
from app.simulator.packages import Action, ImpossibleAction, Package
from app.simulator.routes import BadRequest, RouteContext, index_of, json_object

# The verb that changes a package from the old status to the new status.
TRANSITIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("DRAFT", "SENT"): "activate",
        ("DECLINED", "SENT"): "activate",
        ("SENT", "DRAFT"): "deactivate",
        ("SENT", "COMPLETED"): "complete",
        ("EXPIRED", "DRAFT"): "extend",
        ("COMPLETED", "ARCHIVED"): "archive",
        ("ARCHIVED", "COMPLETED"): "unarchive",
    }
)
TRASH_VERBS = {True: "trash", False: "restore"}
EMPTY_OK = ("", 200)


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes that change a package."""
    blueprint = Blueprint("actions", __name__, url_prefix="/api/packages/<package_id>")

    @blueprint.route("", methods=["PUT", "POST"])
    def change(package_id: str) -> ResponseReturnValue:
        """Apply the members of the request body to a package, except its documents, roles and sender."""
        body, unarchive = json_values.others(json_object(), ()), context.account.quirks.unarchive_event
        context.act_on(package_id, lambda package: _actions(package, body, unarchive=unarchive))
        return EMPTY_OK

    @blueprint.delete("")
    def delete(package_id: str) -> ResponseReturnValue:
        """Delete a package permanently."""
        context.act(package_id, Action("delete"))
        return EMPTY_OK

    @blueprint.post("/roles/<role_id>/unlock")
    def unlock(package_id: str, role_id: str) -> ResponseReturnValue:
        """Unlock a signer."""
        role = index_of([role.id for role in context.package(package_id).roles], role_id)
        return rest_json.dump_roles(context.act(package_id, Action("unlock", role)))[role]

    @blueprint.post("/notifications")
    def remind(package_id: str) -> ResponseReturnValue:
        """Record a reminder to all signers who have not signed yet."""
        context.account.reminders.append((context.package(package_id).id, None))
        return EMPTY_OK

    @blueprint.post("/roles/<role_id>/notifications")
    def remind_signer(package_id: str, role_id: str) -> ResponseReturnValue:
        """Record a reminder to one signer."""
        package = context.package(package_id)
        role = index_of([role.id for role in package.roles], role_id)
        context.account.reminders.append((package.id, package.roles[role].id))
        return EMPTY_OK

    return blueprint


def _actions(package: Package, body: Mapping[str, object], *, unarchive: str) -> Iterator[Action]:
    """Yield the actions that the request body asks for. A value that the package already has needs no action."""
    due = json_values.moment(body, "due")
    if values := _edited(package, body):
        yield Action("edit", values=values)
    status = body.get("status", package.status)
    if status != package.status:
        verb = TRANSITIONS.get((package.status, str(status)))
        if verb is None:
            raise ImpossibleAction(f"the status cannot change from {package.status} to {status}")
        yield Action(verb, text="" if unarchive == "none" else unarchive, due=due if verb == "extend" else None)
    if due and due != package.due and (package.status, status) != ("EXPIRED", "DRAFT"):
        yield Action("redate", due=due)
    if (name := json_values.text(body, "name", package.name)) != package.name:
        if not name:
            raise BadRequest("name is missing")
        yield Action("rename", text=name)
    if body.get("trashed", package.trashed) is not package.trashed:
        yield Action(TRASH_VERBS[body["trashed"] is True])


def _edited(package: Package, body: Mapping[str, object]) -> Mapping[str, object]:
    """Return the new values of the attributes that no event reports, if the body changes any."""
    shown = rest_json.dump_package(package)
    others = json_values.others(body, package_json.PACKAGE_MEMBERS)
    values = {
        "autocomplete": body.get("autocomplete", package.autocomplete) is True,
        "description": json_values.text(body, "description", package.description),
        "data": json_values.child(body, "data") or package.data,
        "members": {**package.members, **{name: value for name, value in others.items() if shown.get(name) != value}},
    }
    return {name: value for name, value in values.items() if value != getattr(package, name)}
