"""Pictures of every page: `python -m tests.support.screenshots FOLDER`, or `make screenshots`.

Of a service in use and of a fresh one, on a desk and on a phone, light and dark. People look at them; no test does.
Those of the README are made anew.
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
from tests.browser.conftest import ARGUMENTS, DESKTOP, HERE, PHONE, log_in
from tests.browser.live_service import API_KEY, Installation
from tests.conftest import KEY
from tests.support import dataset
from tests.support.chromium import CHROMIUM
from tests.support.databases import migrate
from tests.support.logins import with_passwords

STEPS, CROWD, WEEKS = 450, 32, 5
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
ONES = {
    "transaction": "/transactions/{package}",
    "event": "/events/{event}",
    "callback": "/callbacks/{callback}",
    "replay": "/handlers/replay",
}
BEST = {
    f"{one}-busy"
    for one in (
        "transactions-desktop-light",
        "transaction-desktop-light",
        "health-desktop-dark",
        "attention-phone-light",
    )
}  # these the README shows: the window alone
SIZES: dict[str, Any] = {"desktop": DESKTOP, "phone": PHONE}


def settings_in(folder: Path, **more: Any) -> Settings:
    """Of a service whose database is there, new and empty."""
    url = f"sqlite:///{folder}/status.db"
    migrate(url)
    told = {"database_url": url, "spool_dir": folder / "spool", "onespan_callback_keys": f"production={KEY}"}
    return with_passwords(Settings(**told, **more))


def in_use(folder: Path) -> Installation:
    """A service that has been used for weeks."""
    asking = {"onespan_url": "http://here", "onespan_api_key": SecretStr(API_KEY)}
    settings = settings_in(folder, **asking)
    account = dataset.live(settings, steps=STEPS, crowd=CROWD, weeks=WEEKS, until=datetime.now(UTC))
    return Installation(settings, dataset.functions(), account)


def fresh(folder: Path) -> Installation:
    """A service of which nobody has heard yet."""
    return Installation(settings_in(folder), dataset.functions(), Account(1, packages=0))


def addresses(installation: Installation) -> dict[str, str]:
    """Every page there is, by the name of its picture."""
    with installation.service.database.read() as connection:
        runs = queries.dispatch_page(connection, DispatchFilter(state="parked"), limit=1, cursor=None).items
        came = queries.callback_page(connection, CallbackFilter(), limit=4, cursor=None).items
    if not runs:
        return PAGES
    found = {"package": runs[0].package_id, "event": runs[0].event_id, "callback": came[-1].id}
    return PAGES | {name: address.format(**found) for name, address in ONES.items()}


def take(page: Page, file: Path) -> None:
    """One picture, of the window and of all below it that fits on a few more."""
    if page.locator("#pulse").count():
        page.locator("#pulse", has_text="Live").wait_for()
    height = page.evaluate("document.documentElement.scrollHeight")
    window = page.viewport_size or DESKTOP
    clip = {"x": 0, "y": 0, "width": window["width"], "height": min(height, 3 * window["height"])}
    page.screenshot(path=file, full_page=True, clip=clip)
    if file.stem in BEST:
        page.screenshot(path=ROOT / "docs" / "screenshots" / f"{file.stem.removesuffix('-dataset')}.png")


def picture_all(browser: Browser, installation: Installation, folder: Path, *, called: str) -> None:
    """Every page of it, in every size and scheme."""
    for (size, viewport), scheme in product(SIZES.items(), ["light", "dark"]):
        context = browser.new_context(
            base_url=installation.address, viewport=viewport, color_scheme=scheme, device_scale_factor=1, **HERE
        )
        page = context.new_page()
        page.goto("/login")
        take(page, folder / f"login-{size}-{scheme}-{called}.png")
        log_in(page, name="Mia Jansen")
        for name, address in addresses(installation).items():
            if name != "login":
                page.goto(address)
                take(page, folder / f"{name}-{size}-{scheme}-{called}.png")
        context.close()


def main() -> None:
    """Take them all."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for called, made in (("empty", fresh), ("busy", in_use)):
            data = Path(tempfile.mkdtemp())
            with made(data).running() as installation:
                picture_all(browser, installation, folder, called=called)
            shutil.rmtree(data)
        browser.close()


if __name__ == "__main__":
    main()
