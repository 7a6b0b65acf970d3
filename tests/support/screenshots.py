"""Screenshots of every page: `python -m tests.support.screenshots FOLDER`, or `make screenshots`.

The screenshots show a busy service and a new service, at desktop and phone width, light and dark, for people to look
at. The command also replaces the screenshots of the README.
"""

import shutil
import sys
import tempfile
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from pydantic import SecretStr

from app.simulator.account import Account
from app.store import queries
from app.store.queries import CallbackFilter, DispatchFilter
from config import ROOT, Settings
from tests.browser.conftest import CHROMIUM_ARGUMENTS, DESKTOP, LOCALE, PHONE, log_in
from tests.browser.live_service import LiveService
from tests.conftest import KEY
from tests.support import dataset
from tests.support.chromium import CHROMIUM
from tests.support.databases import migrate
from tests.support.logins import with_passwords
from tests.support.simulated import API_KEY

STEPS, PACKAGES_AT_ONCE, WEEKS = 450, 32, 5
PAGES = {
    "transactions": "/",
    "attention": "/attention",
    "events": "/events",
    "callbacks": "/callbacks",
    "handlers": "/handlers",
    "health": "/health",
    "reference": "/api/",
    "login": "/login",
}
DETAIL_PAGES = {
    "transaction": "/transactions/{package}",
    "event": "/events/{event}",
    "callback": "/callbacks/{callback}",
    "replay": "/handlers/replay",
}
README_SCREENSHOTS = {
    f"{name}-busy"
    for name in (
        "transactions-desktop-light",
        "transaction-desktop-light",
        "health-desktop-dark",
        "attention-phone-light",
    )
}
SIZES: dict[str, Any] = {"desktop": DESKTOP, "phone": PHONE}


def settings_in(folder: Path, **more: Any) -> Settings:
    """Settings of a service with a new, empty database."""
    url = f"sqlite:///{folder}/status.db"
    migrate(url)
    values = {"database_url": url, "spool_dir": folder / "spool", "onespan_callback_keys": f"production={KEY}"}
    return with_passwords(Settings(**values, **more))


def busy(folder: Path) -> LiveService:
    """A service with weeks of data."""
    onespan = {"onespan_url": "http://here", "onespan_api_key": SecretStr(API_KEY)}
    settings = settings_in(folder, **onespan)
    account = dataset.generate(settings, steps=STEPS, at_once=PACKAGES_AT_ONCE, weeks=WEEKS, until=datetime.now(UTC))
    return LiveService(settings, dataset.functions(), account)


def empty(folder: Path) -> LiveService:
    """A new service without callbacks."""
    return LiveService(settings_in(folder), dataset.functions(), Account(1, packages=0))


def addresses(live_service: LiveService) -> dict[str, str]:
    """The paths of all pages, by the name of the screenshot."""
    with live_service.service.database.read() as connection:
        runs = queries.dispatch_page(connection, DispatchFilter(state="parked"), limit=1, cursor=None).items
        callbacks = queries.callback_page(connection, CallbackFilter(), limit=4, cursor=None).items
    if not runs:
        return PAGES
    ids = {"package": runs[0].package_id, "event": runs[0].event_id, "callback": callbacks[-1].id}
    return PAGES | {name: address.format(**ids) for name, address in DETAIL_PAGES.items()}


def take(page: Page, file: Path) -> None:
    """Take one screenshot, at most three windows high."""
    if page.locator("#connection-status").count():
        page.locator("#connection-status", has_text="Live").wait_for()
    height = page.evaluate("document.documentElement.scrollHeight")
    window = page.viewport_size or DESKTOP
    clip = {"x": 0, "y": 0, "width": window["width"], "height": min(height, 3 * window["height"])}
    page.screenshot(path=file, full_page=True, clip=clip)
    if file.stem in README_SCREENSHOTS:
        page.screenshot(path=ROOT / "docs" / "screenshots" / f"{file.stem.removesuffix('-busy')}.png")


def take_all(browser: Browser, live_service: LiveService, folder: Path, *, suffix: str) -> None:
    """Take screenshots of every page in every size and color scheme."""
    for (size, viewport), scheme in product(SIZES.items(), ["light", "dark"]):
        context = browser.new_context(
            base_url=live_service.address, viewport=viewport, color_scheme=scheme, device_scale_factor=1, **LOCALE
        )
        page = context.new_page()
        page.goto("/login")
        take(page, folder / f"login-{size}-{scheme}-{suffix}.png")
        log_in(page, name="Mia Jansen")
        for name, address in addresses(live_service).items():
            if name != "login":
                page.goto(address)
                take(page, folder / f"{name}-{size}-{scheme}-{suffix}.png")
        context.close()


def main() -> None:
    """Take all screenshots of a new and of a busy service."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        for suffix, make in (("empty", empty), ("busy", busy)):
            data = Path(tempfile.mkdtemp())
            with make(data).running() as live_service:
                take_all(browser, live_service, folder, suffix=suffix)
            shutil.rmtree(data)
        browser.close()


if __name__ == "__main__":
    main()
