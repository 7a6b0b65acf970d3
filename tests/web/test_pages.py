"""The pages, as they come from the server: what a browser does with them is told in its own tests."""

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from importlib import import_module
from itertools import chain
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import QueryTimeout
from app.handling import GiveUp, Handlers, Package
from app.onespan.auth import ApiKey, Connection
from app.web.dashboard import export, transactions
from config import Settings
from tests.conftest import ADA, BEN, HOUR, NOON
from tests.support.logins import ACTING, LOOKING, log_in, token_in, with_passwords

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
MANY = 120  # packages, where there have to be many


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the dashboard open."""
    return with_passwords(settings)


@pytest.fixture
def visit(client: FlaskClient) -> Callable[..., Any]:
    """Log in, and open pages; each must be there."""
    assert log_in(client, name="Mia").status_code == 303

    def visit(path: str, **headers: str) -> Any:
        answer = client.get(path, headers=headers)
        assert answer.status_code in (200, 304), answer.text
        return answer

    return visit


@pytest.fixture
def do(client: FlaskClient, visit) -> Callable[..., Any]:
    """Send the form of a page of ours."""

    def do(path: str, **members: Any) -> Any:
        token = token_in(client.get("/").text)
        return client.post(path, data={"csrf_token": token, **members})

    return do


@pytest.fixture
def crm(handlers: Handlers) -> Handlers:
    """A handler that gives up on whatever is complete, until it is mended."""

    @handlers.on("PACKAGE_COMPLETE")
    def close_deal(event, package) -> None:
        if not handlers.mended:  # type: ignore[attr-defined]
            raise GiveUp("the CRM knows no deal for this package")

    handlers.mended = False  # type: ignore[attr-defined]
    return handlers


def rows(answer: Any) -> list[str]:
    """The ids in the list of a page, in their order."""
    return [unescape(one) for one in re.findall(r'<tr data-key="([^"]*)"', answer.text)]


def words(answer: Any) -> str:
    """What one reads on a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def sign(tell: Any, package: str, *, at: Any = NOON) -> None:
    """Ada's package, from its making to its end."""
    for number, name in enumerate(("PACKAGE_CREATE", "PACKAGE_ACTIVATE", "SIGNER_COMPLETE", "PACKAGE_COMPLETE")):
        tell(name, package=package, happened_at=at + number * HOUR, sessionUser=ADA)


def test_a_search_that_takes_too_long_says_so_and_can_be_tried_again(visit, monkeypatch):
    """It is not kept as if it were the answer."""

    def stopped(*_: Any, **__: Any) -> Any:
        raise QueryTimeout

    module = import_module("app.store.queries.packages")
    with monkeypatch.context() as patch:
        patch.setattr(module, "page_of_packages", stopped)
        page = visit("/?q=ab")

    assert "The search took too long" in page.text
    again = visit("/?q=ab", **{"If-None-Match": page.headers["ETag"]})
    assert again.status_code == 200
    assert "The search took too long" not in again.text


def test_a_list_begins_with_what_changed_last(visit, tell, work):
    """And says how far the signing is."""
    sign(tell, "older", at=NOON - DAY)
    sign(tell, "newer")
    work()

    page = visit("/")

    assert rows(page) == ["newer", "older"]
    assert "Completed 2" in words(page)
    assert "1 of 1 signed" in words(page)


def test_a_count_is_a_filter(visit, tell, work):
    """Templates, trash and what was deleted stand elsewhere."""
    sign(tell, "done")
    tell("PACKAGE_CREATE", package="draft")
    tell("TEMPLATE_CREATE", package="template")
    sign(tell, "thrown away")
    tell("PACKAGE_TRASH", package="thrown away", happened_at=NOON + 9 * HOUR)
    sign(tell, "gone")
    tell("PACKAGE_DELETE", package="gone", happened_at=NOON + 9 * HOUR)
    work()

    assert sorted(rows(visit("/"))) == ["done", "draft"]
    assert rows(visit("/?status=DRAFT")) == ["draft"]
    assert rows(visit("/?view=templates")) == ["template"]
    assert rows(visit("/?view=trash")) == ["thrown away"]
    assert rows(visit("/?view=deleted")) == ["gone"]
    assert "All 2 Draft 1 Completed 1" in words(visit("/"))


def test_an_address_holds_the_whole_view(visit, tell, work):
    """All its filters at once, and each link of the page changes one of them."""
    for number in range(3):
        sign(tell, f"deal-{number}", at=NOON - number * DAY)
    tell("PACKAGE_DECLINE", package="deal-1", happened_at=NOON + DAY, sessionUser=BEN, message="too dear")
    work()

    page = visit("/?q=DEAL&attention=DECLINED&since=2026-02-28&until=2026-03-02&sort=created_at")

    assert rows(page) == ["deal-1"]
    for link in ("status=DECLINED", "sort=-created_at", "q=DEAL"):
        assert link in unescape(page.text)
    assert rows(visit("/?since=2026-03-02")) == ["deal-0"]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("", ["old", "new"]),
        ("since=2026-02-01", ["new", "old"]),  # the newest created first
        ("until=2026-03-31", ["new", "old"]),
        ("since=2026-02-01&sort=-updated_at", ["old", "new"]),
    ],
)
def test_transactions_of_some_days_are_in_the_order_of_those_days(visit, tell, work, asked, shown):
    """Unless another one is asked for. The column says so."""
    tell("PACKAGE_CREATE", package="old", happened_at=NOON - DAY)
    tell("PACKAGE_CREATE", package="new", happened_at=NOON)
    tell("PACKAGE_ACTIVATE", package="old", happened_at=NOON + HOUR)
    work()

    page = visit(f"/?{asked}")

    assert rows(page) == shown
    column = "Created" if shown == ["new", "old"] else "Last activity"
    assert re.search(rf'aria-sort="descending"><a [^>]*>{column}', page.text)


@pytest.mark.parametrize("sort", ["name", "-created_at", "updated_at", "-due_at", "status_at"])
def test_pages_lead_on_and_back(visit, tell, work, sort):
    """Nobody is shown twice, and nobody left out."""
    for number in range(MANY):
        tell("PACKAGE_CREATE", package=f"p{number:03}", happened_at=NOON - DAY + timedelta(minutes=number))
    work()

    shown, way = [], f"/?sort={sort}"
    for _ in range(3):
        page = visit(way)
        shown.append(rows(page))
        onward = re.search(r'rel="next" href="([^"]+)"', page.text)
        way = f"/{unescape(onward[1])}" if onward else ""
    back = re.search(r'rel="prev" href="([^"]+)"', page.text)

    assert not way
    assert sorted(chain(*shown)) == [f"p{number:03}" for number in range(MANY)]
    assert back
    assert rows(visit(f"/{unescape(back[1])}")) == shown[1]


@pytest.mark.own_database  # an export that was not read to its end keeps its place
def test_csv_has_the_whole_view(visit, tell, work):
    """However many pages that are, sorted by id; a spreadsheet takes nothing in it for a formula."""
    for number in range(MANY * 2):
        tell("PACKAGE_CREATE", package=f"p{number:03}", happened_at=NOON - DAY + timedelta(minutes=number))
    tell("PACKAGE_CREATE", package='=HYPERLINK("http://evil.example")', happened_at=NOON - 2 * DAY)
    sign(tell, "done")
    work()

    answer = visit("/transactions.csv?status=DRAFT&sort=created_at")
    table = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert [one["id"] for one in table] == [
        """'=HYPERLINK("http://evil.example")""",
        *(f"p{number:03}" for number in range(MANY * 2)),
    ]
    assert table[1]["created_at"] == "2026-03-01T12:00:00Z"


@pytest.mark.own_database  # an export that was not read to its end keeps its place
@pytest.mark.parametrize("sort", ["-updated_at", "updated_at", "status_at"])
def test_csv_has_each_once_though_one_changes_while_it_is_written(client, visit, tell, work, monkeypatch, sort):  # noqa: PLR0917  (pytest passes them by name)
    """What is not yet written, and what is: neither is left out, and neither comes twice."""
    monkeypatch.setattr(transactions, "CHUNK", 2)
    ids = [f"p{number}" for number in range(6)]
    for number, package in enumerate(ids):
        tell("PACKAGE_ACTIVATE", package=package, happened_at=NOON - DAY + number * MINUTE)
    work()

    with client.get(f"/transactions.csv?sort={sort}", buffered=False) as answer:
        pieces = iter(answer.response)
        written = [next(pieces), next(pieces)]  # the first line, and two
        for package in ids:
            tell("PACKAGE_COMPLETE", package=package, happened_at=NOON)
            work()
        written += pieces

    table = csv.DictReader(io.StringIO(b"".join(written).decode("utf-8-sig")))
    assert [one["id"] for one in table] == ids


OPERATORS = "=+-@" + "".join(chr(ord(one) + 0xFEE0) for one in "=+-@")  # and of full width


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@given(name=st.text(f"{OPERATORS};,\t\r\n\"' x", max_size=12))
@example(name="x;=cmd|'/C calc'!A0")
@example(name='x;"=1+1')
@example(name="x\n\n=1+1")
@example(name=" =1+1")
def test_no_cell_is_a_formula(separator, name):
    """Whichever separator a spreadsheet takes: in many countries it is a semicolon."""
    text = io.StringIO(export.lines([Package("pkg-1", name=name)]), newline="")

    cells = [cell for row in csv.reader(text, delimiter=separator) for cell in row]

    assert [one for one in cells if one.lstrip().startswith(tuple(OPERATORS))] == []


def test_one_transaction_says_how_we_know(visit, tell, work):
    """Each thing that happened leads to the callback that told it."""
    sign(tell, "pkg-1")
    tell("PACKAGE_COMPLETE", happened_at=NOON + 3 * HOUR, sessionUser=ADA)  # once more
    work()

    page = visit("/transactions/pkg-1")

    assert "Completed" in words(page)
    assert "told by a callback (2 times)" in words(page)
    assert re.findall(r'class="what"><bdi[^>]*>([^<]*)', page.text) == [
        "Completed",
        f"{ADA} has signed everything",
        "Sent to its signers",
        "Created",
    ]
    assert '"PACKAGE_ACTIVATE"' in unescape(visit("/callbacks/2").text)


def test_what_needs_a_hand_stands_there_until_it_is_solved(visit, tell, work):
    """With what the sender can do."""
    tell("PACKAGE_ACTIVATE")
    tell("SIGNER_LOCKED", happened_at=NOON + HOUR, sessionUser=ADA)
    work()

    page = visit("/attention")
    tell("SIGNER_COMPLETE", happened_at=NOON + 2 * HOUR, sessionUser=ADA)
    work()

    assert "Locked out 1" in words(page)
    assert "unlock them in OneSpan" in words(page)
    assert "Nothing needs a hand" in words(visit("/attention"))


def test_all_of_one_reason_are_shown_from_the_first_on(visit, tell, work):
    """Where there are more than fit among the others."""
    everywhere = [f"pkg-{number:02}" for number in range(12)]
    for minute, package in enumerate(everywhere):
        tell("EMAIL_BOUNCE", package=package, happened_at=NOON + minute * MINUTE, sessionUser=ADA)
    work()
    page = visit("/attention")
    assert rows(page) == [f"EMAIL_BOUNCE-{package}-{ADA}-" for package in everywhere[:1:-1]]

    (all_of_them,) = re.findall(r'href="([^"]+)">Show all<', page.text)

    assert rows(visit(unescape(all_of_them))) == [f"EMAIL_BOUNCE-{package}-{ADA}-" for package in everywhere[::-1]]


def test_a_function_that_gave_up_leads_to_its_run(visit, tell, work, crm):
    """From where it needs a hand."""
    for package in ("pkg-1", "pkg-2"):
        tell("PACKAGE_COMPLETE", package=package)
    work()

    places = re.findall(r'href="(/handlers\?[^"]+)"><code>close_deal<', visit("/attention").text)

    page = visit(unescape(places[0]))
    assert "the CRM knows no deal for this package" in words(page)
    assert re.findall(r'href="/transactions/([^"]+)"', page.text) == ["pkg-2"]


def test_a_function_that_gives_up_again_is_seen_at_once(visit, tell, work, crm, service, clock):  # noqa: PLR0917  (pytest passes them by name)
    """Though it changes nothing of the transaction."""
    tell("PACKAGE_COMPLETE")
    work()
    tell("PACKAGE_COMPLETE", happened_at=NOON + HOUR)
    service.digest.turn()
    page = visit("/attention")
    clock.forward(timedelta(seconds=1))
    work()
    again = visit("/attention", **{"If-None-Match": page.headers["ETag"]})

    assert [len(rows(one)) for one in (page, again)] == [1, 2]


def test_a_parked_run_is_replayed(visit, do, tell, work, crm):
    """And the history says by whom."""
    sign(tell, "pkg-1")
    work()
    parked = visit("/handlers")
    crm.mended = True

    answer = do("/dispatches/1/replay", back="/transactions/pkg-1")
    work()

    assert "the CRM knows no deal" in words(parked)
    assert (answer.status_code, answer.location) == (303, "/transactions/pkg-1")
    assert "Nothing is parked" in words(visit("/handlers"))
    assert "Mia asked for it" in words(visit("/transactions/pkg-1"))


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_a_replay_leads_nowhere_else(do, tell, work, crm, back):
    """Whatever the form says."""
    sign(tell, "pkg-1")
    work()

    assert do("/dispatches/1/replay", back=back).location == "/handlers"


def test_many_are_replayed_once_their_number_was_seen(visit, do, tell, work, crm):
    """Where there are more by now nothing is done."""
    for number in range(3):
        sign(tell, f"pkg-{number}")
    work()
    asked = visit("/handlers/replay?handler=close_deal")
    sign(tell, "pkg-9")
    work()

    refused = do("/handlers/replay", handler="close_deal", expect=3)
    done = do("/handlers/replay", handler="close_deal", expect=4)

    assert "Replay 3 parked runs?" in words(asked)
    assert refused.status_code == 409
    assert done.status_code == 303
    assert "4 runs are due again." in words(visit("/handlers?state=due"))


def test_unknown_and_unreadable_callbacks_are_found(visit, post, tell, work):
    """Raw, beside what was understood."""
    tell("PACKAGE_HATCHED")
    post(b'{"name": "PACKAGE_CREATE"')
    work()

    assert rows(visit("/callbacks?state=unreadable")) == ["2"]
    assert rows(visit("/callbacks?state=unknown")) == ["1"]
    assert "It causes nothing" in words(visit("/callbacks/2"))
    assert "unknown to this version" in words(visit("/events/1"))


def test_half_of_a_surrogate_pair_is_shown_as_it_came(visit, tell, work):
    """No page can hold the character; both pages that show the body can hold its escape."""
    tell("PACKAGE_CREATE", message="half \ud83d of 😀")
    work()

    for path in ("/callbacks/1", "/events/1"):
        assert r'"message": "half \ud83d of 😀"' in unescape(visit(path).text)


def test_a_fresh_service_takes_a_test_callback(visit, do, work, read):
    """It goes the whole way, and makes no transaction; who sent it stands in it."""
    empty = visit("/")

    answer = do("/test-callback")
    work()
    (sent,) = read("/api/callbacks")["items"]

    assert "Send a test callback" in words(empty)
    assert answer.location == "/events"
    assert "RECEIVER_TEST" in words(visit("/events"))
    assert sent["key"] == "test callback"
    assert '"sessionUser": "Mia"' in sent["body"]


def test_who_asked_onespan_stands_in_the_timeline(visit, do, tell, work, handlers):
    """Whether it showed anything new or not."""
    handlers.onespan.connect(Connection("http://127.0.0.1:9", ApiKey("key")))
    tell("PACKAGE_CREATE")
    work()

    assert do("/transactions/pkg-1/read").location == "/transactions/pkg-1"

    assert "Mia asked for it" in words(visit("/transactions/pkg-1"))
    assert "to be read from OneSpan" in words(visit("/transactions/pkg-1"))


def test_health_says_what_flows_and_who_is_there(visit, service, tell, work):
    """From the journal to the processes."""
    sign(tell, "pkg-1")
    work()
    service.presence.beat()

    page = words(visit("/health"))

    assert "4 in all" in page
    assert "Callbacks told 100.00 %" in page
    assert service.presence.name in page
    assert "Nothing is asked of OneSpan" in page


def test_a_page_that_did_not_change_is_not_sent_again(client, visit, tell, work, clock):
    """By its ETag, whatever the page; a callback makes it another."""
    clock.now = datetime.now(UTC)  # a clock that is wrong is worth a note, which counts the seconds
    log_in(client)
    tell("PACKAGE_CREATE")
    work()
    places = ("/", "/attention", "/transactions/pkg-1", "/events", "/callbacks", "/handlers", "/health")
    seen = {place: visit(place, **{"X-Live": "1"}).headers["ETag"] for place in places}

    for place, etag in seen.items():
        again = visit(place, **{"X-Live": "1", "If-None-Match": etag})
        assert (again.status_code, again.text) == (304, ""), place
    tell("PACKAGE_ACTIVATE", happened_at=NOON + HOUR)
    work()

    del seen["/handlers"]  # where nobody listens nothing is owed
    for place, etag in seen.items():
        assert visit(place, **{"X-Live": "1", "If-None-Match": etag}).status_code == 200, place


def test_who_may_look_sees_no_button_and_may_do_nothing(client, tell, work, crm):
    """Not even by hand."""
    sign(tell, "pkg-1")
    work()
    log_in(client, LOOKING)

    for place in ("/", "/transactions/pkg-1", "/handlers", "/health", "/events/4"):
        page = client.get(place)
        assert page.status_code == 200
        assert re.findall(r'<form method="post" action="([^"]+)"', page.text) == ["/logout"], place
    token = token_in(client.get("/").text)
    for place in ("/dispatches/1/replay", "/handlers/replay", "/reconciles", "/test-callback", "/transactions/x/read"):
        assert client.post(place, data={"csrf_token": token}).status_code == 403, place


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?sort=colour", 400),
        ("/?stauts=SENT", 400),
        ("/?since=yesterday", 400),
        ("/?cursor=nonsense", 400),
        ("/transactions/nobody", 404),
        ("/transactions/a%00b", 404),
        ("/events/99999999999999999999999", 404),
        ("/callbacks/0", 404),
    ],
)
def test_an_address_that_leads_nowhere_says_so(client, visit, path, status):
    """In words, and without what is inside."""
    answer = client.get(path)

    assert answer.status_code == status
    assert answer.mimetype == "text/html"
    assert "Traceback" not in answer.text
    assert re.findall(r'<a href="([^"]+)"', answer.text)[:2] == ["/", "/attention"]  # the way on


@pytest.mark.own_database  # an export that was not read to its end keeps its place
def test_two_exports_are_written_at_once(client, visit):
    """Each has a thread for as long as its reader takes; the next waits until one is done."""
    first, second = visit("/transactions.csv"), visit("/transactions.csv")
    third = client.get("/transactions.csv")
    first.close()

    assert (third.status_code, third.headers["Retry-After"]) == (503, "10")
    assert "Other exports are being written" in third.text
    assert [one.text.count("\r\n") for one in (second, visit("/transactions.csv"))] == [1, 1]


@pytest.mark.own_database  # an export that was not read to its end keeps its place
@pytest.mark.parametrize("path", ["/", "/transactions.csv"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_a_day_must_be_one_of_our_times(client, visit, path, name):
    """Nothing else is looked for, nor is a file begun; the fields of the form say so, too."""
    for day, what in BOUNDS:
        answer = client.get(f"{path}?{name}={day}")
        assert (answer.status_code, answer.mimetype) == (400, "text/html")
        assert f"{name}: Input should be {what}" in answer.text

    for day in ("", "1970-01-01", "2999-12-31"):
        visit(f"{path}?{name}={day}").close()
    assert f'name="{name}" value="" min="1970-01-01" max="2999-12-31"' in visit("/").text


BOUNDS = (
    ("0001-01-01", "greater than or equal to 1970-01-01"),
    ("1969-12-31", "greater than or equal to 1970-01-01"),
    ("3000-01-01", "less than or equal to 2999-12-31"),
    ("9999-12-31", "less than or equal to 2999-12-31"),
    ("20266-01-01", "a valid date"),
)


def test_asking_needs_a_onespan(visit, do, tell, work):
    """Without one nothing offers it, and nothing breaks."""
    tell("PACKAGE_CREATE")
    work()

    assert "Ask OneSpan now" not in words(visit("/transactions/pkg-1"))
    assert do("/transactions/pkg-1/read").status_code == 409
    assert do("/reconciles").status_code == 409


def test_a_password_alone_shows_no_page(client):
    """One has to log in with it."""
    answer = client.get("/transactions/x?password=" + ACTING)

    assert answer.status_code == 302
    assert answer.location.startswith("/login?next=")
