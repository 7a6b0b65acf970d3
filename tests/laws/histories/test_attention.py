"""What needs the sender's attention in the history of a package: bounces, replies and attachments, and deletions."""

from datetime import timedelta
from random import Random

import pytest

from tests.conftest import ADA, BEN, CLEO, in_all, onespan_time
from tests.support.fixtures import person
from tests.support.histories import block, seat, shown

SIGNING = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE")


def addressed(email: str | None):
    """A sent package whose only signer has this address."""
    return shown([seat(ADA, signers=[{**person(ADA), "email": email}])], block(ADA))


def with_attachments(history, *statuses, signed=None, required=True, **members):
    """A package with attachment requirements in these states."""
    requirements = [
        {"id": str(number), "name": f"file-{number}", "required": required, "status": status}
        for number, status in enumerate(statuses)
    ]
    roles = [seat(ADA, attachmentRequirements=requirements), seat(BEN)]
    return shown(roles, block(ADA, signed), block(BEN), updated=onespan_time(history.now), **members)


def send(history, package) -> None:
    """Let OneSpan show a sent package, report it, and fetch it."""
    history.serve(package)
    history.callback("PACKAGE_ACTIVATE")
    history.fetch()
    history.wait(60)
    history.runs.clear()


@pytest.mark.parametrize("message", ["BOUNCE", None])
@pytest.mark.parametrize("is_late", [True, False], ids=["late callback", "prompt callback"])
def test_a_correction_after_the_bounce_ends_it(history, message, is_late):
    """The order in which the bounce and the correction become known makes no difference."""
    send(history, addressed("wrong@example.com"))
    bounced_at = history.now
    if not is_late:
        history.callback("EMAIL_BOUNCE", ADA, message=message)
        assert history.attention == ["EMAIL_BOUNCE"]
    history.wait(30)
    history.serve_changed(addressed("right@example.com"))
    history.fetch()
    if is_late:
        history.callback("EMAIL_BOUNCE", ADA, message=message, at=bounced_at)

    assert history.attention == []
    assert history.package.signers[0].email_bounce is None


def test_a_bounce_ends_when_the_signer_has_no_address_any_more(history):
    """The sender changed the signer to notifications by SMS only."""
    send(history, addressed("wrong@example.com"))
    history.callback("EMAIL_BOUNCE", ADA, message="BOUNCE")
    history.wait(30)
    history.serve_changed(addressed(None))
    history.fetch()

    assert history.attention == []


def test_a_bounce_after_the_correction_is_open(history):
    """The corrected address bounces too."""
    send(history, addressed("wrong@example.com"))
    history.serve_changed(addressed("also-wrong@example.com"))
    history.fetch()
    history.wait(30)
    history.callback("EMAIL_BOUNCE", ADA, message="BOUNCE")
    history.fetch()

    assert history.attention == ["EMAIL_BOUNCE"]


def test_a_bounce_without_a_correction_stays(history):
    """Other changes of the package do not end a bounce; a signature does."""
    send(history, addressed("wrong@example.com"))
    history.callback("EMAIL_BOUNCE", ADA, message="BOUNCE")
    history.wait(30)
    history.serve_changed({**addressed("wrong@example.com"), "name": "Renamed"})
    history.fetch()
    assert history.attention == ["EMAIL_BOUNCE"]

    history.callbacks(*SIGNING, who=ADA)
    assert history.attention == []


def test_an_address_that_is_changed_back_bounces_again(history):
    """The bounce is about the address, so it is open while the signer has this address."""
    send(history, addressed("wrong@example.com"))
    history.callback("EMAIL_BOUNCE", ADA, message="BOUNCE")
    for email, attention in (("right@example.com", []), ("wrong@example.com", ["EMAIL_BOUNCE"])):
        history.wait(30)
        history.serve_changed(addressed(email))
        history.fetch()
        assert history.attention == attention


@pytest.mark.parametrize("order", [("BOUNCE", "OOTO"), ("OOTO", "BOUNCE")], ids=str)
def test_an_out_of_office_reply_weighs_less_than_a_bounce(history, order):
    """A reply is an attention reason of its own, and never hides a bounce."""
    send(history, addressed("ada@example.com"))
    history.callback("EMAIL_BOUNCE", ADA, message="OOTO")
    assert history.attention == ["OUT_OF_OFFICE"]
    for message in order:
        history.wait(1)
        history.callback("EMAIL_BOUNCE", ADA, message=message)

    assert history.attention == ["EMAIL_BOUNCE"]
    assert history.package.signers[0].email_bounce == "BOUNCE"


def test_a_signature_ends_an_out_of_office_reply(history):
    """A signer who signs has read the email."""
    send(history, addressed("ada@example.com"))
    history.callback("EMAIL_BOUNCE", ADA, message="OOTO")
    history.serve_changed(shown([seat(ADA), seat(BEN)], block(ADA, history.ago(-1)), block(BEN)))
    history.wait(5)
    history.fetch()

    assert history.attention == []


def test_a_required_attachment_is_missing_once_the_signer_has_signed(history):
    """A signer who has signed must still upload the file; the upload ends the reason."""
    send(history, with_attachments(history, "INCOMPLETE"))
    assert history.attention == []
    history.callbacks(*SIGNING, who=ADA)
    assert history.attention == ["ATTACHMENT_MISSING"]
    signed_at = history.now
    history.serve(with_attachments(history, "INCOMPLETE", signed=signed_at))
    history.fetch()
    assert history.attention == ["ATTACHMENT_MISSING"]
    assert (history.package.attention[0].who, history.package.attention[0].detail) == (ADA, "file-0")

    history.wait(10)
    history.callback("PACKAGE_ATTACHMENT", ADA, message="file-0")
    history.serve(with_attachments(history, "COMPLETE", signed=signed_at))
    assert history.attention == []
    history.fetch()

    assert history.attention == []
    assert history.runs == dict.fromkeys((*SIGNING, "PACKAGE_ATTACHMENT"), 1)


@pytest.mark.parametrize("is_reported", [True, False], ids=["reported", "lost"])
def test_a_rejected_attachment_needs_attention_until_it_is_uploaded_again(history, is_reported):
    """The sender rejects a file, and the signer uploads another one."""
    send(history, with_attachments(history, "COMPLETE", "INCOMPLETE"))
    history.serve(with_attachments(history, "REJECTED", "INCOMPLETE"))
    history.fetch()
    assert history.attention == ["ATTACHMENT_REJECTED"]

    history.wait(30)
    if is_reported:
        history.callback("PACKAGE_ATTACHMENT", ADA, message="file-0")
        assert history.attention == []
    history.serve(with_attachments(history, "COMPLETE", "INCOMPLETE"))
    history.fetch()

    assert history.attention == []
    assert history.runs == {"PACKAGE_ATTACHMENT": 1}


def test_a_rejected_attachment_of_a_reviewer_needs_attention(history):
    """A reviewer signs nothing, but must upload the file again. Before, no signature says that a file is missing."""
    requirements = [
        {"id": status, "name": status, "required": True, "status": status} for status in ("REJECTED", "INCOMPLETE")
    ]
    send(history, shown([seat(ADA), seat(BEN, attachmentRequirements=requirements)], block(ADA)))

    (reason,) = history.package.attention
    assert (reason.reason, reason.who, reason.detail) == ("ATTACHMENT_REJECTED", BEN, "REJECTED")


@pytest.mark.parametrize("status", ["INCOMPLETE", "COMPLETE", "SOMETHING"])
def test_an_optional_attachment_needs_no_attention(history, status):
    """Only a required attachment can be missing."""
    send(history, with_attachments(history, status, required=False))
    history.callbacks(*SIGNING, who=ADA)
    history.serve(with_attachments(history, status, required=False, signed=history.now))
    history.fetch()

    assert history.attention == []


LIFE = ("PACKAGE_ACTIVATE", *in_all("PACKAGE_RESTORE", "DOCUMENT_VIEWED", "PACKAGE_DEACTIVATE", "DOCUMENT_SIGNED"))


@pytest.mark.parametrize("name", LIFE)
def test_a_later_event_of_a_living_package_ends_its_deletion(history, name):
    """OneSpan's support can bring a package back; OneSpan may have answered 404 meanwhile."""
    send(history, addressed("ada@example.com"))
    history.callback("PACKAGE_DELETE")
    history.serve(None)
    history.fetch()
    assert history.package.deleted

    history.wait(600)
    history.serve_changed(addressed("ada@example.com"))
    history.callback(name, ADA)
    assert not history.package.deleted
    history.wait(10)

    assert (history.package.status, history.package.deleted) == ("SENT", False)
    history.wait(400)
    assert (history.package.status, history.package.deleted) == ("SENT", False)
    assert history.runs["PACKAGE_DELETE"] == 1


@pytest.mark.parametrize("name", ["PACKAGE_CREATE", "EMAIL_BOUNCE", "SOMETHING_ELSE"])
def test_other_events_do_not_end_a_deletion(history, name):
    """A creation comes before the deletion, and a bounce may arrive after it."""
    history.callback("PACKAGE_CREATE", at=history.ago(180))
    history.callback("PACKAGE_DELETE", at=history.ago(120))
    history.callback(name, CLEO, at=history.ago(60))

    assert history.package.deleted


def test_a_package_that_is_found_deleted_lives_again_when_it_is_shown(history):
    """Callbacks are lost on both ways; each reconcile finds the truth."""
    send(history, addressed("ada@example.com"))
    history.wait(3600)
    history.serve(None)
    history.fetch()
    assert history.package.deleted

    history.serve_changed(addressed("ada@example.com"))
    history.reconcile()

    assert not history.package.deleted
    assert history.runs == {"PACKAGE_DELETE": 1}


def test_the_later_of_two_fetches_counts_however_long_they_take(history, handlers):
    """Two answers of the same second may take different times; the one that was requested later is newer."""
    dice = Random(0)

    def set_duration(answer, **_):
        answer.elapsed = timedelta(milliseconds=dice.randrange(900))
        return answer

    handlers.onespan._session.hooks["response"].append(set_duration)
    send(history, addressed("first@example.com"))
    for number in range(20):
        history.serve(addressed(f"{number}@example.com"))
        history.fetch_now()
        assert history.package.signers[0].email == f"{number}@example.com"


def test_an_upload_by_a_person_in_no_snapshot_is_one_fact(history):
    """A person uploads a file and gives the role away. Snapshots show only the successor; the callback is late."""

    def package(status):
        requirement = {"name": "Passport", "required": True, "status": status}
        return shown([{**seat(BEN), "attachmentRequirements": [requirement]}], block(BEN))

    history.serve(package("INCOMPLETE"))
    history.callback("PACKAGE_ACTIVATE")
    history.fetch()
    history.wait(60)
    uploaded_at = history.now
    history.serve_changed(package("COMPLETE"))
    history.wait(10)
    history.fetch()
    history.callback("PACKAGE_ATTACHMENT", ADA, message="Passport", at=uploaded_at)
    history.fetch()
    history.wait(30)

    assert history.runs == {"PACKAGE_ACTIVATE": 1, "PACKAGE_ATTACHMENT": 1}
