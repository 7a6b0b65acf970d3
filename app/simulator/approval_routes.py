"""Routes for the requested signatures of a document, and for their fields."""

from collections.abc import Callable, Mapping, Sequence

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.simulator import edits, json_values, package_json, rest_json
from app.simulator.document_routes import EMPTY_OK, number_of
from app.simulator.packages import Action, Approval, Package
from app.simulator.routes import RouteContext, index_of, json_body, json_object

Change = Callable[[Package, Sequence[Approval]], Sequence[Approval]]
FieldChange = Callable[[list[Mapping[str, object]]], list[Mapping[str, object]]]


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes for the requested signatures of a document."""
    prefix = "/api/packages/<package_id>/documents/<document_id>"
    blueprint = Blueprint("approvals", __name__, url_prefix=prefix)

    @blueprint.post("/approvals/", strict_slashes=False)
    def add(package_id: str, document_id: str) -> ResponseReturnValue:
        """Request one more signature of a document."""
        body = json_object()
        package = _edit(
            context,
            package_id,
            document_id,
            lambda package, asked: [*asked, package_json.approval(body, package.roles, rng=context.rng)],
        )
        return _shown(package, document_id)[-1]

    @blueprint.put("/approvals/", strict_slashes=False)
    def replace_all(package_id: str, document_id: str) -> ResponseReturnValue:
        """Replace all requested signatures of a document."""
        body = json_values.as_objects(json_body(), "approvals")
        package = _edit(
            context,
            package_id,
            document_id,
            lambda package, _: [package_json.approval(part, package.roles, rng=context.rng) for part in body],
        )
        return _shown(package, document_id)

    @blueprint.get("/approvals/<approval_id>")
    def show(package_id: str, document_id: str, approval_id: str) -> ResponseReturnValue:
        """Return one requested signature."""
        return _found(_shown(context.package(package_id), document_id), approval_id)

    @blueprint.put("/approvals/<approval_id>")
    def change(package_id: str, document_id: str, approval_id: str) -> ResponseReturnValue:
        """Change the members of a requested signature, and its role."""
        body = json_object()

        def changed(package: Package, asked: Sequence[Approval]) -> Sequence[Approval]:
            at = index_of([approval.id for approval in asked], approval_id)
            approval = package_json.approval(body, package.roles, rng=context.rng, before=asked[at])
            return [*asked[:at], approval, *asked[at + 1 :]]

        return _found(_shown(_edit(context, package_id, document_id, changed), document_id), approval_id)

    @blueprint.delete("/approvals/<approval_id>")
    def remove(package_id: str, document_id: str, approval_id: str) -> ResponseReturnValue:
        """Request a signature no longer."""

        def removed(_: Package, asked: Sequence[Approval]) -> Sequence[Approval]:
            at = index_of([approval.id for approval in asked], approval_id)
            return [*asked[:at], *asked[at + 1 :]]

        _edit(context, package_id, document_id, removed)
        return EMPTY_OK

    @blueprint.get("/signers/<signer_id>/approvals")
    def of_signer(package_id: str, document_id: str, signer_id: str) -> ResponseReturnValue:
        """Return the signatures that a signer has not made yet."""
        package = context.package(package_id)
        role = index_of([role.person.id if role.person else role.id for role in package.roles], signer_id)
        asked = package.documents[number_of(package, document_id)].approvals
        open_ = [approval for approval in asked if approval.role == role and approval.at is None]
        return [rest_json.dump_approval(approval, package.roles[role]) for approval in open_]

    return blueprint


def field_routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes for the fields of a requested signature."""
    prefix = "/api/packages/<package_id>/documents/<document_id>/approvals/<approval_id>/fields"
    blueprint = Blueprint("fields", __name__, url_prefix=prefix)

    def edit(package_id: str, document_id: str, approval_id: str, change: FieldChange) -> list[Mapping[str, object]]:
        def changed(package: Package, asked: Sequence[Approval]) -> Sequence[Approval]:
            at = index_of([approval.id for approval in asked], approval_id)
            shown = rest_json.dump_approval(asked[at], package.roles[asked[at].role])
            approval = package_json.with_fields(asked[at], change(json_values.objects(shown, "fields")))
            return [*asked[:at], approval, *asked[at + 1 :]]

        package = _edit(context, package_id, document_id, changed)
        return json_values.objects(_found(_shown(package, document_id), approval_id), "fields")

    @blueprint.post("")
    def add(package_id: str, document_id: str, approval_id: str) -> ResponseReturnValue:
        """Add a field."""
        field = package_json.field(json_object(), package_json.INPUT_FIELD, rng=context.rng)
        return dict(edit(package_id, document_id, approval_id, lambda fields: [*fields, field])[-1])

    @blueprint.get("/<field_id>")
    def show(package_id: str, document_id: str, approval_id: str, field_id: str) -> ResponseReturnValue:
        """Return one field."""
        approval = _found(_shown(context.package(package_id), document_id), approval_id)
        return _found(json_values.objects(approval, "fields"), field_id)

    @blueprint.route("/<field_id>", methods=["PUT", "POST"])
    def change(package_id: str, document_id: str, approval_id: str, field_id: str) -> ResponseReturnValue:
        """Change the members of a field."""
        body = json_values.others(json_object(), {"id"})

        def changed(fields: list[Mapping[str, object]]) -> list[Mapping[str, object]]:
            _found(fields, field_id)
            return [{**field, **body} if field["id"] == field_id else field for field in fields]

        return _found(edit(package_id, document_id, approval_id, changed), field_id)

    @blueprint.delete("/<field_id>")
    def remove(package_id: str, document_id: str, approval_id: str, field_id: str) -> ResponseReturnValue:
        """Remove a field."""

        def removed(fields: list[Mapping[str, object]]) -> list[Mapping[str, object]]:
            _found(fields, field_id)
            return [field for field in fields if field["id"] != field_id]

        edit(package_id, document_id, approval_id, removed)
        return EMPTY_OK

    return blueprint


def _edit(context: RouteContext, package_id: str, document_id: str, change: Change) -> Package:
    """Replace the requested signatures of a document."""

    def plan(package: Package) -> list[Action]:
        number = number_of(package, document_id)
        approvals = change(package, package.documents[number].approvals)
        return [Action("edit documents", values=edits.set_approvals(package, number, approvals, rng=context.rng))]

    return context.act_on(package_id, plan)


def _shown(package: Package, document_id: str) -> list[dict[str, object]]:
    approvals = package.documents[number_of(package, document_id)].approvals
    return [rest_json.dump_approval(approval, package.roles[approval.role]) for approval in approvals]


def _found(parts: Sequence[Mapping[str, object]], id_: str) -> dict[str, object]:
    return dict(parts[index_of([str(part["id"]) for part in parts], id_)])
