"""Every page once in a browser, and one of them while something happens; the other tests look closer."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_login import ALL_PAGES, fill_in
from tests.conftest import on_sqlite
from tests.support.logins import ACTING

pytestmark = [on_sqlite, pytest.mark.own_database]


def test_every_page_comes_and_complains_of_nothing(installation, visit, broken):
    """Whoever logs in by the form sees them all, and on the first one what happens meanwhile."""
    broken.add("PACKAGE_DECLINE")
    page = visit(installation.address)
    page.goto("/")
    fill_in(page, ACTING)
    expect(page.locator("main")).to_contain_text("Lease of the mill")
    installation.act("sign", role=0)
    expect(page.locator("main")).to_contain_text("1 of 2 signed")
    installation.act("decline", role=1, text="Too expensive.")
    installation.settled()

    for path in ALL_PAGES:
        assert page.goto(path).status == 200, path
        expect(page.get_by_role("heading", level=1)).to_be_visible()
