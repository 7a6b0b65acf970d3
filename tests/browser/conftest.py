"""A real Chromium, an installation for it to look at, and pages in which somebody has logged in.

Whatever a page complains of, on its console, of its policy or by an error, fails the test, unless it forgives it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydantic import SecretStr

from app.handling import Event, GiveUp, Handlers
from app.handling import Package as Picture
from app.simulator.packages import Package
from config import Settings
from tests.browser.live_service import API_KEY, Installation, account_with, lease
from tests.conftest import on_sqlite
from tests.support.chromium import CHROMIUM, MISSED, MUST_BE_THERE
from tests.support.logins import ACTING, token_in, with_passwords

# Pages look the same whatever the rows are in; the queries behind them are tested on both kinds. Threads of an
# installation may outlive its test.
IN_A_BROWSER = [on_sqlite, pytest.mark.own_database, pytest.mark.all]
PATIENCE = 15_000  # milliseconds until what was expected is missed, on a busy machine
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
HERE: dict[str, Any] = {"locale": "en-GB", "timezone_id": "Europe/Brussels"}
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all tests of this process."""
    if CHROMIUM is None:
        (pytest.fail if MUST_BE_THERE else pytest.skip)(MISSED)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Complaints(list[str]):
    """What pages complain of; a test may `forgive` what it provokes, by a pattern."""

    def __init__(self) -> None:
        super().__init__()
        self._forgiven: list[str] = []

    def forgive(self, pattern: str) -> None:
        """This one is meant to come."""
        self._forgiven.append(pattern)

    def hear(self, page: Page) -> None:
        """Listen to this page from now on."""
        page.on("console", lambda said: said.type in ("error", "warning") and self._take(said.text))
        page.on("pageerror", lambda error: self._take(str(error)))

    def _take(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in self._forgiven):
            self.append(text)


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """There must be none."""
    complaints = Complaints()
    yield complaints
    assert not complaints


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With passwords, and a OneSpan that may be asked as often as one likes."""
    asked = {"onespan_url": "here", "onespan_api_key": SecretStr(API_KEY), "onespan_requests_per_minute": 100_000}
    return with_passwords(settings).model_copy(update=asked)


@pytest.fixture
def packages() -> list[Package]:
    """What OneSpan has in the beginning: one lease, of which it called nobody back."""
    return [lease()]


@pytest.fixture
def broken() -> set[str]:
    """Names of events at which the one function fails."""
    return set()


@pytest.fixture
def handlers(broken: set[str]) -> Handlers:
    """One function, which gives up at once where it is broken."""
    handlers = Handlers()

    @handlers.on("*")
    def tell_the_crm(event: Event, package: Picture) -> None:
        if event.name in broken:
            raise GiveUp(f"The CRM does not know {event.name}.")

    return handlers


@pytest.fixture
def installation(settings: Settings, handlers: Handlers, packages: list[Package]) -> Iterator[Installation]:
    """It runs."""
    with Installation(settings, handlers, account_with(packages)).running() as installation:
        yield installation


@pytest.fixture
def visit(browser: Browser, complaints: Complaints) -> Iterator[Callable[..., Page]]:
    """Open a page of a visitor who is new here, at this address; further options are of the browser's context."""
    contexts = []

    def visit(address: str, **options: Any) -> Page:
        context = browser.new_context(base_url=address, **({"viewport": DESKTOP} | HERE | options))
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        context.on("page", complaints.hear)
        return context.new_page()

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def page(installation: Installation, visit: Callable[..., Page]) -> Page:
    """Mia's, who may act."""
    return log_in(visit(installation.address))


def log_in(page: Page, password: str = ACTING, *, name: str = "Mia") -> Page:
    """Log in as the form does, without showing it; returns the page."""
    form = {"csrf_token": token_in(page.request.get("/login").text()), "password": password, "name": name}
    assert page.request.post("/login", form=form, max_redirects=0).status == 303
    return page
