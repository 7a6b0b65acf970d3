"""Tests of the simulator's files: signed documents, evidence and attachments of any size."""

import io
import re
import zipfile
from dataclasses import replace
from itertools import islice

import pytest

from app.simulator import audit, files
from app.simulator.packages import Package, Role
from app.simulator.quirks import Quirks
from tests.support.onespan_shapes import AUDIT_SHAPE, ROLES_SHAPE
from tests.support.simulated import AUTHORIZED, account_of, client_of, read, recorded_steps


def completed_package(*, uploads: bool = False) -> Package:
    """Return a completed package, with an uploaded attachment if `uploads` is set."""
    packages = (step.after for step in recorded_steps() if step.after.status == "COMPLETED" and not step.after.trashed)
    return next(package for package in packages if not uploads or any(map(has_upload, package.roles)))


def has_upload(role: Role) -> bool:
    """Whether the signer in this role has uploaded the attachment."""
    return role.attachment is not None and role.attachment.uploaded


def get(package: Package, path: str, **quirks: int):
    """Return the answer to a GET request for a file of the package."""
    account = account_of([package], quirks=Quirks(**quirks))
    return client_of(account).get(f"/api/packages/{package.id}{path}", headers=AUTHORIZED)


def is_pdf(data: bytes) -> bool:
    """Whether the data is a PDF with correct offsets in its cross-reference table and its trailer."""
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", data)[1])
    offsets = [int(offset) for offset in re.findall(rb"^(\d{10}) 00000 n ", data[start:], re.MULTILINE)]
    objects = [data[at:].startswith(b"%d 0 obj" % number) for number, at in enumerate(offsets, 1)]
    return data.startswith(b"%PDF-1.4") and data[start:].startswith(b"xref") and len(objects) == 5 and all(objects)


def test_a_signed_document_is_a_pdf_with_its_signatures():
    """A signed document is a PDF that shows its signatures; its `Content-Length` is correct."""
    package = completed_package()
    answer = get(package, f"/documents/{package.documents[1].id}/pdf")

    assert is_pdf(answer.data)
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    assert answer.headers["Content-Type"].startswith("application/octet-stream")
    assert b"Signed by" in answer.data


def test_the_evidence_summary_is_a_pdf():
    """The evidence summary is a PDF with an entry for each signature in the audit trail."""
    package = completed_package()
    answer = get(package, "/evidence/summary")

    assert is_pdf(answer.data)
    assert answer.headers["Content-Type"] == "application/pdf; esl-api-version=11"
    signatures = [entry for entry in audit.entries(package) if entry.type == "Click To Sign"]
    assert answer.data.count(b"Click To Sign") == len(signatures)


def test_a_pdf_can_have_any_text():
    """The text of a PDF can contain parentheses, backslashes and any alphabet."""
    assert is_pdf(b"".join(files.pdf("x.pdf", [r"a (b) \ c", "Łódź 漢字 🙁"]).chunks))


def test_the_zip_has_all_documents_except_the_consent():
    """The zip of a package contains all documents as PDFs, except the consent."""
    package = completed_package()
    archive = zipfile.ZipFile(io.BytesIO(get(package, "/documents/zip").data))

    assert archive.testzip() is None
    assert archive.namelist() == [f"{document.name}.pdf" for document in package.documents[1:]]
    assert all(is_pdf(archive.read(name)) for name in archive.namelist())


def test_uploads_can_be_read_singly_by_signer_or_all():
    """A single upload is read as a PDF; the uploads of a signer, or all uploads, are read as a zip."""
    package = completed_package(uploads=True)
    role = next(role for role in package.roles if has_upload(role))

    assert is_pdf(get(package, f"/attachment/{role.attachment.id}").data)
    for path in ("/attachment/zip", f"/attachment/zip/{role.id}"):
        assert zipfile.ZipFile(io.BytesIO(get(package, path).data)).testzip() is None


def test_a_missing_upload_answers_404():
    """A request for a missing upload answers 404 on every path."""
    package = completed_package(uploads=True)
    roles = tuple(
        replace(role, attachments=tuple(replace(asked, status="INCOMPLETE") for asked in role.attachments))
        for role in package.roles
    )
    attachment_id = next(role.attachment.id for role in roles if role.attachment)
    without_uploads = replace(package, roles=roles)

    paths = (f"/attachment/{attachment_id}", "/attachment/none", "/attachment/zip", f"/attachment/zip/{roles[0].id}")
    for path in (*paths, "/documents/none/pdf"):
        assert get(without_uploads, path).status_code == 404


@pytest.mark.parametrize("path", ["/documents/zip", "/documents/{}/pdf"])
def test_large_files_are_streamed_in_chunks(path):
    """The first chunks of a large file are sent before the rest exists, so a file of 2 GB needs little memory."""
    package = completed_package()
    answer = get(package, path.format(package.documents[1].id), file_mb=2000)
    first = list(islice(answer.iter_encoded(), 4))

    assert max(map(len, first)) < 200_000
    if "pdf" in path:
        assert int(answer.headers["Content-Length"]) > 1999 * 2**20


def test_a_large_pdf_is_valid():
    """A large PDF is filled with comments and is valid."""
    file = files.pdf("x.pdf", ["x"], megabytes=3)
    data = b"".join(file.chunks)

    assert is_pdf(data)
    assert len(data) == file.length > 2.9 * 2**20


def test_the_audit_trail_is_complete_and_in_order():
    """The audit trail is complete and in order for packages in every status."""
    for package in [step.after for step in recorded_steps()[::20]]:
        trail = audit.trail(package)
        AUDIT_SHAPE.validate(trail)
        dates = [event["date-time"] for event in trail["audit-events"]]
        assert dates == sorted(dates)
        assert trail["package-id"] == package.id


def test_declining_is_in_the_audit_trail_with_its_reason():
    """The last event in the audit trail of a declined package is the decline with its reason."""
    step = next(step for step in recorded_steps() if step.events and step.events[0].name == "PACKAGE_DECLINE")
    *_, last = read(account_of([step.after]), f"/api/packages/{step.after.id}/audit")["audit-events"]

    assert (last["type"], last["data"]) == ("Decline", step.events[0].message)


def test_roles_can_be_read_separately():
    """Roles that are read separately equal the roles in the package."""
    package = completed_package()
    account = account_of([package])
    page = read(account, f"/api/packages/{package.id}/roles")

    ROLES_SHAPE.validate(page)
    assert page["results"] == read(account, f"/api/packages/{package.id}")["roles"]
    role_id = package.roles[0].id
    assert read(account, f"/api/packages/{package.id}/roles/{role_id}") == page["results"][0]
    read(account, f"/api/packages/{package.id}/roles/none", status=404)
