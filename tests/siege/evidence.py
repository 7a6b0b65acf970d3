"""What is known at the end of a siege: the records of callers, handlers and faults, the database, and OneSpan.

As the checker, this module shares no code with the service. It reads the database by plain SQL, and OneSpan over HTTP.
"""

import json
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psycopg


class Post(NamedTuple):
    """One callback as sent, and its answer: status and journal id."""

    body: str
    caller: str
    began: float
    ended: float
    status: int | None
    id: int | None = None
    reason: str = ""

    @property
    def is_acknowledged(self) -> bool:
        """Whether the answer says that the callback is stored."""
        return self.status is not None and 200 <= self.status < 300


class Row(NamedTuple):
    """A callback in the journal."""

    body: str
    state: str
    event: int | None


class Event(NamedTuple):
    """An event."""

    name: str
    package: str
    source: str


class Dispatch(NamedTuple):
    """One run owed to a handler."""

    event: int
    handler: str
    state: str


class Step(NamedTuple):
    """A line of a handler: begin, end, raise or kill."""

    step: str
    event: int
    handler: str
    pid: int
    host: str
    at: float


class Fault(NamedTuple):
    """A fault, when it was and what it hit: process ids, names of hosts, `database`."""

    name: str
    began: float
    ended: float
    hit: list[Any]


@dataclass
class Evidence:
    """All that is known of a siege. `truth` has the status of OneSpan's packages, None for a deleted one."""

    posts: list[Post] = field(default_factory=list)
    journal: dict[int, Row] = field(default_factory=dict)
    events: dict[int, Event] = field(default_factory=dict)
    dispatches: list[Dispatch] = field(default_factory=list)
    packages: dict[str, str | None] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    facts: Counter[tuple[str, str]] = field(default_factory=Counter)
    truth: dict[str, str | None] = field(default_factory=dict)


def collect(folder: Path, *, database: str, onespan: str, key: str) -> Evidence:
    """Read all records, the database and OneSpan's packages."""
    found = Evidence()
    found.posts = [
        Post(**{name: line[name] for name in Post._fields if name in line}) for line in _lines(folder / "callbacks")
    ]
    found.faults = [
        Fault(line["name"], line["began"], line["ended"], line["hit"]) for line in _lines(folder / "faults")
    ]
    found.facts = Counter((fact[0], fact[1]) for fact in _lines(folder / "facts"))
    for file in folder.glob("handlers-*"):
        for line in file.read_text().splitlines():
            step, event, handler, pid, host, at = line.split()
            found.steps.append(Step(step, int(event), handler, int(pid), host, float(at)))
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT id, body, state, event_id FROM journal WHERE kind = 'callback'")
        found.journal = {id_: Row(bytes(body).decode(), state, event) for id_, body, state, event in rows}
        rows = connection.execute("SELECT id, name, package_id, source FROM events")
        found.events = {id_: Event(*values) for id_, *values in rows}
        found.dispatches = [
            Dispatch(*row) for row in connection.execute("SELECT event_id, handler, state FROM dispatches")
        ]
        rows = connection.execute("SELECT id, CASE WHEN deleted THEN NULL ELSE status END FROM packages")
        found.packages = dict(rows.fetchall())
    found.truth = {package: _status(onespan, key, package) for package in {package for _, package in found.facts}}
    return found


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _status(onespan: str, key: str, package: str) -> str | None:
    request = urllib.request.Request(f"{onespan}/api/packages/{package}", headers={"Authorization": f"Basic {key}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status: str = json.load(answer)["status"]
            return status
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
