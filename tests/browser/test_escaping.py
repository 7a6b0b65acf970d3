"""Whatever people and OneSpan write is shown as they wrote it, and does nothing to the page."""

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
from tests.browser.test_accessibility import FITS, WIDER
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
HIGHEST = 400  # pixels of a row
WHERE = (
    *ADDRESSES,
    "/transactions/pkg-1",
    "/handlers",
    "/handlers/replay?name={name}",
    "/health",
    "/events?package=pkg-1",
)
# Rows of a list lie below each other, and none is higher than some lines of text.
ROWS = """() => [...document.querySelectorAll("table.rows tbody tr")].map((one) => one.getBoundingClientRect())
  .map((it) => [Math.round(it.top), Math.round(it.bottom)])"""
BROUGHT_IN = "document.querySelectorAll('main script, main img, main [onfocus], main [onerror]').length"


def tidy(text: str) -> str:
    """As a page has it: space is one blank."""
    return " ".join(text.split())


@pytest.fixture(params=ODD.values(), ids=ODD)
def odd(request: pytest.FixtureRequest) -> str:
    """What somebody calls everything."""
    return request.param


@pytest.fixture
def packages(odd):
    """A lease of which every text is odd."""
    one = lease(name=odd)
    ada = replace(ADA, first_name=odd, last_name="", email=odd, company=odd)
    cleo = replace(CLEO, first_name=odd, last_name="", email=odd)
    roles = tuple(
        replace(role, person={ADA: ada, BEN: BEN, CLEO: cleo}[role.person], attachment=Attachment("x", odd))
        for role in one.roles
    )
    return [replace(one, sender=cleo, roles=roles, documents=(replace(one.documents[0], name=odd),))]


@pytest.fixture
def handlers(odd) -> Handlers:
    """A function that says it back."""
    handlers = Handlers()

    @handlers.on("*")
    def tell_the_crm(event, package):
        raise GiveUp(odd)

    return handlers


@pytest.fixture
def told(installation, odd) -> dict[str, object]:
    """Everything in which the text can come has come; the ids and the name by which one finds it."""
    name = f"PACKAGE_{odd}"[:200]
    for verb in ("upload", "cobrowse", "bounce", "decline"):
        installation.act(verb, role=0, text=odd)
    body = {"name": name, "packageId": "pkg-1", "sessionUser": odd[:200], "createdDate": onespan_time(utc_now())}
    assert installation.post(body | {"message": odd, "documentId": "doc-1", "more": {odd: [odd]}, odd: odd}) == 200
    assert installation.post(odd.encode()) == 400
    installation.settled()
    with installation.service.database.read() as connection:
        (event,) = queries.event_page(connection, EventFilter(name=name), limit=1, before=None).items
        (callback,) = queries.callback_page(connection, CallbackFilter(), limit=1, cursor=None).items
    return {"event": event.id, "callback": callback.id, "name": quote(name)}


def test_it_is_shown_as_text_on_every_page_and_breaks_no_layout(page, told):
    """No element and no attribute comes of it, none of it is worked out, and nothing is pushed aside."""
    page.on("dialog", lambda _: pytest.fail("a script of somebody else's ran"))
    for address in WHERE:
        assert page.goto(address.format(**told)).status == 200, page.url
        assert page.evaluate(BROUGHT_IN) == 0, page.url
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            assert page.evaluate(FITS) == [], page.url
            assert page.evaluate(WIDER) <= 0, page.url
            rows = page.evaluate(ROWS)
            assert all(below[0] >= above[1] - 1 for above, below in pairwise(rows)), page.url
            assert all(bottom - top < HIGHEST for top, bottom in rows), (page.url, rows)


def test_all_of_it_is_there_where_one_looks_closely(page, told, odd):
    """Its title, its names and its messages, as they were written."""
    seen = tidy(odd)
    page.goto("/transactions/pkg-1")
    assert page.title() == f"{seen} · OneSpan Sign receiver"
    for place in ("h1", ".whom", "th[scope=row]", "dl.facts dd"):
        assert seen in tidy(page.locator(place).first.text_content()), place
    assert f"“{seen}”" in tidy(page.locator(".timeline").text_content())

    page.goto(f"/events/{told['event']}")
    assert seen in tidy(page.locator("dl.facts").text_content())
    assert json.loads(page.locator(".code pre").text_content())["message"] == odd
    assert seen[:1000] in tidy(page.locator("details pre").text_content())  # of an error the beginning is kept

    page.goto("/")
    assert tidy(page.locator("a.title").text_content()) == seen


def test_it_can_be_looked_for(page, told, odd):
    """Typed, kept in the address, and shown in the field again."""
    words = odd[:60].strip()
    page.goto("/")
    page.get_by_label("Search").fill(words)

    expect(page).to_have_url(re.compile("q="))
    expect(page.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(page.get_by_label("Search")).to_have_value(words)
    expect(page.locator("tbody tr")).to_have_count(1)
