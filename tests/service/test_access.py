"""Refused credentials are known within a minute: a note, a figure, and the health report."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs
from werkzeug.wrappers import Request, Response

from app.errors import OneSpanError
from config import Settings
from tests.conftest import on_both, on_sqlite
from tests.support.simulated import ADDRESS, API_KEY, connect

MINUTE = timedelta(minutes=1)
NOT_FOUND = Response('{"messageKey": "error.notFound"}', 404, content_type="application/json")
LIST = Response('{"count": 0, "results": []}', content_type="application/json")
UNAUTHORIZED = Response('{"messageKey": "error.unauthorised"}', 401, content_type="application/json")
FORBIDDEN = Response('{"messageKey": "error.forbidden"}', 403, content_type="application/json")
FIREWALL = Response("<html>Attention Required! canary</html>", 403, content_type="text/html")

pytestmark = on_both


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a OneSpan and an API key for it."""
    return settings.model_copy(update={"onespan_url": ADDRESS, "onespan_api_key": SecretStr(API_KEY)})


@pytest.fixture
def answer(handlers) -> Callable[[Response], list[Request]]:
    """Let OneSpan give this answer to every request, and return the list of received requests."""

    def answer(response: Response) -> list[Request]:
        requests: list[Request] = []

        def app(environ: Any, start_response: Any) -> Any:
            requests.append(Request(environ))
            return response(environ, start_response)

        connect(handlers.onespan, app)
        return requests

    return answer


@pytest.fixture
def notes(client) -> Callable[[], list[str]]:
    """Return the notes of `/readyz` about refused requests."""

    def notes() -> list[str]:
        answer = client.get("/readyz")
        assert answer.status_code == 200
        return [note for note in answer.json["notes"] if "refused all requests" in note]

    return notes


def figure(client: Any) -> float:
    """Return the figure of `/metrics` about refused requests."""
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith("onespan_refused ")]
    return float(line.split()[1])


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (UNAUTHORIZED, "rejected the credentials"),
        (FIREWALL, "in front of OneSpan"),
        (FORBIDDEN, "may not list packages"),
        (NOT_FOUND, "check that it is your region's address"),
        (Response("<html>Log in</html>", content_type="text/html"), "it answers with a web page"),
        (Response("", 302, {"Location": "https://elsewhere.example/"}), "it answers 302"),
    ],
)
def test_a_refusal_is_reported_and_ends_with_the_next_good_answer(
    service, answer, notes, client, *, read, clock, response, message
):
    """A refusal is a note, a figure and part of the health report until OneSpan accepts a request again."""
    answer(LIST)
    service.access.turn()
    assert (notes(), figure(client)) == ([], 0)
    answer(response)
    clock.forward(MINUTE)
    service.access.turn()
    first = read("/api/health")
    clock.forward(MINUTE)
    service.access.turn()

    (note,) = notes()
    assert message in note
    assert "since 2026-03-02 12:01 UTC" in note
    assert figure(client) == 1
    health = read("/api/health")
    assert (health["access"]["refused_since"], health["onespan"]["reach"]["answers"]) == ("2026-03-02T12:01:00Z", False)
    assert message in health["access"]["error"]
    assert (first["access"]["checked_at"], health["access"]["checked_at"]) == (
        "2026-03-02T12:01:00Z",
        "2026-03-02T12:02:00Z",
    )
    assert "canary" not in str(health)

    answer(LIST)
    clock.forward(MINUTE)
    service.access.turn()
    assert (notes(), figure(client)) == ([], 0)
    assert read("/api/health")["access"] == {"checked_at": "2026-03-02T12:03:00Z", "refused_since": None, "error": None}


def test_a_rejected_request_proves_that_the_credentials_are_accepted(service, answer, notes, handlers):
    """An error of the API that concerns only the request ends a refusal, because the credentials were accepted."""
    answer(UNAUTHORIZED)
    service.access.turn()
    assert len(notes()) == 1
    answer(Response("{}", 400))
    with pytest.raises(OneSpanError):
        handlers.onespan.package("pkg-1")

    assert notes() == []


@pytest.mark.parametrize("refusal", [FORBIDDEN, NOT_FOUND], ids=["403", "404"])
@pytest.mark.parametrize(("before", "number"), [(LIST, 0), (FORBIDDEN, 1)])
def test_a_refused_package_neither_begins_nor_ends_a_refusal(
    service, answer, notes, handlers, *, before, number, refusal
):
    """A 403 or 404 may concern a single package, so only a request for the list shows what these credentials may do."""
    answer(before)
    service.access.turn()
    answer(refusal)
    with pytest.raises(OneSpanError):
        handlers.onespan.package("pkg-1")

    assert len(notes()) == number


@pytest.mark.parametrize(
    "response",
    [Response("{}", 500), Response("{}", 429), Response("no json", 200)],
    ids=lambda response: response.status,
)
def test_an_unclear_answer_changes_nothing(service, answer, notes, clock, response):
    """An answer that shows nothing about the credentials neither begins nor ends a refusal."""
    answer(response)
    service.access.turn()
    assert notes() == []
    answer(UNAUTHORIZED)
    clock.forward(MINUTE)
    service.access.turn()
    before = notes()
    answer(response)
    clock.forward(MINUTE)
    service.access.turn()

    assert len(before) == 1
    assert notes() == before


def test_the_check_is_sent_once_a_minute_and_only_without_other_requests(service, answer, handlers, clock):
    """A process checks the credentials at its start, then about once a minute unless another request shows it."""
    requests = answer(LIST)
    for _ in range(3):
        service.access.turn()
    assert [request.args.to_dict() for request in requests] == [{"from": "0", "to": "0"}]

    for seconds in (30, 15, 44):
        clock.forward(timedelta(seconds=seconds))
        service.access.turn()
    assert len(requests) == 2

    clock.forward(timedelta(seconds=20))
    handlers.onespan.packages()
    clock.forward(timedelta(seconds=44))
    service.access.turn()
    assert len(requests) == 3
    with service.database.read() as connection:
        assert connection.execute(text("SELECT sum(made) FROM requests")).scalar() == 2  # the check counts


def test_a_long_wait_that_onespan_requests_is_kept(service, answer, clock):
    """After a 429 with `Retry-After`, no check is sent until then."""
    requests = answer(Response("{}", 429, {"Retry-After": "600"}))
    service.access.turn()
    sent = len(requests)
    for _ in range(9):
        clock.forward(MINUTE)
        service.access.turn()
    assert len(requests) == sent

    clock.forward(2 * MINUTE)
    service.access.turn()
    assert len(requests) > sent


def test_a_clock_that_was_ahead_does_not_stop_the_check(service, answer, notes, clock):
    """A check that a wrong clock put into the far future is taken at once."""
    answer(LIST)
    clock.forward(timedelta(days=300))
    service.access.turn()
    clock.forward(-timedelta(days=300))
    answer(UNAUTHORIZED)
    service.access.turn()

    assert len(notes()) == 1


def test_several_processes_send_one_check(service, answer):
    """Of several threads or processes, only one sends the check."""
    requests = answer(LIST)
    threads = [threading.Thread(target=service.access.turn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(requests) == 1


def test_new_credentials_are_checked_at_once(service, answer, notes, handlers):
    """What was known of other credentials is forgotten, also if OneSpan is not configured any more."""
    answer(UNAUTHORIZED)
    service.access.turn()
    connection = handlers.onespan._connection
    assert len(notes()) == 1

    handlers.onespan.connect(type(connection)(ADDRESS, type(connection.credentials)("another-key")))
    requests = answer(LIST)
    service.access.turn()
    assert (notes(), len(requests)) == ([], 1)

    answer(UNAUTHORIZED)
    with pytest.raises(OneSpanError):
        handlers.onespan.package("pkg-1")
    assert len(notes()) == 1
    handlers.onespan.connect(None)
    service.access.turn()
    assert notes() == []


@pytest.mark.own_database
@on_sqlite
def test_a_started_worker_knows_of_a_refusal_within_seconds(service, answer, notes, client):
    """A started worker tests the credentials at once, without a package to fetch or a reconcile that is due."""
    answer(UNAUTHORIZED)
    with capture_logs() as lines:
        service.worker.start()
        try:
            deadline = threading.Event()
            for _ in range(200):
                if notes() or deadline.wait(0.05):
                    break
        finally:
            service.worker.stop(grace=5)

    assert len(notes()) == 1
    assert "onespan.refused" in {line["event"] for line in lines}
    assert API_KEY not in str(lines)


def test_a_request_succeeds_while_the_database_is_away(service, answer, handlers):
    """If the state cannot be recorded, the request of the handler still gets its answer."""
    answer(LIST)
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE onespan_access RENAME TO hidden"))
    try:
        assert handlers.onespan.packages().json == {"count": 0, "results": []}
    finally:
        with service.database.write() as connection:
            connection.execute(text("ALTER TABLE hidden RENAME TO onespan_access"))
