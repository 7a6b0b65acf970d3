"""What the documentation says is so: settings, commands, events, links and examples."""

import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask.testing import FlaskClient

from app.errors import OneSpanError
from app.handling import Document, Event, Handlers, Package, Signer
from app.onespan.auth import ApiKey, Connection
from app.onespan.catalogue import CATALOGUE, SPELLINGS
from app.onespan.client import OneSpan
from app.onespan.values import Attention, Sender
from app.simulator import outbox, quirks
from app.simulator.account import Account
from app.simulator.anomalies import ODDITIES
from app.simulator.command import simulate
from app.simulator.faults import FAULTS
from app.simulator.server import answering, api
from app.store import reconciles
from config import ROOT, Settings
from tests.conftest import NOON, TOKEN

README, SIMULATOR = ROOT / "README.md", ROOT / "docs" / "simulator.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
EVENT = re.compile(r"\b(?:PACKAGE|TEMPLATE|DOCUMENT|SIGNER|KBA|EMAIL|ROLE|COBROWSE)_[A-Z_]+\b")
INVENTED = {"PACKAGE_LAMINATED", "PACKAGE_UNARCHIVE"}  # events of an OneSpan to come
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def pages() -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def table(header: str, page: Path = README) -> dict[str, str]:
    """The table of a page with this header: its first column and its second."""
    _, _, rest = page.read_text("utf-8").partition(f"\n| {header} |")
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|", rest.partition("\n\n")[0], re.MULTILINE)
    return dict(rows)


def examples(page: Path) -> list[str]:
    """The Python examples of a page."""
    return [code for language, code in CODE.findall(page.read_text("utf-8")) if language == "python"]


def run(code: str, handlers: Handlers) -> dict[str, Any]:
    """Run an example as if it stood at the end of `app/handlers.py`; returns its names."""
    names = {"handlers": handlers, "onespan": handlers.onespan, "Event": Event, "Package": Package}
    names["log"] = structlog.get_logger()
    exec(compile(code, "example", "exec"), names)
    return names


def test_every_setting_is_in_the_readme_with_its_default():
    """One name everywhere: what `Settings` has is what the table says."""
    defaults = {}
    for name, setting in Settings.model_fields.items():
        default = getattr(setting.default, "get_secret_value", lambda value=setting.default: value)()
        defaults[name.upper()] = "none" if default in ((), None) else f"`{default}`"

    assert table("setting") == defaults


def commands(group: Any, *words: str) -> dict[str, Any]:
    """Every command of a group and of those in it, by the words that call it."""
    found = {}
    for name, command in group.commands.items():
        called = " ".join((*words, name))
        found |= commands(command, *words, name) if hasattr(command, "commands") else {called: command}
    return found


def test_every_command_is_in_the_readme(app):
    """Every command of ours, and the one of Alembic's that an operator needs."""
    ours = {f"flask {name}" for name in commands(app.cli) if not name.startswith("db ")} | {"flask db upgrade"}

    assert set(table("command")) == ours


def test_the_readme_names_only_options_that_there_are(app):
    """An option in the table of commands is one that its command takes."""
    for name, text in table("command").items():
        command = commands(app.cli)[name.removeprefix("flask ")]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", text)) <= options


def test_every_log_line_in_the_readme_is_one_that_is_written():
    """What operators are told to look for is what the code says."""
    _, _, text = README.read_text("utf-8").partition("\n| sign |")
    told = re.findall(r"`([a-z]+\.[a-z_]+)`", text.partition("\n\n")[0])
    code = "".join(file.read_text("utf-8") for file in (ROOT / "app").rglob("*.py"))

    assert told
    assert [line for line in told if f'"{line}"' not in code] == []


def test_every_figure_in_the_readme_is_told_and_every_told_one_is_there(client: FlaskClient, service, tell, work):
    """What Prometheus can be told to watch is what there is."""
    tell("PACKAGE_COMPLETE")
    work()
    with service.database.write() as connection:  # some are told only once OneSpan has been asked
        reconciles.begin(connection, kind=reconciles.RECONCILE, reason="asked", since=None, fires=False, now=NOON)
        if run := reconciles.take(connection, now=NOON, lease=timedelta(0), process="this"):
            reconciles.finish(connection, run, now=NOON, until=None, unreadable=0)

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert set(re.findall(r"^# TYPE (\w+)", answer.text, re.MULTILINE)) == set(table("figure"))


def test_addresses_that_the_demo_shows_are_answered(client: FlaskClient):
    """What one is told to copy works."""
    shown = re.findall(r"\$address(/api/[^\"\s]*)", (ROOT / "deploy" / "demo.sh").read_text("utf-8"))

    answers = [client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) for path in shown]

    assert shown
    assert [answer.text for answer in answers if answer.status_code != 200] == []


@pages()
def test_links_lead_to_files_and_headings_that_there_are(page):
    """No link into this project is broken."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            assert anchor in headings(place), target


def headings(page: Path) -> set[str]:
    """The anchors a page has."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pages()
def test_events_named_in_the_documentation_are_in_the_catalogue(page):
    """No page tells of an event in a spelling that does not work."""
    assert set(EVENT.findall(page.read_text("utf-8"))) <= {*CATALOGUE, *SPELLINGS, *INVENTED, "DOCUMENT_", "PACKAGE_"}


def test_all_events_are_explained():
    """OneSpan's contract has a row for every event we know."""
    assert set(CATALOGUE) <= set(EVENT.findall((ROOT / "docs" / "onespan.md").read_text("utf-8")))


@pytest.mark.parametrize("value", [Event, Package, Sender, Signer, Document, Attention])
def test_every_field_a_handler_gets_is_explained(value):
    """What a handler can read is in docs/handlers.md."""
    text = (ROOT / "docs" / "handlers.md").read_text("utf-8")

    assert [name for name in value.__dataclass_fields__ if f"`{name}`" not in text] == []


def test_every_address_of_the_api_is_explained(promises: Any):
    """docs/api.md tells of every path of the API's own document."""
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    paths = [re.sub(r"\{\w+\}", "<id>", path) for path in promises["paths"]]

    assert [path for path in paths if path not in text] == []


def test_every_parameter_of_the_api_is_explained(promises: Any):
    """What a list can be asked is in docs/api.md."""
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    paths = promises["paths"]
    asked = {one["name"] for methods in paths.values() for one in methods.get("get", {}).get("parameters", ())}

    assert [name for name in asked if not name.endswith("_id") and not re.search(rf"\b{name}\b", text)] == []


def test_the_answers_shown_have_the_members_that_answers_have(promises: Any):
    """No more and no fewer, in whatever depth: each object of docs/api.md is one of those the API's document has."""
    shapes = {frozenset(one["properties"]) for one in objects(promises) if "properties" in one}
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    blocks = [code for language, code in CODE.findall(text) if language == "json"]

    shown = [one for block in blocks for one in objects(json.loads(block))]

    assert len(shown) > len(blocks)
    assert [sorted(one) for one in shown if frozenset(one) not in shapes] == []


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """The objects in a JSON value, but for those whose members are not named beforehand."""
    if isinstance(value, dict):
        yield value
        for name, member in value.items():
            if name not in {"extra", "causes"}:
                yield from objects(member)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item)


def test_every_option_of_the_simulator_is_explained_with_its_default():
    """What `flask simulate` takes is in docs/simulator.md."""
    defaults = {}
    for one in simulate.params:
        given = f"`{one.default}`" if isinstance(one.default, (int, float, str)) else "none"
        defaults[one.opts[0]] = "off" if one.is_flag else given

    assert table("option", SIMULATOR) == defaults


@pytest.mark.parametrize(("header", "names"), [("fault", FAULTS), ("oddity", ODDITIES)])
def test_all_that_goes_wrong_in_the_simulator_is_explained_with_its_rate(header, names):
    """As often as docs/simulator.md says."""
    assert table(header, SIMULATOR) == {name: f"{rate:g}" for name, (rate, _) in names.items()}


def test_every_quirk_of_the_simulator_is_explained_with_its_values():
    """The default comes first."""
    told = {name: values.replace(" | ", ", ") for name, values, _ in quirks.described()}

    assert table("quirk", SIMULATOR) == told


def test_the_mishaps_of_a_bad_day_are_explained():
    """One sentence has them all."""
    day, text = outbox.BAD_DAY, SIMULATOR.read_text("utf-8")

    assert day.repeat == day.delay == day.reorder
    assert (
        f"dropped at {day.drop}, repeated, delayed and reordered at {day.repeat} each, undated at {day.undated}" in text
    )


def test_the_tests_named_in_the_documentation_are_there():
    """Who looks for the proof of a law finds it."""
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    named = {name for page in PAGES for name in re.findall(r"\btest_law_\d+_\w+", page.read_text("utf-8"))}

    assert [name for name in named if f"def {name}(" not in tests] == []


def test_every_law_in_the_documentation_has_tests():
    """A promise is one only when a test holds us to it."""
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    laws = re.findall(
        r"^### \d+\. .* \(`(test_law_\d+_)\*`\)$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )

    assert len(laws) == 12
    assert [law for law in laws if f"def {law}" not in tests] == []


@pages()
def test_python_examples_work(page, monkeypatch, tmp_path):
    """Every example compiles, its handlers can be registered, and the tests in it pass."""
    monkeypatch.chdir(tmp_path)
    for code in examples(page):
        handlers = Handlers()
        names = run(code, handlers)
        assert ("@handlers.on" in code) == bool(list(handlers))
        for name, value in names.items():
            if name.startswith("test_"):
                value()


@pytest.fixture
def crm(monkeypatch) -> Iterator[Any]:
    """A CRM on this machine that answers what `crm.status` says, and keeps the keys it was sent."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.keys.append(self.headers["Idempotency-Key"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server: Any = HTTPServer(("127.0.0.1", 0), Answer)
    server.status, server.keys = 200, []
    monkeypatch.setenv("CRM_URL", f"http://127.0.0.1:{server.server_port}")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "state", "wait"),
    [
        (200, "done", timedelta(0)),
        (404, "parked", timedelta(0)),
        (429, "due", timedelta(minutes=1)),
        (500, "due", timedelta(seconds=10)),
    ],
)
def test_the_handler_of_the_readme_does_what_its_table_says(crm, handlers, tell, work, read, status, state, wait):  # noqa: PLR0917  (pytest passes them by name)
    """Done, parked, or due again: after a minute where it said so, after ten seconds where it failed."""
    run(the_one_with("mark_deal_signed"), handlers)
    crm.status = status

    tell("PACKAGE_COMPLETE")
    work()

    ((dispatch,),) = [event["dispatches"] for event in read("/api/events")["items"]]
    assert (dispatch["handler"], dispatch["state"], dispatch["attempts"]) == ("mark_deal_signed", state, 1)
    assert datetime.fromisoformat(dispatch["due_at"]) == NOON + wait


def the_one_with(name: str) -> str:
    """The README's example of this function."""
    (code,) = (code for code in examples(README) if name in code)
    return code


def test_the_handler_of_the_readme_files_what_was_signed(handlers, tell, work, read, monkeypatch, tmp_path):  # noqa: PLR0917  (pytest passes them by name)
    """With a OneSpan that has the package."""
    monkeypatch.chdir(tmp_path)
    account = Account(5, packages=1)
    while not account.is_over:
        account.step(NOON)
    (package,) = account.packages()
    run(the_one_with("file_signed_documents"), handlers)

    with answering(api(account, api_key="key", clock=lambda: NOON), port=0) as address:
        handlers.onespan.connect(Connection(address, ApiKey("key")))
        tell("PACKAGE_COMPLETE", package=package.id)
        work()

    ((dispatch,),) = [event["dispatches"] for event in read("/api/events")["items"]]
    assert dispatch["state"] == "done", dispatch["error"]
    assert sorted(file.name for file in tmp_path.glob("instance/signed/*/*")) == ["documents.zip", "evidence.pdf"]


def test_every_call_of_the_client_is_explained():
    """docs/handlers.md has each, and each of its errors."""
    text = (ROOT / "docs" / "handlers.md").read_text("utf-8")
    calls = [name for name, value in vars(OneSpan).items() if callable(value) and not name.startswith("_")]
    errors = [one.__name__ for one in OneSpanError.__subclasses__()]

    assert [name for name in calls if name != "connect" and f"onespan.{name}(" not in text] == []
    assert [name for name in errors if f"`{name}`" not in text] == []


def test_the_handler_of_the_readme_hands_over_the_same_key_again(crm, handlers, tell, work, clock):
    """The other system can tell that it is the same fact."""
    run(the_one_with("mark_deal_signed"), handlers)
    crm.status = 500
    tell("PACKAGE_COMPLETE")
    work()
    clock.forward(timedelta(seconds=10))
    work()

    first, second = crm.keys
    assert first == second
