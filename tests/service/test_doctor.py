"""`flask doctor`: it looks at everything, says what is wrong and what to do, and goes on whatever it meets."""

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
from werkzeug.wrappers import Response

from app import EXTENSION, create_app
from app.errors import GiveUp
from app.onespan.catalogue import CATALOGUE
from app.onespan.client import OneSpan
from app.simulator.account import Account, Registration
from app.simulator.server import api
from app.work.dispatch import Handlers
from config import Settings
from tests.conftest import ADA, HOUR, KEY, TOKEN, Clock, on_sqlite
from tests.support.simulated import ADDRESS, API_KEY, connect

URL = "https://sign.example.com/onespan/callback"
PASSWORD, DATABASE, PERSON = "canary-dashboard", "canary-database", "canary-ada@example.com"
RIGHT = Registration(URL, KEY, frozenset(CATALOGUE))
LINE = re.compile(r"(ok|warn|FAIL) +(\S+(?: \S+)*?)  +(\S.*)")


@pytest.fixture
def clock() -> Clock:
    """This moment, for the database has a clock of its own."""
    return Clock(datetime.now(UTC))


@pytest.fixture
def account() -> Account:
    """It calls us as we want it."""
    account = Account(1, packages=0)
    account.registration = RIGHT
    return account


@pytest.fixture
def handlers(account, clock) -> Handlers:
    """One handler that gives up, and a OneSpan to ask."""
    handlers = Handlers()
    handlers.onespan = OneSpan(backoff=0)
    connect(handlers.onespan, api(account, api_key=API_KEY, clock=clock))

    @handlers.on("PACKAGE_DECLINE")
    def call_signer(event: Any, package: Any) -> None:
        raise GiveUp(f"{PERSON} does not answer")

    return handlers


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """All that there is to be set, each secret where there can be one."""
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
def doctor_of(settings: Settings, handlers: Handlers, clock: Clock) -> Callable[..., Result]:
    """`flask doctor` of a service with some other settings."""

    def doctor_of(*, handlers: Handlers = handlers, **other: Any) -> Result:
        app = create_app(settings.model_copy(update=other), handlers=handlers, clock=clock)
        result = app.test_cli_runner().invoke(args=["doctor"])
        app.extensions[EXTENSION].database.close()
        return result

    return doctor_of


def lines(result: Result, mark: str = "ok|warn|FAIL") -> dict[str, str]:
    """What is said of each thing that has this mark."""
    told = [LINE.fullmatch(line) for line in result.output.splitlines()[:-2]]
    assert all(told), result.output
    return {line[2]: line[3] for line in told if line and re.fullmatch(mark, line[1])}


def wrong(result: Result) -> dict[str, str]:
    """What is not as it should be."""
    return lines(result, "warn|FAIL")


def test_a_healthy_service_is_told_so(flask, database_url):
    """One line for each thing that was looked at, on both databases."""
    result = flask("doctor")

    assert result.exit_code == 0, result.output
    assert wrong(result) == {}
    well = lines(result, "ok")
    assert set(well) == {
        *("settings", "database", "callback keys", "journal", "clock", "spool", "JSON API", "dashboard"),
        *("handlers", "set aside", "handler runs", "search", "OneSpan", "registration"),
    }
    assert database_url.partition("+")[0].partition(":")[0] in well["database"].lower()
    assert well["callback keys"] == "test"
    assert well["handlers"] == "1 function for 1 event"
    assert ADDRESS in well["OneSpan"]
    assert result.output.endswith("\n\n0 failures, 0 warnings.\n")


def test_without_the_database_it_says_so_and_goes_on(doctor_of):
    """What can be looked at without it is looked at."""
    result = doctor_of(database_url=SecretStr(f"postgresql+psycopg://nobody:{DATABASE}@127.0.0.1:1/nothing"))

    assert result.exit_code == 1
    assert "DATABASE_URL" in lines(result, "FAIL")["database"]
    unknown = {"journal", "callbacks", "reconcile", "clock", "set aside", "handler runs", "search"}
    assert set(wrong(result)) == {"database", *unknown}
    assert {"spool", "OneSpan", "registration"} <= set(lines(result, "ok"))
    assert "canary" not in result.output


@on_sqlite
def test_before_the_migration_it_says_which_command_helps(doctor_of, tmp_path):
    """And nothing else about the tables that are not there."""
    result = doctor_of(database_url=SecretStr(f"sqlite:///{tmp_path}/empty.db"))

    assert result.exit_code == 1
    assert "flask db upgrade" in lines(result, "FAIL")["database"]
    assert set(lines(result, "FAIL")) == {"database"}


@on_sqlite
@pytest.mark.parametrize(
    ("other", "mark", "about", "said"),
    [
        ({"onespan_callback_keys": ()}, "FAIL", "callback keys", "ONESPAN_CALLBACK_KEYS"),
        ({"api_tokens": ()}, "warn", "JSON API", "API_TOKENS"),
        ({"dashboard_password": None}, "warn", "dashboard", "DASHBOARD_PASSWORD"),
        ({"onespan_url": None}, "warn", "OneSpan", "ONESPAN_URL"),
        ({"onespan_api_key": None}, "warn", "OneSpan", "ONESPAN_API_KEY"),
        ({"onespan_api_key": SecretStr("canary")}, "FAIL", "OneSpan", "does not take our credentials"),
        ({"callback_url": None}, "warn", "registration", URL),
        ({"callback_url": "https://other.example.com/callback"}, "FAIL", "registration", "flask callback register"),
    ],
)
def test_what_is_not_set_or_not_right_is_said_with_what_to_do(doctor_of, other, mark, about, said):
    """A failure where nothing can work, a warning where somebody may want it so."""
    result = doctor_of(**other)

    assert said in lines(result, mark)[about]
    assert result.exit_code == (mark == "FAIL")
    assert "canary" not in result.output


@on_sqlite
def test_the_newest_key_is_told_by_its_label(doctor_of):
    """Labels are what logs and rows have."""
    keys = Settings(onespan_callback_keys=f"summer=canary-new,spring={KEY}").onespan_callback_keys

    result = doctor_of(onespan_callback_keys=keys)

    assert lines(result, "ok")["callback keys"] == "summer, spring (the first is the newest)"
    assert "not the newest, summer" in wrong(result)["registration"]
    assert (result.exit_code, "canary" in result.output) == (0, False)


@on_sqlite
def test_handlers_are_counted(doctor_of, handlers):
    """One of all events is named; none at all is worth a look."""
    nobody = Handlers()
    nobody.onespan = handlers.onespan

    @handlers.on("*")
    def archive(event: Any, package: Any) -> None: ...

    assert "app/handlers.py" in wrong(doctor_of(handlers=nobody))["handlers"]
    assert lines(doctor_of())["handlers"] == "2 functions for 1 event, some of them for every event (`*`)"


@on_sqlite
def test_what_is_wrong_with_the_registration_fails(flask, account):
    """Each difference on a line of its own, whatever it is about."""
    account.registration = replace(RIGHT, key="canary-other", events=frozenset({"KBA_FAILURE"}))

    result = flask("doctor")

    assert result.exit_code == 1
    assert result.output.count("FAIL  registration ") == 2
    assert "2 failures, 0 warnings." in result.output
    assert "canary" not in result.output


@on_sqlite
@pytest.mark.parametrize(
    ("answer", "mark", "said"),
    [
        (Response("{}", 403), "warn", "owner"),
        (Response("{}", 429, {"Retry-After": "90"}), "warn", "90 s"),
        (Response("{}", 401), "FAIL", "credentials"),
        (Response("{}", 503), "FAIL", ADDRESS),
        (Response("<html>", 200, content_type="text/html"), "FAIL", "ONESPAN_URL"),
        (Response("[]", 200), "FAIL", "cannot be read"),
    ],
)
def test_a_onespan_that_does_not_answer_as_it_should_is_said(flask, handlers, answer, mark, said):
    """A 403 is only a warning: these credentials may do all else."""
    connect(handlers.onespan, answer)

    result = flask("doctor")

    assert said in lines(result, mark)["OneSpan"]
    assert "registration" not in lines(result)
    assert result.exit_code == (mark == "FAIL")


def test_a_clock_that_is_wrong_is_said(flask, clock):
    """Leases would end too early or too late."""
    clock.forward(-timedelta(minutes=2))

    result = flask("doctor")

    assert "NTP" in wrong(result)["clock"]
    assert result.exit_code == 0


@on_sqlite
def test_the_spool_is_looked_into(flask, settings):
    """What waits there, what cannot be read, and whether it takes anything."""
    settings.spool_dir.mkdir()
    for name in ("one.json", "two.json", "three.damaged"):
        (settings.spool_dir / name).touch()
    full = flask("doctor")
    for file in settings.spool_dir.iterdir():
        file.unlink()
    settings.spool_dir.rmdir()
    settings.spool_dir.touch()
    shut = flask("doctor")

    assert "warn  spool          Callbacks waiting in the spool for the database: 2." in full.output
    assert "warn  spool          Damaged files in the spool: 1." in full.output
    assert "SPOOL_DIR is not writable" in wrong(shut)["spool"]
    assert (full.exit_code, shut.exit_code) == (0, 0)


def test_callbacks_that_nobody_digests_fail(flask, tell, clock):
    """A few that have just come are nothing to worry about."""
    tell("PACKAGE_COMPLETE", package="one")
    tell("PACKAGE_COMPLETE", package="two")
    soon = flask("doctor")
    clock.forward(timedelta(minutes=12))
    late = flask("doctor")

    assert "journal" in lines(soon, "ok")
    assert "2 callbacks not digested, the oldest for 12 min" in lines(late, "FAIL")["journal"]
    assert "flask worker" in lines(late, "FAIL")["journal"]


def test_what_was_set_aside_and_what_is_parked_is_counted(flask, service, tell, work):
    """With the command that helps; who gave up and why is not told here."""
    tell("PACKAGE_DECLINE", sessionUser=ADA, message=f"{PERSON} is ill", happened_at=datetime.now(UTC) - HOUR)
    work()
    tell("PACKAGE_COMPLETE")
    with service.database.write() as connection:
        connection.execute(
            text(
                "UPDATE journal SET state = 'failed', digested_at = received_at, error = :why WHERE digested_at IS NULL"
            ),
            {"why": f"it could not be digested: {PERSON}"},
        )

    result = flask("doctor")

    assert "flask replay --state parked" in wrong(result)["handler runs"]
    assert wrong(result)["handler runs"].startswith("1 run parked")
    assert result.exit_code == 0
    assert PERSON not in result.output
    assert wrong(result)["set aside"].startswith("1 callback, with the reason")
    assert "flask replay --set-aside" in wrong(result)["set aside"]


@on_sqlite
def test_a_settings_file_that_is_missing_or_open_to_all_is_said(flask, monkeypatch, tmp_path):
    """The one is looked for in vain, the other has secrets in it."""
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
    """A file or another program gets plain lines, each whole."""
    plain, coloured = flask("doctor"), flask("doctor", color=True)

    assert "\x1b" not in plain.output
    assert "\x1b[32mok\x1b[0m    database" in coloured.output
    assert re.sub(r"\x1b\[\d+m", "", coloured.output) == plain.output


def test_law_11_the_doctor_prints_no_secret(doctor_of, account, database_url):
    """Neither when all is well nor when nothing is."""
    well = doctor_of()
    account.registration = Registration("https://cleo:canary@x.example.com/?canary", "canary-other", frozenset())
    ill = doctor_of(database_url=SecretStr(f"postgresql+psycopg://canary:{DATABASE}@127.0.0.1:1/nothing"))

    assert "FAIL" in ill.output
    for secret in ("canary", KEY, TOKEN, API_KEY):
        assert secret not in well.output + ill.output


@on_sqlite
def test_what_cannot_be_looked_at_is_a_warning(flask, monkeypatch):
    """Somebody else's user may not see the spool."""

    def forbidden(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", forbidden)

    result = flask("doctor")

    assert wrong(result)["spool"] == "Cannot be looked at: Permission denied."
    assert "registration" in lines(result, "ok")
