"""Each `flask` command does one thing, prints the result, and exits with 0 on success."""

import re
from collections.abc import Callable
from typing import Any

import click
import pytest
from flask import Flask
from flask.cli import FlaskGroup
from sqlalchemy import make_url, select, text

from app import EXTENSION, create_app
from app.handling import Event, GiveUp, Handlers, Package
from app.store.models import Dispatch, Journal
from app.store.models import Event as EventRow
from config import Settings
from tests.conftest import ADA, BEN, HOUR, NOON, on_sqlite

COMMANDS = (
    "setup",
    "worker",
    "replay",
    "rebuild",
    "callback show",
    "callback register",
    "callback check",
    "doctor",
    "simulate",
)


@pytest.fixture
def handlers(handlers: Handlers) -> Handlers:
    """Three handlers: one files documents, one gives up on declined packages, and one runs for every event."""

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETE")
    def file_documents(event: Event, package: Package) -> None: ...

    @handlers.on("PACKAGE_DECLINE")
    def call_ben(event: Event, package: Package) -> None:
        raise GiveUp("Ben does not answer")

    @handlers.on("*")
    def archive(event: Event, package: Package) -> None: ...

    return handlers


@pytest.fixture
def past(send_callback: Any, work: Any) -> None:
    """Four events of two packages, three hours apart; one handler run is parked."""
    send_callback("PACKAGE_ACTIVATE", package="one", happened_at=NOON - 9 * HOUR, sessionUser=ADA)
    send_callback("PACKAGE_READY_FOR_COMPLETION", package="one", happened_at=NOON - 6 * HOUR)
    send_callback("PACKAGE_COMPLETE", package="one", happened_at=NOON - 3 * HOUR, sessionUser=ADA)
    send_callback("PACKAGE_DECLINE", package="two", happened_at=NOON, sessionUser=BEN, message="too dear")
    work()


@pytest.fixture
def runs(service: Any) -> Callable[[], dict[tuple[str, str, str], str]]:
    """Return the state of every dispatch, by package, event and handler."""

    def runs() -> dict[tuple[str, str, str], str]:
        found = select(EventRow.package_id, EventRow.name, Dispatch.handler, Dispatch.state).join(
            EventRow, EventRow.id == Dispatch.event_id
        )
        with service.database.read() as connection:
            return {(row.package_id, row.name, row.handler): row.state for row in connection.execute(found)}

    return runs


SELECTIONS = [
    (["--event", "PACKAGE_COMPLETE"], 2),
    (["--event", "PACKAGE_READY_FOR_COMPLETE"], 2),
    (["--event", "PACKAGE_READY_FOR_COMPLETION"], 2),
    (["--event", "PACKAGE_EXPIRE"], 0),
    (["--event", "PACKAGE_HATCHED"], 0),
    (["--handler", "archive"], 4),
    (["--handler", "call_ben"], 1),
    (["--package", "one"], 5),
    (["--package", "ONE"], 0),
    (["--state", "parked"], 1),
    (["--state", "done"], 6),
    (["--state", "due"], 0),
    (["--state", "discarded"], 0),
    (["--since", "2026-03-02T09:00:00Z"], 4),
    (["--since", "2026-03-02T09:00:00"], 4),
    (["--since", "2026-03-02T10:00:00+01:00"], 4),
    (["--since", "2026-03-02T09:00:00.001Z"], 2),
    (["--since", "2026-03-02"], 7),
    (["--until", "2026-03-02T09:00:00Z"], 3),
    (["--until", "2026-03-02"], 0),
    (["--since", "2026-03-02T06:00:00Z", "--until", "2026-03-02T09:00:00Z"], 2),
    (["--package", "one", "--handler", "archive", "--since", "2026-03-02T06:00:00Z", "--state", "done"], 2),
]


@on_sqlite
def test_a_dry_run_counts_and_changes_nothing(past, flask, runs):
    """A dry run of `flask replay` counts the runs that its options select, and changes nothing."""
    before = runs()

    for options, count in SELECTIONS:
        result = flask("replay", *options, "--dry-run")
        assert result.exit_code == 0, result.output
        assert f"{count} run{'' if count == 1 else 's'} would be made due." in result.output, options

    assert runs() == before


def test_a_replayed_run_has_all_its_attempts_again(past, flask, runs, work, read):
    """A replay resets the attempts of a parked run and closes its attention reason until the run is parked again."""
    done = flask("replay", "--package", "two")

    assert (done.exit_code, "Due now: 2 runs." in done.output) == (0, True)
    assert {run for run, state in runs().items() if state == "due"} == {
        ("two", "PACKAGE_DECLINE", "call_ben"),
        ("two", "PACKAGE_DECLINE", "archive"),
    }
    assert [issue["reason"] for issue in read("/api/packages/two")["attention"]] == ["DECLINED"]
    work()
    assert set(runs().values()) == {"done", "parked"}
    (event,) = read("/api/events", package="two")["items"]
    assert {dispatch["attempts"] for dispatch in event["dispatches"]} == {1}


def test_replay_makes_due_what_the_dry_run_counts(past, flask, runs, work, service):
    """`flask replay` makes as many runs due as its dry run counts, and skips runs in the state `running`."""
    for options, count in (SELECTIONS[2], SELECTIONS[8], SELECTIONS[9], SELECTIONS[13], SELECTIONS[18], SELECTIONS[21]):
        result = flask("replay", *options)
        assert f"Due now: {count} run{'' if count == 1 else 's'}." in result.output, options
        assert list(runs().values()).count("due") == count
        work()
    with service.database.write() as connection:
        connection.execute(text("UPDATE dispatches SET state = 'running' WHERE handler = 'archive'"))

    done = flask("replay", "--package", "one")

    assert "Due now: 2 runs." in done.output
    assert list(runs().values()).count("running") == 4


def test_a_new_handler_catches_up(past, flask, runs, handlers, work):
    """`flask replay --missing` runs a new handler for the older events to which the handler subscribes."""

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_DECLINE")
    def newcomer(event: Event, package: Package) -> None: ...

    counted = flask("replay", "--handler", "newcomer", "--missing", "--dry-run")
    before = runs()
    some = flask("replay", "--handler", "newcomer", "--missing", "--package", "two")
    rest = flask("replay", "--handler", "newcomer", "--missing")
    again = flask("replay", "--handler", "newcomer", "--missing")
    work()

    assert "2 runs would be made due." in counted.output
    assert not any(handler == "newcomer" for _, _, handler in before)
    assert ["Due now: 1 run." in some.output, "Due now: 1 run." in rest.output] == [True, True]
    assert "Due now: 0 runs." in again.output
    assert {(package, name) for package, name, handler in runs() if handler == "newcomer"} == {
        ("one", "PACKAGE_COMPLETE"),
        ("two", "PACKAGE_DECLINE"),
    }
    assert {state for (_, _, handler), state in runs().items() if handler == "newcomer"} == {"done"}


@on_sqlite
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Select runs with"),
        (["--dry-run"], "Select runs with"),
        (["--missing"], "Select runs with"),
        (["--missing", "--package", "one"], "--handler"),
        (["--missing", "--handler", "archive", "--state", "done"], "--state"),
        (["--handler", "unknown"], "archive"),
        (["--state", "running"], "parked"),
        (["--since", "yesterday"], "2026-01-31"),
        (["--until", "2026-02-30"], "2026-01-31"),
        (["--colour", "blue"], "--colour"),
        (["one"], "one"),
    ],
    ids=str,
)
def test_invalid_options_are_refused_with_a_hint(past, flask, runs, options, message):
    """`flask replay` exits with 2 and changes nothing if an option is invalid."""
    before = runs()

    refused = flask("replay", *options)

    assert refused.exit_code == 2, refused.output
    assert message in refused.output
    assert runs() == before


@on_sqlite
def test_an_unknown_event_is_accepted_with_a_note(send_callback, work, flask):
    """`flask replay` accepts an unknown event name, because OneSpan may have added the event recently."""
    send_callback("PACKAGE_HATCHED")
    work()

    done = flask("replay", "--event", "PACKAGE_HATCHED", "--dry-run")

    assert done.exit_code == 0
    assert "PACKAGE_HATCHED is not one of the" in done.output
    assert "1 run would" in done.output


def test_law_8_rebuild_finds_and_repairs_differences(past, flask, service, read):
    """`flask rebuild --check` exits with 1 if packages differ from the journal; `flask rebuild` repairs packages."""
    clean = flask("rebuild", "--check")
    with service.database.write() as connection:
        connection.execute(text("UPDATE packages SET status = 'SENT' WHERE id = 'two'"))
    found = flask("rebuild", "--check")
    stored = read("/api/packages/two")["status"]
    repaired = flask("rebuild")
    again = flask("rebuild", "--check")

    assert (clean.exit_code, "2 packages, 0 differences." in clean.output) == (0, True)
    assert (found.exit_code, "two package status" in found.output, stored) == (1, True, "SENT")
    assert (repaired.exit_code, "repaired" in repaired.output) == (0, True)
    assert (again.exit_code, read("/api/packages/two")["status"]) == (0, "DECLINED")


@on_sqlite
def test_rebuild_runs_no_handler(past, flask, service, runs, read):
    """`flask rebuild` runs no handlers, because handlers have already run for the events."""
    before = runs()
    with service.database.write() as connection:
        connection.execute(text("UPDATE packages SET status = 'SENT'"))

    flask("rebuild")

    assert runs() == before
    history = read("/api/packages/two/history")["items"]
    assert {change["cause"]["kind"] for change in history} == {"callback", "dispatch", "rebuild"}


@on_sqlite
def test_setup_writes_secrets_once_and_prints_none(flask, tmp_path, monkeypatch, database_url):
    """`flask setup` prints the settings file, the addresses, the handlers file and the database, but no secrets."""
    file = tmp_path / "fresh" / "settings.env"
    monkeypatch.setenv("SETTINGS_FILE", str(file))
    monkeypatch.setenv("DATABASE_URL", "postgresql://cleo:canary@db.example/status")

    first, second = flask("setup"), flask("setup")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "(created, with new secrets)" in first.output
    assert "(created" not in second.output
    secrets = re.findall(r"=(?:first=)?(\S{30,})$", file.read_text(), flags=re.MULTILINE)
    assert len(set(secrets)) == 4
    for output in (first.output, second.output):
        assert not [secret for secret in (*secrets, "canary") if secret in output]
        for shown in (str(file), "/onespan/callback", "/api/", "handlers.py", "db.example"):
            assert shown in output
    assert make_url(database_url).database


@on_sqlite
def test_law_11_setup_hides_a_password_in_the_parameters_of_the_url(flask, tmp_path, monkeypatch):
    """`flask setup` hides a password in the parameters of `DATABASE_URL`, where libpq accepts passwords too."""
    monkeypatch.setenv("SETTINGS_FILE", str(tmp_path / "settings.env"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/status?user=cleo&password=canary")

    assert "canary" not in flask("setup").output


def commands(group: click.Group, *names: str) -> list[tuple[str, click.Command]]:
    """Return all commands of a group, with their full names."""
    context = click.Context(group)
    found: list[tuple[str, click.Command]] = []
    for name in names or group.list_commands(context):
        command = group.get_command(context, name)
        assert command, name
        is_group = isinstance(command, click.Group)
        inner = [(f"{name} {word}", below) for word, below in commands(command)] if is_group else []
        found += [(name, command), *inner]
    return found


@on_sqlite
def test_every_command_and_option_has_a_help_text(app: Flask, flask):
    """Every command and option has a help text, except Alembic's commands under `flask db`."""
    own = [(name, command) for name, command in commands(app.cli) if not name.startswith("db")]

    assert set(COMMANDS) <= {name for name, _ in own}
    for name, command in own:
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (name, option.name)
        result = flask(*name.split(), "--help")
        assert (result.exit_code, "Usage:" in result.output) == (0, True)
        assert "Args:" not in result.output


@on_sqlite
def test_the_migrations_are_flask_db(flask, service):
    """`flask db upgrade` succeeds and changes nothing on an up-to-date database."""
    done = flask("db", "upgrade")

    assert done.exit_code == 0, done.output
    with service.database.read() as connection:
        assert connection.execute(select(Journal)).all() == []


@on_sqlite
def test_a_replay_of_many_goes_in_chunks(send_callback, work, flask, runs):
    """A replay in several transactions makes each run due once and prints its progress in plain lines."""
    for number in range(260):
        send_callback("PACKAGE_COMPLETE", package=f"pkg-{number}")
    work()

    done = flask("replay", "--event", "PACKAGE_COMPLETE")

    assert "Due now: 520 runs." in done.output
    assert set(runs().values()) == {"due"}
    assert re.search(r"Making due: \d+ of 520", done.output)


@pytest.mark.parametrize(
    "arguments", [("replay", "--state", "parked"), ("replay", "--set-aside"), ("rebuild", "--check"), ("rebuild",)]
)
@pytest.mark.parametrize("url", ["postgresql://user@127.0.0.1:1/nothing", "sqlite:///{folder}/empty.db"])
def test_a_command_without_its_database_says_so(url, arguments, tmp_path):
    """A command that cannot use its database prints one sentence with what to do, and exits with 2."""
    settings = Settings(database_url=url.format(folder=tmp_path), spool_dir=tmp_path / "spool")
    app = create_app(settings, handlers=Handlers())

    result = app.test_cli_runner().invoke(args=list(arguments))

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: The database ")
    assert "DATABASE_URL" in result.stderr or "flask db upgrade" in result.stderr
    assert len(result.stderr.splitlines()) < 4
    app.extensions[EXTENSION].database.close()


def test_migrating_without_a_database_says_so(tmp_path):
    """`flask db upgrade` without a database prints an error in one sentence, without a traceback."""
    settings = Settings(database_url="postgresql://user@127.0.0.1:1/nothing", spool_dir=tmp_path / "spool")
    app = create_app(settings, handlers=Handlers())

    result = app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app), ["db", "upgrade"])

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: The database does not answer")
    app.extensions[EXTENSION].database.close()


@on_sqlite
@pytest.mark.parametrize("option", ["--since=0001-01-01T00:00:00+14:00", "--until=9999-12-31T23:00:00-10:00"])
def test_a_time_out_of_range_is_refused(flask, option):
    """`flask replay` refuses a time that is out of range, without a traceback."""
    done = flask("replay", option, "--dry-run")

    assert (done.exit_code, "out of range" in done.output) == (2, True)
