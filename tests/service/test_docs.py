"""The documentation agrees with the code: settings, commands, events, metrics, log lines, links and examples."""

import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text as sql

from app.errors import OneSpanError
from app.handling import Document, Event, Handlers, Package, Signer
from app.onespan.auth import ApiConnection, ApiKey
from app.onespan.client import OneSpan
from app.onespan.clock import OffsetRange
from app.onespan.event_catalogue import CATALOGUE, SPELLINGS
from app.onespan.values import Attention, Sender
from app.simulator import outbox
from app.simulator.account import Account
from app.simulator.server import api, serve_in_thread
from app.store import onespan_clock, reconciles
from app.store.states import RunKind
from config import ROOT, Settings
from docs import generate
from tests.conftest import NOON, TOKEN

DOCS = ROOT / "docs"
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
OPERATIONS, SIMULATOR = DOCS / "operations.md", DOCS / "simulator.md"
PAGES = [README, CONTRIBUTING, *sorted(DOCS.glob("*.md"))]
EVENT = re.compile(r"\b(?:PACKAGE|TEMPLATE|DOCUMENT|SIGNER|KBA|EMAIL|ROLE|COBROWSE)_[A-Z_]+\b")
INVENTED = {"PACKAGE_LAMINATED", "PACKAGE_UNARCHIVE"}  # event names in examples of unknown events
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def pages() -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def table(header: str, page: Path) -> dict[str, str]:
    """Return the first two columns of the table with this header on a page, as a dictionary."""
    _, _, rest = page.read_text("utf-8").partition(f"\n| {header} |")
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|", rest.partition("\n\n")[0], re.MULTILINE)
    return dict(rows)


def examples(page: Path) -> list[str]:
    """Return the Python examples of a documentation page."""
    return [code for language, code in CODE.findall(page.read_text("utf-8")) if language == "python"]


def run(code: str, handlers: Handlers) -> dict[str, Any]:
    """Run an example as if it were at the end of `app/handlers.py`, and return the names that it defines."""
    names = {"handlers": handlers, "onespan": handlers.onespan, "Event": Event, "Package": Package}
    names["log"] = structlog.get_logger()
    exec(compile(code, "example", "exec"), names)
    return names


@pytest.mark.parametrize(("file", "page"), generate.PAGES.items(), ids=lambda value: getattr(value, "name", ""))
def test_generated_pages_are_up_to_date(file, page):
    """The generated documentation pages are up to date; `make docs` updates outdated pages."""
    assert file.read_text("utf-8") == page()


def test_every_setting_and_command_is_on_its_page(app):
    """The generated pages contain every command, and every setting with its default."""
    defaults = {}
    for name, setting in Settings.model_fields.items():
        default = getattr(setting.default, "get_secret_value", lambda value=setting.default: value)()
        defaults[name.upper()] = "none" if default in ((), None) else f"`{default}`"
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\S+) \|", (DOCS / "settings.md").read_text("utf-8"), re.MULTILINE)
    headings = set(re.findall(r"^## (flask .*)$", (DOCS / "commands.md").read_text("utf-8"), re.MULTILINE))

    assert sorted(rows) == sorted(defaults.items())
    assert headings == {name for name in commands(app) if not name.startswith("flask db ")} | {"flask db upgrade"}


def commands(app: Flask) -> dict[str, click.Command]:
    """Return every command by its full name."""
    return dict(generate.commands(app.cli))


@pages()
def test_commands_and_options_in_the_documentation_exist(page, app):
    """A reader can run every `flask` command and option that the documentation shows."""
    known = commands(app)
    groups = {name.rpartition(" ")[0] for name in known}
    for name, options in flask_calls(page.read_text("utf-8")):
        assert name in known or name in groups, name
        if name in known:
            taken = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
            assert set(options) <= taken, f"{name}: {options}"


def flask_calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the command name and the options of each `flask` call in the code of a page."""
    lines = [line for _, code in CODE.findall(text) for line in code.split("\n")]
    spans = [*re.findall(r"`([^`\n]+)`", CODE.sub("", text)), *lines]
    for span in spans:
        if call := re.search(r"(?:^|[\s/(])flask ((?:callback|db) )?([a-z]+(?:-[a-z]+)*)([^#;|]*)", span):
            group, name, rest = call.groups()
            yield f"flask {group or ''}{name}", re.findall(r"(?<![\w-])--[a-z-]+", rest)


@pages()
def test_sql_in_the_documentation_runs(page, service):
    """The SQL statements in the documentation run on the current tables."""
    for statement in [code for language, code in CODE.findall(page.read_text("utf-8")) if language == "sql"]:
        with service.database.read() as connection:
            connection.execute(sql(statement))


def test_every_log_line_to_watch_is_in_the_code():
    """The code contains every log line of docs/operations.md, because operators search for exactly these lines."""
    _, _, rows = OPERATIONS.read_text("utf-8").partition("\n| log line |")
    lines = re.findall(r"`([a-z]+\.[a-z_]+)`", rows.partition("\n\n")[0])
    code = "".join(file.read_text("utf-8") for file in (ROOT / "app").rglob("*.py"))

    assert lines
    assert [line for line in lines if f'"{line}"' not in code] == []


def test_every_metric_is_explained(client: FlaskClient, service, send_callback, work):
    """The table of metrics in docs/operations.md and the answer of `/metrics` contain the same metrics."""
    send_callback("PACKAGE_COMPLETE")
    work()
    with service.database.write() as connection:  # some metrics appear only after a reconcile run
        onespan_clock.record(connection, OffsetRange(timedelta(0), timedelta(0)), now=NOON)
        reconciles.begin(connection, kind=RunKind.RECONCILE, reason="asked", since=None, fires=False, now=NOON)
        if run := reconciles.take(connection, now=NOON, lease=timedelta(0), process="this"):
            reconciles.finish(connection, run, now=NOON, until=None, unreadable=0)

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert set(re.findall(r"^# TYPE (\w+)", answer.text, re.MULTILINE)) == set(table("metric", OPERATIONS))


def test_recipes_name_files_and_names_that_exist():
    """Each row of a recipe in CONTRIBUTING.md shows an existing file and identifiers that the file contains."""
    recipes = CONTRIBUTING.read_text("utf-8").partition("## Recipes")[2]
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", recipes, re.MULTILINE)

    assert rows
    for file, change in rows:
        code = (ROOT / file).read_text("utf-8")
        names = re.findall(r"`([A-Za-z_]+)`", change.partition("run `")[0])
        assert [name for name in names if name not in code] == [], file
    for file in re.findall(r"`((?:app|tests|docs|migrations)/[\w./]*)`", CONTRIBUTING.read_text("utf-8")):
        assert (ROOT / file).exists() or file == "tests/laws/seeds/", file


def test_addresses_that_the_demo_prints_are_answered(client: FlaskClient):
    """A reader can call every API address that the demo script prints."""
    shown = re.findall(r"\$address(/api/[^\"\s]*)", (ROOT / "deploy" / "demo.sh").read_text("utf-8"))

    answers = [client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}) for path in shown]

    assert shown
    assert [answer.text for answer in answers if answer.status_code != 200] == []


@pages()
def test_links_lead_to_existing_files_and_headings(page):
    """Every link in the documentation to a file or heading of this project has an existing target."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            assert anchor in headings(place), target


def headings(page: Path) -> set[str]:
    """Return the anchors of the headings on a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pages()
def test_events_named_in_the_documentation_are_in_the_catalogue(page):
    """The documentation uses no spelling of an event name that the catalogue does not accept."""
    assert set(EVENT.findall(page.read_text("utf-8"))) <= {*CATALOGUE, *SPELLINGS, *INVENTED, "DOCUMENT_", "PACKAGE_"}


def test_all_events_are_explained():
    """The table of events in docs/onespan.md contains exactly the events of the catalogue."""
    _, _, rows = (DOCS / "onespan.md").read_text("utf-8").partition("\n| event |")
    first_column = re.findall(r"^\| (`.*?`) \|", rows.partition("\n\n")[0], re.MULTILINE)

    assert sorted(EVENT.findall(" ".join(first_column))) == sorted(CATALOGUE)


@pytest.mark.parametrize("value", [Event, Package, Sender, Signer, Document, Attention])
def test_every_field_a_handler_gets_is_explained(value):
    """docs/handlers.md lists each field of the values that a handler receives."""
    text = (ROOT / "docs" / "handlers.md").read_text("utf-8")

    assert [name for name in value.__dataclass_fields__ if f"`{name}`" not in text] == []


def test_every_address_of_the_api_is_explained(api_document: Any):
    """docs/api.md mentions every path of the OpenAPI document."""
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    paths = [re.sub(r"\{\w+\}", "<id>", path) for path in api_document["paths"]]

    assert [path for path in paths if path not in text] == []


def test_every_parameter_of_the_api_is_explained(api_document: Any):
    """docs/api.md mentions every query parameter of the JSON API."""
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    paths = api_document["paths"]
    parameters = [methods.get("get", {}).get("parameters", ()) for methods in paths.values()]
    names = {parameter["name"] for of_path in parameters for parameter in of_path}

    assert [name for name in names if not name.endswith("_id") and not re.search(rf"\b{name}\b", text)] == []


def test_example_answers_have_the_members_of_the_schemas(api_document: Any):
    """Each object in the examples of docs/api.md has exactly the members of a schema in the OpenAPI document."""
    schemas = {frozenset(schema["properties"]) for schema in objects(api_document) if "properties" in schema}
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    blocks = [code for language, code in CODE.findall(text) if language == "json"]

    examples = [value for block in blocks for value in objects(json.loads(block))]

    assert len(examples) > len(blocks)
    assert [sorted(example) for example in examples if frozenset(example) not in schemas] == []


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects in a JSON value, except the values of `extra` and `causes`, whose member names vary."""
    if isinstance(value, dict):
        yield value
        for name, member in value.items():
            if name not in {"extra", "causes"}:
                yield from objects(member)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item)


def test_the_mishaps_of_a_bad_day_are_explained():
    """A sentence in docs/simulator.md lists all rates of a bad day."""
    day, text = outbox.BAD_DAY, SIMULATOR.read_text("utf-8")

    assert day.repeat == day.delay == day.reorder
    assert (
        f"dropped at {day.drop}, repeated, delayed and reordered at {day.repeat} each, undated at {day.undated}" in text
    )


def test_tests_named_in_the_documentation_exist():
    """A reader finds every test of a law that the documentation names."""
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    named = {name for page in PAGES for name in re.findall(r"\btest_law_\d+_\w+\b(?!\.py)", page.read_text("utf-8"))}

    assert [name for name in named if f"def {name}(" not in tests] == []


def test_every_law_in_the_documentation_has_tests():
    """Each law in docs/architecture.md has tests with the law's number in their names."""
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    laws = re.findall(
        r"^### \d+\. .* \(`(test_law_\d+_)\*`\)$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )

    assert len(laws) == 13
    assert [law for law in laws if f"def {law}" not in tests] == []


@pages()
def test_python_examples_work(page, monkeypatch, tmp_path):
    """Every Python example in the documentation compiles, its handlers can be registered, and its tests pass."""
    monkeypatch.chdir(tmp_path)
    for code in examples(page):
        handlers = Handlers()
        names = run(code, handlers)
        assert ("@handlers.on" in code) == bool(list(handlers))
        for name, value in names.items():
            if name.startswith("test_"):
                value()


@pages()
def test_examples_of_handlers_import_the_public_module_only(page):
    """Examples of handlers import only `app.handling`, because other modules may change."""
    for code in examples(page):
        if "@handlers.on" in code or "Package(" in code:
            assert set(re.findall(r"^from (app[\w.]*) import", code, re.MULTILINE)) <= {"app.handling"}


@pytest.fixture
def crm(monkeypatch) -> Iterator[Any]:
    """A local CRM server that answers with the status `crm.status` and records the idempotency keys."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.keys.append(self.headers["Idempotency-Key"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Suppress the server's log line for a request."""

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
def test_the_example_handler_does_what_its_table_says(  # noqa: PLR0917  (pytest passes them by name)
    crm, handlers, send_callback, work, read, status, state, wait
):
    """A handler run is done after status 200, parked after 404, due in 60 s after 429, and due in 10 s after 500."""
    run(example_of("mark_deal_signed"), handlers)
    crm.status = status

    send_callback("PACKAGE_COMPLETE")
    work()

    ((dispatch,),) = [event["dispatches"] for event in read("/api/events")["items"]]
    assert (dispatch["handler"], dispatch["state"], dispatch["attempts"]) == ("mark_deal_signed", state, 1)
    assert datetime.fromisoformat(dispatch["due_at"]) == NOON + wait


def example_of(name: str) -> str:
    """Return the Python example in the README that contains a name."""
    (code,) = (code for code in examples(README) if name in code)
    return code


def test_the_example_handler_files_signed_documents(  # noqa: PLR0917  (pytest passes them by name)
    handlers, send_callback, work, read, monkeypatch, tmp_path
):
    """The example handler saves the documents and the evidence of a package in a simulated OneSpan."""
    monkeypatch.chdir(tmp_path)
    account = Account(5, packages=1)
    while not account.is_over:
        account.step(NOON)
    (package,) = account.packages()
    run(example_of("file_signed_documents"), handlers)

    with serve_in_thread(api(account, api_key="key", clock=lambda: NOON), port=0) as address:
        handlers.onespan.connect(ApiConnection(address, ApiKey("key")))
        send_callback("PACKAGE_COMPLETE", package=package.id)
        work()

    ((dispatch,),) = [event["dispatches"] for event in read("/api/events")["items"]]
    assert dispatch["state"] == "done", dispatch["error"]
    assert sorted(file.name for file in tmp_path.glob("instance/signed/*/*")) == ["documents.zip", "evidence.pdf"]


def test_every_call_of_the_client_is_explained():
    """docs/handlers.md lists each call and each error of the OneSpan client."""
    text = (ROOT / "docs" / "handlers.md").read_text("utf-8")
    calls = [name for name, value in vars(OneSpan).items() if callable(value) and not name.startswith("_")]
    errors = [error.__name__ for error in OneSpanError.__subclasses__()]

    assert [name for name in calls if name != "connect" and f"onespan.{name}(" not in text] == []
    assert [name for name in errors if f"`{name}`" not in text] == []


def test_the_example_handler_sends_the_same_key_again(crm, handlers, send_callback, work, clock):
    """A repeated handler run sends the same idempotency key, so that the other system can detect the repetition."""
    run(example_of("mark_deal_signed"), handlers)
    crm.status = 500
    send_callback("PACKAGE_COMPLETE")
    work()
    clock.forward(timedelta(seconds=10))
    work()

    first, second = crm.keys
    assert first == second
