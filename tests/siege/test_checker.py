"""The siege's checker finds each kind of violation in made-up records, and none in those of a good run."""

import ast
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.siege import checker, evidence
from tests.siege.checker import reruns, violations
from tests.siege.evidence import Dispatch, Event, Evidence, Fault, Post, Row, Step

SENT = json.dumps({"name": "PACKAGE_ACTIVATE", "packageId": "own-1", "createdDate": "2026-03-02T12:00:00.000Z"})
DONE = json.dumps({"name": "PACKAGE_COMPLETE", "packageId": "own-1", "createdDate": "2026-03-02T12:00:01.000Z"})
THEIRS = json.dumps({"name": "PACKAGE_CREATE", "packageId": "pkg-1", "createdDate": "2026-03-02T12:00:01.000Z"})


def good() -> Evidence:
    """Three callbacks, of which one waited in the spool, with their events and handler runs."""
    return Evidence(
        posts=[
            Post(SENT, "own", 10, 10.1, 200, 1),
            Post(DONE, "own", 11, 11.1, 200, None),
            Post(THEIRS, "onespan", 12, 12.1, 200, 3),
        ],
        journal={1: Row(SENT, "digested", 1), 2: Row(DONE, "digested", 2), 3: Row(THEIRS, "digested", 3)},
        events={
            1: Event("PACKAGE_ACTIVATE", "own-1", "callback"),
            2: Event("PACKAGE_COMPLETE", "own-1", "callback"),
            3: Event("PACKAGE_CREATE", "pkg-1", "callback"),
        },
        dispatches=[
            *(Dispatch(event, "record", "done") for event in (1, 2, 3)),
            Dispatch(1, "act", "done"),
            Dispatch(2, "file_documents", "done"),
        ],
        packages={"own-1": "COMPLETED", "pkg-1": "DRAFT"},
        steps=[
            *(run for event in (1, 2, 3) for run in ran(event, "record")),
            *ran(1, "act"),
            *ran(2, "file_documents"),
        ],
        facts=Counter([("PACKAGE_CREATE", "pkg-1")]),
        truth={"pkg-1": "DRAFT"},
    )


def ran(event: int, handler: str, *, at: float = 20, pid: int = 7, end: str = "end") -> list[Step]:
    """The lines of one run, which takes a second."""
    return [Step("begin", event, handler, pid, "one", at), Step(end, event, handler, pid, "one", at + 1)]


def refuse(found: Evidence) -> None:
    """Refuse a callback."""
    found.posts.append(Post(SENT, "own", 30, 31, 503))


def delete(found: Evidence, *, is_reported: bool) -> None:
    """Delete a package in OneSpan."""
    found.truth["pkg-1"] = None
    if is_reported:
        body = json.dumps({"name": "PACKAGE_DELETE", "packageId": "pkg-1"})
        found.journal[5] = Row(body, "digested", 3)


BROKEN: dict[str, Callable[[Evidence], object]] = {
    "lost: row 1": lambda found: found.journal.pop(1),
    "lost: row 3": lambda found: found.journal.update({3: Row(DONE, "digested", 2)}),
    "lost: acknowledged 1 times, stored 0": lambda found: found.journal.pop(2),
    "lost: acknowledged 2 times": lambda found: found.posts.append(Post(DONE, "own", 13, 13.1, 200, None)),
    "lost: row 1 was the answer": lambda found: found.posts.append(Post(SENT, "own", 13, 13.1, 200, 1)),
    "invented: no caller sent row 4": lambda found: found.journal.update(
        {4: Row(SENT.replace("own-1", "own-2"), "digested", 3)}
    ),
    "undigested: row 2 is pending": lambda found: found.journal.update({2: Row(DONE, "pending", None)}),
    "undigested: row 2 is digested": lambda found: found.events.pop(2),
    "twice: events ['1', '4']": lambda found: found.journal.update({4: Row(SENT.replace(" ", ""), "digested", 4)}),
    "merged: event 1": lambda found: found.journal.update({2: Row(DONE, "digested", 1)}),
    "twice: 2 events": lambda found: found.events.update({4: Event("PACKAGE_CREATE", "pkg-1", "reconcile")}),
    "dispatched: event 1 has 0 runs of act": lambda found: found.dispatches.remove(Dispatch(1, "act", "done")),
    "dispatched: event 1 has 2 runs of act": lambda found: found.dispatches.append(Dispatch(1, "act", "done")),
    "dispatched: event 3 has 1 runs of act": lambda found: found.dispatches.append(Dispatch(3, "act", "done")),
    "not run: act of event 1 is running": lambda found: found.dispatches.__setitem__(3, Dispatch(1, "act", "running")),
    "not run: act of event 1 is parked": lambda found: found.dispatches.__setitem__(3, Dispatch(1, "act", "parked")),
    "not run: act of event 1 is done but": lambda found: found.steps.remove(Step("end", 1, "act", 7, "one", 21)),
    "run without cause: record of event 9": lambda found: found.steps.extend(ran(9, "record")),
    "run again without cause: act of event 1": lambda found: found.steps.extend(ran(1, "act", at=40, pid=8)),
    "wrong status: own-1 is SENT": lambda found: found.packages.update({"own-1": "SENT"}),
    "wrong status: own-1 is absent": lambda found: found.packages.pop("own-1"),
    "wrong status: pkg-1 is SENT, not DRAFT as": lambda found: found.packages.update({"pkg-1": "SENT"}),
    "wrong status: pkg-1 is DRAFT, not None": lambda found: delete(found, is_reported=True),
    "refused: 503": refuse,
}


@pytest.mark.parametrize("violation", BROKEN)
def test_each_violation_is_found(violation: str):
    found = good()

    BROKEN[violation](found)

    assert any(text.startswith(violation) for text in violations(found)), violations(found)


def test_a_deletion_without_a_callback_is_left_to_the_weekly_sweep():
    found = good()
    delete(found, is_reported=False)

    assert violations(found) == []


def test_a_good_run_has_no_violation():
    assert violations(good()) == []


@pytest.mark.parametrize(
    ("fault", "is_explained"),
    [
        (Fault("worker killed", 20.5, 25, [7]), True),
        (Fault("host killed", 20.5, 25, ["one"]), True),
        (Fault("database frozen", 20.5, 25, ["database"]), True),
        (Fault("worker killed", 20.5, 25, [9]), False),  # another process
        (Fault("host killed", 20.5, 25, ["two"]), False),  # another host
        (Fault("host killed", 100, 105, ["one"]), False),  # after the run's result was stored
        (Fault("host killed", 1, 3, ["one"]), False),  # before the run
    ],
)
def test_only_a_fault_of_the_process_explains_a_second_run(fault: Fault, is_explained: bool):  # noqa: FBT001
    found = good()
    found.faults = [fault]
    found.steps += ran(1, "act", at=120, pid=8)

    assert [cause for *_, cause in reruns(found)] == [fault.name if is_explained else None]


@pytest.mark.parametrize("step", ["raise", "kill"])
def test_a_handler_that_failed_runs_again(step: str):
    found = good()
    found.steps = [*ran(1, "act", end=step), *ran(1, "act", at=40, pid=8)]

    assert [cause is not None for *_, cause in reruns(found)] == [True]


@pytest.mark.parametrize(
    ("faults", "count"),
    [
        ([("all disks full", ["one", "two"])], 0),
        ([("host killed", ["one"]), ("disk of a spool full", ["two"])], 0),
        ([("host killed", ["one"])], 1),
        ([("rolling reload", ["one", "two"])], 1),
        ([("host killed", ["one"]), ("clock ahead", ["one", "two"])], 1),
    ],
)
def test_only_faults_that_leave_no_host_explain_a_refused_callback(faults: list[tuple[str, list[str]]], count: int):
    found = good()
    refuse(found)
    found.faults = [Fault(name, 29, 30, hit) for name, hit in faults]

    assert len(violations(found)) == count


def test_the_checker_shares_no_code_with_the_service():
    trees = [ast.parse(Path(module.__file__).read_text()) for module in (checker, evidence)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}

    allowed = {"hashlib", "json", "urllib", "collections", "dataclasses", "itertools", "pathlib", "typing", "psycopg"}
    assert {module.partition(".")[0] for module in modules - {"tests.siege.evidence"}} <= allowed
