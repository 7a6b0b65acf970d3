"""The simulator: `flask simulate`."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from flask import Flask

from app.simulator import quirks
from app.simulator.anomalies import ODDITIES
from app.simulator.faults import FAULTS
from tests.conftest import KEY, on_sqlite
from tests.support.simulated import API_KEY, AUTHORIZED, ROOT, listening, run, serving, wait_until


@on_sqlite
def test_the_command_tells_whole_lives(app: Flask):
    """It ends by itself, says what became of the callbacks, and exits with 0."""
    with serving(app) as url:
        result = run("--packages", "5", "--seed", "2", "--url", url, "--key", KEY)

    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"5 packages, (\d+) callbacks: \1 accepted, 0 refused, 0 unreachable\.\n", result.stdout)
    assert "--seed 2" in result.stderr


@pytest.mark.parametrize(
    "setting", ["the-callback-key", "first=the-callback-key,second=other", " , the-callback-key , old"]
)
def test_the_command_takes_the_first_key_of_the_setting(setting):
    """As it stands in the service's settings, label and all."""
    with listening() as heard:
        result = run("--packages", "1", "--url", heard.url, env={"ONESPAN_CALLBACK_KEYS": setting})

    assert result.exit_code == 0, result.output
    assert {one.headers["authorization"] for one in heard.requests} == {f"Basic {KEY}"}


def test_the_command_takes_a_base64_key_whole():
    """An `=` at the end is no label's."""
    with listening() as heard:
        run("--packages", "1", "--url", heard.url, "--key", "c2VjcmV0IQ==")

    assert heard.requests[0].headers["authorization"] == "Basic c2VjcmV0IQ=="


def test_a_port_that_is_taken_is_said_in_one_line():
    """And which can be had."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--packages", "1", "--key", "k", "--serve", str(taken.getsockname()[1]))

    assert result.exit_code == 2
    assert "0 takes a free port" in result.stderr


@pytest.mark.parametrize("setting", [None, "", " , "])
def test_the_command_says_how_to_give_a_key(setting):
    """Where there is none, nothing is sent."""
    result = run("--packages", "1", env={"ONESPAN_CALLBACK_KEYS": setting})

    assert result.exit_code == 2
    assert "--key" in result.stderr
    assert "ONESPAN_CALLBACK_KEYS" in result.stderr


@on_sqlite
def test_the_command_says_when_it_is_refused(app: Flask):
    """Once, with the service's own words; it goes on, as OneSpan would, and exits with 1."""
    with serving(app) as url:
        result = run("--packages", "2", "--seed", "2", "--url", url, "--key", "wrong")

    assert result.exit_code == 1
    assert re.search(r"2 packages, (\d+) callbacks: 0 accepted, \1 with 401 refused, 0 unreachable", result.stdout)
    assert result.stderr.count("refused with 401: The request carries no valid callback key.") == 1
    assert "wrong" not in result.output


def test_the_command_says_when_nobody_answers():
    """In words, at once, and exits with 1."""
    with listening() as heard:
        pass

    result = run("--packages", "0", "--url", heard.url, "--key", KEY)

    assert result.exit_code == 1
    assert f"Nobody answers at {heard.url}. Is the service running there?" in result.stderr
    assert "Traceback" not in result.output
    assert "0 accepted, 0 refused, 1 unreachable" in result.stdout


def test_the_command_goes_on_when_the_service_was_away_for_a_while():
    """What could not be delivered is counted and not sent again."""
    with listening(answers=[200, None, 503, 200]) as heard:
        result = run("--packages", "1", "--seed", "0", "--url", heard.url, "--key", KEY)

    names = [json.loads(one.body)["name"] for one in heard.requests]
    assert result.exit_code == 1
    assert f"1 package, {len(names)} callbacks: {len(names) - 2} accepted, 1 with 503 refused, 1 unr" in result.stdout
    assert len({one.body for one in heard.requests}) == len(names) > 4


def test_the_command_serves_rest_and_ends_when_told():
    """`--packages 0` goes on until Ctrl-C; then it says what became of it and exits with 0."""
    with (
        listening() as heard,
        playing("--packages", "0", "--rate", "200", "--serve", "0", "--url", heard.url) as process,
    ):
        address = address_in(process)
        wait_until(lambda: len(heard.requests) > 20)
        count = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10).json()["count"]
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)

    assert count > 0
    assert process.returncode == 0, stderr
    assert f"{len(heard.requests)} accepted, 0 refused, 0 unreachable." in stdout


def test_the_command_answers_on_when_asked_to():
    """With `--keep-serving` what became of the packages can be read until Ctrl-C."""
    arguments = ("--packages", "3", "--seed", "1", "--rate", "10000", "--serve", "0", "--keep-serving")
    with listening() as heard, playing(*arguments, "--url", heard.url) as process:
        address = address_in(process)
        next(line for line in process.stderr if "still answering" in line)
        answer = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert answer.status_code == 200
    assert process.returncode == 0


def test_the_command_keeps_serving_only_what_it_serves():
    """Options that go together are said to."""
    result = run("--key", KEY, "--keep-serving")

    assert result.exit_code == 2
    assert "--keep-serving goes with --serve" in result.stderr


@contextmanager
def playing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own."""
    code = "from app.simulator.command import simulate; simulate()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--key", KEY, "--api-key", API_KEY, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def address_in(process: subprocess.Popen[str]) -> str:
    """Where it says that its REST API answers."""
    said = next(line for line in process.stderr if "REST" in line)
    return re.search(r"http://[\d.:]+\d", said)[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--quirk", "list_first=2"), "list_first can be 0 | 0 to 1"),
        (("--quirk", "list_sort"), "list_sort can be honoured | ignored | ignored-with-dates"),
        (("--quirk", "weather=fine"), "there is no quirk 'weather'; there are list_dates,"),
        (("--fault", "503=often"), "503 needs a rate from 0 to 1, as in 503=0.1"),
        (("--fault", "flood=1"), "there is no fault 'flood'; there are 401,"),
        (("--odd", "flood=1"), "there is no oddity 'flood'; there are redate,"),
        (("--fault", "503=0.6", "--fault", "500=0.6"), "must not exceed 1"),
        (("--drop", "2"), "0<=x<=1"),
        (("--senders", "-1"), "0<=x<=10000"),
        (("--url", "somewhere"), "must look like http://127.0.0.1:8000/onespan/callback"),
    ],
    ids=" ".join,
)
def test_the_command_says_what_is_possible(arguments, said):
    """Instead of taking something else for what was meant."""
    result = run("--key", KEY, *arguments)

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_the_command_explains_every_name_it_takes():
    """In its help, with the defaults."""
    text = " ".join(run("--help").output.split())

    for name, values, says in quirks.described():
        assert f"{name}={values} {says}" in text
    for name, (rate, says) in {**FAULTS, **ODDITIES}.items():
        assert f"{name}={rate:g} {says}" in text


def test_the_command_lives_a_bad_day():
    """Callbacks are lost and doubled, and it says how many; the same seed does the same."""
    arguments = ("--packages", "8", "--seed", "3", "--bad-day", "--delay", "0", "--reorder", "0", "--drop", "0.2")
    with listening() as heard:
        result = run(*arguments, "--repeat", "0", "--url", heard.url, "--key", KEY)

    assert result.exit_code == 0, result.output
    dropped = int(re.search(r"(\d+) dropped, \d+ undated; 0 still on their way", result.stderr)[1])
    assert dropped > 5
    assert f"{len(heard.requests)} accepted, 0 refused, 0 unreachable." in result.stdout
    assert any("createdDate" not in json.loads(one.body) for one in heard.requests)


def test_the_same_seed_tells_the_same_on_a_bad_day():
    """In the same bodies, but for the time of day."""

    def told() -> list[str]:
        with listening() as heard:
            arguments = ("--packages", "3", "--seed", "5", "--drop", "0.2", "--undated", "1", "--odd", "redate=1")
            run(*arguments, "--url", heard.url, "--key", KEY)
        return [one.body for one in heard.requests]

    assert told() == told() != []


def test_the_command_tells_where_it_was_told_to_and_what_is_done_by_hand():
    """A registration over REST takes the place of --url; the senders' keys are said; acts by hand are told."""
    arguments = ("--packages", "2", "--seed", "1", "--rate", "10000", "--serve", "0", "--keep-serving")
    with listening() as usual, listening() as other, playing(*arguments, "--url", usual.url) as process:
        address = address_in(process)
        key = re.search(r"API key of .* <.*>: (\S+)$", next(process.stderr))[1]
        next(line for line in process.stderr if "still answering" in line)
        wanted = {"url": other.url, "key": "other-key", "events": ["PACKAGE_DELETE"]}
        requests.post(f"{address}/api/callback", json=wanted, headers=AUTHORIZED, timeout=10).raise_for_status()
        seen = requests.get(f"{address}/api/packages", headers={"Authorization": f"Basic {key}"}, timeout=10)
        one = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10).json()["results"][0]["id"]
        before = len(usual.requests)
        requests.delete(f"{address}/api/packages/{one}", headers=AUTHORIZED, timeout=10).raise_for_status()
        wait_until(lambda: other.requests)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    (told,) = other.requests
    assert seen.status_code == 200
    assert json.loads(told.body)["name"] == "PACKAGE_DELETE"
    assert told.headers["authorization"] == "Basic other-key"
    assert len(usual.requests) == before
