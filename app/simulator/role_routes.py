"""Routes that change the roles of a package, and the people in them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.simulator import edits, json_values, rest_json, role_json
from app.simulator.packages import Action, Package, Role
from app.simulator.people import Person
from app.simulator.routes import RouteContext, index_of, json_body, json_object

EMPTY_OK = ("", 200)


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes that change roles."""
    blueprint = Blueprint("roles", __name__, url_prefix="/api/packages/<package_id>/roles")

    @blueprint.post("")
    def add(package_id: str) -> ResponseReturnValue:
        """Add a role, with its signer or, in a template, without."""
        role = role_json.role(json_object(), rng=context.rng)

        def plan(package: Package) -> list[Action]:
            return [Action("edit signers", values=edits.set_role(package, len(package.roles), role))]

        return rest_json.dump_roles(context.act_on(package_id, plan))[-1]

    @blueprint.put("")
    def reorder(package_id: str) -> ResponseReturnValue:
        """Give roles their positions in the signing order."""
        wanted = json_values.as_objects(json_body(), "roles")
        indexes = {str(part.get("id")): json_values.number(part, "index", 0) for part in wanted}

        def plan(package: Package) -> list[Action]:
            return [Action("edit signers", values=edits.reordered(package, indexes))]

        results = rest_json.dump_roles(context.act_on(package_id, plan))
        return {"count": len(results), "results": results}

    @blueprint.route("/<role_id>", methods=["PUT", "POST"])
    def change(package_id: str, role_id: str) -> ResponseReturnValue:
        """Change a role. Another person in a package that is sent is a reassignment, with its event."""
        body, stays = json_object(), context.account.quirks.reassign_role != "signer"
        at = _position(context.package(package_id), role_id)

        def plan(package: Package) -> Iterator[Action]:
            position = _position(package, role_id)
            before = package.roles[position]
            after = _changed(context, before, body)
            if package.status == "SENT" and before.person and after.person and is_other(before.person, after.person):
                text = after.id if stays else after.person.id
                yield Action("replace signer", position, person=after.person, text=text)
            yield Action("edit signers", values=edits.set_role(package, position, after))

        return rest_json.dump_roles(context.act_on(package_id, plan))[at]

    @blueprint.delete("/<role_id>")
    def remove(package_id: str, role_id: str) -> ResponseReturnValue:
        """Delete a role with its requested signatures."""

        def plan(package: Package) -> list[Action]:
            values = edits.without_role(package, _position(package, role_id))
            return [Action("edit documents", values=values)]

        context.act_on(package_id, plan)
        return EMPTY_OK

    return blueprint


def is_other(before: Person, after: Person) -> bool:
    """Return whether a role passes to another person, instead of having an address or a name corrected."""
    return before.id != after.id


def _changed(context: RouteContext, role: Role, body: Mapping[str, object]) -> Role:
    """Return the role with the members of the body. A new name with a new address and no id is another person."""
    after = role_json.role(body, rng=context.rng, before=role)
    signers = json_values.objects(body, "signers")
    if not (signers and role.person and after.person) or signers[0].get("id"):
        return after
    is_same = after.person.email == role.person.email or after.person.name == role.person.name
    if is_same:
        return after
    return replace(after, person=role_json.signer(signers[0], rng=context.rng))


def _position(package: Package, role_id: str) -> int:
    return index_of([role.id for role in package.roles], role_id)
