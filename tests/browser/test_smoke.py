"""A test that opens every page once in a browser. The other browser tests go into detail."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_login import ALL_PAGES, fill_in
from tests.conftest import on_sqlite
from tests.support.logins import PASSWORD

pytestmark = [on_sqlite, pytest.mark.own_database]


def test_every_page_loads_without_errors(live_service, visit, failing_events):
    """After a login with the form, the first page shows changes by itself, and every page loads without errors."""
    failing_events.add("PACKAGE_DECLINE")
    page = visit(live_service.address)
    page.goto("/")
    fill_in(page, PASSWORD)
    expect(page.locator("main")).to_contain_text("Lease of the mill")
    live_service.act("sign", role=0)
    expect(page.locator("main")).to_contain_text("1 of 2 signed")
    live_service.act("decline", role=1, text="Too expensive.")
    live_service.wait_until_idle()

    for path in ALL_PAGES:
        assert page.goto(path).status == 200, path
        expect(page.get_by_role("heading", level=1)).to_be_visible()
