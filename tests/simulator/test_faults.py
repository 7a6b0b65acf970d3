"""Tests of the faults of the simulator's REST API, without sockets and with them."""

import json
from collections import Counter
from random import Random

import pytest
import requests

from app.simulator.account import Account
from app.simulator.faults import BAD_DAY, FAULTS, Faults, parse_rates
from app.simulator.inprocess import InProcess
from app.simulator.server import api, serve_in_thread
from tests.conftest import Clock
from tests.support.onespan_shapes import ERROR_SHAPE, PACKAGE_SHAPE, PAGE_SHAPE
from tests.support.simulated import API_KEY, AUTHORIZED, finished_account

ADDRESS = "http://onespan.test"


def session_of(faults: Faults, *, account: Account | None = None, slept: list[float] | None = None) -> requests.Session:
    """Return a session with the REST API of an account that has these faults."""
    waits = [] if slept is None else slept
    session = requests.Session()
    session.headers.update(AUTHORIZED)
    app = api(account or finished_account(5), api_key=API_KEY, clock=Clock(), faults=faults, sleep=waits.append)
    session.mount(ADDRESS, InProcess(app))
    return session


def answer_with(fault: str, *, path: str = "/api/packages?to=2", slept: list[float] | None = None) -> requests.Response:
    """Return the answer to a request that meets this fault."""
    return session_of(Faults(Random(3), {fault: 1.0}), slept=slept).get(ADDRESS + path)


def test_an_in_process_session_needs_no_socket():
    """A session inside the process gets answers with the status, headers and body of real answers."""
    answer = session_of(Faults(Random(0))).get(f"{ADDRESS}/api/packages", params={"to": 2}, timeout=5)

    PAGE_SHAPE.validate(answer.json())
    assert answer.headers["Date"] == "Mon, 02 Mar 2026 12:00:00 GMT"
    assert (answer.status_code, answer.reason, answer.ok) == (200, "OK", True)


def test_an_in_process_session_can_post_and_stream():
    """A session inside the process sends bodies and reads answers in parts."""
    session = session_of(Faults(Random(0)))
    package = next(package for package in finished_account(5).packages() if not package.deleted)

    streamed = session.get(f"{ADDRESS}/api/packages/{package.id}/evidence/summary", stream=True)
    posted = session.post(f"{ADDRESS}/api/packages/{package.id}/notifications", json={"email": "a@example.com"})

    assert b"".join(streamed.iter_content(100)).startswith(b"%PDF")
    assert (posted.status_code, posted.content) == (200, b"")


@pytest.mark.parametrize("fault", ["401", "403", "404", "429", "500", "503"])
def test_refusals_have_the_shape_of_onespans_errors(fault):
    """A refused request gets an error in OneSpan's form, with a `Date` header and without `Retry-After`."""
    answer = answer_with(fault, path="/api/packages/pkg-1")

    assert answer.status_code == int(fault)
    ERROR_SHAPE.validate(answer.json())
    assert "Retry-After" not in answer.headers
    assert "Date" in answer.headers


def test_only_a_package_can_be_missing():
    """The fault `404` hides packages that exist, and neither the list nor tokens."""
    package = next(package for package in finished_account(5).packages() if not package.deleted)

    assert answer_with("404", path=f"/api/packages/{package.id}").status_code == 404
    assert answer_with("404").status_code == 200


def test_too_many_requests_may_come_with_retry_after():
    """A 429 answer may have a `Retry-After` header, in seconds or as a date."""
    session = session_of(Faults(Random(3), {"429-wait": 1.0}))
    waits = [session.get(f"{ADDRESS}/api/packages").headers["Retry-After"] for _ in range(20)]

    assert {wait.isdigit() for wait in waits} == {True, False}
    assert all(wait.startswith("Mon, 02 Mar 2026 12:00:0") for wait in waits if not wait.isdigit())


def test_a_bad_gateway_answers_html():
    """A 502 answer is HTML, as from a proxy in front of OneSpan."""
    answer = answer_with("502")

    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html")


def test_the_firewall_answers_html():
    """The firewall in front of OneSpan answers 403 in HTML, and its `Server` header says who answers."""
    answer = answer_with("waf")

    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html")
    assert answer.headers["Server"] == "cloudflare"
    assert "blocked" in answer.text


def test_slow_answers_are_correct_and_late():
    """A slow answer is correct, and late by at most `slow_by` seconds."""
    slept: list[float] = []

    PAGE_SHAPE.validate(answer_with("slow", slept=slept).json())
    assert len(slept) == 1
    assert 0 < slept[0] <= 5


def test_a_cut_connection_raises_in_the_client():
    """A cut connection raises an error in the client, inside the process as well as over a socket."""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        answer_with("cut")

    app = api(finished_account(5), api_key=API_KEY, clock=Clock(), faults=Faults(Random(3), {"cut": 1.0}))
    with serve_in_thread(app, port=0) as address, pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)


def test_corrupt_answers_have_status_200():
    """A corrupt answer has status 200, and its body is an HTML page, truncated JSON or a list."""
    assert answer_with("html").text.startswith("<!DOCTYPE html>")
    assert answer_with("html", path="/api/packages?to=0").status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer_with("truncated").content)
    assert isinstance(answer_with("list").json(), list)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("fault", ["no-id", "wrong-types"])
def test_packages_can_be_corrupt(fault, single):
    """Some faults corrupt a single package, or one package of a list."""
    package = next(package for package in finished_account(5).packages() if not package.deleted)
    answer = answer_with(fault, path=f"/api/packages/{package.id}" if single else "/api/packages?to=4").json()
    packages = [answer] if single else answer["results"]

    assert sum(not PACKAGE_SHAPE.is_valid(package) for package in packages) == 1
    assert (fault == "no-id") == any("id" not in package for package in packages)


def test_files_are_not_corrupted_like_json():
    """The faults that corrupt JSON do not corrupt files, which can only be replaced by an HTML page."""
    package = next(package for package in finished_account(5).packages() if not package.deleted)
    path = f"/api/packages/{package.id}/documents/zip"

    for fault in ("truncated", "list", "no-id", "wrong-types"):
        assert answer_with(fault, path=path).content.startswith(b"PK")
    assert answer_with("html", path=path).content.startswith(b"<!DOCTYPE")


def test_faults_occur_at_their_rates_and_the_same_seed_repeats_them():
    """Faults occur at their rates, and the same seed repeats the faults, so a bad day can be replayed."""
    faults, again = (Faults(Random(5), BAD_DAY) for _ in range(2))
    drawn = [faults.draw() for _ in range(5000)]

    assert drawn == [again.draw() for _ in range(5000)]
    assert Counter(filter(None, drawn)) == faults.counts
    for fault, rate in BAD_DAY.items():
        assert 0.5 * rate < faults.counts[fault] / 5000 < 1.6 * rate
    assert set(FAULTS) - set(faults.counts) == {"404"}


def test_an_outage_lasts_until_it_is_reset():
    """An outage lasts until it is reset, and random faults do not occur during the outage."""
    faults = Faults(Random(0))
    session = session_of(faults)

    faults.outage = "503"
    during = [session.get(f"{ADDRESS}/api/packages").status_code for _ in range(5)]
    faults.outage = "cut"
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.get(f"{ADDRESS}/api/packages")
    faults.outage = None

    assert during == [503] * 5
    assert session.get(f"{ADDRESS}/api/packages").status_code == 200


def test_rates_can_be_changed_at_any_time():
    """The rates of faults can be changed at any time, so a bad day can become a good day."""
    faults = Faults(Random(0), {"500": 1.0})
    session = session_of(faults)
    before = session.get(f"{ADDRESS}/api/packages").status_code
    faults.rates = {}

    assert (before, session.get(f"{ADDRESS}/api/packages").status_code) == (500, 200)


@pytest.mark.parametrize("pair", ["503", "503=", "503=2", "503=-1", "503=often", "503=nan"])
def test_an_invalid_rate_raises(pair):
    """The error for an invalid fault rate shows a valid example."""
    with pytest.raises(ValueError, match=r"503 needs a rate from 0 to 1, as in 503=0\.1"):
        parse_rates([pair], FAULTS, "fault")


def test_an_unknown_name_raises_with_the_known_names():
    """The error for an unknown fault lists all known faults, in order."""
    with pytest.raises(ValueError, match=r"unknown fault 'flood'; choose from 401, 403, .*, wrong-types"):
        parse_rates(["flood=0.1"], FAULTS, "fault")
