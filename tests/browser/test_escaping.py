"""Any text from people or OneSpan is shown as written, and cannot change the page."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from app import utc_now
from app.handling import GiveUp, Handlers
from app.simulator.packages import Attachment
from app.store import queries
from app.store.queries import CallbackFilter, EventFilter
from tests.browser.conftest import DESKTOP, IN_A_BROWSER, PHONE
from tests.browser.live_service import ADA, BEN, CLEO, lease
from tests.browser.test_accessibility import CUT_OFF, OVERFLOW_PX
from tests.conftest import onespan_time

pytestmark = IN_A_BROWSER

ODD = {
    "script": "</script></title></pre></textarea><script>alert(1)</script><img src=x onerror=alert(2)>",
    "attribute": '"\' onfocus=alert(3) autofocus x="{{7*7}}${7*7}#{7*7}<%= 7*7 %>{% raw %}&lt;b&gt;&amp;',
    "directions": "\u202edlrow\u202c \u2067abc \u200f\u200b\u200d\ufeff\u2066 \u05e9\u05dc\u05d5\u05dd e"
    + "\u0301" * 9,
    "long": "W" * 10_000,
    "long words": "Lease of the mill " * 450 + "and more",
}
ADDRESSES = ("/", "/attention", "/events", "/events/{event}", "/callbacks", "/callbacks/{callback}", "/callbacks/1")
MAX_ROW_PX = 400
ALL_ADDRESSES = (
    *ADDRESSES,
    "/transactions/pkg-1",
    "/handlers",
    "/handlers/replay?name={name}",
    "/health",
    "/events?package=pkg-1",
)
# A script that returns the top and bottom of each row of a list, to find rows that overlap or are too high.
ROWS = """() => [...document.querySelectorAll("table.rows tbody tr")].map((row) => row.getBoundingClientRect())
  .map((box) => [Math.round(box.top), Math.round(box.bottom)])"""
INJECTED = "document.querySelectorAll('main script, main img, main [onfocus], main [onerror]').length"


def tidy(text: str) -> str:
    """The text with each run of white space as one blank, as a page shows it."""
    return " ".join(text.split())


@pytest.fixture(params=ODD.values(), ids=ODD)
def odd(request: pytest.FixtureRequest) -> str:
    """An odd text, such as a script or a very long word, that a test puts into every field."""
    return request.param


@pytest.fixture
def packages(odd):
    """The packages in OneSpan: a lease with the odd text in every field."""
    package = lease(name=odd)
    ada = replace(ADA, first_name=odd, last_name="", email=odd, company=odd)
    cleo = replace(CLEO, first_name=odd, last_name="", email=odd)
    roles = tuple(
        replace(role, person={ADA: ada, BEN: BEN, CLEO: cleo}[role.person], attachments=(Attachment("x", odd),))
        for role in package.roles
    )
    return [replace(package, sender=cleo, roles=roles, documents=(replace(package.documents[0], name=odd),))]


@pytest.fixture
def handlers(odd) -> Handlers:
    """A registry with a handler whose error is the odd text."""
    handlers = Handlers()

    @handlers.on("*")
    def tell_the_crm(event, package):
        raise GiveUp(odd)

    return handlers


@pytest.fixture
def odd_ids(live_service, odd) -> dict[str, object]:
    """Send callbacks with the odd text in every field. Returns their ids and the event name that finds them."""
    name = f"PACKAGE_{odd}"[:200]
    for verb in ("upload", "cobrowse", "bounce", "decline"):
        live_service.act(verb, role=0, text=odd)
    body = {"name": name, "packageId": "pkg-1", "sessionUser": odd[:200], "createdDate": onespan_time(utc_now())}
    assert live_service.post(body | {"message": odd, "documentId": "doc-1", "more": {odd: [odd]}, odd: odd}) == 200
    assert live_service.post(odd.encode()) == 400
    live_service.wait_until_idle()
    with live_service.service.database.read() as connection:
        (event,) = queries.event_page(connection, EventFilter(name=name), limit=1, before=None).items
        (callback,) = queries.callback_page(connection, CallbackFilter(), limit=1, cursor=None).items
    return {"event": event.id, "callback": callback.id, "name": quote(name)}


def test_odd_text_is_escaped_and_keeps_the_layout(page, odd_ids):
    """An odd text adds no element or attribute to a page, runs no script and moves nothing out of place."""
    page.on("dialog", lambda _: pytest.fail("an injected script ran"))
    for address in ALL_ADDRESSES:
        assert page.goto(address.format(**odd_ids)).status == 200, page.url
        assert page.evaluate(INJECTED) == 0, page.url
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            assert page.evaluate(CUT_OFF) == [], page.url
            assert page.evaluate(OVERFLOW_PX) <= 0, page.url
            rows = page.evaluate(ROWS)
            assert all(below[0] >= above[1] - 1 for above, below in pairwise(rows)), page.url
            assert all(bottom - top < MAX_ROW_PX for top, bottom in rows), (page.url, rows)


def test_odd_text_is_complete_on_detail_pages(page, odd_ids, odd):
    """The titles, names and messages on detail pages show an odd text completely."""
    text = tidy(odd)
    page.goto("/transactions/pkg-1")
    assert page.title() == f"{text} · OneSpan Sign receiver"
    for place in ("h1", ".signer-name", "th[scope=row]", "dl.details dd"):
        assert text in tidy(page.locator(place).first.text_content()), place
    assert f"“{text}”" in tidy(page.locator(".timeline").text_content())

    page.goto(f"/events/{odd_ids['event']}")
    assert text in tidy(page.locator("dl.details").text_content())
    assert json.loads(page.locator(".code pre").text_content())["message"] == odd
    assert text[:1000] in tidy(page.locator("details pre").text_content())  # only the beginning of an error is stored

    page.goto("/")
    assert tidy(page.locator("a.title").text_content()) == text


def test_odd_text_can_be_searched(page, odd_ids, odd):
    """A search for an odd text is part of the URL and fills the search field after a reload."""
    words = odd[:60].strip()
    page.goto("/")
    page.get_by_label("Search").fill(words)

    expect(page).to_have_url(re.compile("q="))
    expect(page.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(page.get_by_label("Search")).to_have_value(words)
    expect(page.locator("tbody tr")).to_have_count(1)
