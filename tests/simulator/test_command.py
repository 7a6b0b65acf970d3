"""Tests of the command `flask simulate`."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests
from flask import Flask

from app.errors import InvalidCallbackKey
from app.simulator import quirks
from app.simulator.anomalies import ANOMALIES
from app.simulator.faults import FAULTS
from app.simulator.features import FEATURES
from tests.conftest import KEY, on_sqlite
from tests.support.processes import BOOT_SECONDS, Process, until
from tests.support.simulated import API_KEY, AUTHORIZED, ROOT, callback_server, run, serving, wait_until


@on_sqlite
def test_the_command_plays_all_stories(app: Flask):
    """`flask simulate` plays all stories, prints the outcomes of the callbacks, and exits with 0."""
    with serving(app) as url:
        result = run("--packages", "5", "--seed", "2", "--url", url, "--key", KEY)

    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"5 packages, (\d+) callbacks: \1 accepted, 0 refused, 0 unreachable\.\n", result.stdout)
    assert "--seed 2" in result.stderr


@pytest.mark.parametrize(
    "setting", ["the-callback-key", "first=the-callback-key,second=other", " , the-callback-key , old"]
)
def test_the_command_uses_the_first_key_of_the_setting(setting):
    """`flask simulate` sends the first key of ONESPAN_CALLBACK_KEYS, without the key's label."""
    with callback_server() as server:
        result = run("--packages", "1", "--url", server.url, env={"ONESPAN_CALLBACK_KEYS": setting})

    assert result.exit_code == 0, result.output
    assert {request.headers["authorization"] for request in server.requests} == {f"Basic {KEY}"}


def test_the_command_sends_a_base64_key_whole():
    """`flask simulate` sends a base64 key whole, because a trailing `=` does not make the key a label."""
    with callback_server() as server:
        run("--packages", "1", "--url", server.url, "--key", "c2VjcmV0IQ==")

    assert server.requests[0].headers["authorization"] == "Basic c2VjcmV0IQ=="


def test_a_port_in_use_gives_a_one_line_error():
    """The error for a port that is in use says how to get a free port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--packages", "1", "--key", "k", "--serve", str(taken.getsockname()[1]))

    assert result.exit_code == 2
    assert "Use 0 for a free port" in result.stderr


@pytest.mark.parametrize("setting", [None, "", " , "])
def test_a_missing_key_gives_an_error_that_names_the_options(setting):
    """Without a callback key, `flask simulate` names the options that set the key, and sends no callback."""
    result = run("--packages", "1", env={"ONESPAN_CALLBACK_KEYS": setting})

    assert result.exit_code == 2
    assert "--key" in result.stderr
    assert "ONESPAN_CALLBACK_KEYS" in result.stderr


@on_sqlite
def test_a_refused_callback_is_reported(app: Flask):
    """`flask simulate` reports a refused callback once with the service's message, goes on, and exits with 1."""
    with serving(app) as url:
        result = run("--packages", "2", "--seed", "2", "--url", url, "--key", "wrong")

    assert result.exit_code == 1
    assert re.search(r"2 packages, (\d+) callbacks: 0 accepted, \1 refused \(401\), 0 unreachable", result.stdout)
    assert result.stderr.count(f"refused with 401: {InvalidCallbackKey()}") == 1
    assert "wrong" not in result.output


def test_an_unreachable_service_is_reported():
    """`flask simulate` reports an unreachable service at once, without a traceback, and exits with 1."""
    with callback_server() as server:
        pass

    result = run("--packages", "0", "--url", server.url, "--key", KEY)

    assert result.exit_code == 1
    assert f"No answer from {server.url}. Is the service running there?" in result.stderr
    assert "Traceback" not in result.output
    assert "0 accepted, 0 refused, 1 unreachable" in result.stdout


def test_the_command_goes_on_after_an_outage_of_the_service():
    """After an outage of the service, `flask simulate` counts undelivered callbacks but does not resend them."""
    with callback_server(answers=[200, None, 503, 200]) as server:
        result = run("--packages", "1", "--seed", "0", "--url", server.url, "--key", KEY)

    names = [json.loads(request.body)["name"] for request in server.requests]
    assert result.exit_code == 1
    assert f"1 package, {len(names)} callbacks: {len(names) - 2} accepted, 1 refused (503), 1 unr" in result.stdout
    assert len({request.body for request in server.requests}) == len(names) > 4


def test_the_command_serves_the_rest_api_until_ctrl_c(running_command):
    """With `--packages 0`, `flask simulate` serves the REST API until Ctrl-C, then prints outcomes and exits with 0."""
    with callback_server() as server:
        process = running_command("--packages", "0", "--rate", "200", "--url", server.url)
        address = address_in(process)
        wait_until(lambda: len(server.requests) > 20)
        count = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10).json()["count"]
        process.terminate(number=signal.SIGINT)
        code = process.wait()

    assert count > 0
    assert code == 0, process.output()
    assert f"{len(server.requests)} accepted, 0 refused, 0 unreachable." in process.output()


def test_keep_serving_answers_after_all_stories_have_ended(running_command):
    """With `--keep-serving`, packages can be read after all stories have ended, until the command is stopped."""
    arguments = ("--packages", "3", "--seed", "1", "--rate", "10000", "--keep-serving")
    with callback_server() as server:
        process = running_command(*arguments, "--url", server.url)
        address = address_at_the_end(process)
        answer = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)
        process.terminate()
        code = process.wait()

    assert answer.status_code == 200
    assert code == 0


def test_keep_serving_requires_serve():
    """The error for `--keep-serving` without `--serve` names both options."""
    result = run("--key", KEY, "--keep-serving")

    assert result.exit_code == 2
    assert "--keep-serving requires --serve" in result.stderr


@pytest.fixture
def running_command(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Return a function that runs `flask simulate` in a separate process."""
    processes: list[Process] = []

    def running_command(*arguments: str) -> Process:
        command = ["simulate", "--key", KEY, "--api-key", API_KEY, "--serve", "0", *arguments]
        process = Process(command, env=dict(os.environ), folder=ROOT, log=tmp_path / "simulate.log")
        processes.append(process)
        return process

    yield running_command
    for process in processes:
        process.kill()


def address_in(process: Process) -> str:
    """Return the address of the REST API that `flask simulate` printed."""
    return until(lambda: re.search(r"REST.*?(http://[\d.:]+\d)\D", process.output()), seconds=BOOT_SECONDS)[1]


def address_at_the_end(process: Process) -> str:
    """Return the address of the REST API after all stories have ended."""
    until(lambda: "still answers" in process.output() or process.ended, seconds=BOOT_SECONDS, what="the stories end")
    return address_in(process)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quirk", "list_first=2"), "list_first must be 0 | 0 to 1"),
        (("--quirk", "list_sort"), "list_sort must be honoured | ignored | ignored-with-dates"),
        (("--quirk", "weather=fine"), "unknown quirk 'weather'; choose from list_dates,"),
        (("--fault", "503=often"), "503 needs a rate from 0 to 1, as in 503=0.1"),
        (("--fault", "flood=1"), "unknown fault 'flood'; choose from 401,"),
        (("--feature", "flood=1"), "unknown feature 'flood'; choose from group,"),
        (("--clock-ahead", "1e9"), "-86400<=x<=86400"),
        (("--odd", "flood=1"), "unknown anomaly 'flood'; choose from redate,"),
        (("--fault", "503=0.6", "--fault", "500=0.6"), "must not exceed 1"),
        (("--drop", "2"), "0<=x<=1"),
        (("--senders", "-1"), "0<=x<=10000"),
        (("--url", "somewhere"), "must look like http://127.0.0.1:8000/onespan/callback"),
    ],
    ids=" ".join,
)
def test_invalid_values_give_an_error_with_the_valid_ones(arguments, message):
    """The error for an invalid option value lists the valid values."""
    result = run("--key", KEY, *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_the_help_explains_every_fault_anomaly_feature_and_quirk():
    """The help of `flask simulate` explains faults, anomalies, features and quirks, with rates and default values."""
    text = " ".join(run("--help").output.split())

    for name, values, help_text in quirks.descriptions():
        assert f"{name}={values} {help_text}" in text
    for name, (rate, help_text) in {**FAULTS, **ANOMALIES, **FEATURES}.items():
        assert f"{name}={rate:g} {help_text}" in text


def test_the_command_plays_a_bad_day():
    """On a bad day, callbacks are lost and undated, and `flask simulate` prints how many."""
    arguments = ("--packages", "8", "--seed", "3", "--bad-day", "--delay", "0", "--reorder", "0", "--drop", "0.2")
    with callback_server() as server:
        result = run(*arguments, "--repeat", "0", "--url", server.url, "--key", KEY)

    assert result.exit_code == 0, result.output
    dropped = int(re.search(r"(\d+) dropped, \d+ undated, 0 not delivered yet", result.stderr)[1])
    assert dropped > 5
    assert f"{len(server.requests)} accepted, 0 refused, 0 unreachable." in result.stdout
    assert any("createdDate" not in json.loads(request.body) for request in server.requests)


def test_the_same_seed_sends_the_same_callbacks_on_a_bad_day():
    """With the same seed, `flask simulate` sends the same callbacks in the same order, apart from dates."""

    def sent_bodies() -> list[str]:
        with callback_server() as server:
            arguments = ("--packages", "3", "--seed", "5", "--drop", "0.2", "--undated", "1", "--odd", "redate=1")
            run(*arguments, "--url", server.url, "--key", KEY)
        return [request.body for request in server.requests]

    assert sent_bodies() == sent_bodies() != []


@pytest.mark.parametrize(
    ("arguments", "has_groups"),
    [((), True), (("--plain",), False), (("--plain", "--feature", "group=1"), True)],
    ids=str,
)
def test_packages_have_features_unless_they_are_plain(arguments, has_groups, running_command):
    """By default some packages have groups; `--plain` leaves out all features but those of `--feature`."""
    played = ("--packages", "12", "--seed", "1", "--rate", "10000", "--keep-serving", *arguments)
    with callback_server() as server:
        address = address_at_the_end(running_command(*played, "--url", server.url))
        page = requests.get(f"{address}/api/packages?to=99", headers=AUTHORIZED, timeout=10).json()

    assert any("group" in text for text in map(str, page["results"])) == has_groups


@pytest.mark.parametrize("seconds", [-600, 600])
def test_the_clock_of_onespan_may_be_ahead_or_behind(seconds, running_command):
    """With `--clock-ahead`, callbacks, packages and the `Date` header have the same wrong time."""
    arguments = ("--packages", "1", "--rate", "10000", "--keep-serving", "--clock-ahead", str(seconds))
    with callback_server() as server:
        address = address_at_the_end(running_command(*arguments, "--url", server.url))
        answer = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)
        expected = datetime.now(UTC) + timedelta(seconds=seconds)

    dates = [parsedate_to_datetime(answer.headers["Date"])]
    dates += [datetime.fromisoformat(json.loads(request.body)["createdDate"]) for request in server.requests]
    assert all(abs(date - expected) < timedelta(seconds=60) for date in dates)
    assert len(dates) > 1


def test_a_registration_over_rest_replaces_the_url_option(running_command):
    """After a registration over REST, callbacks go to the registered URL instead of the URL in `--url`."""
    arguments = ("--packages", "2", "--seed", "1", "--rate", "10000", "--keep-serving")
    with callback_server() as default, callback_server() as other:
        process = running_command(*arguments, "--url", default.url)
        address = address_at_the_end(process)
        key = re.search(r"API key of .* <.*>: (\S+)$", process.output(), re.MULTILINE)[1]
        registration = {"url": other.url, "key": "other-key", "events": ["PACKAGE_DELETE"]}
        requests.post(f"{address}/api/callback", json=registration, headers=AUTHORIZED, timeout=10).raise_for_status()
        by_sender = requests.get(f"{address}/api/packages", headers={"Authorization": f"Basic {key}"}, timeout=10)
        page = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10).json()
        package_id = page["results"][0]["id"]
        before = len(default.requests)
        requests.delete(f"{address}/api/packages/{package_id}", headers=AUTHORIZED, timeout=10).raise_for_status()
        wait_until(lambda: other.requests)

    (request,) = other.requests
    assert by_sender.status_code == 200
    assert json.loads(request.body)["name"] == "PACKAGE_DELETE"
    assert request.headers["authorization"] == "Basic other-key"
    assert len(default.requests) == before
