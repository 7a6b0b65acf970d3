"""Fixtures of the browser tests: a real Chromium, a running service, and pages of logged-in users.

Any console warning, policy violation or script error fails the test, unless the test allows it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydantic import SecretStr

from app.handling import Event, GiveUp, Handlers
from app.handling import Package as PackageValue
from app.simulator.packages import Package
from config import Settings
from tests.browser.live_service import LiveService, account_with, lease
from tests.conftest import on_sqlite
from tests.support.chromium import CHROMIUM, CHROMIUM_MISSING, CHROMIUM_REQUIRED
from tests.support.logins import PASSWORD, token_in, with_passwords
from tests.support.simulated import API_KEY

# Browser tests run on SQLite only: pages do not depend on the kind of database, and other tests run the queries on both
# databases. Each test has its own database, because threads of its service may outlive the test.
IN_A_BROWSER = [on_sqlite, pytest.mark.own_database, pytest.mark.all]
TIMEOUT_MS = 15_000  # milliseconds until an unmet expectation fails, on a busy machine
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
LOCALE: dict[str, Any] = {"locale": "en-GB", "timezone_id": "Europe/Brussels"}
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium that all tests of this process share."""
    if CHROMIUM is None:
        (pytest.fail if CHROMIUM_REQUIRED else pytest.skip)(CHROMIUM_MISSING)
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


class PageErrors(list[str]):
    """Console warnings and errors of pages. A test may `allow` warnings and errors that match a pattern."""

    def __init__(self) -> None:
        super().__init__()
        self._allowed: list[str] = []

    def allow(self, pattern: str) -> None:
        """Ignore console warnings and errors that match this pattern."""
        self._allowed.append(pattern)

    def watch(self, page: Page) -> None:
        """Collect the console warnings and errors of this page from now on."""
        page.on("console", lambda message: message.type in ("error", "warning") and self._add(message.text))
        page.on("pageerror", lambda error: self._add(str(error)))

    def _add(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in self._allowed):
            self.append(text)


@pytest.fixture
def page_errors() -> Iterator[PageErrors]:
    """The console errors of all pages of a test. The test fails if any error is left at its end."""
    page_errors = PageErrors()
    yield page_errors
    assert not page_errors


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with passwords of the dashboard, and practically no limit on requests to OneSpan."""
    onespan = {"onespan_url": "here", "onespan_api_key": SecretStr(API_KEY), "onespan_requests_per_minute": 100_000}
    return with_passwords(settings).model_copy(update=onespan)


@pytest.fixture
def packages() -> list[Package]:
    """The packages in OneSpan at the start of a test: one lease, without callbacks."""
    return [lease()]


@pytest.fixture
def failing_events() -> set[str]:
    """The names of the events for which the handler fails."""
    return set()


@pytest.fixture
def handlers(failing_events: set[str]) -> Handlers:
    """A registry with one handler, which gives up at once if the event is in `failing_events`."""
    handlers = Handlers()

    @handlers.on("*")
    def tell_the_crm(event: Event, package: PackageValue) -> None:
        if event.name in failing_events:
            raise GiveUp(f"The CRM does not know {event.name}.")

    return handlers


@pytest.fixture
def live_service(settings: Settings, handlers: Handlers, packages: list[Package]) -> Iterator[LiveService]:
    """The running service and its simulated OneSpan."""
    with LiveService(settings, handlers, account_with(packages)).running() as live_service:
        yield live_service


@pytest.fixture
def visit(browser: Browser, page_errors: PageErrors) -> Iterator[Callable[..., Page]]:
    """Open an empty page of a new user on the service at this address. `options` configure the browser context."""
    contexts = []

    def visit(address: str, **options: Any) -> Page:
        context = browser.new_context(base_url=address, **({"viewport": DESKTOP} | LOCALE | options))
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        context.on("page", page_errors.watch)
        return context.new_page()

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture
def page(live_service: LiveService, visit: Callable[..., Page]) -> Page:
    """A browser page of Mia, who is logged in with full access."""
    return log_in(visit(live_service.address))


def log_in(page: Page, password: str = PASSWORD, *, name: str = "Mia") -> Page:
    """Log in over HTTP, without showing the login form. Returns the page."""
    form = {"csrf_token": token_in(page.request.get("/login").text()), "password": password, "name": name}
    assert page.request.post("/login", form=form, max_redirects=0).status == 303
    return page
