"""What the REST API shows: packages and their parts, their lists, their files."""

from collections.abc import Iterable

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from app.simulator import audit, files, listing, rest_json
from app.simulator.files import Paper
from app.simulator.packages import CONSENT, Attachment, Document, Package, Role
from app.simulator.routes import Desk, NotFound, place

PDF, ZIP = "application/pdf; esl-api-version=11", "application/zip"
FILE = "application/octet-stream; esl-api-version=11"


def routes(desk: Desk) -> Blueprint:
    """All that can be read as JSON."""
    pages = Blueprint("reading", __name__)

    @pages.get("/api/packages")
    def packages() -> ResponseReturnValue:
        """A page of the packages in a folder."""
        quirks, owners = desk.account.quirks, desk.caller.owners(desk.gate.named(request.args))
        count, page = desk.account.listed(
            lambda shelf: listing.choose(shelf, request.args, quirks=quirks, owners=owners), now=desk.clock()
        )
        show = rest_json.only_id if request.args.get("fields") == "id" else rest_json.ITEMS[quirks.list_items]
        return {"count": count, "results": [show(one) for one in page]}

    @pages.get("/api/packages/<package_id>")
    def package(package_id: str) -> ResponseReturnValue:
        """One package."""
        return rest_json.package(desk.package(package_id))

    @pages.get("/api/packages/<package_id>/roles")
    def roles(package_id: str) -> ResponseReturnValue:
        """Its seats, and who sits in them."""
        shown = rest_json.roles(desk.package(package_id))
        return {"count": len(shown), "results": shown}

    @pages.get("/api/packages/<package_id>/roles/<role_id>")
    def role(package_id: str, role_id: str) -> ResponseReturnValue:
        """One seat."""
        one = desk.package(package_id)
        return rest_json.roles(one)[place([seat.id for seat in one.roles], role_id)]

    @pages.get("/api/packages/<package_id>/signingStatus")
    def signing_status(package_id: str) -> ResponseReturnValue:
        """Whether a package is signed; only by one signer, or only in one document, where the query names one."""
        one = desk.package(package_id)
        signer, document = request.args.get("signer"), request.args.get("document")
        who = place([seat.person.id if seat.person else seat.id for seat in one.roles], signer) if signer else None
        where = place([each.id for each in one.documents], document) if document else None
        return {"status": rest_json.signing_status(one, one.approvals(who, document=where))}

    @pages.get("/api/packages/<package_id>/audit")
    def audit_trail(package_id: str) -> ResponseReturnValue:
        """Who did what when."""
        return audit.trail(desk.package(package_id))

    return pages


def file_routes(desk: Desk) -> Blueprint:
    """All that can be read as files."""
    pages = Blueprint("files", __name__, url_prefix="/api/packages/<package_id>")

    @pages.get("/evidence/summary")
    def evidence(package_id: str) -> ResponseReturnValue:
        """The evidence summary of a package."""
        return _file(files.pdf("evidence-summary.pdf", audit.summary(desk.package(package_id))), PDF)

    @pages.get("/documents/<document_id>/pdf")
    def document(package_id: str, document_id: str) -> ResponseReturnValue:
        """One document, as it is signed so far."""
        one = desk.package(package_id)
        return _file(_signed(desk, one, one.documents[place([each.id for each in one.documents], document_id)]), FILE)

    @pages.get("/documents/zip")
    def documents(package_id: str) -> ResponseReturnValue:
        """All documents but the consent."""
        one = desk.package(package_id)
        return _zip(_signed(desk, one, each) for each in one.documents if each.id != CONSENT)

    @pages.get("/attachment/zip")
    def attachments(package_id: str) -> ResponseReturnValue:
        """All that signers have uploaded."""
        return _zip(_uploads(desk, desk.package(package_id).roles))

    @pages.get("/attachment/zip/<role_id>")
    def attachments_of(package_id: str, role_id: str) -> ResponseReturnValue:
        """All that one signer has uploaded."""
        roles = desk.package(package_id).roles
        seat = place([role.id for role in roles], role_id)
        return _zip(_uploads(desk, roles[seat : seat + 1]))

    @pages.get("/attachment/<attachment_id>")
    def attachment(package_id: str, attachment_id: str) -> ResponseReturnValue:
        """One upload."""
        found = [role.attachment for role in desk.package(package_id).roles if role.attachment]
        one = found[place([each.id for each in found], attachment_id)]
        if not one.uploaded:
            raise NotFound
        return _file(_upload(desk, one), FILE)

    return pages


def _signed(desk: Desk, one: Package, document: Document) -> Paper:
    given = [(one.roles[approval.role].person, approval.at) for approval in document.approvals]
    signatures = [f"Signed by {person.name} at {at:%Y-%m-%d %H:%M:%S} UTC" for person, at in given if person and at]
    lines = [document.name, one.name, "", *signatures]
    return files.pdf(f"{document.name}.pdf", lines, megabytes=desk.account.quirks.file_mb)


def _uploads(desk: Desk, roles: Iterable[Role]) -> list[Paper]:
    found = [_upload(desk, role.attachment) for role in roles if role.attachment and role.attachment.uploaded]
    if not found:
        raise NotFound
    return found


def _upload(desk: Desk, one: Attachment) -> Paper:
    return files.pdf(f"{one.name} {one.id[:8]}.pdf", [one.name], megabytes=desk.account.quirks.file_mb)


def _file(one: Paper, kind: str) -> Response:
    name = one.name.encode("ascii", "replace").decode().replace('"', "")
    headers = {"Content-Length": str(one.length), "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(one.parts, content_type=kind, headers=headers)


def _zip(papers: Iterable[Paper]) -> Response:
    return Response(files.zipped(papers), content_type=ZIP)
