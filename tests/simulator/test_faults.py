"""The simulator: its REST API on a bad day, without sockets and with them."""

import json
from collections import Counter
from random import Random

import pytest
import requests

from app.simulator.account import Account
from app.simulator.faults import BAD_DAY, FAULTS, Faults, read
from app.simulator.inprocess import InProcess
from app.simulator.server import answering, api
from tests.conftest import Clock
from tests.support.onespan_shapes import ERROR_SHAPE, PACKAGE_SHAPE, PAGE_SHAPE
from tests.support.simulated import API_KEY, AUTHORIZED, lived

ADDRESS = "http://onespan.test"


def session_of(faults: Faults, *, account: Account | None = None, slept: list[float] | None = None) -> requests.Session:
    """A session to an account that meets these faults."""
    waits = [] if slept is None else slept
    session = requests.Session()
    session.headers.update(AUTHORIZED)
    app = api(account or lived(5), api_key=API_KEY, clock=Clock(), faults=faults, sleep=waits.append)
    session.mount(ADDRESS, InProcess(app))
    return session


def always(fault: str, *, path: str = "/api/packages?to=2", slept: list[float] | None = None) -> requests.Response:
    """An answer that meets the fault."""
    return session_of(Faults(Random(3), {fault: 1.0}), slept=slept).get(ADDRESS + path)


def test_a_session_of_this_process_needs_no_socket():
    """It reads what a real one would, headers and all."""
    answer = session_of(Faults(Random(0))).get(f"{ADDRESS}/api/packages", params={"to": 2}, timeout=5)

    PAGE_SHAPE.validate(answer.json())
    assert answer.headers["Date"] == "Mon, 02 Mar 2026 12:00:00 GMT"
    assert (answer.status_code, answer.reason, answer.ok) == (200, "OK", True)


def test_a_session_of_this_process_can_post_and_stream():
    """Bodies go in, parts come out."""
    session = session_of(Faults(Random(0)))
    package = next(one for one in lived(5).packages() if not one.deleted)

    streamed = session.get(f"{ADDRESS}/api/packages/{package.id}/evidence/summary", stream=True)
    posted = session.post(f"{ADDRESS}/api/packages/{package.id}/notifications", json={"email": "a@example.com"})

    assert b"".join(streamed.iter_content(100)).startswith(b"%PDF")
    assert (posted.status_code, posted.content) == (200, b"")


@pytest.mark.parametrize("fault", ["401", "403", "404", "429", "500", "503"])
def test_refusals_say_what_is_wrong(fault):
    """In OneSpan's words for errors."""
    answer = always(fault)

    assert answer.status_code == int(fault)
    ERROR_SHAPE.validate(answer.json())
    assert "Retry-After" not in answer.headers
    assert "Date" in answer.headers


def test_too_many_requests_may_say_when_to_come_again():
    """In seconds, or as a date."""
    session = session_of(Faults(Random(3), {"429-wait": 1.0}))
    waits = [session.get(f"{ADDRESS}/api/packages").headers["Retry-After"] for _ in range(20)]

    assert {wait.isdigit() for wait in waits} == {True, False}
    assert all(wait.startswith("Mon, 02 Mar 2026 12:00:0") for wait in waits if not wait.isdigit())


def test_a_bad_gateway_speaks_html():
    """It is not OneSpan that answers."""
    answer = always("502")

    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "text/html")


def test_slow_answers_are_right_but_late():
    """As late as was said, at most."""
    slept: list[float] = []

    PAGE_SHAPE.validate(always("slow", slept=slept).json())
    assert len(slept) == 1
    assert 0 < slept[0] <= 5


def test_a_cut_connection_breaks_off():
    """As a real one does, for a reader over a socket and for one without."""
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        always("cut")

    app = api(lived(5), api_key=API_KEY, clock=Clock(), faults=Faults(Random(3), {"cut": 1.0}))
    with answering(app, port=0) as address, pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)


def test_garbage_comes_with_status_200():
    """A page, JSON that ends early, a list."""
    assert always("html").text.startswith("<!DOCTYPE html>")
    assert always("html", path="/api/packages?to=0").status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(always("truncated").content)
    assert isinstance(always("list").json(), list)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("fault", ["no-id", "wrong-types"])
def test_packages_can_be_spoiled(fault, single):
    """One read alone, or one of those in the list."""
    package = next(one for one in lived(5).packages() if not one.deleted)
    shown = always(fault, path=f"/api/packages/{package.id}" if single else "/api/packages?to=4").json()
    every = [shown] if single else shown["results"]

    assert sum(not PACKAGE_SHAPE.is_valid(one) for one in every) == 1
    assert (fault == "no-id") == any("id" not in one for one in every)


def test_files_are_never_spoiled_as_json_is():
    """But they can be replaced by a page."""
    package = next(one for one in lived(5).packages() if not one.deleted)
    path = f"/api/packages/{package.id}/documents/zip"

    for fault in ("truncated", "list", "no-id", "wrong-types"):
        assert always(fault, path=path).content.startswith(b"PK")
    assert always("html", path=path).content.startswith(b"<!DOCTYPE")


def test_faults_come_as_often_as_was_said_and_the_same_dice_bring_the_same():
    """A bad day can be lived again."""
    faults, again = (Faults(Random(5), BAD_DAY) for _ in range(2))
    drawn = [faults.draw() for _ in range(5000)]

    assert drawn == [again.draw() for _ in range(5000)]
    assert Counter(filter(None, drawn)) == faults.met
    for fault, rate in BAD_DAY.items():
        assert 0.5 * rate < faults.met[fault] / 5000 < 1.6 * rate
    assert set(FAULTS) - set(faults.met) == {"404"}


def test_an_outage_lasts_until_it_is_over():
    """Whoever holds the faults says when; chance waits meanwhile."""
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


def test_a_day_can_turn_good():
    """The rates may be changed while it runs."""
    faults = Faults(Random(0), {"500": 1.0})
    session = session_of(faults)
    before = session.get(f"{ADDRESS}/api/packages").status_code
    faults.rates = {}

    assert (before, session.get(f"{ADDRESS}/api/packages").status_code) == (500, 200)


@pytest.mark.parametrize("pair", ["503", "503=", "503=2", "503=-1", "503=often", "503=nan"])
def test_a_rate_must_be_one(pair):
    """Whoever mistypes is told how it goes."""
    with pytest.raises(ValueError, match=r"503 needs a rate from 0 to 1, as in 503=0\.1"):
        read([pair], FAULTS, "fault")


def test_an_unknown_name_is_answered_with_the_known_ones():
    """All of them."""
    with pytest.raises(ValueError, match=r"there is no fault 'flood'; there are 401, 403, .*, wrong-types"):
        read(["flood=0.1"], FAULTS, "fault")
