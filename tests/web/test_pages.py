"""Tests of the pages' HTML; the tests in tests/browser check what browsers do with the HTML."""

import csv
import io
import json
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
from app.onespan.auth import ApiConnection, ApiKey
from app.store import journal
from app.store.journal import Entry
from app.web.dashboard import export, transactions
from app.web.dashboard.transactions import COLUMNS
from config import Settings
from tests.conftest import ADA, BEN, HOUR, NOON
from tests.support.logins import PASSWORD, VIEW_ONLY_PASSWORD, log_in, token_in, with_passwords

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
MANY = 120  # number of packages in a long list


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with both passwords of the dashboard."""
    return with_passwords(settings)


@pytest.fixture
def visit(client: FlaskClient) -> Callable[..., Any]:
    """Log in as Mia. Returns a function that opens a page and asserts that its status is 200 or 304."""
    assert log_in(client, name="Mia").status_code == 303

    def visit(path: str, **headers: str) -> Any:
        answer = client.get(path, headers=headers)
        assert answer.status_code in (200, 304), answer.text
        return answer

    return visit


@pytest.fixture
def submit(client: FlaskClient, visit) -> Callable[..., Any]:
    """Send a form as a page does, with a valid CSRF token."""

    def submit(path: str, **members: Any) -> Any:
        token = token_in(client.get("/").text)
        return client.post(path, data={"csrf_token": token, **members})

    return submit


@pytest.fixture
def crm(handlers: Handlers) -> Handlers:
    """A handler that gives up on completed packages until it is fixed."""

    @handlers.on("PACKAGE_COMPLETE")
    def close_deal(event, package) -> None:
        if not handlers.is_fixed:  # type: ignore[attr-defined]
            raise GiveUp("the CRM knows no deal for this package")

    handlers.is_fixed = False  # type: ignore[attr-defined]
    return handlers


def rows(answer: Any) -> list[str]:
    """The keys of the table rows on a page, in order."""
    return [unescape(key) for key in re.findall(r'<tr data-key="([^"]*)"', answer.text)]


def text_of(answer: Any) -> str:
    """The visible text of a page."""
    text = re.sub(r"</?(?:a|b|bdi|code|span|strong|time)\b[^>]*>", "", answer.text)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def sign(send_callback: Any, package: str, *, at: Any = NOON) -> None:
    """Send the callbacks of a package that Ada signs, from creation to completion."""
    for number, name in enumerate(("PACKAGE_CREATE", "PACKAGE_ACTIVATE", "SIGNER_COMPLETE", "PACKAGE_COMPLETE")):
        send_callback(name, package=package, happened_at=at + number * HOUR, sessionUser=ADA)


def test_slow_search_can_be_tried_again(visit, monkeypatch):
    """A search that takes too long shows a message, and its page is not reused for the next request."""

    def stopped(*_: Any, **__: Any) -> Any:
        raise QueryTimeout

    module = import_module("app.store.queries.packages")
    with monkeypatch.context() as patch:
        patch.setattr(module, "package_page_in_transaction", stopped)
        page = visit("/?q=ab")

    assert "The search took too long" in page.text
    again = visit("/?q=ab", **{"If-None-Match": page.headers["ETag"]})
    assert again.status_code == 200
    assert "The search took too long" not in again.text


def test_list_can_be_sorted_by_each_sortable_column(visit):
    """The transaction list can be sorted in both directions by each column that has a `sort` key."""
    keys = [column.sort for column in COLUMNS if column.sort]

    assert len(keys) == 5
    assert {visit(f"/?sort={sign}{key}").status_code for key in keys for sign in ("", "-")} == {200}


def test_list_begins_with_the_last_activity(visit, send_callback, work):
    """The transaction list begins with the last activity and shows the progress of signing."""
    sign(send_callback, "older", at=NOON - DAY)
    sign(send_callback, "newer")
    work()

    page = visit("/")

    assert rows(page) == ["newer", "older"]
    assert "Completed 2" in text_of(page)
    assert "1 of 1 signed" in text_of(page)


def test_status_count_is_a_filter(visit, send_callback, work):
    """Each status count filters the list; templates, trash and deleted transactions have their own views."""
    sign(send_callback, "done")
    send_callback("PACKAGE_CREATE", package="draft")
    send_callback("TEMPLATE_CREATE", package="template")
    sign(send_callback, "thrown away")
    send_callback("PACKAGE_TRASH", package="thrown away", happened_at=NOON + 9 * HOUR)
    sign(send_callback, "gone")
    send_callback("PACKAGE_DELETE", package="gone", happened_at=NOON + 9 * HOUR)
    work()

    assert sorted(rows(visit("/"))) == ["done", "draft"]
    assert rows(visit("/?status=DRAFT")) == ["draft"]
    assert rows(visit("/?view=templates")) == ["template"]
    assert rows(visit("/?view=trash")) == ["thrown away"]
    assert rows(visit("/?view=deleted")) == ["gone"]
    assert "All 2 Draft 1 Completed 1" in text_of(visit("/"))


def test_url_holds_all_filters(visit, send_callback, work):
    """The URL of the transaction list holds all filters, and each link of the page changes one filter."""
    for number in range(3):
        sign(send_callback, f"deal-{number}", at=NOON - number * DAY)
    send_callback("PACKAGE_DECLINE", package="deal-1", happened_at=NOON + DAY, sessionUser=BEN, message="too dear")
    work()

    page = visit("/?q=DEAL&attention=DECLINED&since=2026-02-28&until=2026-03-02&sort=created_at")

    assert rows(page) == ["deal-1"]
    for link in ("status=DECLINED", "sort=-created_at", "q=DEAL"):
        assert link in unescape(page.text)
    assert rows(visit("/?since=2026-03-02")) == ["deal-0"]


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ("", ["old", "new"]),
        ("since=2026-02-01", ["new", "old"]),  # the newest transaction first
        ("until=2026-03-31", ["new", "old"]),
        ("since=2026-02-01&sort=-updated_at", ["old", "new"]),
    ],
)
def test_list_of_some_days_is_sorted_by_creation(visit, send_callback, work, parameters, shown):
    """A list of certain days is sorted by creation unless the user chooses an order, which the column shows."""
    send_callback("PACKAGE_CREATE", package="old", happened_at=NOON - DAY)
    send_callback("PACKAGE_CREATE", package="new", happened_at=NOON)
    send_callback("PACKAGE_ACTIVATE", package="old", happened_at=NOON + HOUR)
    work()

    page = visit(f"/?{parameters}")

    assert rows(page) == shown
    column = "Created" if shown == ["new", "old"] else "Last activity"
    assert re.search(rf'aria-sort="descending"><a [^>]*>{column}', page.text)


@pytest.mark.parametrize("sort", ["name", "-created_at", "updated_at", "-due_at", "status_at"])
def test_pages_lead_forward_and_back(visit, send_callback, work, sort):
    """Each transaction is on exactly one page of the list, and links lead to the next and the previous page."""
    for number in range(MANY):
        send_callback("PACKAGE_CREATE", package=f"p{number:03}", happened_at=NOON - DAY + timedelta(minutes=number))
    work()

    shown, url = [], f"/?sort={sort}"
    for _ in range(3):
        page = visit(url)
        shown.append(rows(page))
        link = re.search(r'rel="next" href="([^"]+)"', page.text)
        url = f"/{unescape(link[1])}" if link else ""
    back = re.search(r'rel="prev" href="([^"]+)"', page.text)

    assert not url
    assert sorted(chain(*shown)) == [f"p{number:03}" for number in range(MANY)]
    assert back
    assert rows(visit(f"/{unescape(back[1])}")) == shown[1]


@pytest.mark.own_database  # a CSV export that is not read to its end counts as running
def test_csv_has_all_pages_of_the_list(visit, send_callback, work):
    """The CSV export has all pages of the list, is sorted by id, and contains no formula."""
    for number in range(MANY * 2):
        send_callback("PACKAGE_CREATE", package=f"p{number:03}", happened_at=NOON - DAY + timedelta(minutes=number))
    send_callback("PACKAGE_CREATE", package='=HYPERLINK("http://evil.example")', happened_at=NOON - 2 * DAY)
    sign(send_callback, "done")
    work()

    answer = visit("/transactions.csv?status=DRAFT&sort=created_at")
    table = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert [row["id"] for row in table] == [
        """'=HYPERLINK("http://evil.example")""",
        *(f"p{number:03}" for number in range(MANY * 2)),
    ]
    assert table[1]["created_at"] == "2026-03-01T12:00:00Z"


@pytest.mark.own_database  # a CSV export that is not read to its end counts as running
@pytest.mark.parametrize("sort", ["-updated_at", "updated_at", "status_at"])
def test_csv_has_each_transaction_once_despite_changes(  # noqa: PLR0917  (pytest passes fixtures by name)
    client, visit, send_callback, work, monkeypatch, sort
):
    """A change while the CSV file is written neither hides nor repeats a transaction."""
    monkeypatch.setattr(transactions, "CSV_ROWS", 2)
    ids = [f"p{number}" for number in range(6)]
    for number, package in enumerate(ids):
        send_callback("PACKAGE_ACTIVATE", package=package, happened_at=NOON - DAY + number * MINUTE)
    work()

    with client.get(f"/transactions.csv?sort={sort}", buffered=False) as answer:
        pieces = iter(answer.response)
        written = [next(pieces), next(pieces)]  # the CSV header and the first two rows
        for package in ids:
            send_callback("PACKAGE_COMPLETE", package=package, happened_at=NOON)
            work()
        written += pieces

    table = csv.DictReader(io.StringIO(b"".join(written).decode("utf-8-sig")))
    assert [row["id"] for row in table] == ids


# Characters that begin a formula in a spreadsheet, and their full-width forms.
OPERATORS = "=+-@" + "".join(chr(ord(sign) + 0xFEE0) for sign in "=+-@")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@given(name=st.text(f"{OPERATORS};,\t\r\n\"' x", max_size=12))
@example(name="x;=cmd|'/C calc'!A0")
@example(name='x;"=1+1')
@example(name="x\n\n=1+1")
@example(name=" =1+1")
def test_no_cell_is_a_formula(separator, name):
    """No cell of the CSV export is a formula with any separator, which is a semicolon in many countries."""
    text = io.StringIO(export.rows([Package("pkg-1", name=name)]), newline="")

    cells = [cell for row in csv.reader(text, delimiter=separator) for cell in row]

    assert [cell for cell in cells if cell.lstrip().startswith(tuple(OPERATORS))] == []


def test_history_shows_the_source_of_each_event(visit, send_callback, work):
    """The history of a transaction shows the source of each event and links to the callback that reported it."""
    sign(send_callback, "pkg-1")
    send_callback("PACKAGE_COMPLETE", happened_at=NOON + 3 * HOUR, sessionUser=ADA)  # a repeat of the last callback
    work()

    page = visit("/transactions/pkg-1")

    assert "Completed" in text_of(page)
    assert "Reported by OneSpan (callback × 2)" in text_of(page)  # noqa: RUF001  (as on the page)
    assert re.findall(r'class="headline"><bdi[^>]*>([^<]*)', page.text) == [
        "Completed",
        f"{ADA} finished signing",
        "Sent for signature",
        "Created",
    ]
    assert '"PACKAGE_ACTIVATE"' in unescape(visit("/callbacks/2").text)


def test_issue_is_listed_until_it_is_resolved(visit, send_callback, work):
    """The attention page lists an issue until it is resolved, and says what the sender can do."""
    send_callback("PACKAGE_ACTIVATE")
    send_callback("SIGNER_LOCKED", happened_at=NOON + HOUR, sessionUser=ADA)
    work()

    page = visit("/attention")
    send_callback("SIGNER_COMPLETE", happened_at=NOON + 2 * HOUR, sessionUser=ADA)
    work()

    assert "Locked out 1" in text_of(page)
    assert "unlock them in OneSpan" in text_of(page)
    assert "Nothing needs attention" in text_of(visit("/attention"))


def test_issue_with_many_transactions_has_its_own_pages(visit, send_callback, work):
    """The attention page shows the first ten transactions of an issue, and a link to all transactions with it."""
    packages = [f"pkg-{number:02}" for number in range(12)]
    for minute, package in enumerate(packages):
        send_callback("EMAIL_BOUNCE", package=package, happened_at=NOON + minute * MINUTE, sessionUser=ADA)
    work()
    page = visit("/attention")
    assert rows(page) == [f"EMAIL_BOUNCE-{package}-{ADA}-" for package in packages[:1:-1]]

    (link,) = re.findall(r'href="([^"]+)">Show all<', page.text)

    assert rows(visit(unescape(link))) == [f"EMAIL_BOUNCE-{package}-{ADA}-" for package in packages[::-1]]


def test_failed_handler_links_to_its_runs(visit, send_callback, work, crm):
    """The attention page links from a failed handler to the failed runs of that handler."""
    for package in ("pkg-1", "pkg-2"):
        send_callback("PACKAGE_COMPLETE", package=package)
    work()

    links = re.findall(r'href="(/handlers\?[^"]+)"><code>close_deal<', visit("/attention").text)

    page = visit(unescape(links[0]))
    assert "the CRM knows no deal for this package" in text_of(page)
    assert re.findall(r'href="/transactions/([^"]+)"', page.text) == ["pkg-2"]


def test_second_failure_of_a_handler_shows_at_once(  # noqa: PLR0917  (pytest passes fixtures by name)
    visit, send_callback, work, crm, service, clock
):
    """A second failure of a handler does not change the transaction, but the attention page shows it at once."""
    send_callback("PACKAGE_COMPLETE")
    work()
    send_callback("PACKAGE_COMPLETE", happened_at=NOON + HOUR)
    service.digest.turn()
    page = visit("/attention")
    clock.forward(timedelta(seconds=1))
    work()
    again = visit("/attention", **{"If-None-Match": page.headers["ETag"]})

    assert [len(rows(answer)) for answer in (page, again)] == [1, 2]


def test_failed_run_is_run_again(visit, submit, send_callback, work, crm):
    """The history names the user who ran a failed run again."""
    sign(send_callback, "pkg-1")
    work()
    failed = visit("/handlers")
    crm.is_fixed = True

    answer = submit("/dispatches/1/replay", back="/transactions/pkg-1")
    work()

    assert "the CRM knows no deal" in text_of(failed)
    assert (answer.status_code, answer.location) == (303, "/transactions/pkg-1")
    assert "No failed runs" in text_of(visit("/handlers"))
    assert "No failed runs" in text_of(visit("/handlers/replay"))
    history = text_of(visit("/transactions/pkg-1"))
    assert "Mia ran close_deal again" in history
    assert "Handler failed: close_deal" in history
    assert "Issue opened: Automation stopped" in history
    assert "Issue resolved: Automation stopped" in history


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_replay_returns_to_a_local_page(submit, send_callback, work, crm, back):
    """A forged form that runs a failed run again cannot lead to another site."""
    sign(send_callback, "pkg-1")
    work()

    assert submit("/dispatches/1/replay", back=back).location == "/handlers"


def test_many_runs_are_run_again_after_confirmation(visit, submit, send_callback, work, crm):
    """If there are more failed runs than the user confirmed, nothing runs again."""
    for number in range(3):
        sign(send_callback, f"pkg-{number}")
    work()
    confirmation = visit("/handlers/replay?handler=close_deal")
    sign(send_callback, "pkg-9")
    work()

    refused = submit("/handlers/replay", handler="close_deal", expect=3)
    accepted = submit("/handlers/replay", handler="close_deal", expect=4)

    assert "Run 3 failed runs again?" in text_of(confirmation)
    assert refused.status_code == 409
    assert accepted.status_code == 303
    assert "4 runs queued." in text_of(visit("/handlers?state=due"))


def test_unknown_and_unreadable_callbacks_can_be_filtered(visit, post, send_callback, work):
    """The pages of unknown and unreadable callbacks show the raw request and the problem."""
    send_callback("PACKAGE_HATCHED")
    post(b'{"name": "PACKAGE_CREATE"')
    work()

    assert rows(visit("/callbacks?state=unreadable")) == ["2"]
    assert rows(visit("/callbacks?state=unknown")) == ["1"]
    assert "Ignored:" in text_of(visit("/callbacks/2"))
    assert "Unknown event: does not change the transaction" in text_of(visit("/events/1"))


def test_half_of_a_surrogate_pair_stays_an_escape(visit, send_callback, work):
    """Half of a surrogate pair is shown as an escape sequence, because no page can hold the character itself."""
    send_callback("PACKAGE_CREATE", message="half \ud83d of 😀")
    work()

    for path in ("/callbacks/1", "/events/1"):
        assert r'"message": "half \ud83d of 😀"' in unescape(visit(path).text)


def test_new_installation_sends_a_test_callback(visit, submit, work, read):
    """A test callback becomes an event, and its body names the user who sent it."""
    empty = visit("/")

    answer = submit("/test-callback")
    work()
    (sent,) = read("/api/callbacks")["items"]

    assert "Send a test callback" in text_of(empty)
    assert answer.location == "/events"
    assert "RECEIVER_TEST" in text_of(visit("/events"))
    assert sent["key"] == "test callback"
    assert '"sessionUser": "Mia"' in sent["body"]


def test_history_names_the_user_of_a_refresh(visit, submit, send_callback, work, handlers):
    """The history names the user who requested a refresh, even if the refresh finds nothing new."""
    handlers.onespan.connect(ApiConnection("http://127.0.0.1:9", ApiKey("key")))
    send_callback("PACKAGE_CREATE")
    work()

    assert submit("/transactions/pkg-1/read").location == "/transactions/pkg-1"

    assert "Mia requested a refresh" in text_of(visit("/transactions/pkg-1"))


def test_health_shows_rates_delivery_and_processes(visit, service, send_callback, work):
    """The health page shows callback rates, delivery and processes, and says that sync is off."""
    sign(send_callback, "pkg-1")
    work()
    service.heartbeat.beat()

    page = text_of(visit("/health"))

    assert "4 total, peak 4/min" in page
    assert "100.00 % of events arrived by callback: 4 received, 0 missed." in page
    assert service.heartbeat.name in page
    assert "reconcile) is off: ONESPAN_URL is not set, so missed callbacks cannot be recovered." in page
    assert "To switch it on, set ONESPAN_URL, and ONESPAN_API_KEY or a client id and secret" in page


def test_unchanged_page_answers_304(client, visit, send_callback, work, clock):
    """Every page has an ETag, which changes when a callback changes the page."""
    clock.now = datetime.now(UTC)  # a wrong clock causes a warning with a varying number of seconds
    log_in(client)
    send_callback("PACKAGE_CREATE")
    work()
    paths = ("/", "/attention", "/transactions/pkg-1", "/events", "/callbacks", "/handlers", "/health")
    etags = {path: visit(path, **{"X-Live": "1"}).headers["ETag"] for path in paths}

    for path, etag in etags.items():
        again = visit(path, **{"X-Live": "1", "If-None-Match": etag})
        assert (again.status_code, again.text) == (304, ""), path
    send_callback("PACKAGE_ACTIVATE", happened_at=NOON + HOUR)
    work()

    del etags["/handlers"]  # without handlers, a callback does not change this page
    for path, etag in etags.items():
        assert visit(path, **{"X-Live": "1", "If-None-Match": etag}).status_code == 200, path


def test_user_without_a_name_sees_what_they_may_do(client):
    """The header of a user who gave no name shows their access, and a new installation says what needs more."""
    log_in(client, VIEW_ONLY_PASSWORD)

    page = text_of(client.get("/"))

    assert "View only Log out" in page
    assert "Needs full access." in page


def test_history_shows_types_times_and_unknown_signers(visit, send_callback, work, service, clock):
    """The history has a label for each type, a time element for each time, and a sentence without a signer's name."""
    snapshot = {"id": "pkg-1", "name": "2026-99-99T99:99:99Z", "type": "PACKAGE", "due": "2026-03-04T12:00:00Z"}
    entry = Entry("snapshot", clock(), json.dumps(snapshot).encode(), package_id="pkg-1", read_at=NOON - HOUR)
    with service.database.write() as connection:
        journal.add(connection, [entry])
    send_callback("PACKAGE_DECLINE", package="pkg-1", sessionUser=None)
    work()

    page = visit("/transactions/pkg-1")

    assert "Type: Transaction" in text_of(page)
    assert "Declined by an unknown signer" in text_of(page)
    assert re.search(r'Due date</bdi>: <ins><time datetime="2026-03-04T12:00:00Z"', page.text)


def test_view_only_user_has_no_buttons(client, send_callback, work, crm):
    """A view-only user sees no buttons, and the service refuses requests that need full access."""
    sign(send_callback, "pkg-1")
    work()
    log_in(client, VIEW_ONLY_PASSWORD)

    for path in ("/", "/transactions/pkg-1", "/handlers", "/health", "/events/4"):
        page = client.get(path)
        assert page.status_code == 200
        assert re.findall(r'<form method="post" action="([^"]+)"', page.text) == ["/logout"], path
    token = token_in(client.get("/").text)
    for path in ("/dispatches/1/replay", "/handlers/replay", "/reconciles", "/test-callback", "/transactions/x/read"):
        assert client.post(path, data={"csrf_token": token}).status_code == 403, path


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/?sort=colour", 400, "This link is not valid: unknown sort order &#34;colour&#34;."),
        ("/?attention=HUNGER", 400, "This link is not valid: unknown attention filter &#34;HUNGER&#34;."),
        ("/attention?reason=HUNGER", 400, "This link is not valid: unknown reason &#34;HUNGER&#34;."),
        ("/?stauts=SENT", 400, "This link is not valid: stauts"),
        ("/?since=yesterday", 400, "This link is not valid: since"),
        ("/?cursor=nonsense", 400, "This link is not valid: "),
        ("/transactions/unknown", 404, "There is no transaction with this ID."),
        ("/transactions/a%00b", 404, "There is no transaction with this ID."),
        ("/events/99999999999999999999999", 404, "There is no event 99999999999999999999999."),
        ("/callbacks/0", 404, "There is no callback 0."),
    ],
)
def test_invalid_link_shows_an_error_page(client, visit, path, status, message):
    """An invalid link leads to an error page that gives the problem and further links, but no internals."""
    answer = client.get(path)

    assert answer.status_code == status
    assert answer.mimetype == "text/html"
    assert message in answer.text
    assert "Traceback" not in answer.text
    assert re.findall(r'<a href="([^"]+)"', answer.text)[:2] == ["/", "/attention"]


def test_unknown_path_lacks_a_page_or_an_endpoint(client):
    """The message for an unknown path fits a browser and a program."""
    assert "There is no page at this address." in client.get("/nowhere").text
    assert client.get("/onespan/nowhere").json["error"]["message"] == "There is no such endpoint."


@pytest.mark.own_database  # a CSV export that is not read to its end counts as running
def test_two_exports_at_most_run_at_once(client, visit):
    """A CSV export keeps a thread until its client has read all of it, so a third export at once gets 503."""
    first, second = visit("/transactions.csv"), visit("/transactions.csv")
    third = client.get("/transactions.csv")
    first.close()

    assert (third.status_code, third.headers["Retry-After"]) == (503, "10")
    assert "Too many exports are running." in third.text
    assert [answer.text.count("\r\n") for answer in (second, visit("/transactions.csv"))] == [1, 1]


@pytest.mark.own_database  # a CSV export that is not read to its end counts as running
@pytest.mark.parametrize("path", ["/", "/transactions.csv"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_day_must_be_within_bounds(client, visit, path, name):
    """Days before 1970 or after 2999 get 400, and the date fields of the form have the same bounds."""
    for day, problem in BOUNDS:
        answer = client.get(f"{path}?{name}={day}")
        assert (answer.status_code, answer.mimetype) == (400, "text/html")
        assert f"{name}: Input should be {problem}" in answer.text

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


def test_refresh_needs_onespan_credentials(visit, submit, send_callback, work):
    """Without OneSpan credentials there is no refresh button, and a request for a refresh gets 409."""
    send_callback("PACKAGE_CREATE")
    work()

    assert "Refresh from OneSpan" not in text_of(visit("/transactions/pkg-1"))
    assert submit("/transactions/pkg-1/read").status_code == 409
    assert submit("/reconciles").status_code == 409


def test_password_in_the_url_is_no_login(client):
    """A password in the URL is ignored, and the answer is a redirect to the login page."""
    answer = client.get("/transactions/x?password=" + PASSWORD)

    assert answer.status_code == 302
    assert answer.location.startswith("/login?next=")
