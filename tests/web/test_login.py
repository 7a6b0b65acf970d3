"""Logins and sessions: who may see the pages, for how long, and how many passwords may be tried."""

import re
import threading
from collections.abc import Callable, Iterator
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
from werkzeug.security import generate_password_hash

from app import EXTENSION, create_app
from app.handling import Handlers
from app.store import login_limit
from app.store.intake import journal_entry
from app.store.models import EndedSession, LoginAttempt
from app.web.dashboard.login import client_network, local_url
from app.web.dashboard.passwords import Passwords, session_key
from app.web.dashboard.user import DEFAULT_NAME, clean_name
from config import Key, Settings
from tests.conftest import HOUR, NOON, TOKEN, on_sqlite
from tests.support.logins import (
    PASSWORD,
    VIEW_ONLY_PASSWORD,
    add_probe,
    from_address,
    log_in,
    post_probe,
    token_in,
    with_passwords,
)
from tests.support.strategies import examples

MINUTE = timedelta(minutes=1)
TLS = {"base_url": "https://sign.example.com"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with both passwords of the dashboard."""
    return with_passwords(settings)


@pytest.fixture
def app(get_app: Callable[..., Flask]) -> Flask:
    """The app with the two test views at `/probe`, which need a login."""
    return get_app(add_probe)


def is_logged_in(client: Any, **more: Any) -> bool:
    """Whether a client sees a page that needs a login."""
    status = client.get("/probe", **more).status_code
    assert status in (200, 302)
    return status == 200


def become_known(client: Any, password: str = PASSWORD, **more: str) -> None:
    """Log in, and drop the session but not the cookie of the device."""
    assert log_in(client, password, **more).status_code == 303
    client.delete_cookie("onespan_receiver")


def count(service: Any, table: Any) -> int:
    """The number of rows in a table."""
    with service.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_login_returns_to_the_requested_page(client):
    """The URL that needed a login is the parameter `next` of the login form, which returns to that URL."""
    redirected = client.get("/probe?status=SENT")
    assert (redirected.status_code, redirected.location) == (302, "/login?next=%2Fprobe%3Fstatus%3DSENT")

    form = client.get(redirected.location)
    logged_in = client.post(
        "/login",
        data={"csrf_token": token_in(form.text), "password": PASSWORD, "name": "Cleo", "next": "/probe?status=SENT"},
    )

    assert 'name="next" value="/probe?status=SENT"' in form.text
    assert (logged_in.status_code, logged_in.location) == (303, "/probe?status=SENT")
    shown = client.get("/probe").json
    assert (shown["user"], shown["has_full_access"]) == ("Cleo", True)
    assert post_probe(client).json == {"changed_by": "Cleo"}
    assert client.get("/login?next=/probe").location == "/probe"  # a logged-in user needs no form


@pytest.mark.parametrize(
    "password", ["", " ", "wrong", PASSWORD.upper(), f"{PASSWORD} ", f"{PASSWORD}\0", TOKEN, "ä" * 5000], ids=range(8)
)
@on_sqlite
def test_wrong_password_is_refused(client, password):
    """After a wrong password, the login form shows an error and keeps the user's name."""
    answer = log_in(client, password, name="Cleo")

    assert answer.status_code == 401
    assert "Incorrect password." in answer.text
    assert 'value="Cleo"' in answer.text
    assert not is_logged_in(client)


def test_view_only_user_cannot_change_anything(client):
    """A view-only user who tries a change sees a page that says which password is needed."""
    log_in(client, VIEW_ONLY_PASSWORD)

    shown, refused = client.get("/probe").json, post_probe(client)

    assert (shown["user"], shown["has_full_access"]) == (DEFAULT_NAME, False)
    assert refused.status_code == 403
    assert "Log in with the full-access password to do this." in refused.text


@pytest.mark.parametrize(("full_access", "view_only"), [(None, VIEW_ONLY_PASSWORD), (PASSWORD, None)])
@on_sqlite
def test_unset_password_does_not_log_in(settings, full_access, view_only):
    """A password that is not set logs no user in, and the password that is set works as usual."""
    passwords = {
        "dashboard_password": SecretStr(full_access) if full_access else None,
        "dashboard_readonly_password": SecretStr(view_only) if view_only else None,
    }
    app = create_app(settings.model_copy(update=passwords), handlers=Handlers())
    add_probe(app)
    client = app.test_client()

    unset = VIEW_ONLY_PASSWORD if full_access else PASSWORD
    assert [log_in(client, password).status_code for password in ("", "None", unset)] == [401] * 3
    assert log_in(client, full_access or view_only).status_code == 303
    assert client.get("/probe").json["has_full_access"] == bool(full_access)
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_view_only_password_as_only_secret_cannot_forge_full_access(settings):
    """If the view-only password is the only secret, its users can sign sessions, but do not get full access."""
    alone = {"dashboard_password": None, "onespan_callback_keys": (), "api_tokens": ()}
    app = create_app(settings.model_copy(update=alone), handlers=Handlers())
    add_probe(app)
    assert app.secret_key == session_key(Passwords(view_only=VIEW_ONLY_PASSWORD), [[], []])
    client = app.test_client()
    log_in(client, VIEW_ONLY_PASSWORD)

    with client.session_transaction() as session:
        session["acts"] = True

    assert client.get("/probe").json["has_full_access"] is False
    assert post_probe(client).status_code == 403
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_dashboard_without_a_password_answers_503(settings):
    """Without passwords, pages get 503 and name the missing settings; endpoints for machines still work."""
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


def test_session_ends_an_hour_after_the_last_page(client, clock):
    """A session ends an hour after the user last opened a page."""
    log_in(client)
    for _ in range(5):
        clock.forward(HOUR - MINUTE)
        assert is_logged_in(client)

    clock.forward(HOUR)

    assert not is_logged_in(client)


def test_session_ends_twelve_hours_after_the_login(client, clock):
    """A session ends twelve hours after the login, even if the user keeps opening pages."""
    log_in(client)
    for _ in range(23):
        clock.forward(HOUR / 2)
        assert is_logged_in(client)

    clock.forward(HOUR / 2)

    assert not is_logged_in(client)
    log_in(client)
    assert is_logged_in(client)


def test_open_page_does_not_extend_a_session(client, clock):
    """Live requests of an open page do not extend the session, and after its end they get 401, no redirect."""
    log_in(client)
    for _ in range(59):
        clock.forward(MINUTE)
        assert client.get("/probe", headers={"X-Live": "1"}).status_code == 200

    clock.forward(MINUTE)
    answer = client.get("/probe", headers={"X-Live": "1", "Accept": "application/json"})

    assert (answer.status_code, answer.json["error"]["code"]) == (401, "not_logged_in")
    assert not is_logged_in(client)


def test_copied_cookie_is_void_after_logout(app, client, service, clock):
    """A copied cookie is void after the logout, since a table keeps the ended session until it would have expired."""
    log_in(client)
    thief, other = app.test_client(), app.test_client()
    thief.set_cookie("onespan_receiver", client.get_cookie("onespan_receiver").value)
    assert is_logged_in(thief)
    log_in(other)

    logged_out = client.post("/logout", data={"csrf_token": client.get("/probe").json["token"]})

    assert (logged_out.status_code, logged_out.location) == (303, "/login")
    assert [is_logged_in(browser) for browser in (client, thief, other)] == [False, False, True]
    assert thief.post("/probe").status_code == 401
    clock.forward(12 * HOUR)
    log_in(client)
    client.post("/logout", data={"csrf_token": client.get("/probe").json["token"]})
    assert count(service, EndedSession) == 1


@on_sqlite
def test_logout_without_a_session_leads_to_the_form(client):
    """If the session expires before the user logs out, the logout leads to the login form."""
    assert client.post("/logout").location == "/login"


@on_sqlite
def test_login_replaces_an_existing_session(client):
    """After a second login, the new session keeps neither the user nor the token of the old session."""
    log_in(client, VIEW_ONLY_PASSWORD, name="Ben")
    token = client.get("/probe").json["token"]

    client.post("/login", data={"csrf_token": token, "password": PASSWORD, "name": "Cleo"})

    assert client.get("/probe").json["user"] == "Cleo"
    assert client.post("/probe", data={"csrf_token": token}).status_code == 400  # the CSRF token of Ben's session


@on_sqlite
def test_pages_opened_at_once_share_a_csrf_token(app, client):
    """Browser tabs that are restored with the same cookie share a CSRF token, so the forms of all tabs work."""
    log_in(client)
    other = app.test_client()
    other.set_cookie("onespan_receiver", client.get_cookie("onespan_receiver").value)

    tokens = [tab.get("/probe").json["token"] for tab in (client, other)]

    assert [client.post("/probe", data={"csrf_token": token}).status_code for token in tokens] == [200, 200]


@on_sqlite
def test_changing_any_secret_ends_sessions(settings, client):
    """Changing any secret ends all sessions, and so does swapping the two passwords."""
    log_in(client, VIEW_ONLY_PASSWORD)
    cookie = client.get_cookie("onespan_receiver").value
    changed = {
        "full access": {"dashboard_password": SecretStr("another-password")},
        "view only": {"dashboard_readonly_password": SecretStr("another-password")},
        "swapped": {
            "dashboard_password": SecretStr(VIEW_ONLY_PASSWORD),
            "dashboard_readonly_password": SecretStr(PASSWORD),
        },
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
        seen[name] = is_logged_in(other)
        app.extensions[EXTENSION].database.close()

    assert seen == dict.fromkeys(changed, False) | {"none": True}


def test_session_key_depends_on_every_secret():
    """The session key depends on every secret, but not on the order in which the keys are listed."""
    keys = {
        session_key(Passwords(full_access, view_only), [callbacks, tokens])
        for full_access, view_only, callbacks, tokens in (
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
def test_cookie_is_for_this_host_and_hidden_from_scripts(client, environ, name, secure):
    """Over TLS the session cookie is secure, with a name that browsers accept from no other host."""
    answer = log_in(client, environ=environ)

    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (cookie.key, bool(cookie["httponly"]), cookie["samesite"]) == (name, True, "Lax")
    assert (bool(cookie["secure"]), cookie["path"], cookie["domain"], cookie["max-age"]) == (secure, "/", "", "")
    assert len(answer.headers["Set-Cookie"]) < 500
    assert is_logged_in(client, **environ)


@pytest.mark.parametrize(
    ("requested", "url"),
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
def test_next_leads_to_a_local_page(requested, url):
    """The login leads to a requested page of the service; any other value of `next` leads to the first page."""
    assert local_url(requested) == url


@given(st.text(st.sampled_from("/\\.:@?#%\t\n\r evil@[]") | st.characters(), max_size=30).map("/{}".format) | st.text())
@example("/.//evil.example")
@example("/%09/evil.example")
def test_next_never_leads_to_another_site(requested):
    """Browsers drop control characters and read a backslash as a slash, but `next` never leads to another site."""
    read = "".join(letter for letter in local_url(requested) if ord(letter) > 32).replace("\\", "/")

    assert urlsplit(urljoin("https://us.example/login", read))[:2] == ("https", "us.example")


@on_sqlite
def test_next_is_checked_again_after_the_login(client):
    """The form field `next` is checked after the login, because it can be forged like the URL."""
    shown = client.get("/login?next=//evil.example").text

    assert 'name="next" value="/"' in shown
    assert log_in(client, next="//evil.example").location == "/"
    assert client.get("/login?next=//evil.example").location == "/"


@pytest.mark.parametrize(
    ("entered", "name"),
    [
        ("Cleo", "Cleo"),
        ("  Cleo \t of\nSales ", "Cleo of Sales"),
        ("", DEFAULT_NAME),
        ("\0\x1b\u202e", DEFAULT_NAME),
        ("\u202eoelC", "oelC"),
        ("api:crm", "api crm"),
        ("<b>é", "<b>é"),
        ("x" * 100, "x" * 60),
        ("x" * 59 + " y", "x" * 59),
    ],
)
def test_name_for_the_history_is_one_readable_line(entered, name):
    """A user's name is one readable line, and cannot look like a name of the API or the command line."""
    assert clean_name(entered) == name


def test_failures_of_one_address_are_limited(client, clock, service):
    """After too many failed logins an address must wait, even with the correct password.

    Other addresses and users who are logged in need not wait.
    """
    here, there = from_address("192.0.2.1"), from_address("192.0.2.2")
    log_in(client, environ=here)
    failing = client.application.test_client()
    for _ in range(login_limit.MAX_FAILURES_PER_ADDRESS):
        assert log_in(failing, "wrong", environ=here).status_code == 401
        clock.forward(MINUTE)

    refused, correct = log_in(failing, "wrong", environ=here), log_in(failing, environ=here)

    assert (refused.status_code, correct.status_code) == (429, 429)
    assert "Too many incorrect passwords. Try again in 5 minutes." in refused.text
    assert refused.headers["Retry-After"] == "300"
    assert not is_logged_in(failing)
    assert is_logged_in(client, **here)
    assert log_in(client.application.test_client(), environ=there).status_code == 303
    clock.forward(5 * MINUTE)
    assert log_in(failing, environ=here).status_code == 303
    clock.forward(login_limit.LOGIN_WINDOW)
    log_in(client.application.test_client(), "wrong", environ=here)
    assert count(service, LoginAttempt) == 1  # earlier attempts are deleted


def test_login_does_not_reset_failures(client):
    """A login does not reset the failures, or a view-only user could guess the full-access password for ever."""
    passwords = ("guess", VIEW_ONLY_PASSWORD) * (login_limit.MAX_FAILURES_PER_ADDRESS + 2)

    statuses = [log_in(client.application.test_client(), password).status_code for password in passwords]

    assert statuses == [401, 303] * (login_limit.MAX_FAILURES_PER_ADDRESS - 1) + [401, 429, 429, 429, 429, 429]


def test_failures_of_all_addresses_together_refuse_no_other_address(client, clock):
    """Beyond a limit for all addresses together each address has fewer attempts, but none is refused for others."""
    for number in range(login_limit.MAX_FAILURES_IN_TOTAL):
        assert log_in(client, "wrong", environ=from_address(f"192.0.2.{number}")).status_code == 401
    here = from_address("198.51.100.1")
    new = client.application.test_client

    statuses = [log_in(new(), "wrong", environ=here).status_code for _ in range(4)]
    assert statuses == [401] * login_limit.MAX_FAILURES_UNDER_ATTACK + [429]
    assert log_in(new(), environ=here).headers["Retry-After"] == "900"
    assert log_in(new(), environ=from_address("198.51.100.2")).status_code == 303
    clock.forward(login_limit.LOGIN_WINDOW)
    assert log_in(new(), environ=here).status_code == 303


@pytest.mark.parametrize("environ", [{}, TLS], ids=["http", "https"])
def test_wrong_passwords_of_others_do_not_lock_out_a_known_device(client, clock, environ):
    """Where someone logged in before, wrong passwords from the same address do not matter, even months later."""
    log_in(client, environ=environ)
    client.post("/logout", data={"csrf_token": client.get("/probe", **environ).json["token"]}, **environ)
    clock.forward(300 * 24 * HOUR)
    other = client.application.test_client()
    statuses = [log_in(other, "wrong", environ=environ).status_code for _ in range(11)]

    assert statuses == [401] * 10 + [429]
    assert log_in(client, "a typing error", environ=environ).status_code == 401
    assert log_in(client, environ=environ).status_code == 303


def test_failures_of_a_known_device_are_counted_apart(client):
    """A known device has its own limit; its failures lock out no one else, and a login does not reset them."""
    become_known(client)
    statuses = [log_in(client, "wrong").status_code for _ in range(login_limit.MAX_FAILURES_PER_ADDRESS - 1)]
    become_known(client)
    statuses += [log_in(client, "wrong").status_code for _ in range(2)]

    assert statuses == [401] * login_limit.MAX_FAILURES_PER_ADDRESS + [429]
    refused = log_in(client)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "900")
    assert log_in(client.application.test_client()).status_code == 303


def test_device_of_view_only_access_cannot_guess_the_other_password(app):
    """With the view-only password anyone can get device cookies, but no more guesses at the full-access password."""
    devices = [app.test_client() for _ in range(3)]
    for device in devices:
        become_known(device, VIEW_ONLY_PASSWORD)
    statuses = [log_in(device, f"guess {n}").status_code for device in devices for n in range(5)]

    assert statuses == [401] * 15
    # The address has reached its limit, so the right password is not even compared.
    assert log_in(devices[2], PASSWORD).status_code == 401
    assert log_in(app.test_client(), PASSWORD).status_code == 429
    assert log_in(devices[2], VIEW_ONLY_PASSWORD).status_code == 303


@pytest.mark.parametrize(
    ("environ", "name", "secure"),
    [({}, "onespan_receiver_device", False), (TLS, "__Host-onespan_receiver_device", True)],
)
@on_sqlite
def test_device_cookie_is_signed_and_hidden_from_scripts(client, app, environ, name, secure):
    """The device cookie lasts a year, scripts cannot read it, and a changed one is worth nothing."""
    (header,) = [line for line in log_in(client, environ=environ).headers.getlist("Set-Cookie") if "device" in line]
    cookie = SimpleCookie(header)[name]
    assert (bool(cookie["httponly"]), cookie["samesite"], cookie["path"], cookie["domain"]) == (True, "Lax", "/", "")
    assert (bool(cookie["secure"]), cookie["max-age"]) == (secure, str(365 * 24 * 3600))
    for _ in range(10):
        log_in(app.test_client(), "wrong", environ=environ)
    for value, status in ((cookie.value, 303), (cookie.value[:-2], 429), ("", 429), ("a.b", 429)):
        browser = app.test_client()
        browser.set_cookie(name, value, secure=secure, domain="sign.example.com" if secure else "localhost")
        assert log_in(browser, environ=environ).status_code == status


@on_sqlite
def test_device_cookie_ends_after_a_year_and_with_a_changed_secret(settings, clock):
    """A device cookie is void after a year, and when a secret of the service changes."""
    changed = settings.model_copy(update={"dashboard_password": SecretStr("another-full-password")})
    apps = [create_app(given, handlers=Handlers(), clock=clock) for given in (settings, changed)]
    first = apps[0].test_client()
    log_in(first)
    cookie = first.get_cookie("onespan_receiver_device").value

    def status(app: Flask, password: str) -> int:
        for _ in range(10):
            log_in(app.test_client(), "wrong")
        browser = app.test_client()
        browser.set_cookie("onespan_receiver_device", cookie)
        return log_in(browser, password).status_code

    assert status(apps[0], PASSWORD) == 303
    assert status(apps[1], "another-full-password") == 429
    clock.forward(365 * 24 * HOUR)
    assert status(apps[0], PASSWORD) == 429
    for app in apps:
        app.extensions[EXTENSION].database.close()


ADA_PASSWORD, BEN_PASSWORD = "the-password-of-ada", "the-password-of-ben"


@pytest.fixture
def with_users(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Return an app with the users Ada (full access) and Ben (view only), and further settings."""
    hashes = [generate_password_hash(password, "pbkdf2:sha256:1") for password in (ADA_PASSWORD, BEN_PASSWORD)]
    users = Settings(dashboard_users=f"ada:{hashes[0]}\nBen Smith:view:{hashes[1]}").dashboard_users
    apps = []

    def with_users(**other: Any) -> Flask:
        given = settings.model_copy(update={"dashboard_users": users, **other})
        apps.append(app := create_app(given, handlers=Handlers(), clock=lambda: NOON))
        add_probe(app)
        return app

    yield with_users
    for app in apps:
        app.extensions[EXTENSION].database.close()


@pytest.mark.parametrize(
    ("name", "password", "user", "has_full_access"),
    [
        ("ada", ADA_PASSWORD, "ada", True),
        (" ADA ", ADA_PASSWORD, "ada", True),
        ("ben smith", BEN_PASSWORD, "Ben Smith", False),
        ("ada", BEN_PASSWORD, None, None),
        ("ada", PASSWORD, None, None),
        ("", ADA_PASSWORD, None, None),
        ("cleo", ADA_PASSWORD, None, None),
        ("cleo", PASSWORD, "cleo", True),
        ("", VIEW_ONLY_PASSWORD, DEFAULT_NAME, False),
    ],
)
def test_named_user_logs_in_with_the_own_password(with_users, name, password, user, has_full_access):
    """A named user needs the own password, and a shared password does not give their name to others."""
    client = with_users().test_client()

    answer = log_in(client, password, name=name)

    if user is None:
        assert answer.status_code == 401
        assert "Incorrect name or password." in answer.text
    else:
        shown = client.get("/probe").json
        assert (shown["user"], shown["has_full_access"]) == (user, has_full_access)
        assert post_probe(client).status_code == (200 if has_full_access else 403)


@on_sqlite
def test_named_users_need_no_shared_password(with_users):
    """Without shared passwords named users log in all the same, and then the form requires a name."""
    client = with_users(dashboard_password=None, dashboard_readonly_password=None).test_client()

    assert re.search(r'<input id="name"[^>]* required', client.get("/login").text)
    assert log_in(client, "", name="").status_code == 401
    assert log_in(client, ADA_PASSWORD, name="ada").status_code == 303
    assert post_probe(client).json == {"changed_by": "ada"}


@on_sqlite
def test_actions_of_a_named_user_carry_the_name(with_users):
    """The history shows who requested an action, with the verified name."""
    app = with_users(onespan_url="https://onespan.example.com", onespan_api_key=SecretStr("x" * 76))
    client = app.test_client()
    service = app.extensions[EXTENSION]
    service.intake.keep(journal_entry(b'{"name": "PACKAGE_ACTIVATE", "packageId": "pkg-1"}', received_at=NOON, key="k"))
    service.digest.turn()
    log_in(client, ADA_PASSWORD, name="Ada")

    client.post("/transactions/pkg-1/read", data={"csrf_token": client.get("/probe").json["token"]})

    history = client.get("/api/packages/pkg-1/history", headers={"Authorization": f"Bearer {TOKEN}"}).json["items"]
    assert history[-1]["cause"] == {"kind": "person", "id": "ada"}


def test_device_of_a_named_user_is_known_for_this_user_only(with_users):
    """A device cookie counts for attempts at the account that logged in there, not for those of others."""
    client = with_users().test_client()
    become_known(client, BEN_PASSWORD, name="Ben Smith")
    other = client.application.test_client()
    for _ in range(10):
        log_in(other, "wrong", name="ada")

    assert log_in(client, ADA_PASSWORD, name="ada").status_code == 429
    assert log_in(client, PASSWORD).status_code == 429
    assert log_in(client, "wrong", name="ben smith").status_code == 401
    assert log_in(client, BEN_PASSWORD, name="Ben Smith").status_code == 303


@on_sqlite
def test_removing_or_changing_a_user_ends_all_sessions(settings, with_users):
    """When the setting of the users changes, all sessions end."""
    first = with_users()
    client = first.test_client()
    log_in(client, ADA_PASSWORD, name="ada")
    cookie = client.get_cookie("onespan_receiver").value
    users = first.extensions[EXTENSION].settings.dashboard_users
    for changed in (users[:1], (users[0]._replace(has_full_access=False), users[1]), ()):
        other = with_users(dashboard_users=changed).test_client()
        other.set_cookie("onespan_receiver", cookie)
        assert not is_logged_in(other)


def test_one_customer_network_locks_out_only_itself(client):
    """A customer's 65,536 smaller IPv6 networks count as one address, so the customer locks out no other network."""
    addresses = [f"2001:db8:1:{number:x}::1" for number in range(login_limit.MAX_FAILURES_IN_TOTAL)]
    statuses = [log_in(client, "wrong", environ=from_address(address)).status_code for address in addresses]

    assert statuses == [401] * login_limit.MAX_FAILURES_PER_ADDRESS + [429] * (
        login_limit.MAX_FAILURES_IN_TOTAL - login_limit.MAX_FAILURES_PER_ADDRESS
    )
    assert log_in(client, environ=from_address("2001:db8:2::1")).status_code == 303


def test_concurrent_guesses_in_two_processes_share_the_limit(settings):
    """Each login attempt counts as a failure before its password is checked, so concurrent guesses share the limit."""
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

    assert (statuses.count(401), statuses.count(429)) == (
        login_limit.MAX_FAILURES_PER_ADDRESS,
        32 - login_limit.MAX_FAILURES_PER_ADDRESS,
    )


GUESSES = st.lists(
    st.tuples(st.sampled_from(["first", "second"]), st.integers(0, 4), st.booleans()), min_size=30, max_size=60
)


@on_sqlite
@hypothesis_settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(guesses=GUESSES)
def test_limit_holds_in_any_quarter_of_an_hour(service, guesses):
    """An address below the limit of failed logins is never refused, whatever other addresses do."""
    failed: dict[str, list[Any]] = {"first": [], "second": []}
    with service.database.engine.connect() as connection:
        now = NOON
        for address, minutes, is_correct in guesses:
            now += minutes * MINUTE
            recent = [at for at in failed[address] if at > now - login_limit.LOGIN_WINDOW]
            result = login_limit.record_attempt(connection, address, now=now)
            assert isinstance(result, timedelta) == (len(recent) >= login_limit.MAX_FAILURES_PER_ADDRESS)
            if isinstance(result, timedelta):
                assert result == min(recent[-login_limit.MAX_FAILURES_PER_ADDRESS :]) + login_limit.LOGIN_WINDOW - now
            elif is_correct:
                login_limit.succeed(connection, result)
            else:
                failed[address].append(now)
        connection.rollback()


@pytest.mark.parametrize("proxies", [0, 1, 2])
@on_sqlite
def test_address_cannot_be_forged(settings, proxies):
    """Only addresses that the proxies added count, so an attacker cannot change the address with each guess."""
    app = create_app(settings.model_copy(update={"proxies": proxies}), handlers=Handlers(), clock=lambda: NOON)
    added = ["203.0.113.7", "10.0.0.2"][:proxies]  # each proxy appends its client's address to the header

    def guess(forged: str, password: str = "wrong") -> int:
        header = ", ".join([forged, *added])
        environ = from_address("10.0.0.1") | {"headers": {"X-Forwarded-For": header}}
        return log_in(app.test_client(), password, environ=environ).status_code

    statuses = [guess(f"192.0.2.{number}") for number in range(login_limit.MAX_FAILURES_PER_ADDRESS + 3)]
    added = ["203.0.113.8", "10.0.0.2"][:proxies]
    other = guess("192.0.2.1", PASSWORD)
    app.extensions[EXTENSION].database.close()

    assert statuses == [401] * login_limit.MAX_FAILURES_PER_ADDRESS + [429] * 3
    assert other == (303 if proxies else 429)  # without PROXIES all clients behind a proxy share an address


@on_sqlite
def test_proxy_header_makes_the_cookie_secure(settings):
    """The header `X-Forwarded-Proto` makes the session cookie secure, but is ignored without `PROXIES`."""
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
def test_an_ipv6_network_counts_as_one_address(address, counted):
    """An IPv6 network counts as one address, because a single customer has at least 2**64 addresses."""
    assert client_network(address) == counted
