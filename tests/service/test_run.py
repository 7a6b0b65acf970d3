"""The service as `make run` starts it, and callbacks that OneSpan has sent to real receivers."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from app.handlers import handlers
from tests.conftest import KEY, on_sqlite
from tests.support.databases import administer
from tests.support.processes import BIN, BOOT_SECONDS, ROOT, Site, Web, until

# The headers of a captured callback; only the host, the path, the key and the length are replaced.
CAPTURED = (
    "POST {path} HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "Accept-Encoding: gzip,deflate\r\n"
    "User-Agent: \r\n"
    "Authorization: Basic {key}\r\n"
    "Content-Type: application/json; charset=utf-8\r\n"
    "Content-Length: {length}\r\n"
    "\r\n"
)
COMPLETED = (
    '{"@class":"com.silanis.esl.packages.event.ESLProcessEvent","name":"PACKAGE_COMPLETE",'
    '"sessionUser":"30ba8506-9819-46aa-a22d-c0114ba34cd0","packageId":"LWsUTvGgE4WpOvaQPT16idnxNj8=",'
    '"message":null,"documentId":null,"createdDate":"2020-08-21T14:12:34.544Z"}'
)
# The captured callback `COMPLETED`, reformatted by hand.
COMPLETED_BY_HAND = """{
  "@class": "com.silanis.esl.packages.event.ESLProcessEvent",
  "name": "PACKAGE_COMPLETE",
  "sessionUser": "30ba8506-9819-46aa-a22d-c0114ba34cd0",
  "packageId": "LWsUTvGgE4WpOvaQPT16idnxNj8=",
  "message": null,
  "documentId": null,
  "createdDate": "2020-08-21T14:12:34.544Z"
}
"""
ACTIVATED = """{
  "@class": "com.silanis.esl.packages.event.ESLProcessEvent",
  "name": "PACKAGE_ACTIVATE",
  "sessionUser": "8QS1yr3q8DEZ",
  "packageId": "xT9OeZ-j2jIynQBaLeLdgp9CtZk=",
  "message": null,
  "documentId": null,
  "createdDate": "2019-10-09T19:32:12.255Z"
}
"""
SETTINGS = "settings.env"


class Installation:
    """A new installation: settings from `flask setup`, a database from `flask db upgrade`, and gunicorn."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.settings_file = site.folder / SETTINGS
        self.setup = self.flask("setup")
        self.upgrade = self.flask("db", "upgrade")
        self.web: Web = site.gunicorn(app="wsgi:app")
        settings = (line.split("=", 1) for line in self.settings_file.read_text().splitlines() if "=" in line)
        self.secrets = {name: value.removeprefix("first=") for name, value in settings}

    def flask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the service, and raise an error if the command fails."""
        return subprocess.run(
            [str(BIN / "flask"), *arguments],
            env=self.site.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BOOT_SECONDS,
            check=True,
        )

    def read(self, path: str) -> Any:
        """Send a GET request to the JSON API with the generated token, and return the JSON, or None after a 404."""
        bearer = {"Authorization": f"Bearer {self.secrets['API_TOKENS']}"}
        status, answer = self.web.request("GET", path, headers=bearer)
        assert status in (200, 404), answer
        return json.loads(answer) if status == 200 else None

    def post(self, body: str) -> tuple[int, bytes]:
        """Post a body to the callback endpoint with the generated callback key."""
        key = {"Authorization": f"Basic {self.secrets['ONESPAN_CALLBACK_KEYS']}"}
        return self.web.request("POST", "/onespan/callback", body=body.encode(), headers=key)

    def post_as_captured(self, body: str) -> str:
        """Send a callback with the bytes and headers of OneSpan, and return the status line of the answer."""
        head = CAPTURED.format(
            path="/onespan/callback",
            host=f"127.0.0.1:{self.web.port}",
            key=self.secrets["ONESPAN_CALLBACK_KEYS"],
            length=len(body),
        )
        with socket.create_connection(("127.0.0.1", self.web.port), timeout=10) as connection:
            connection.sendall(head.encode() + body.encode())
            return connection.recv(4096).partition(b"\r\n")[0].decode()


@pytest.fixture
def empty_postgresql(postgresql: str) -> Iterator[str]:
    """The URL of a PostgreSQL database without tables."""
    url = make_url(postgresql)
    name = f"fresh_{os.urandom(6).hex()}"
    administer(url, f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    administer(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.all)])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """A new installation of the service on an empty database."""
    url = f"sqlite:///{tmp_path}/data/status.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("empty_postgresql")
    with Site(tmp_path, url) as site:
        for generated in ("ONESPAN_CALLBACK_KEYS", "API_TOKENS"):
            del site.env[generated]
        site.env |= {"SETTINGS_FILE": str(site.folder / SETTINGS), "FLASK_APP": str(ROOT / "wsgi.py")}
        yield Installation(site)


def test_new_installation_processes_real_callbacks(installation: Installation):
    """Real callbacks, one of them sent byte for byte, become packages, events and history."""
    assert installation.post_as_captured(COMPLETED) == "HTTP/1.1 200 OK"
    assert installation.post(COMPLETED_BY_HAND) == (200, b'{"callback":2}\n')
    assert installation.post(ACTIVATED) == (200, b'{"callback":3}\n')

    completed, activated = "/api/packages/LWsUTvGgE4WpOvaQPT16idnxNj8=", "/api/packages/xT9OeZ-j2jIynQBaLeLdgp9CtZk="
    package = until(lambda: installation.read(completed))
    sent = until(lambda: installation.read(activated))
    _, event = installation.read("/api/events")["items"]
    history = installation.read(f"{completed}/history")["items"]

    assert (package["status"], package["completed_at"]) == ("COMPLETED", "2020-08-21T14:12:34.544000Z")
    assert (sent["status"], sent["status_at"]) == ("SENT", "2019-10-09T19:32:12.255000Z")
    assert (event["name"], event["package_id"], event["repeats"]) == ("PACKAGE_COMPLETE", package["id"], 1)
    assert [callback["id"] for callback in event["callbacks"]] == [1, 2]
    assert {run["handler"] for run in event["dispatches"]} == set(handlers.handlers_for("PACKAGE_COMPLETE"))
    (change,) = [change for change in history if change["attribute"] == "status"]
    assert (change["old"], change["new"], change["cause"]) == (None, "COMPLETED", {"kind": "callback", "id": 1})
    assert json.loads(installation.web.request("GET", "/readyz", headers={})[1])["status"] == "ready"


@pytest.mark.parametrize("installation", ["sqlite"], indirect=True)
def test_setup_writes_secrets_once_and_readable_by_the_owner_only(installation: Installation):
    """Only the owner may read the settings file; `flask setup` never overwrites the file and prints no secrets."""
    before = installation.settings_file.read_bytes()

    second = installation.flask("setup")
    output = (
        installation.setup.stdout
        + installation.setup.stderr
        + second.stdout
        + second.stderr
        + installation.web.output()
    )

    assert installation.settings_file.stat().st_mode & 0o777 == 0o600
    assert installation.settings_file.read_bytes() == before
    for secret in ("ONESPAN_CALLBACK_KEYS", "API_TOKENS", "DASHBOARD_PASSWORD", "DASHBOARD_READONLY_PASSWORD"):
        assert len(installation.secrets[secret]) >= 32
        assert installation.secrets[secret] not in output
    assert "(created, with new secrets)" in installation.setup.stdout
    assert "(created" not in second.stdout
    assert os.fspath(installation.settings_file) in second.stdout


@on_sqlite
@pytest.mark.own_database
def test_law_1_no_header_changes_the_path(database_url: str, tmp_path: Path):
    """Headers that name another path, from any client, change neither where a callback goes nor a link on a page."""
    names = ("SCRIPT_NAME", "Script-Name", "X-Script-Name", "PATH_INFO", "Path-Info", "X-Forwarded-Prefix")
    names += ("X-Forwarded-Path", "X-Original-Url", "X-Rewrite-Url", "HTTP_SCRIPT_NAME", "X_SCRIPT_NAME")
    with Site(tmp_path, database_url, WORKER="external", PROXIES="1") as site:
        web = site.gunicorn(workers=1)
        _, plain = web.request("GET", "/healthz", headers={})
        for name in names:
            for value in ("/onespan", "/elsewhere"):
                headers = {name: value, "Authorization": f"Basic {KEY}"}
                status, _ = web.request("POST", "/onespan/callback", body=COMPLETED.encode(), headers=headers)
                assert (name, value, status) == (name, value, 200)
                status, page = web.request("GET", "/login", headers={name: value, "Accept": "text/html"})
                assert (name, value, status) == (name, value, 503)  # no password is set
                assert b"/onespan" not in page
                assert b"/elsewhere" not in page
                assert web.request("GET", "/healthz", headers={name: value}) == (200, plain)


@on_sqlite
@pytest.mark.own_database
def test_start_warns_of_unsafe_settings(database_url: str, tmp_path: Path):
    """Gunicorn and `flask worker` log once at the start what is not safe in the settings, without the secrets."""
    unsafe = {"ONESPAN_URL": "http://onespan.example.com", "DASHBOARD_PASSWORD": "canary-15-chars"}
    with Site(tmp_path, database_url, WORKER="external", **unsafe) as site:
        for process in (site.gunicorn(workers=2), site.worker()):
            output = process.output()
            assert all(json.loads(line)["event"] for line in output.splitlines())
            assert output.count("ONESPAN_URL begins with http://") == 1
            assert output.count("DASHBOARD_PASSWORD has fewer than 16 characters") == 1
            assert "canary" not in output
