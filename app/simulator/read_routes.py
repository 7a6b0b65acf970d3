"""Routes that read packages, parts of packages, lists and files."""

from collections.abc import Iterable

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from app.simulator import audit, files, listing, rest_json
from app.simulator.files import File
from app.simulator.packages import CONSENT, Attachment, Document, Package, Role
from app.simulator.routes import NotFound, RouteContext, index_of

PDF, ZIP = "application/pdf; esl-api-version=11", "application/zip"
FILE = "application/octet-stream; esl-api-version=11"


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes that answer with JSON."""
    blueprint = Blueprint("packages", __name__)

    @blueprint.get("/api/packages")
    def packages() -> ResponseReturnValue:
        """Return one page of the list of packages."""
        quirks, owners = context.account.quirks, context.caller.owners(context.authenticator.named_owners(request.args))
        count, page = context.account.read_list(
            lambda list_view: listing.select_page(list_view, request.args, quirks=quirks, owners=owners),
            now=context.clock(),
        )
        dump = rest_json.dump_id if request.args.get("fields") == "id" else rest_json.ITEM_DUMPS[quirks.list_items]
        return {"count": count, "results": [dump(package, quirks=quirks) for package in page]}

    @blueprint.get("/api/packages/<package_id>")
    def package(package_id: str) -> ResponseReturnValue:
        """Return one package."""
        return rest_json.dump_package(context.package(package_id), quirks=context.account.quirks)

    @blueprint.get("/api/packages/<package_id>/roles")
    def roles(package_id: str) -> ResponseReturnValue:
        """Return all roles of a package with their signers."""
        results = rest_json.dump_roles(context.package(package_id), quirks=context.account.quirks)
        return {"count": len(results), "results": results}

    @blueprint.get("/api/packages/<package_id>/roles/<role_id>")
    def role(package_id: str, role_id: str) -> ResponseReturnValue:
        """Return one role of a package with its signer."""
        package = context.package(package_id)
        roles = rest_json.dump_roles(package, quirks=context.account.quirks)
        return roles[index_of([role.id for role in package.roles], role_id)]

    @blueprint.get("/api/packages/<package_id>/signingStatus")
    def signing_status(package_id: str) -> ResponseReturnValue:
        """Return the signing status of a package, or of the signer and the document that the query names."""
        package = context.package(package_id)
        signer, document = request.args.get("signer"), request.args.get("document")
        seats = [role.person.id if role.person else role.id for role in package.roles]
        role = index_of(seats, signer) if signer else None
        number = index_of([part.id for part in package.documents], document) if document else None
        return {"status": rest_json.signing_status(package, signed=package.is_signed(role, document=number))}

    @blueprint.get("/api/packages/<package_id>/audit")
    def audit_trail(package_id: str) -> ResponseReturnValue:
        """Return the audit trail of a package."""
        return audit.trail(context.package(package_id))

    return blueprint


def file_routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes that answer with a file."""
    blueprint = Blueprint("files", __name__, url_prefix="/api/packages/<package_id>")

    @blueprint.get("/evidence/summary")
    def evidence(package_id: str) -> ResponseReturnValue:
        """Return the evidence summary of a package."""
        return _file(files.pdf("evidence-summary.pdf", audit.summary(context.package(package_id))), PDF)

    @blueprint.get("/documents/<document_id>/pdf")
    def document(package_id: str, document_id: str) -> ResponseReturnValue:
        """Return one document of a package with the signatures made so far."""
        package = context.package(package_id)
        number = index_of([document.id for document in package.documents], document_id)
        return _file(_signed(context, package, package.documents[number]), FILE)

    @blueprint.get("/documents/zip")
    def documents(package_id: str) -> ResponseReturnValue:
        """Return all documents of a package except the consent, as a zip."""
        package = context.package(package_id)
        return _zip(_signed(context, package, document) for document in package.documents if document.id != CONSENT)

    @blueprint.get("/attachment/zip")
    def attachments(package_id: str) -> ResponseReturnValue:
        """Return all uploaded attachments of a package, as a zip."""
        return _zip(_uploads(context, context.package(package_id).roles))

    @blueprint.get("/attachment/zip/<role_id>")
    def attachments_of(package_id: str, role_id: str) -> ResponseReturnValue:
        """Return all attachments that one signer uploaded, as a zip."""
        roles = context.package(package_id).roles
        index = index_of([role.id for role in roles], role_id)
        return _zip(_uploads(context, roles[index : index + 1]))

    @blueprint.get("/attachment/<attachment_id>")
    def attachment(package_id: str, attachment_id: str) -> ResponseReturnValue:
        """Return one uploaded attachment."""
        attachments = [attachment for role in context.package(package_id).roles for attachment in role.attachments]
        attachment = attachments[index_of([attachment.id for attachment in attachments], attachment_id)]
        if not attachment.uploaded:
            raise NotFound
        return _file(_upload(context, attachment), FILE)

    return blueprint


def _signed(context: RouteContext, package: Package, document: Document) -> File:
    given = [(package.roles[approval.role].person, approval.at) for approval in document.approvals]
    signatures = [f"Signed by {person.name} at {at:%Y-%m-%d %H:%M:%S} UTC" for person, at in given if person and at]
    lines = [document.name, package.name, "", *signatures]
    return files.pdf(f"{document.name}.pdf", lines, megabytes=context.account.quirks.file_mb)


def _uploads(context: RouteContext, roles: Iterable[Role]) -> list[File]:
    uploads = [_upload(context, attachment) for role in roles for attachment in role.attachments if attachment.uploaded]
    if not uploads:
        raise NotFound
    return uploads


def _upload(context: RouteContext, attachment: Attachment) -> File:
    name = f"{attachment.name} {attachment.id[:8]}.pdf"
    return files.pdf(name, [attachment.name], megabytes=context.account.quirks.file_mb)


def _file(file: File, content_type: str) -> Response:
    name = file.name.encode("ascii", "replace").decode().replace('"', "")
    headers = {"Content-Length": str(file.length), "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(file.chunks, content_type=content_type, headers=headers)


def _zip(content: Iterable[File]) -> Response:
    return Response(files.zipped(content), content_type=ZIP)
