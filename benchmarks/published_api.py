"""Check requests against OneSpan's published API: `python -m benchmarks.published_api DOCUMENT`.

DOCUMENT is OneSpan's OpenAPI document 11.51, which is not part of this project. Prism (`@stoplight/prism-cli` from npm)
reads it twice. As a mock server it checks every request of the service's client; its answers are examples of its own.
As a proxy it checks the simulator's answers to a client that sends packages; the document demands of requests what only
answers have, such as `created`, so those requests are not checked. Prints a table of all calls, and exits with 1 on any
violation or unanswered call. All traffic stays on the loopback interface.
"""

import argparse
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import requests

from app.errors import OneSpanError
from app.onespan.auth import ApiConnection, ApiKey
from app.onespan.client import OneSpan
from app.onespan.list_scan import FOLDERS, ScanState, list_query
from app.onespan.registration import DEFAULT_EVENTS
from app.simulator.account import Account
from app.simulator.server import api, serve_in_thread

PRISM = "npx --yes @stoplight/prism-cli"
START_SECONDS = 180.0  # npx may have to install Prism first
API_KEY = "VGhpcyBpcyBubyBrZXk="
CALLBACK = {"url": "https://service.example.com/onespan/callback", "key": "callback-key"}
# The SDKs' own tests register DOCUMENT_VIEWED, which the document lacks.
EVENTS = [name for name in DEFAULT_EVENTS if name != "DOCUMENT_VIEWED"]
PACKAGE, ROLE, DOCUMENT, ATTACHMENT = "5bAaxLXSuFvIvRAzSLHTJG5eLFk=", "role-1", "document-1", "attachment-1"
VIOLATION = re.compile(r'"location":\["(\w+)".*?"severity":"Error".*?"message":"(.*?)"}')
# The document has the JSON of an uploaded document as `text/html`. The simulator labels it as JSON.
AS_HTML = "does not match the one specified in the current response: text/html; esl-api-version=11"


class Call(NamedTuple):
    """One request as Prism saw it, and what the document does not allow in it or in its answer."""

    method: str
    path: str
    status: int
    violations: Sequence[str]

    @property
    def is_valid(self) -> bool:
        """Whether the request was answered, and the document allows it."""
        return self.status < 300 and not self.violations


class Recorder:
    """The calls of a session, with the violations in one part of them: the `request` or the `response`."""

    def __init__(self, session: requests.Session, *, part: str) -> None:
        self.calls: list[Call] = []
        self._part = part
        session.hooks["response"].append(self._record)

    def _record(self, answer: requests.Response, *_: object, **__: object) -> None:
        found = VIOLATION.findall(answer.headers.get("sl-violations", ""))
        violations = [message for part, message in found if part == self._part and not message.endswith(AS_HTML)]
        method, path = str(answer.request.method), unquote(answer.request.path_url)
        self.calls.append(Call(method, path, answer.status_code, violations))


def client_calls(onespan: OneSpan, folder: Path) -> Iterator[Callable[[], object]]:
    """Yield a call of every method of the client, with the list requests of all kinds of reconcile runs."""
    now, whole = datetime.now(UTC), ScanState()
    for query in FOLDERS:
        for state in (whole, ScanState(offset=100, by_creation=True)):
            yield partial(onespan.packages, **list_query(query, state, since=now - timedelta(days=1), now=now))
        yield partial(onespan.packages, **list_query(query, whole, since=None, now=now))
        yield partial(onespan.packages, **list_query(query, whole, since=None, now=now, ids_only=True))
    yield partial(onespan.package, PACKAGE)
    yield partial(onespan.signed_document, PACKAGE, DOCUMENT, to=folder / "document")
    yield partial(onespan.signed_documents, PACKAGE, to=folder / "documents")
    yield partial(onespan.evidence, PACKAGE, to=folder / "evidence")
    yield partial(onespan.attachment, PACKAGE, ATTACHMENT, to=folder / "attachment")
    yield partial(onespan.attachments, PACKAGE, to=folder / "attachments")
    yield partial(onespan.attachments, PACKAGE, role_id=ROLE, to=folder / "attachments")
    yield partial(onespan.audit_trail, PACKAGE)
    yield partial(onespan.unlock, PACKAGE, ROLE)
    yield partial(onespan.remind, PACKAGE, ROLE)
    yield onespan.callback
    yield partial(onespan.register_callback, **CALLBACK, events=EVENTS)


def send_everything(call: Callable[..., Any], owner: str) -> None:
    """Draft, change, send, sign, trash, restore and delete a package, and manage senders and registrations."""
    person = {"firstName": "Ada", "lastName": "Abel", "email": owner}
    sender = call("POST", "/account/senders", {**person, "email": "ben@example.com"})
    call("GET", "/account/senders")
    call("POST", f"/account/senders/{sender['id']}", {"title": "Director"})
    call("DELETE", f"/account/senders/{sender['id']}")
    for path in ("/callback", "/callback/connectors/sharepoint"):
        call("POST", path, {**CALLBACK, "events": EVENTS})
        call("GET", path)
    role = {"id": ROLE, "signers": [person]}
    package = f"/packages/{call('POST', '/packages', {'name': 'Lease', 'roles': [role]})['id']}"
    call("POST", f"{package}/documents", {"id": DOCUMENT, "name": "Lease"})
    approvals = f"{package}/documents/{DOCUMENT}/approvals/"
    approval = call("POST", approvals, {"role": ROLE})
    call("PUT", f"{approvals}{approval['id']}", {"role": ROLE, "optional": False})
    call("GET", f"{approvals}{approval['id']}")
    call("PUT", package, {"description": "Two years", "data": {"crm": {}}})
    call("PUT", f"{package}/roles/{ROLE}", {**role, "index": 1})
    call("GET", f"{package}/roles")
    call("PUT", package, {"status": "SENT"})
    call("GET", f"{package}/roles/{ROLE}/signingUrl")
    call("POST", f"{package}/documents/signed_documents", {"documents": [{"id": DOCUMENT}], "handdrawn": ""})
    call("GET", f"{package}/signingStatus")
    call("GET", package)
    call("GET", f"{package}/audit")
    for body in ({"trashed": True}, {"trashed": False}):
        call("PUT", package, body)
    call("DELETE", package)
    call("GET", "/packages?from=0&to=9")


def main() -> None:
    """Run both checks and print their calls."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published_api", description=__doc__)
    parser.add_argument("document", type=Path, help="the path of OneSpan's OpenAPI document")
    parser.add_argument("--prism", default=PRISM, help=f"the command of Prism; by default {PRISM}")
    options = parser.parse_args()
    command = shlex.split(options.prism)
    tables = {
        "The service's client, against a mock server": _check_client(command, options.document.resolve()),
        "A client that sends packages, against the simulator": _check_simulator(command, options.document.resolve()),
    }
    for title, calls in tables.items():
        _print_table(title, calls)
    invalid = [call for calls in tables.values() for call in calls if not call.is_valid]
    print(f"\n{sum(map(len, tables.values()))} calls, {len(invalid)} with violations.")
    sys.exit(1 if invalid else 0)


def _check_client(prism: Sequence[str], document: Path) -> list[Call]:
    with _running([*prism, "mock", str(document)]) as address, tempfile.TemporaryDirectory() as folder:
        onespan = OneSpan()
        onespan.connect(ApiConnection(address, ApiKey(API_KEY)))
        recorder = Recorder(onespan._session, part="request")  # noqa: SLF001
        for call in client_calls(onespan, Path(folder)):
            with suppress(OneSpanError):  # the recorder has the status
                call()
    return recorder.calls


def _check_simulator(prism: Sequence[str], document: Path) -> list[Call]:
    account = Account(1, packages=0)
    app = api(account, api_key=API_KEY, clock=lambda: datetime.now(UTC))
    session = requests.Session()
    session.headers["Authorization"] = f"Basic {API_KEY}"
    recorder = Recorder(session, part="response")
    with serve_in_thread(app, port=0) as simulator, _running([*prism, "proxy", str(document), simulator]) as address:

        def call(method: str, path: str, body: object = None) -> Any:
            answer = session.request(method, f"{address}/api{path}", json=body, timeout=60)
            answer.raise_for_status()
            return answer.json() if answer.content else None

        send_everything(call, account.owner.email)
    return recorder.calls


@contextmanager
def _running(command: Sequence[str]) -> Iterator[str]:
    """Run Prism on a free port during the `with` block, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # npx runs Prism as a child of its own


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"Prism did not start: {process.args}") from None
            time.sleep(0.2)
        else:
            return


def _print_table(title: str, calls: Sequence[Call]) -> None:
    print(f"\n{title}\n")
    for call in calls:
        print(f"  {call.method:<6} {call.status}  {'valid' if call.is_valid else 'INVALID'}  {call.path}")
        for violation in call.violations:
            print(f"         {violation}")


if __name__ == "__main__":
    main()
