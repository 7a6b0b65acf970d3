"""What the page of a transaction says about groups, signatures, replies and attributes."""

import re
from html import unescape

import pytest

from app.store.packages import Cause
from app.store.queries import ChangeDetail
from app.web.dashboard.history import cause_text
from app.web.dashboard.pages import with_code
from tests.conftest import ADA, BEN, NOON
from tests.support.fixtures import document
from tests.support.histories import PACKAGE, block, group, seat, shown
from tests.support.logins import log_in, with_passwords
from tests.support.simulation import with_onespan

DAN, EVA = "dan", "eva"


@pytest.fixture
def settings(settings):
    """Settings with the address of OneSpan, and with passwords for the pages."""
    return with_onespan(with_passwords(settings))


@pytest.fixture
def page(history, client):
    """Return the text of the transaction's page, without time elements."""
    assert log_in(client, name="Mia").status_code == 303

    def page():
        assert history.package
        html = re.sub(r"<time.*?</time>", "", client.get(f"/transactions/{PACKAGE}").text, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())

    return page


def test_group_is_named_and_its_members_are_no_bare_ids(history, page):
    """A member without a role is counted, and called a member of the group; a member with a role has a name."""
    history.serve(shown([group("board", BEN, EVA), seat(EVA), seat(ADA)], block("board"), block(ADA)))
    history.fetch()
    history.callbacks("DOCUMENT_SIGNED", who=BEN)

    assert "Group ( eva Signer, 1 more ): any member signs for it" in page()
    assert "Group member" in page()
    assert "A member of" in page()
    assert BEN not in page()


def test_table_of_documents_says_how_far_each_signature_is(history, page):
    """The table says not asked, not signed, optional, begun or signed, so that no pointer need hover over it."""
    signed = [block(ADA, history.now), block(BEN, accepted=history.now), block(DAN, optional=True), block(EVA)]
    documents = [document("one", signed), document("two", [block(EVA)])]
    history.serve(shown([seat(ADA), seat(BEN), seat(DAN), seat(EVA)], documents=documents))
    history.fetch()

    table = page().partition("Last signed")[2].partition("History")[0]
    assert "✓ Signed Begun Optional Not signed" in table
    assert table.count("Not asked to sign") == 3


def test_due_date_of_a_completed_package_is_a_date(history, client, page):
    """A completed transaction is not due in some days any more."""
    for status, is_relative in (("SENT", True), ("COMPLETED", False)):
        history.serve_changed(shown([seat(ADA)], block(ADA), status=status, due="2030-01-31T12:00:00Z"))
        history.fetch()

        due = client.get(f"/transactions/{PACKAGE}").text.partition("<dt>Due</dt>")[2].partition("</dd>")[0]
        assert "2030-01-31 12:00 UTC" in due
        assert ("data-ago" in due) is is_relative


def test_automatic_reply_is_not_called_a_bounce(history, page):
    """An out-of-office reply is called a reply in the history, and the issue names the signer."""
    history.serve(shown([seat(ADA)], block(ADA)))
    history.fetch()
    history.callback("EMAIL_BOUNCE", ADA, message="OOTO")

    assert "Out-of-office reply from Ada Signs" in page()
    assert "Issue opened: Out of office (Ada Signs)" in page()
    assert "bounced" not in page()


def test_attributes_are_shown_as_json(history, page):
    """Attributes of the sender that are no texts are JSON, in the details and in the history."""
    history.serve(shown([seat(ADA)], block(ADA), data={"paid": None, "lots": [1, True]}))
    history.fetch()
    history.serve_changed(shown([seat(ADA)], block(ADA), data={"lots": [2]}))
    history.fetch()

    assert "Attributes : paid: null, lots: [1, true] → lots: [2]" in page()
    assert "lots [2]" in page()


def test_signer_who_need_not_sign_any_more_differs_from_one_who_was_removed(history, page):
    """When all signatures of a signer are disabled, the history says that no signature is needed."""
    history.serve(shown([seat(ADA), seat(BEN)], block(ADA), block(BEN)))
    history.fetch()
    history.serve_changed(shown([seat(ADA)], block(ADA, disabled=True)))
    history.fetch()

    assert "Ada Signs · Status : Not signed → No signature needed" in page()
    assert f"{BEN} · Status : Not signed → none" in page()


@pytest.mark.parametrize(("cause", "text"), [("journal", "from stored callbacks"), ("upgrade", "after an upgrade")])
def test_history_says_why_a_package_was_rebuilt(cause, text):
    """A change that an upgrade makes is not said to come from `flask rebuild`."""
    change = ChangeDetail(1, PACKAGE, "package", "status", "SENT", "COMPLETED", NOON, NOON, Cause("rebuild", cause))

    assert text in cause_text(change)


def test_commands_in_notes_are_code():
    """What a note has in backticks is shown as code, and no note can contain HTML."""
    assert with_code("<b>: run `flask doctor`.") == "&lt;b&gt;: run <code>flask doctor</code>."
