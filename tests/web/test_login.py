"""Who may see the pages, for how long, and how often somebody may guess."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import func, select

from app import EXTENSION, create_app
from app.handling import Handlers
from app.store import logins
from app.store.models import EndedSession, Login
from app.web.dashboard.login import neighbourhood, way_of_ours
from app.web.dashboard.passwords import Passwords, session_key
from app.web.dashboard.user import NOBODY, name_of
from config import Key, Settings
from tests.conftest import HOUR, NOON, TOKEN, on_sqlite
from tests.support.logins import ACTING, LOOKING, act, add_probe, come_from, log_in, token_in, with_passwords
from tests.support.strategies import examples

MINUTE = timedelta(minutes=1)
TLS = {"base_url": "https://sign.example.com"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a dashboard."""
    return with_passwords(settings)


@pytest.fixture
def app(get_app: Callable[..., Flask]) -> Flask:
    """With two pages."""
    return get_app(add_probe)


def is_in(client: Any, **more: Any) -> bool:
    """Whether it sees a page."""
    status = client.get("/probe", **more).status_code
    assert status in (200, 302)
    return status == 200


def count(service: Any, table: Any) -> int:
    """How many rows there are."""
    with service.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_whoever_has_a_password_comes_in(client):
    """And goes on to where they wanted to go."""
    sent_away = client.get("/probe?status=SENT")
    assert (sent_away.status_code, sent_away.location) == (302, "/login?next=%2Fprobe%3Fstatus%3DSENT")

    form = client.get(sent_away.location)
    came_in = client.post(
        "/login",
        data={"csrf_token": token_in(form.text), "password": ACTING, "name": "Cleo", "next": "/probe?status=SENT"},
    )

    assert 'name="next" value="/probe?status=SENT"' in form.text
    assert (came_in.status_code, came_in.location) == (303, "/probe?status=SENT")
    shown = client.get("/probe").json
    assert (shown["who"], shown["may_act"]) == ("Cleo", True)
    assert act(client).json == {"done_by": "Cleo"}
    assert client.get("/login?next=/probe").location == "/probe"  # who is in needs no form


@pytest.mark.parametrize(
    "password", ["", " ", "wrong", ACTING.upper(), f"{ACTING} ", f"{ACTING}\0", TOKEN, "ä" * 5000], ids=range(8)
)
@on_sqlite
def test_nobody_else_does(client, password):
    """The form says so, and keeps the name."""
    answer = log_in(client, password, name="Cleo")

    assert answer.status_code == 401
    assert "That is not the password." in answer.text
    assert 'value="Cleo"' in answer.text
    assert not is_in(client)


def test_who_may_only_look_changes_nothing(client):
    """The page says which password it takes."""
    log_in(client, LOOKING)

    looking, refused = client.get("/probe").json, act(client)

    assert (looking["who"], looking["may_act"]) == (NOBODY, False)
    assert refused.status_code == 403
    assert "password for looking" in refused.text


@pytest.mark.parametrize(("acting", "looking"), [(None, LOOKING), (ACTING, None)])
@on_sqlite
def test_a_password_that_is_not_set_lets_nobody_in(settings, acting, looking):
    """The other one does what it does."""
    passwords = {
        "dashboard_password": SecretStr(acting) if acting else None,
        "dashboard_readonly_password": SecretStr(looking) if looking else None,
    }
    app = create_app(settings.model_copy(update=passwords), handlers=Handlers())
    add_probe(app)
    client = app.test_client()

    assert [log_in(client, one).status_code for one in ("", "None", (acting and LOOKING) or ACTING)] == [401] * 3
    assert log_in(client, acting or looking).status_code == 303
    assert client.get("/probe").json["may_act"] == bool(acting)
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_who_knows_the_only_secret_makes_no_session_that_acts(settings):
    """The key is made of the password for looking alone, so who may look can sign what they like."""
    alone = {"dashboard_password": None, "onespan_callback_keys": (), "api_tokens": ()}
    app = create_app(settings.model_copy(update=alone), handlers=Handlers())
    add_probe(app)
    assert app.secret_key == session_key(Passwords(looking=LOOKING), [[], []])
    client = app.test_client()
    log_in(client, LOOKING)

    with client.session_transaction() as session:
        session["acts"] = True

    assert client.get("/probe").json["may_act"] is False
    assert act(client).status_code == 403
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_without_any_password_the_dashboard_is_closed(settings):
    """Each page says which setting is missing; what machines ask is as open as before."""
    none = {"dashboard_password": None, "dashboard_readonly_password": None}
    app = create_app(settings.model_copy(update=none), handlers=Handlers())
    add_probe(app)
    client = app.test_client()

    for answer in (client.get("/probe"), client.post("/probe"), client.get("/login"), client.post("/logout")):
        assert answer.status_code == 503
        assert "DASHBOARD_PASSWORD" in answer.text
        assert "DASHBOARD_READONLY_PASSWORD" in answer.text
    assert client.get("/healthz").status_code == 200
    app.extensions[EXTENSION].database.close()


def test_a_session_ends_an_hour_after_the_last_page(client, clock):
    """As long as pages are opened it goes on."""
    log_in(client)
    for _ in range(5):
        clock.forward(HOUR - MINUTE)
        assert is_in(client)

    clock.forward(HOUR)

    assert not is_in(client)


def test_a_session_ends_twelve_hours_after_the_login(client, clock):
    """However busy it is."""
    log_in(client)
    for _ in range(23):
        clock.forward(HOUR / 2)
        assert is_in(client)

    clock.forward(HOUR / 2)

    assert not is_in(client)
    log_in(client)
    assert is_in(client)


def test_a_page_that_only_lies_open_does_not_keep_a_session(client, clock):
    """It asks by itself whether anything is new, and says so. Then it hears a 401, and is not led to the form."""
    log_in(client)
    for _ in range(59):
        clock.forward(MINUTE)
        assert client.get("/probe", headers={"X-Live": "1"}).status_code == 200

    clock.forward(MINUTE)
    answer = client.get("/probe", headers={"X-Live": "1", "Accept": "application/json"})

    assert (answer.status_code, answer.json["error"]["code"]) == (401, "not_logged_in")
    assert not is_in(client)


def test_a_copy_of_the_cookie_is_worth_nothing_after_logout(app, client, service, clock):
    """In no process; and what was kept to know that goes when it is needed no more."""
    log_in(client)
    thief, other = app.test_client(), app.test_client()
    thief.set_cookie("onespan_receiver", client.get_cookie("onespan_receiver").value)
    assert is_in(thief)
    log_in(other)

    left = client.post("/logout", data={"csrf_token": client.get("/probe").json["token"]})

    assert (left.status_code, left.location) == (303, "/login")
    assert [is_in(one) for one in (client, thief, other)] == [False, False, True]
    assert thief.post("/probe").status_code == 401
    clock.forward(12 * HOUR)
    log_in(client)
    client.post("/logout", data={"csrf_token": client.get("/probe").json["token"]})
    assert count(service, EndedSession) == 1


@on_sqlite
def test_to_log_out_without_a_session_leads_to_the_form(client):
    """Who was logged out by time presses the button all the same."""
    assert client.post("/logout").location == "/login"


@on_sqlite
def test_a_login_begins_a_session_of_its_own(client):
    """Whatever a cookie said before, and whoever set it."""
    log_in(client, LOOKING, name="Ben")
    token = client.get("/probe").json["token"]

    client.post("/login", data={"csrf_token": token, "password": ACTING, "name": "Cleo"})

    assert client.get("/probe").json["who"] == "Cleo"
    assert client.post("/probe", data={"csrf_token": token}).status_code == 400  # that page was Ben's


@on_sqlite
def test_pages_that_are_opened_at_once_can_all_be_used(app, client):
    """As a browser does that was left with many of them: each has the session as it was before the others."""
    log_in(client)
    other = app.test_client()
    other.set_cookie("onespan_receiver", client.get_cookie("onespan_receiver").value)

    tokens = [one.get("/probe").json["token"] for one in (client, other)]

    assert [client.post("/probe", data={"csrf_token": token}).status_code for token in tokens] == [200, 200]


@on_sqlite
def test_a_session_ends_when_a_password_changes(settings, client):
    """Or another secret of the service; or the two change places: who could look still may not act."""
    log_in(client, LOOKING)
    cookie = client.get_cookie("onespan_receiver").value
    changed = {
        "acting": {"dashboard_password": SecretStr("another-password")},
        "looking": {"dashboard_readonly_password": SecretStr("another-password")},
        "both": {"dashboard_password": SecretStr(LOOKING), "dashboard_readonly_password": SecretStr(ACTING)},
        "key": {"onespan_callback_keys": (Key("test", SecretStr("another-key")),)},
        "token": {"api_tokens": (Key("test", SecretStr("another-token")),)},
        "none": {},
    }
    seen = {}
    for name, update in changed.items():
        app = create_app(settings.model_copy(update=update), handlers=Handlers(), clock=lambda: NOON)
        add_probe(app)
        other = app.test_client()
        other.set_cookie("onespan_receiver", cookie)
        seen[name] = is_in(other)
        app.extensions[EXTENSION].database.close()

    assert seen == dict.fromkeys(changed, False) | {"none": True}


def test_the_key_of_sessions_is_made_of_every_secret():
    """Whoever knows all but one cannot make it; the order in which keys are written does not matter."""
    keys = {
        session_key(Passwords(acting, looking), [callbacks, tokens])
        for acting, looking, callbacks, tokens in (
            ("a", "b", ["c", "d"], ["e"]),
            ("a", "b", ["d", "c"], ["e"]),
            ("x", "b", ["c", "d"], ["e"]),
            ("a", "x", ["c", "d"], ["e"]),
            ("b", "a", ["c", "d"], ["e"]),
            ("a", "b", ["c"], ["e"]),
            ("a", "b", ["c", "d"], ["x"]),
            ("a", "b", ["c"], ["d", "e"]),
            ("a", "b", ["cd"], ["e"]),
        )
    }

    assert len(keys) == 8


@pytest.mark.parametrize(
    ("environ", "name", "secure"), [({}, "onespan_receiver", False), (TLS, "__Host-onespan_receiver", True)]
)
@on_sqlite
def test_the_cookie_is_for_this_host_and_no_script(client, environ, name, secure):
    """Behind TLS it goes over TLS only, under a name that browsers take from no other host."""
    answer = log_in(client, environ=environ)

    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (cookie.key, bool(cookie["httponly"]), cookie["samesite"]) == (name, True, "Lax")
    assert (bool(cookie["secure"]), cookie["path"], cookie["domain"], cookie["max-age"]) == (secure, "/", "", "")
    assert len(answer.headers["Set-Cookie"]) < 500
    assert is_in(client, **environ)


@pytest.mark.parametrize(
    ("wanted", "way"),
    [
        ("/", "/"),
        ("/packages/aB=?q=é&sort=-name", "/packages/aB=?q=é&sort=-name"),
        ("/packages//two", "/packages//two"),
        (None, "/"),
        ("", "/"),
        ("packages", "/"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("\t//evil.example", "/"),
        ("/\n/evil.example", "/"),
        (" //evil.example", "/"),
        ("https://evil.example/", "/"),
        ("https:evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("//[", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        (f"/{'x' * 2000}", "/"),
    ],
)
def test_next_leads_to_a_page_of_ours(wanted, way):
    """Or to the first one."""
    assert way_of_ours(wanted) == way


@given(st.text(st.sampled_from("/\\.:@?#%\t\n\r evil@[]") | st.characters(), max_size=30).map("/{}".format) | st.text())
@example("/.//evil.example")
@example("/%09/evil.example")
def test_next_never_leads_to_another_site(wanted):
    """As browsers read it: they drop control characters and take a backslash for a slash."""
    read = "".join(letter for letter in way_of_ours(wanted) if ord(letter) > 32).replace("\\", "/")

    assert urlsplit(urljoin("https://us.example/login", read))[:2] == ("https", "us.example")


@on_sqlite
def test_next_is_checked_when_it_comes_back(client):
    """The form's field can be forged as well as the address."""
    shown = client.get("/login?next=//evil.example").text

    assert 'name="next" value="/"' in shown
    assert log_in(client, next="//evil.example").location == "/"
    assert client.get("/login?next=//evil.example").location == "/"


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("Cleo", "Cleo"),
        ("  Cleo \t of\nSales ", "Cleo of Sales"),
        ("", NOBODY),
        ("\0\x1b\u202e", NOBODY),
        ("\u202eoelC", "oelC"),
        ("api:crm", "api crm"),
        ("<b>é", "<b>é"),
        ("x" * 100, "x" * 60),
        ("x" * 59 + " y", "x" * 59),
    ],
)
def test_a_name_for_the_history_is_one_line_that_can_be_read(told, name):
    """And is never one of those that the API and the command line have."""
    assert name_of(told) == name


def test_so_many_failures_of_one_address_and_no_more(client, clock, service):
    """Then it waits, even with the right password; others do not, nor does whoever is in."""
    here, there = come_from("192.0.2.1"), come_from("192.0.2.2")
    log_in(client, environ=here)
    failing = client.application.test_client()
    for _ in range(logins.OF_ONE):
        assert log_in(failing, "wrong", environ=here).status_code == 401
        clock.forward(MINUTE)

    refused, right = log_in(failing, "wrong", environ=here), log_in(failing, environ=here)

    assert (refused.status_code, right.status_code) == (429, 429)
    assert "Too many wrong passwords. Try again in 5 minutes." in refused.text
    assert refused.headers["Retry-After"] == "300"
    assert not is_in(failing)
    assert is_in(client, **here)
    assert log_in(client.application.test_client(), environ=there).status_code == 303
    clock.forward(5 * MINUTE)
    assert log_in(failing, environ=here).status_code == 303
    clock.forward(logins.WINDOW)
    log_in(client.application.test_client(), "wrong", environ=here)
    assert count(service, Login) == 1  # those of before are forgotten


def test_logging_in_in_between_gives_no_more_guesses(client):
    """Who may look must not guess, for ever, the password to act."""
    statuses = []
    for _ in range(logins.OF_ONE + 2):
        statuses += [log_in(client.application.test_client(), one).status_code for one in ("guess", LOOKING)]

    assert statuses == [401, 303] * (logins.OF_ONE - 1) + [401, 429, 429, 429, 429, 429]


def test_so_many_failures_of_all_addresses_together(client, clock):
    """A guesser with many addresses is held back too, at the price that all others are."""
    for number in range(logins.OF_ALL):
        assert log_in(client, "wrong", environ=come_from(f"192.0.2.{number}")).status_code == 401

    assert log_in(client, environ=come_from("198.51.100.1")).status_code == 429
    clock.forward(logins.WINDOW)
    assert log_in(client, environ=come_from("198.51.100.1")).status_code == 303


def test_one_connection_locks_out_nobody_but_itself(client):
    """Though it has 65,536 networks to come from."""
    guesses = [log_in(client, "wrong", environ=come_from(f"2001:db8:1:{one:x}::1")) for one in range(logins.OF_ALL)]

    assert [one.status_code for one in guesses] == [401] * logins.OF_ONE + [429] * (logins.OF_ALL - logins.OF_ONE)
    assert log_in(client, environ=come_from("2001:db8:2::1")).status_code == 303


def test_many_at_once_in_two_processes_get_no_more_guesses(settings):
    """The failures are counted before it is known that they are some."""
    apps = [create_app(settings, handlers=Handlers(), clock=lambda: NOON) for _ in range(2)]
    together = threading.Barrier(8)

    def guess(number: int) -> list[int]:
        client = apps[number % 2].test_client()
        together.wait(20)
        return [log_in(client, "wrong").status_code for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for answers in pool.map(guess, range(8)) for status in answers]
    for app in apps:
        app.extensions[EXTENSION].database.close()

    assert (statuses.count(401), statuses.count(429)) == (logins.OF_ONE, 32 - logins.OF_ONE)


GUESSES = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.integers(0, 4), st.booleans()), min_size=30, max_size=60
)


@on_sqlite
@hypothesis_settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(guesses=GUESSES)
def test_no_address_ever_fails_more_often(service, guesses):
    """In any quarter of an hour, whatever the others do; and whoever failed less often is not refused."""
    failed: dict[str, list[Any]] = {"one": [], "two": []}
    with service.database.engine.connect() as connection:
        now = NOON
        for address, minutes, right in guesses:
            now += minutes * MINUTE
            recent = [one for one in failed[address] if one > now - logins.WINDOW]
            told = logins.attempt(connection, address, now=now)
            assert isinstance(told, timedelta) == (len(recent) >= logins.OF_ONE)
            if isinstance(told, timedelta):
                assert told == min(recent[-logins.OF_ONE :]) + logins.WINDOW - now
            elif right:
                logins.succeed(connection, told)
            else:
                failed[address].append(now)
        connection.rollback()


@pytest.mark.parametrize("proxies", [0, 1, 2])
@on_sqlite
def test_an_address_cannot_be_made_up(settings, proxies):
    """Only what the proxies wrote counts, so that a guesser cannot be another one with each guess."""
    app = create_app(settings.model_copy(update={"proxies": proxies}), handlers=Handlers(), clock=lambda: NOON)
    written = ["203.0.113.7", "10.0.0.2"][:proxies]  # by those who stand before us, each after what it was sent

    def guess(made_up: str, password: str = "wrong") -> int:
        header = ", ".join([made_up, *written])
        environ = come_from("10.0.0.1") | {"headers": {"X-Forwarded-For": header}}
        return log_in(app.test_client(), password, environ=environ).status_code

    statuses = [guess(f"192.0.2.{number}") for number in range(logins.OF_ONE + 3)]
    written = ["203.0.113.8", "10.0.0.2"][:proxies]
    other = guess("192.0.2.1", ACTING)
    app.extensions[EXTENSION].database.close()

    assert statuses == [401] * logins.OF_ONE + [429] * 3
    assert other == (303 if proxies else 429)  # without PROXIES all behind a proxy are one


@on_sqlite
def test_a_proxy_says_that_it_was_tls(settings):
    """Then the cookie is for TLS only; without `PROXIES` nobody says so."""
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
    secure = {}
    for proxies in (0, 1):
        app = create_app(settings.model_copy(update={"proxies": proxies}), handlers=Handlers())
        answer = log_in(app.test_client(), environ={"headers": headers})
        secure[proxies] = "Secure" in answer.headers["Set-Cookie"]
        app.extensions[EXTENSION].database.close()

    assert secure == {0: False, 1: True}


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:5678", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("2001:db8:1::", "2001:db8:1::/48"),
        ("[2001:db8:1::1]:443", "2001:db8:1::/48"),
        ("[2001:db8:1::1]", "2001:db8:1::/48"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
        ("", "unknown"),
        (None, "unknown"),
        ("nonsense", "unknown"),
        ("192.0.2.1:https", "unknown"),
    ],
)
def test_who_has_a_network_is_one_address(address, counted):
    """An IPv6 customer has 18 trillion million of them, or 65,536 times as many."""
    assert neighbourhood(address) == counted
