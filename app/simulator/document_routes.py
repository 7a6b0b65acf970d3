"""Routes for the documents of a package, their requested signatures, and the fields of these."""

from collections.abc import Callable, Mapping

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from app.simulator import edits, json_values, package_json, rest_json
from app.simulator.packages import CONSENT, Action, Package
from app.simulator.routes import BadRequest, NotFound, RouteContext, files, index_of, json_body, json_object

EMPTY_OK = ("", 200)
OCTETS = "application/octet-stream; esl-api-version=11"


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes for the documents of a package together."""
    blueprint = Blueprint("documents", __name__, url_prefix="/api/packages/<package_id>/documents")

    @blueprint.post("")
    def add(package_id: str) -> ResponseReturnValue:
        """Add one document, or a list of documents, with their files; the answer has the same form."""
        body = json_body()
        parts = json_values.as_objects(body if isinstance(body, list) else [body], "documents")
        uploads = files()

        def added(package: Package) -> Mapping[str, object]:
            new = package_json.new_documents(parts, package.roles, rng=context.rng, files=uploads)
            return edits.set_documents(package, [*package.documents, *new], rng=context.rng)

        package = _edit(context, package_id, added)
        count = len(package.documents)
        shown = [rest_json.dump_document(package.documents[at], at, package) for at in range(count - len(parts), count)]
        return shown if isinstance(body, list) else shown[0]

    @blueprint.put("")
    def reorder(package_id: str) -> ResponseReturnValue:
        """Give documents their positions."""
        wanted = json_values.as_objects(json_body(), "documents")
        indexes = {str(part.get("id")): json_values.number(part, "index", 0) for part in wanted}

        def sorted_documents(package: Package) -> Mapping[str, object]:
            at = {document.id: number for number, document in enumerate(package.documents)}
            by_index = sorted(package.documents, key=lambda document: indexes.get(document.id, at[document.id]))
            return edits.set_documents(package, by_index, rng=context.rng)

        _edit(context, package_id, sorted_documents)
        return {}

    @blueprint.delete("")
    def remove_all(package_id: str) -> ResponseReturnValue:
        """Delete the documents whose ids are in the body."""
        ids = json_body()
        if not isinstance(ids, list):
            raise BadRequest("the body must be an array of ids")
        _edit(context, package_id, lambda package: _without(context, package, [str(id_) for id_ in ids]))
        return EMPTY_OK

    return blueprint


def document_routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes for one document."""
    blueprint = Blueprint("document", __name__, url_prefix="/api/packages/<package_id>/documents/<document_id>")

    @blueprint.get("")
    def show(package_id: str, document_id: str) -> ResponseReturnValue:
        """Return one document."""
        return _shown(context.package(package_id), document_id)

    @blueprint.route("", methods=["PUT", "POST"])
    def change(package_id: str, document_id: str) -> ResponseReturnValue:
        """Change the members of a document."""
        body = json_object()

        def changed(package: Package) -> Mapping[str, object]:
            number = number_of(package, document_id)
            before = package.documents[number]
            document = package_json.document(body, package.roles, rng=context.rng, before=before)
            return edits.set_document(package, number, document, rng=context.rng)

        return _shown(_edit(context, package_id, changed), document_id)

    @blueprint.delete("")
    def remove(package_id: str, document_id: str) -> ResponseReturnValue:
        """Delete a document."""
        _edit(context, package_id, lambda package: _without(context, package, [document_id]))
        return EMPTY_OK

    @blueprint.get("/original")
    def original(package_id: str, document_id: str) -> ResponseReturnValue:
        """Return the file that the sender uploaded."""
        package = context.package(package_id)
        document = package.documents[number_of(package, document_id)]
        if not document.file:
            raise NotFound
        return Response(document.file, content_type=OCTETS)

    return blueprint


def _edit(context: RouteContext, package_id: str, change: Callable[[Package], Mapping[str, object]]) -> Package:
    """Replace attributes of a package whose documents may change."""
    return context.act_on(package_id, lambda package: [Action("edit documents", values=change(package))])


def number_of(package: Package, document_id: str) -> int:
    """Return the position of a document in its package. Raises `NotFound`."""
    return index_of([document.id for document in package.documents], document_id)


def _shown(package: Package, document_id: str) -> dict[str, object]:
    number = number_of(package, document_id)
    return rest_json.dump_document(package.documents[number], number, package)


def _without(context: RouteContext, package: Package, ids: list[str]) -> Mapping[str, object]:
    for id_ in ids:
        number_of(package, id_)
    kept = [document for document in package.documents if document.id not in ids or document.id == CONSENT]
    return edits.set_documents(package, kept, rng=context.rng)
