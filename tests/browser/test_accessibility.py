"""Accessibility of every page, checked with axe: light and dark, desktop and phone, with much data and with none."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from pydantic import SecretStr

from app.store import queries
from app.store.queries import CallbackFilter, DispatchFilter
from config import Settings
from tests.browser.conftest import DESKTOP, IN_A_BROWSER, LOCALE, PHONE, PageErrors, log_in
from tests.browser.live_service import LiveService
from tests.conftest import KEY
from tests.support import dataset
from tests.support.logins import with_passwords
from tests.support.simulated import API_KEY

pytestmark = IN_A_BROWSER

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOURS = ("color-contrast", "link-in-text-block")
PAGES = ("/", "/attention", "/events", "/callbacks", "/handlers", "/health", "/handlers/replay", "/api/", "/login")
DETAIL_PAGES = ("/transactions/{package}", "/events/{event}", "/callbacks/{callback}")
OVERFLOW_PX = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
# A script that shortens the API reference, which describes every request in the same way.
SHORTEN = "document.querySelectorAll('.reference article:nth-of-type(n+2)').forEach((article) => article.remove())"
# A script that finds elements that are cut off. The navigation, filter links and tables may scroll sideways.
CUT_OFF = """() => {
  const scrolls = (node) => node.closest(".scroll, .site-nav, .filter-links, pre, .visually-hidden, .skip");
  const visible = [...document.querySelectorAll("main *, header *")].filter((node) => node.checkVisibility());
  const wide = visible.filter((node) => !scrolls(node) && node.getBoundingClientRect().right > innerWidth + 1);
  return wide.map((node) => node.outerHTML.slice(0, 120));
}"""


@pytest.fixture(scope="session")
def busy(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service with two weeks of data, which tests only read."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "status.db").write_bytes(migrated_sqlite.read_bytes())
    secrets = {"onespan_api_key": SecretStr(API_KEY), "onespan_callback_keys": f"production={KEY}"}
    settings = with_passwords(
        Settings(
            database_url=f"sqlite:///{folder}/status.db",
            spool_dir=folder / "spool",
            onespan_url="http://here",
            **secrets,
        )
    )
    account = dataset.generate(settings, steps=60, at_once=12, weeks=2, until=datetime.now(UTC))
    with LiveService(settings, dataset.functions(), account).running() as busy:
        assert len(addresses(busy)) == len(PAGES) + len(DETAIL_PAGES)
        yield busy


@pytest.fixture(scope="session")
def empty(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A new service, without data and without OneSpan's API."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "status.db").write_bytes(migrated_sqlite.read_bytes())
    settings = with_passwords(
        Settings(database_url=f"sqlite:///{folder}/status.db", onespan_callback_keys=f"production={KEY}")
    )
    with LiveService(settings, dataset.functions(), dataset.Account(1, packages=0)).running() as empty:
        yield empty


def addresses(live_service: LiveService) -> list[str]:
    """The paths of all pages, including the details of a package, an event and a callback if there are any."""
    with live_service.service.database.read() as connection:
        runs = queries.dispatch_page(connection, DispatchFilter(state="parked"), limit=1, cursor=None).items
        callbacks = queries.callback_page(connection, CallbackFilter(), limit=1, cursor=None).items
    details = [
        address.format(package=run.package_id, event=run.event_id, callback=callback.id)
        for run, callback in zip(runs, callbacks, strict=False)
        for address in DETAIL_PAGES
    ]
    return [*PAGES, *details]


def visit_all(browser: Browser, live_service: LiveService, page_errors: PageErrors, **options: Any) -> Iterator[Page]:
    """Open each page in turn, `/login` without a session and the other pages as a logged-in user."""
    for logged_in in (True, False):
        context = browser.new_context(base_url=live_service.address, **LOCALE, **options)
        context.on("page", page_errors.watch)
        page = context.new_page()
        if logged_in:
            log_in(page)
        for address in addresses(live_service):
            if (address == "/login") != logged_in:
                page.goto(address)
                yield page
        context.close()


@pytest.mark.parametrize(
    ("which", "size"), [("busy", DESKTOP), ("busy", PHONE), ("empty", DESKTOP)], ids=["desktop", "phone", "empty"]
)
def test_axe_finds_no_violations(browser, request, page_errors, which, size):
    """Every page meets WCAG 2.2 AA and good practice. The dark scheme is checked for colours only."""
    found = {}
    for page in visit_all(browser, request.getfixturevalue(which), page_errors, viewport=size):
        page.evaluate(SHORTEN)
        for scheme, rules in (("light", RULES), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)
            result = Axe().run(page, options={"runOnly": list(rules), "resultTypes": ["violations"]})
            for violation in result.response["violations"]:
                nodes = [node["html"][:150] for node in violation["nodes"][:3]]
                found[page.url, scheme, violation["id"]] = nodes

    assert found == {}


def test_no_page_is_wider_than_the_window(browser, busy, page_errors):
    """Every page fits a small phone and a wide screen. Tables may scroll; nothing else is cut off."""
    for page in visit_all(browser, busy, page_errors):
        for width in (320, 390, 768, 1024, 2560):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate(OVERFLOW_PX) <= 0, (page.url, width)
            assert page.evaluate(CUT_OFF) == [], (page.url, width)
