"""The simulator: signed documents, evidence, attachments, as files of any size."""

import io
import re
import zipfile
from dataclasses import replace
from itertools import islice

import pytest

from app.simulator import audit, files
from app.simulator.packages import Package
from app.simulator.quirks import Quirks
from tests.support.onespan_shapes import AUDIT_SHAPE, ROLES_SHAPE
from tests.support.simulated import AUTHORIZED, account_of, client_of, many_steps, read


def completed(*, uploads: bool = False) -> Package:
    """A package that all have signed, and to which somebody has uploaded something where that is wanted."""
    found = (step.after for step in many_steps() if step.after.status == "COMPLETED" and not step.after.trashed)
    return next(one for one in found if not uploads or any(r.attachment and r.attachment.uploaded for r in one.roles))


def get(package: Package, path: str, **quirks: int):
    """Read a file of it."""
    account = account_of([package], quirks=Quirks(**quirks))
    return client_of(account).get(f"/api/packages/{package.id}{path}", headers=AUTHORIZED)


def is_pdf(data: bytes) -> bool:
    """Whether a reader would find every object where its table says, and the table where its end says."""
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", data)[1])
    offsets = [int(one) for one in re.findall(rb"^(\d{10}) 00000 n ", data[start:], re.MULTILINE)]
    objects = [data[at:].startswith(b"%d 0 obj" % number) for number, at in enumerate(offsets, 1)]
    return data.startswith(b"%PDF-1.4") and data[start:].startswith(b"xref") and len(objects) == 5 and all(objects)


def test_a_signed_document_is_a_pdf_that_says_who_signed():
    """Of the length it says."""
    package = completed()
    answer = get(package, f"/documents/{package.documents[1].id}/pdf")

    assert is_pdf(answer.data)
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    assert answer.headers["Content-Type"].startswith("application/octet-stream")
    assert b"Signed by" in answer.data


def test_the_evidence_summary_is_a_pdf():
    """It tells what the audit trail tells."""
    package = completed()
    answer = get(package, "/evidence/summary")

    assert is_pdf(answer.data)
    assert answer.headers["Content-Type"] == "application/pdf; esl-api-version=11"
    assert answer.data.count(b"Click To Sign") == sum(one.type == "Click To Sign" for one in audit.entries(package))


def test_any_text_fits_into_a_pdf():
    """Parentheses and alphabets too."""
    assert is_pdf(b"".join(files.pdf("x.pdf", [r"a (b) \ c", "Łódź 漢字 🙁"]).parts))


def test_all_documents_come_in_a_zip_without_the_consent():
    """Each a PDF."""
    package = completed()
    archive = zipfile.ZipFile(io.BytesIO(get(package, "/documents/zip").data))

    assert archive.testzip() is None
    assert archive.namelist() == [f"{one.name}.pdf" for one in package.documents[1:]]
    assert all(is_pdf(archive.read(name)) for name in archive.namelist())


def test_uploads_come_alone_by_signer_or_all_together():
    """Where there are any."""
    package = completed(uploads=True)
    role = next(one for one in package.roles if one.attachment and one.attachment.uploaded)

    assert is_pdf(get(package, f"/attachment/{role.attachment.id}").data)
    for path in ("/attachment/zip", f"/attachment/zip/{role.id}"):
        assert zipfile.ZipFile(io.BytesIO(get(package, path).data)).testzip() is None


def test_what_was_not_uploaded_is_not_there():
    """404 for each way to ask."""
    package = completed(uploads=True)
    roles = tuple(
        replace(one, attachment=one.attachment and replace(one.attachment, uploaded=False)) for one in package.roles
    )
    asked = next(one.attachment.id for one in roles if one.attachment)
    bare = replace(package, roles=roles)

    for path in (f"/attachment/{asked}", "/attachment/none", "/attachment/zip", f"/attachment/zip/{roles[0].id}"):
        assert get(bare, path).status_code == 404
    assert get(bare, "/documents/none/pdf").status_code == 404


@pytest.mark.parametrize("path", ["/documents/zip", "/documents/{}/pdf"])
def test_large_files_come_in_parts(path):
    """Nobody needs to hold two gigabytes: what is read first is there before the rest is made."""
    package = completed()
    answer = get(package, path.format(package.documents[1].id), file_mb=2000)
    first = list(islice(answer.iter_encoded(), 4))

    assert max(map(len, first)) < 200_000
    if "pdf" in path:
        assert int(answer.headers["Content-Length"]) > 1999 * 2**20


def test_a_large_pdf_is_one_still():
    """Filled with what readers pass over."""
    one = files.pdf("x.pdf", ["x"], megabytes=3)
    data = b"".join(one.parts)

    assert is_pdf(data)
    assert len(data) == one.length > 2.9 * 2**20


def test_the_audit_trail_tells_who_did_what():
    """In the order in which it happened, for packages in every condition."""
    for package in [step.after for step in many_steps()[::20]]:
        shown = audit.trail(package)
        AUDIT_SHAPE.validate(shown)
        dates = [one["date-time"] for one in shown["audit-events"]]
        assert dates == sorted(dates)
        assert shown["package-id"] == package.id


def test_declining_is_in_the_audit_trail_with_its_reason():
    """From the one who did."""
    step = next(step for step in many_steps() if step.events and step.events[0].name == "PACKAGE_DECLINE")
    *_, last = read(account_of([step.after]), f"/api/packages/{step.after.id}/audit")["audit-events"]

    assert (last["type"], last["data"]) == ("Decline", step.events[0].message)


def test_roles_can_be_read_alone():
    """They are those of the package."""
    package = completed()
    account = account_of([package])
    shown = read(account, f"/api/packages/{package.id}/roles")

    ROLES_SHAPE.validate(shown)
    assert shown["results"] == read(account, f"/api/packages/{package.id}")["roles"]
    one = package.roles[0].id
    assert read(account, f"/api/packages/{package.id}/roles/{one}") == shown["results"][0]
    read(account, f"/api/packages/{package.id}/roles/none", status=404)
