"""One transaction: where it stands and how we know, who is to sign what, all that happened, and what to do."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, redirect, url_for
from flask.typing import ResponseReturnValue

from app.onespan.values import Package
from app.store import queries
from app.store.queries import ChangeDetail, EventDetail, EventFilter
from app.web.dashboard import labels
from app.web.dashboard.layout import Frame, found
from app.web.dashboard.user import acts, who

EVENTS_SHOWN = 100
CHANGES_SHOWN = 400


@dataclass(slots=True)
class Entry:
    """One thing in the timeline. `kind`: told (by a callback), found (by asking), read, person or handler."""

    at: datetime
    kind: str
    what: str
    event: EventDetail | None = None
    cause: tuple[str, int | str] | None = None
    changes: list[tuple[str, str, str]] = field(default_factory=list)


def add_views(blueprint: Blueprint, frame: Frame) -> None:
    """Add the page of a transaction, and what one can do there."""

    @blueprint.get("/transactions/<id:package_id>")
    def transaction(package_id: str) -> Response:
        """Everything about one transaction."""
        with frame.database.read() as connection:
            known = queries.packages(connection, [package_id] if "\0" not in package_id else [])
            package: Package = found(known.get(package_id), "No transaction of this id has been heard of here.")
            events = queries.event_page(
                connection, EventFilter(package=package_id), limit=EVENTS_SHOWN, before=None
            ).items
            changes = queries.recent_history(connection, package_id, limit=CHANGES_SHOWN)
            return frame.page(
                connection,
                "transaction.html",
                here="transactions",
                package=package,
                known=_known(package, changes),
                timeline=timeline(package, events, changes),
                runs=list(_runs(events)),
                more=len(events) == EVENTS_SHOWN,
                onespan_page=frame.onespan_page(package_id),
            )

    @blueprint.post("/transactions/<id:package_id>/read")
    @acts
    def ask(package_id: str) -> ResponseReturnValue:
        """Have OneSpan asked for it now."""
        frame.acts.read(package_id, by=who() or "")
        return redirect(url_for("pages.transaction", package_id=package_id), 303)


def _known(package: Package, changes: Sequence[ChangeDetail]) -> ChangeDetail | None:
    """What told the status as it is; None where that is longer ago than the changes that are shown."""
    steps = (one for one in changes if one.subject == "package" and one.attribute == "status")
    newest = max(steps, key=lambda one: one.id, default=None)
    return newest if newest and newest.new == package.status else None


def _runs(events: Iterable[EventDetail]) -> Iterator[dict[str, Any]]:
    """The handlers' runs, those that need a hand first."""
    rank = {"parked": 0, "running": 1, "due": 2}
    runs = [(run, event) for event in events for run in event.dispatches]
    for run, event in sorted(runs, key=lambda one: (rank.get(one[0].state, 3), -one[0].id)):
        yield {"run": run, "event": event}


def timeline(package: Package, events: Sequence[EventDetail], changes: Iterable[ChangeDetail]) -> list[Entry]:
    """What happened, newest first: each event with the changes that it caused, and what else changed anything."""
    entries = {event.id: _of_event(package, event) for event in events}
    teller = {telling.id: event.id for event in events for telling in event.callbacks}
    oldest = min((event.first_received_at for event in events), default=None) if len(events) == EVENTS_SHOWN else None
    others: dict[tuple[str, int | str], Entry] = {}
    for one in sorted(changes, key=lambda one: one.id):
        cause = (one.cause.kind, one.cause.id)
        event_id = teller.get(one.cause.id) if one.cause.kind == "callback" and isinstance(one.cause.id, int) else None
        if event_id is None and oldest and one.recorded_at < oldest:
            continue
        entry = entries[event_id] if event_id else others.setdefault(cause, _of_cause(one))
        entry.changes.append(labels.change(package, one))
    return sorted([*entries.values(), *others.values()], key=lambda one: one.at, reverse=True)


def _of_event(package: Package, event: EventDetail) -> Entry:
    kind = "told" if event.source == "callback" else "found"
    cause = ("callback", event.callbacks[0].id) if event.callbacks else None
    return Entry(event.happened_at, kind, labels.sentence(package, event), event, cause)


def _of_cause(one: ChangeDetail) -> Entry:
    kind, what = labels.CAUSE_KINDS.get(one.cause.kind, ("read", one.cause.kind))
    at = one.happened_at if one.cause.kind in ("callback", "snapshot") else one.recorded_at
    return Entry(at, kind, what.format(who=one.cause.id), None, (one.cause.kind, one.cause.id))
