"""Every page, as axe sees it: light and dark, on a desk and on a phone; with much on it and with nothing."""

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
from tests.browser.conftest import DESKTOP, HERE, IN_A_BROWSER, PHONE, Complaints, log_in
from tests.browser.live_service import API_KEY, Installation
from tests.conftest import KEY
from tests.support import dataset
from tests.support.logins import with_passwords

pytestmark = IN_A_BROWSER

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOURS = ("color-contrast", "link-in-text-block")
LISTS = ("/", "/attention", "/events", "/callbacks", "/handlers", "/health", "/handlers/replay", "/api/", "/login")
ONES = ("/transactions/{package}", "/events/{event}", "/callbacks/{callback}")
WIDER = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
# Of what the reference says of every request in the same way, some is enough.
THIN = "document.querySelectorAll('.reference article:nth-of-type(n+2)').forEach((one) => one.remove())"
# A link in the bar or in a list of filters may be cut off by its scrolling row: one scrolls it.
FITS = """() => {
  const within = (one) => one.closest(".scroll, .rooms, .shelves, pre, .unseen, .skip");
  const seen = [...document.querySelectorAll("main *, header *")].filter((one) => one.checkVisibility());
  const wide = seen.filter((one) => !within(one) && one.getBoundingClientRect().right > innerWidth + 1);
  return wide.map((one) => one.outerHTML.slice(0, 120));
}"""


@pytest.fixture(scope="session")
def used(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One that has been used for weeks. Tests only look at it."""
    folder = tmp_path_factory.mktemp("used")
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
    account = dataset.live(settings, steps=60, crowd=12, weeks=2, until=datetime.now(UTC))
    with Installation(settings, dataset.functions(), account).running() as used:
        assert len(addresses(used)) == len(LISTS) + len(ONES)
        yield used


@pytest.fixture(scope="session")
def fresh(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One of which nobody has heard, and which asks nobody."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / "status.db").write_bytes(migrated_sqlite.read_bytes())
    settings = with_passwords(
        Settings(database_url=f"sqlite:///{folder}/status.db", onespan_callback_keys=f"production={KEY}")
    )
    with Installation(settings, dataset.functions(), dataset.Account(1, packages=0)).running() as fresh:
        yield fresh


def addresses(installation: Installation) -> list[str]:
    """Every page there is."""
    with installation.service.database.read() as connection:
        runs = queries.dispatch_page(connection, DispatchFilter(state="parked"), limit=1, cursor=None).items
        came = queries.callback_page(connection, CallbackFilter(), limit=1, cursor=None).items
    ones = [
        address.format(package=run.package_id, event=run.event_id, callback=callback.id)
        for run, callback in zip(runs, came, strict=False)
        for address in ONES
    ]
    return [*LISTS, *ones]


def look(browser: Browser, installation: Installation, complaints: Complaints, **options: Any) -> Iterator[Page]:
    """Each page in turn; `/login` as a stranger sees it."""
    for logged_in in (True, False):
        context = browser.new_context(base_url=installation.address, **HERE, **options)
        context.on("page", complaints.hear)
        page = context.new_page()
        if logged_in:
            log_in(page)
        for address in addresses(installation):
            if (address == "/login") != logged_in:
                page.goto(address)
                yield page
        context.close()


@pytest.mark.parametrize(
    ("which", "size"), [("used", DESKTOP), ("used", PHONE), ("fresh", DESKTOP)], ids=["desk", "phone", "fresh"]
)
def test_axe_finds_nothing(browser, request, complaints, which, size):
    """WCAG 2.2 AA and what is good practice besides, on every page; in the dark all that differs are colours."""
    found = {}
    for page in look(browser, request.getfixturevalue(which), complaints, viewport=size):
        page.evaluate(THIN)
        for scheme, rules in (("light", RULES), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)
            seen = Axe().run(page, options={"runOnly": list(rules), "resultTypes": ["violations"]})
            for one in seen.response["violations"]:
                found[page.url, scheme, one["id"]] = [node["html"][:150] for node in one["nodes"][:3]]

    assert found == {}


def test_no_page_is_wider_than_the_window(browser, used, complaints):
    """From a small phone to a wide screen. Tables may scroll in their own place; nothing else is cut off."""
    for page in look(browser, used, complaints):
        for width in (320, 390, 768, 1024, 2560):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate(WIDER) <= 0, (page.url, width)
            assert page.evaluate(FITS) == [], (page.url, width)
