"""The page of one transaction: its status and source, signers, documents, history and handler runs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flask import Blueprint, Response, redirect, url_for
from flask.typing import ResponseReturnValue

from app.onespan.values import Package
from app.store import queries
from app.store.queries import ChangeDetail, EventDetail, EventFilter
from app.web.dashboard.history import cause_text, timeline
from app.web.dashboard.layout import Layout, required
from app.web.dashboard.user import requires_full_access, user_name

EVENTS_SHOWN = 100
CHANGES_SHOWN = 400


def add_views(blueprint: Blueprint, layout: Layout) -> None:
    """Add the page of a transaction and its action to the blueprint."""

    @blueprint.get("/transactions/<id:package_id>")
    def transaction(package_id: str) -> Response:
        """Show one transaction with its history."""
        with layout.database.read() as connection:
            found = queries.packages(connection, [package_id] if "\0" not in package_id else [])
            package: Package = required(found.get(package_id), "There is no transaction with this ID.")
            events = queries.event_page(
                connection, EventFilter(package=package_id), limit=EVENTS_SHOWN, before=None
            ).items
            changes = queries.recent_history(connection, package_id, limit=CHANGES_SHOWN)
            return layout.page(
                connection,
                "transaction.html",
                here="transactions",
                package=package,
                status_change=_status_change(package, changes),
                cause_text=cause_text,
                timeline=timeline(package, events, changes, is_complete=len(events) < EVENTS_SHOWN),
                runs=list(_runs(events)),
                has_more=len(events) == EVENTS_SHOWN,
                onespan_page=layout.onespan_page(package_id),
            )

    @blueprint.post("/transactions/<id:package_id>/read")
    @requires_full_access
    def refresh(package_id: str) -> ResponseReturnValue:
        """Request a new read of the transaction from OneSpan."""
        layout.actions.request_fetch(package_id, by=user_name() or "")
        return redirect(url_for("pages.transaction", package_id=package_id), 303)


def _status_change(package: Package, changes: Sequence[ChangeDetail]) -> ChangeDetail | None:
    """Return the change that set the current status, or None if that change is older than all given changes."""
    steps = (change for change in changes if change.subject == "package" and change.attribute == "status")
    newest = max(steps, key=lambda change: change.id, default=None)
    return newest if newest and newest.new == package.status else None


def _runs(events: Iterable[EventDetail]) -> Iterator[dict[str, Any]]:
    """Yield the handler runs of these events, failed runs first."""
    rank = {"parked": 0, "running": 1, "due": 2}
    runs = [(run, event) for event in events for run in event.dispatches]
    for run, event in sorted(runs, key=lambda pair: (rank.get(pair[0].state, 3), -pair[0].id)):
        yield {"run": run, "event": event}
