"""`flask doctor` checks the whole service, says how to fix problems, and continues after a failed check."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pydantic import SecretStr
from sqlalchemy import make_url, text
from werkzeug.wrappers import Request, Response

from app import EXTENSION, create_app
from app.handling import GiveUp, Handlers
from app.onespan.client import OneSpan
from app.onespan.event_catalogue import CATALOGUE
from app.simulator.account import Account, Registration
from app.simulator.server import api
from config import Settings
from tests.conftest import ADA, HOUR, KEY, TOKEN, Clock, on_postgresql, on_sqlite
from tests.support.simulated import ADDRESS, API_KEY, connect

URL = "https://sign.example.com/onespan/callback"
PASSWORD, DATABASE, PERSON = "canary-dashboard", "canary-database", "canary-ada@example.com"
RIGHT = Registration(URL, KEY, frozenset(CATALOGUE))
LINE = re.compile(r"(ok|warn|FAIL) +(\S+(?: \S+)*?)  +(\S.*)")


@pytest.fixture
def clock() -> Clock:
    """A clock with the real time, because doctor compares the clock with the database's clock."""
    return Clock(datetime.now(UTC))


@pytest.fixture
def account() -> Account:
    """A simulated OneSpan account with a correct callback registration."""
    account = Account(1, packages=0)
    account.registration = RIGHT
    return account


@pytest.fixture
def handlers(account, clock) -> Handlers:
    """One handler that gives up, and a simulated OneSpan."""
    handlers = Handlers()
    handlers.onespan = OneSpan(backoff=0)
    connect(handlers.onespan, api(account, api_key=API_KEY, clock=clock))

    @handlers.on("PACKAGE_DECLINE")
    def call_signer(event: Any, package: Any) -> None:
        raise GiveUp(f"{PERSON} does not answer")

    return handlers


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings for all checks, with a secret in each setting that can contain a secret."""
    url = make_url(settings.database_url.get_secret_value())
    if url.get_backend_name() == "postgresql":
        url = url.set(password=DATABASE)
    return settings.model_copy(
        update={
            "database_url": SecretStr(url.render_as_string(hide_password=False)),
            "callback_url": URL,
            "dashboard_password": SecretStr(PASSWORD),
            "onespan_url": ADDRESS,
            "onespan_api_key": SecretStr(API_KEY),
        }
    )


@pytest.fixture
def simulated_requests(handlers, account, clock) -> Callable[..., list[Request]]:
    """Answer the requests for which `refuses` returns true with `status`, and return the list of all requests."""

    def simulated_requests(refuses: Callable[[Request], bool], *, status: int = 400) -> list[Request]:
        onespan, requests = api(account, api_key=API_KEY, clock=clock), []

        def app(environ: Any, start_response: Any) -> Any:
            requests.append(request := Request(environ))
            return (Response("{}", status) if refuses(request) else onespan)(environ, start_response)

        connect(handlers.onespan, app)
        return requests

    return simulated_requests


@pytest.fixture
def doctor_of(settings: Settings, handlers: Handlers, clock: Clock) -> Callable[..., Result]:
    """Return a function that runs `flask doctor` with some changed settings."""

    def doctor_of(*, handlers: Handlers = handlers, **other: Any) -> Result:
        app = create_app(settings.model_copy(update=other), handlers=handlers, clock=clock)
        result = app.test_cli_runner().invoke(args=["doctor"])
        app.extensions[EXTENSION].database.close()
        return result

    return doctor_of


def lines(result: Result, mark: str = "ok|warn|FAIL") -> dict[str, str]:
    """Return the texts of the checks with this mark, such as `ok` or `FAIL`, by the label of the check."""
    printed = [LINE.fullmatch(line) for line in result.output.splitlines()[:-2]]
    assert all(printed), result.output
    return {line[2]: line[3] for line in printed if line and re.fullmatch(mark, line[1])}


def problems(result: Result) -> dict[str, str]:
    """Return the texts of the failures and warnings that `flask doctor` printed."""
    return lines(result, "warn|FAIL")


def test_a_healthy_service_has_no_problems(flask, database_url):
    """For a healthy service, each check of `flask doctor` prints one line without a problem."""
    result = flask("doctor")

    assert result.exit_code == 0, result.output
    assert problems(result) == {}
    passed = lines(result, "ok")
    standby = passed.pop("standby", "none is synchronous")
    assert standby.startswith("none is synchronous")
    assert set(passed) == {
        *("settings", "database", "callback keys", "journal", "clock", "spool", "JSON API", "dashboard"),
        *("handlers", "digest", "handler runs", "search", "credentials", "OneSpan", "registration"),
    }
    assert database_url.partition("+")[0].partition(":")[0] in passed["database"].lower()
    assert passed["callback keys"] == "1 key: test"
    assert passed["handlers"] == "1 handler for 1 event"
    assert ADDRESS in passed["OneSpan"]
    assert result.output.endswith("\n\n0 failures, 0 warnings.\n")


@on_postgresql
def test_the_doctor_says_whether_a_failover_may_lose_callbacks(flask, monkeypatch):
    """A server without a synchronous standby is no problem, but the doctor says what it lacks."""
    without = lines(flask("doctor"), "ok")["standby"]
    monkeypatch.setattr("app.cli.doctor.synchronous_standbys", lambda _: "FIRST 1 (*)")  # a setting of the server
    with_one = lines(flask("doctor"), "ok")["standby"]

    assert without == "none is synchronous; keeping every acknowledged callback through a failover needs one"
    assert with_one == "synchronous: FIRST 1 (*)"


def test_without_the_database_the_other_checks_run(doctor_of):
    """If the database is unavailable, only checks that need the database are reported as not checked."""
    result = doctor_of(database_url=SecretStr(f"postgresql+psycopg://user:{DATABASE}@127.0.0.1:1/nothing"))

    assert result.exit_code == 1
    assert "DATABASE_URL" in lines(result, "FAIL")["database"]
    not_checked = {"journal", "callbacks", "reconcile", "upgrade", "clock", "access", "digest", "search"}
    assert set(problems(result)) == {"database", "handler runs", *not_checked}
    assert {"spool", "OneSpan", "registration"} <= set(lines(result, "ok"))
    assert "canary" not in result.output


@on_sqlite
def test_an_empty_database_names_the_migration_command(doctor_of, tmp_path):
    """For an empty database, `flask doctor` reports a single failure, which names the migration command."""
    result = doctor_of(database_url=SecretStr(f"sqlite:///{tmp_path}/empty.db"))

    assert result.exit_code == 1
    assert "flask db upgrade" in lines(result, "FAIL")["database"]
    assert set(lines(result, "FAIL")) == {"database"}


def test_unsafe_settings_are_warnings(doctor_of, clock):
    """Short secrets, plain HTTP and tokens that end soon are warnings that name the setting and no secret."""
    tokens = Settings(api_tokens=f"short=canary-15-chars,soon:{clock().date()}={TOKEN}").api_tokens
    result = doctor_of(api_tokens=tokens, onespan_url="http://onespan.example.com", bind=":8000")

    output = result.output
    assert "the API token short has fewer than 16 characters" in output
    assert "ONESPAN_URL begins with http://" in output
    assert f"API tokens that end soon or have ended: soon ({clock().date()})" in output
    assert "Other machines reach BIND without a proxy" in output
    assert "canary" not in output


@on_sqlite
@pytest.mark.parametrize(
    ("other", "mark", "about", "message"),
    [
        ({"onespan_callback_keys": ()}, "FAIL", "callback keys", "ONESPAN_CALLBACK_KEYS"),
        ({"api_tokens": ()}, "warn", "JSON API", "API_TOKENS"),
        ({"dashboard_password": None}, "warn", "dashboard", "DASHBOARD_PASSWORD"),
        ({"onespan_url": None}, "warn", "OneSpan", "ONESPAN_URL"),
        ({"onespan_api_key": None}, "warn", "OneSpan", "ONESPAN_API_KEY"),
        ({"onespan_api_key": SecretStr("canary")}, "FAIL", "OneSpan", "rejected the credentials"),
        ({"callback_url": None}, "warn", "registration", URL),
        ({"callback_url": "https://other.example.com/callback"}, "FAIL", "registration", "flask callback register"),
    ],
)
def test_missing_and_wrong_settings_are_reported(doctor_of, other, mark, about, message):
    """A missing or wrong setting is a failure if the service cannot work, or a warning if it may be intended."""
    result = doctor_of(**other)

    assert message in lines(result, mark)[about]
    assert result.exit_code == (mark == "FAIL")
    assert "canary" not in result.output


@on_sqlite
def test_callback_keys_are_named_by_their_labels(doctor_of):
    """`flask doctor` names callback keys by their labels, which logs and rows contain too."""
    keys = Settings(onespan_callback_keys=f"summer=canary-new,spring={KEY}").onespan_callback_keys

    result = doctor_of(onespan_callback_keys=keys)

    assert lines(result, "ok")["callback keys"] == "2 keys: summer, spring (the first is the newest)"
    assert "not the newest, summer" in problems(result)["registration"]
    assert (result.exit_code, "canary" in result.output) == (0, False)


@on_sqlite
def test_handlers_are_counted(doctor_of, handlers):
    """`flask doctor` mentions a handler of every event, and warns if there is no handler at all."""
    empty = Handlers()
    empty.onespan = handlers.onespan

    @handlers.on("*")
    def archive(event: Any, package: Any) -> None: ...

    assert "app/handlers.py" in problems(doctor_of(handlers=empty))["handlers"]
    assert lines(doctor_of())["handlers"] == "2 handlers for 1 event and `*`"


@on_sqlite
def test_differences_of_the_registration_are_failures(flask, account):
    """Each difference in the callback registration is a failure on its own line."""
    account.registration = replace(RIGHT, key="canary-other", events=frozenset({"KBA_FAILURE"}))

    result = flask("doctor")

    assert result.exit_code == 1
    assert result.output.count("FAIL  registration ") == 2
    assert "2 failures, 0 warnings." in result.output
    assert "canary" not in result.output


@on_sqlite
@pytest.mark.parametrize(
    ("answer", "mark", "message"),
    [
        (Response("{}", 403), "FAIL", "owner"),
        (Response("<html>Forbidden</html>", 403, content_type="text/html"), "FAIL", "in front of OneSpan"),
        (Response("error code: 1020", 403, content_type="text/plain"), "FAIL", "in front of OneSpan"),
        (Response("", 302, {"Location": "https://canary.example.com/canary"}), "FAIL", "a redirect"),
        (Response("<html>", 404, content_type="text/html"), "FAIL", "ONESPAN_URL"),
        (Response("{}", 404), "FAIL", "Not found"),
        (Response("{}", 429, {"Retry-After": "90"}), "warn", "90 s"),
        (Response("{}", 401), "FAIL", "credentials"),
        (Response("{}", 503), "FAIL", ADDRESS),
        (Response("<html>", 200, content_type="text/html"), "FAIL", "ONESPAN_URL"),
        (Response("[]", 200), "FAIL", "cannot be read"),
        (Response("{}", 200), "FAIL", "not a list of packages"),
        (Response('{"count": 1, "results": {}}', 200), "FAIL", "not a list of packages"),
        (Response('{"count": 1, "results": [7]}', 200), "FAIL", "no row of its list is a package"),
        (Response("OK", 200), "FAIL", "not JSON"),
        (Response("\n<!doctype html>", 200), "FAIL", "a web page"),
    ],
)
def test_errors_of_onespan_are_reported(flask, handlers, answer, mark, message):
    """OneSpan passes only if the list request of a reconcile gets a list; each other answer has its own sentence."""
    connect(handlers.onespan, answer)

    result = flask("doctor")

    assert message in lines(result, mark)["OneSpan"]
    assert "registration" not in lines(result)
    assert result.exit_code == (mark == "FAIL")


@on_sqlite
def test_the_doctor_sends_the_request_of_the_next_reconcile(flask, handlers, account, service, simulated_requests):
    """The doctor sends the list request of the next reconcile; a server that only answers others does not pass."""
    requests = simulated_requests(lambda request: "lastUpdatedStartDate" in request.args)
    assert flask("doctor").exit_code == 0
    while service.reconcile.turn() or service.fetcher.turn() or service.digest.turn():
        pass
    refused = flask("doctor")

    (first, *_, last) = [request for request in requests if request.path == "/api/packages"]
    assert first.args.to_dict() == {"from": "0", "to": "99", "sort": "updated", "dir": "desc"}
    assert {"lastUpdatedStartDate", "lastUpdatedEndDate"} <= set(last.args)
    assert "rejected the request" in lines(refused, "FAIL")["OneSpan"]


@on_sqlite
def test_a_registration_that_may_not_be_read_is_a_warning(flask, handlers, simulated_requests):
    """A 403 for the registration is only a warning, because reconcile needs other rights."""
    simulated_requests(lambda request: request.path == "/api/callback", status=403)

    result = flask("doctor")

    assert "owner" in lines(result, "warn")["registration"]
    assert "OneSpan" in lines(result, "ok")
    assert result.exit_code == 0


@on_sqlite
@pytest.mark.parametrize(
    ("today", "verb"),
    [(datetime(2026, 11, 30, 23, 59, tzinfo=UTC), "stop"), (datetime(2026, 12, 1, tzinfo=UTC), "stopped")],
)
def test_an_old_api_key_is_a_warning(doctor_of, account, clock, today, verb):
    """API keys of fewer than 76 characters stop on 2026-12-01; the warning recommends OAuth 2.0 instead."""
    clock.now = today
    for length, has_warning in ((75, True), (76, False)):
        handlers = Handlers()
        connect(handlers.onespan, api(account, api_key="k" * length, clock=clock))
        result = doctor_of(handlers=handlers, onespan_api_key=SecretStr("k" * length))

        assert "OneSpan" in lines(result, "ok")
        assert ("credentials" in problems(result)) == has_warning
        assert "OAuth 2.0" in lines(result)["credentials"]
        assert (f"characters {verb} working on 2026-12-01" in result.output) == has_warning


@on_sqlite
def test_a_pasted_scheme_is_ignored_and_reported(doctor_of, account):
    """`Basic ` at the start of an API key or callback key is ignored, and the warning names the setting."""
    keys = Settings(onespan_callback_keys=f"summer=Basic {KEY}").onespan_callback_keys
    secret = SecretStr(f"Basic {API_KEY}")

    result = doctor_of(onespan_api_key=secret, onespan_callback_keys=keys)

    assert {"OneSpan", "registration"} <= set(lines(result, "ok")), result.output
    message = problems(result)["credentials"]
    assert "the callback key summer and ONESPAN_API_KEY" in message
    assert (KEY in result.output, API_KEY in result.output, result.exit_code) == (False, False, 0)


def test_a_wrong_clock_is_a_warning(flask, clock):
    """A wrong clock is a warning, because leases would end too early or too late."""
    clock.forward(-timedelta(minutes=2))

    result = flask("doctor")

    assert "NTP" in problems(result)["clock"]
    assert result.exit_code == 0


@on_sqlite
def test_the_spool_is_checked(flask, settings, clock):
    """`flask doctor` reports waiting files, damaged files, and a spool that is not writable."""
    settings.spool_dir.mkdir()
    for name in ("1.json", "2.json", "3.damaged"):
        (settings.spool_dir / name).touch()
    full = flask("doctor")
    for file in settings.spool_dir.iterdir():
        file.unlink()
    settings.spool_dir.rmdir()
    settings.spool_dir.touch()
    clock.forward(timedelta(seconds=5))  # a good probe counts so long in this process
    shut = flask("doctor")

    assert "warn  spool          Callbacks waiting in the spool for the database: 2." in full.output
    assert "warn  spool          Damaged files in the spool: 1." in full.output
    assert "SPOOL_DIR is not writable" in problems(shut)["spool"]
    assert (full.exit_code, shut.exit_code) == (0, 0)


def test_callbacks_that_are_not_digested_are_a_failure(flask, send_callback, clock):
    """Callbacks that are not digested after 12 minutes are a failure; callbacks that have just arrived are not."""
    send_callback("PACKAGE_COMPLETE", package="pkg-1")
    send_callback("PACKAGE_COMPLETE", package="pkg-2")
    soon = flask("doctor")
    clock.forward(timedelta(minutes=12))
    late = flask("doctor")

    assert "journal" in lines(soon, "ok")
    assert "2 callbacks not digested, the oldest for 12 min" in lines(late, "FAIL")["journal"]
    assert "flask worker" in lines(late, "FAIL")["journal"]


def test_failed_callbacks_and_parked_runs_are_counted(flask, service, send_callback, work):
    """`flask doctor` names a command for failed callbacks and parked runs, but no reasons, which may name persons."""
    send_callback("PACKAGE_DECLINE", sessionUser=ADA, message=f"{PERSON} is ill", happened_at=datetime.now(UTC) - HOUR)
    work()
    send_callback("PACKAGE_COMPLETE")
    with service.database.write() as connection:
        connection.execute(
            text(
                "UPDATE journal SET state = 'failed', digested_at = received_at, error = :why WHERE digested_at IS NULL"
            ),
            {"why": f"it could not be digested: {PERSON}"},
        )

    result = flask("doctor")

    assert "flask replay --state parked" in problems(result)["handler runs"]
    assert problems(result)["handler runs"].startswith("1 run parked")
    assert result.exit_code == 0
    assert PERSON not in result.output
    assert problems(result)["digest"].startswith("1 callback failed")
    assert "flask replay --set-aside" in problems(result)["digest"]


@on_sqlite
def test_a_missing_or_readable_settings_file_is_reported(flask, monkeypatch, tmp_path):
    """A missing settings file is a failure; a settings file that all users can read is a warning."""
    file = tmp_path / "settings.env"
    monkeypatch.setenv("SETTINGS_FILE", str(file))
    missing = flask("doctor")
    file.write_text("API_TOKENS=canary\n")
    file.chmod(0o644)
    readable = flask("doctor")
    file.chmod(0o640)
    right = flask("doctor")

    assert "flask setup" in lines(missing, "FAIL")["settings"]
    assert "chmod o-r" in lines(readable, "warn")["settings"]
    assert lines(right)["settings"] == str(file)
    assert [missing.exit_code, readable.exit_code, right.exit_code] == [1, 0, 0]


@on_sqlite
def test_colour_is_for_terminals(flask):
    """`flask doctor` prints colours on terminals only; in other outputs, lines are plain and not wrapped."""
    plain, coloured = flask("doctor"), flask("doctor", color=True)

    assert "\x1b" not in plain.output
    assert "\x1b[32mok\x1b[0m    database" in coloured.output
    assert re.sub(r"\x1b\[\d+m", "", coloured.output) == plain.output


def test_law_11_the_doctor_prints_no_secret(doctor_of, account, database_url):
    """`flask doctor` prints secrets neither in passed checks nor in failures."""
    healthy = doctor_of()
    account.registration = Registration("https://cleo:canary@x.example.com/?canary", "canary-other", frozenset())
    broken = doctor_of(database_url=SecretStr(f"postgresql+psycopg://canary:{DATABASE}@127.0.0.1:1/nothing"))

    assert "FAIL" in broken.output
    for secret in ("canary", KEY, TOKEN, API_KEY):
        assert secret not in healthy.output + broken.output


@on_sqlite
def test_a_check_that_cannot_run_is_a_warning(flask, monkeypatch):
    """A check that cannot run is a warning, for example if the user has no access to the spool."""

    def forbidden(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", forbidden)

    result = flask("doctor")

    assert problems(result)["spool"] == "Not checked: Permission denied."
    assert "registration" in lines(result, "ok")
