"""The checker, which shares no code with the service: it finds every broken promise in the evidence of a siege."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from tests.siege.evidence import Evidence, Fault, Post, Step

HANDLERS = {"record": None, "act": "PACKAGE_ACTIVATE", "file_documents": "PACKAGE_COMPLETE"}  # None: all events
GIVES_UP = ("act", 40)  # the handler that gives up for one of 40 packages
STATUS_AFTER = {
    "PACKAGE_CREATE": "DRAFT",
    "PACKAGE_ACTIVATE": "SENT",
    "PACKAGE_COMPLETE": "COMPLETED",
    "PACKAGE_DECLINE": "DECLINED",
    "PACKAGE_EXPIRE": "EXPIRED",
}
HOSTS = {"one", "two"}
STOPS_ALL = {"all disks full"}  # faults in which no host can store a callback
STOPS_ONE = {"host killed", "host frozen", "host terminated", "host cut off", "disk of a spool full"}
SLACK_SECONDS = 15.0  # how long a fault may have an effect after its end


def violations(found: Evidence) -> list[str]:
    """Return every violation as a sentence that begins with its kind."""
    checks = (_lost, _invented, _undigested, _twice, _dispatched, _run, _run_again, _own_status, _true_status, _refused)
    return [text for check in checks for text in check(found)]


def _lost(found: Evidence) -> Iterator[str]:
    acknowledged = [post for post in found.posts if post.is_acknowledged]
    reported = set()
    for post in acknowledged:
        if post.id is not None and (post.id not in found.journal or found.journal[post.id].body != post.body):
            reported.add(post.body)
            yield f"lost: row {post.id}, answered at {post.ended:.1f}, is not {post.body}"
    for number, count in Counter(post.id for post in acknowledged if post.id is not None).items():
        if count > 1:
            yield f"lost: row {number} was the answer to {count} callers"
    stored = Counter(row.body for row in found.journal.values())
    for body, count in Counter(post.body for post in acknowledged).items():
        if stored[body] < count and body not in reported:
            yield f"lost: acknowledged {count} times, stored {stored[body]} times: {body}"


def _invented(found: Evidence) -> Iterator[str]:
    sent = {post.body for post in found.posts}
    for number, row in found.journal.items():
        if row.body not in sent:
            yield f"invented: no caller sent row {number}: {row.body}"


def _undigested(found: Evidence) -> Iterator[str]:
    for number, row in found.journal.items():
        if row.state != "digested" or row.event not in found.events:
            yield f"undigested: row {number} is {row.state} and has event {row.event}"


def _twice(found: Evidence) -> Iterator[str]:
    """A fact, which is a dated callback, is one event; and events are no more than what happened."""
    events, bodies = defaultdict(set), defaultdict(set)
    for row in found.journal.values():
        if fact := _fact(row.body):
            events[fact].add(row.event)
            bodies[row.event].add(fact)
    for body, ids in events.items():
        if len(ids) > 1:
            yield f"twice: events {sorted(map(str, ids))} are one callback: {body}"
    for event, texts in bodies.items():
        if len(texts) > 1:
            yield f"merged: event {event} is of several callbacks: {sorted(texts)}"
    sent = {post.body: json.loads(post.body) for post in found.posts if post.caller == "own"}
    facts = found.facts + Counter((members["name"], members["packageId"]) for members in sent.values())
    for key, count in Counter((event.name, event.package) for event in found.events.values()).items():
        if count > facts[key]:
            yield f"twice: {count} events {key}, which happened {facts[key]} times"


def _fact(body: str) -> str | None:
    """What a dated callback says, however it is written."""
    members = {name: value for name, value in json.loads(body).items() if value is not None and name != "@class"}
    return json.dumps(members, sort_keys=True) if "createdDate" in members else None


def _dispatched(found: Evidence) -> Iterator[str]:
    counts = Counter((dispatch.event, dispatch.handler) for dispatch in found.dispatches)
    for number, event in found.events.items():
        for handler, name in HANDLERS.items():
            owed = int(name in (None, event.name))
            if counts[number, handler] != owed:
                yield f"dispatched: event {number} has {counts[number, handler]} runs of {handler}, not {owed}"


def _gives_up(handler: str, package: str) -> bool:
    name, kinds = GIVES_UP
    return handler == name and int(hashlib.sha256(package.encode()).hexdigest(), 16) % kinds == 0


def _run(found: Evidence) -> Iterator[str]:
    steps = {(step.step, step.event, step.handler) for step in found.steps}
    for event, handler, state in found.dispatches:
        parks = event in found.events and _gives_up(handler, found.events[event].package)
        state_due, step_due = ("parked", "raise") if parks else ("done", "end")
        if state != state_due:
            yield f"not run: {handler} of event {event} is {state}, not {state_due}"
        elif (step_due, event, handler) not in steps:
            yield f"not run: {handler} of event {event} is {state} but has no {step_due}"
    owed = {(dispatch.event, dispatch.handler) for dispatch in found.dispatches}
    for event, handler in {(step.event, step.handler) for step in found.steps} - owed:
        yield f"run without cause: {handler} of event {event}"


def _run_again(found: Evidence) -> Iterator[str]:
    for event, handler, cause in reruns(found):
        if cause is None:
            yield f"run again without cause: {handler} of event {event}"


def reruns(found: Evidence) -> Iterator[tuple[int, str, str | None]]:
    """Yield event, handler and cause of each run after the first; the cause is None if nothing explains the run."""
    runs, kills = defaultdict(list), defaultdict(list)
    for step in sorted(found.steps, key=lambda step: step.at):
        runs[step.event, step.handler].append(step)
        if step.step == "kill":
            kills[step.pid].append(step.at)
    for (event, handler), steps in runs.items():
        begun = [step for step in steps if step.step == "begin"]
        for before, again in pairwise(begun):
            ends = [step for step in steps if step.pid == before.pid and before.at <= step.at and step.step != "begin"]
            yield event, handler, _cause(found.faults, before, again, ends[:1], kills[before.pid])


def _cause(faults: list[Fault], before: Step, again: Step, end: list[Step], kills: list[float]) -> str | None:
    if any(before.at <= at <= again.at for at in kills):
        return "a handler killed the process"
    if end and end[0].step == "raise":
        return "the handler raised"
    until = min(again.at, end[0].at + SLACK_SECONDS) if end else again.at
    for fault in faults:
        was = fault.began <= until and before.at - SLACK_SECONDS <= fault.ended
        if was and {before.pid, before.host, "database"} & set(fault.hit):
            return fault.name
        # A process that was frozen before it began may begin late, when another has taken over.
        thawed = fault.began <= again.at <= fault.ended + SLACK_SECONDS and {again.pid, again.host} & set(fault.hit)
        if thawed and fault.name.endswith("frozen"):
            return fault.name
    return None


def _own_status(found: Evidence) -> Iterator[str]:
    """The status of the callers' packages is that of their last callback that changes it and is stored."""
    own = {post.body for post in found.posts if post.caller == "own"}
    last: dict[str, tuple[str, str]] = {}
    for row in found.journal.values():
        members = json.loads(row.body) if row.body in own else {"name": None}
        if status := STATUS_AFTER.get(members["name"]):
            package = members["packageId"]
            last[package] = max(last.get(package, ("", "")), (members["createdDate"], status))
    for package, (_, status) in last.items():
        if found.packages.get(package, "absent") != status:
            yield f"wrong status: {package} is {found.packages.get(package, 'absent')}, not {status}"


def _true_status(found: Evidence) -> Iterator[str]:
    """The status of OneSpan's packages is the true one. Only the weekly sweep finds a deletion without a callback."""
    stored = [json.loads(row.body) for row in found.journal.values()]
    deleted = {members["packageId"] for members in stored if members["name"] == "PACKAGE_DELETE"}
    for package, status in found.truth.items():
        if (status is not None or package in deleted) and found.packages.get(package, "absent") != status:
            yield f"wrong status: {package} is {found.packages.get(package, 'absent')}, not {status} as at OneSpan"


def _refused(found: Evidence) -> Iterator[str]:
    for post in refused(found):
        causes = faults_during(found, post)
        stopped = {host for fault in causes if fault.name in STOPS_ONE for host in fault.hit}
        if not (stopped >= HOSTS or {fault.name for fault in causes} & STOPS_ALL):
            during = " and ".join(fault.name for fault in causes) or "no fault"
            yield f"refused: {post.status or post.reason} at {post.began:.1f} to {post.ended:.1f}, during {during}"


def refused(found: Evidence) -> Iterable[Post]:
    """Return the callbacks that were not acknowledged."""
    return [post for post in found.posts if not post.is_acknowledged]


def faults_during(found: Evidence, post: Post) -> list[Fault]:
    """Return the faults that a callback met."""
    return [fault for fault in found.faults if fault.began <= post.ended and post.began <= fault.ended + SLACK_SECONDS]
