"""The example page of docs/api.md, in a browser and with another origin than the API."""

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask, Response, request

from app import EXTENSION, create_app
from app.simulator.server import serve_in_thread
from config import ROOT, Settings
from tests.browser.conftest import IN_A_BROWSER
from tests.conftest import HOUR, NOON, TOKEN
from tests.support.chromium import CHROMIUM, CHROMIUM_MISSING, CHROMIUM_REQUIRED

pytestmark = [pytest.mark.skipif(CHROMIUM is None and not CHROMIUM_REQUIRED, reason=CHROMIUM_MISSING), *IN_A_BROWSER]


def page_of_the_docs(address: str) -> str:
    """The example page of docs/api.md with the address and token of the service, and a shorter wait."""
    (page,) = re.findall(r"^```html\n(.*?)^```", (ROOT / "docs/api.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(page.strip().splitlines()) <= 30
    return page.replace("http://127.0.0.1:8000", address).replace("the-token", TOKEN).replace("wait=20", "wait=2")


@pytest.fixture
def portal() -> Iterator[Flask]:
    """A web server at `portal.address` with one page, `portal.page`."""
    portal = Flask("portal")
    portal.get("/")(lambda: Response(portal.page, mimetype="text/html"))
    with serve_in_thread(portal, port=0) as portal.address:
        yield portal


@pytest.fixture
def app(settings: Settings, handlers, clock, portal) -> Iterator[Flask]:
    """A service that allows the portal as a CORS origin."""
    app = create_app(settings.model_copy(update={"cors_origins": (portal.address,)}), handlers=handlers, clock=clock)
    app.is_followed = threading.Event()

    @app.before_request
    def record() -> None:
        if request.path == "/api/changes" and request.args["after"] != "last":
            app.is_followed.set()

    yield app
    app.extensions[EXTENSION].database.close()


@pytest.fixture
def open_page(app, portal, tmp_path: Path) -> Callable[[], str]:
    """Open the example page, let 1.5 seconds of virtual time pass in it, and return its HTML."""

    def open_page() -> str:
        with serve_in_thread(app, port=0) as address:
            portal.page = page_of_the_docs(address)
            command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
            command += ["--virtual-time-budget=1500", "--dump-dom", portal.address]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    return open_page


def test_example_page_follows_open_packages(app, open_page, send_callback, work):
    """While the example page is open, a package that is sent appears and a package that is completed disappears."""

    def change_packages() -> None:
        assert app.is_followed.wait(60)
        send_callback("PACKAGE_COMPLETE", package="open 1")
        send_callback("PACKAGE_ACTIVATE", package="new")
        work()

    for number in range(3):
        send_callback("PACKAGE_ACTIVATE", package=f"open {number}", happened_at=NOON - HOUR)
    send_callback("PACKAGE_COMPLETE", package="done", happened_at=NOON - HOUR)
    work()
    meanwhile = threading.Thread(target=change_packages)
    meanwhile.start()
    shown = re.sub(r"<script.*", "", open_page(), flags=re.DOTALL)
    meanwhile.join()

    assert re.findall(r"<li>(.*?)</li>", shown) == [
        "open 2: 0 of 0 signed",
        "open 0: 0 of 0 signed",
        "new: 0 of 0 signed",
    ]
