"""The JSON API: the interface for front ends and other systems, which need not poll OneSpan."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import structlog
from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue
from sqlalchemy.engine import Connection
from werkzeug.routing import PathConverter, ValidationError

from app.errors import (
    DispatchRunning,
    MoreThanExpected,
    OneSpanNotConfigured,
    ReceiverError,
    ReconcileRunning,
    TooManyRuns,
)
from app.onespan.ids import can_be_requested
from app.onespan.values import Package
from app.store import queries
from app.store.db import Database
from app.store.queries import BadCursor, ChangeDetail, EventDetail, EventFilter, PackageFilter, PackagePage, Page
from app.web.actions import Actions
from app.web.api import attention, callbacks, dispatches, fetch, health, reconciles, reference
from app.web.api.endpoints import Endpoints, ResourceNotFound, id_of_cursor, page_of
from app.web.api.health import HealthSources
from app.web.api.parameters import MAX_ID, BadParameter, ChangesQuery, CursorQuery, EventQuery, PackageQuery
from app.web.auth import ApiToken, authenticate
from app.web.errors import error_response
from app.web.request_logs import log_user

log = structlog.get_logger()

CONFLICTS = {
    DispatchRunning: "still_running",
    ReconcileRunning: "under_way",
    OneSpanNotConfigured: "no_onespan",
    MoreThanExpected: "more_than_expected",
    TooManyRuns: "too_many",
}
READING_METHODS = ("GET", "HEAD")
HAS_ENDED = "The token {token.label} ended on {token.last_day}. Ask the operator for a new one."
READS_ONLY = "The token {token.label} can only read. Actions need a token with the scope `act`."
PUBLIC_ENDPOINTS = ("api.openapi", "api.reference")
FEED_POLL_SECONDS = 0.25  # seconds between two reads of the change feed for a held request


class AnyId(PathConverter):
    """A URL converter for ids: an id may be any text, and may even begin with a slash or a line break.

    An id with a part `.` or `..` has no address: browsers and proxies read such a path as another one.
    """

    regex = r"[\s\S]+?"
    part_isolating = False

    def to_python(self, value: str) -> str:
        """Return the id; an id that has no address matches no route."""
        if not can_be_requested(value):
            raise ValidationError
        return value


def api(  # noqa: C901, PLR0915  (a list of short views)
    database: Database,
    *,
    tokens: Iterable[ApiToken],
    clock: Callable[[], datetime],
    actions: Actions,
    subscriptions: Callable[[], Mapping[str, Sequence[str]]],
    health_sources: HealthSources,
    max_held_requests: int,
) -> Blueprint:
    """Return the blueprint of `/api`.

    `subscriptions` returns the event names of each handler. `max_held_requests` limits how many requests for the change
    feed are held at a time.
    """
    blueprint = Blueprint("api", __name__, template_folder="templates")
    endpoints = Endpoints(blueprint)
    api_tokens = {token.label: token for token in tokens}
    secrets = tuple((token.label, token.secret) for token in api_tokens.values())
    wait_slots = threading.BoundedSemaphore(max_held_requests)

    @blueprint.before_request
    def require_token() -> ResponseReturnValue | None:
        if request.endpoint in PUBLIC_ENDPOINTS or request.method == "OPTIONS":
            return None
        g.token = authenticate(request.headers.get("Authorization"), scheme="bearer", keys=secrets)
        if g.token is None:
            log.warning("token.refused", reason="unknown token" if request.headers.get("Authorization") else "no token")
            message = "Missing or invalid token. Send one of API_TOKENS as `Authorization: Bearer <token>`."
            return error_response(401, "no_token", message, {"WWW-Authenticate": "Bearer"})
        log_user(f"api:{g.token}")
        token = api_tokens[g.token]
        if token.has_ended(clock()):
            log.warning("token.refused", reason="its last day is over")
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return error_response(401, "token_ended", HAS_ENDED.format(token=token), headers)
        if request.method not in READING_METHODS and not token.may_act:
            log.warning("token.refused", reason="it can only read")
            return error_response(403, "read_only_token", READS_ONLY.format(token=token))
        return None

    get = endpoints.get

    @get("/api/packages", answer=PackagePage, query=PackageQuery)
    def packages(query: PackageQuery) -> PackagePage:
        """List packages with their current state.

        A query that takes longer than 5 s is stopped: the page has no items, `timed_out` is true and `next` is null.
        """
        filters = PackageFilter(**query.model_dump(exclude={"limit", "cursor", "sort"}))
        return queries.package_page(database, filters, sort=query.sort, limit=query.limit, cursor=query.cursor)

    @get("/api/packages/<id:package_id>/history", answer=Page[ChangeDetail], query=CursorQuery, errors=(404,))
    def history(package_id: str, query: CursorQuery) -> Page[ChangeDetail]:
        """List the changes of one package, oldest first, each with its cause."""
        with database.read() as connection:
            _package(connection, package_id)
            after = id_of_cursor(query.cursor) or 0
            items = queries.history(connection, package_id, limit=query.limit + 1, after=after)
        return page_of(items, query.limit)

    @get("/api/packages/<id:package_id>", answer=Package, errors=(404,))
    def package(package_id: str) -> Package:
        """Return one package with its signers, documents and attention reasons."""
        with database.read() as connection:
            return _package(connection, package_id)

    @get("/api/events", answer=Page[EventDetail], query=EventQuery)
    def events(query: EventQuery) -> Page[EventDetail]:
        """List events, newest first, each with its callbacks and its dispatches."""
        filters = EventFilter(**query.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.event_page(connection, filters, limit=query.limit, before=id_of_cursor(query.cursor))

    @get("/api/events/<int:event_id>", answer=EventDetail, errors=(404,))
    def event(event_id: int) -> EventDetail:
        """Return one event."""
        with database.read() as connection:
            found = queries.event(connection, event_id) if event_id <= MAX_ID else None
        if found is None:
            raise ResourceNotFound(f"no event {event_id}")
        return found

    @get("/api/changes", answer=Page[ChangeDetail], query=ChangesQuery)
    def changes(query: ChangesQuery) -> Page[ChangeDetail]:
        """List every change after the change with id `after`, in order, without gaps. Pass `next` as the next `after`.

        If there is no change, the request is held for up to `wait` seconds. If too many requests are held already, the
        answer comes at once, without items. With `after=last` the answer has no items, and `next` is the current end
        of the feed.
        """
        if query.after == "last":
            with database.read() as connection:
                return Page([], str(queries.last_change(connection)))
        items = _changes(database, query)
        if not items and query.wait and wait_slots.acquire(blocking=False):
            try:
                items = _wait_for_changes(database, query)
            finally:
                wait_slots.release()
        return Page(items, str(items[-1].id) if items else None)

    reconciles.add_views(endpoints, database, actions, clock=clock)
    fetch.add_views(endpoints, actions)
    callbacks.add_views(endpoints, database)
    attention.add_views(endpoints, database)
    dispatches.add_views(endpoints, database, actions, subscriptions=subscriptions)
    health.add_views(endpoints, database, sources=health_sources, clock=clock)
    reference.add_views(endpoints, blueprint)

    @blueprint.errorhandler(BadParameter)
    @blueprint.errorhandler(BadCursor)
    def bad_parameter(error: ReceiverError) -> ResponseReturnValue:
        message = f"cursor: {error}" if isinstance(error, BadCursor) else error.detail or str(error)
        return error_response(400, "bad_parameter", message)

    @blueprint.errorhandler(ResourceNotFound)
    def not_found(error: ResourceNotFound) -> ResponseReturnValue:
        return error_response(404, "not_found", error.detail or str(error))

    def conflict(error: ReceiverError) -> ResponseReturnValue:
        return error_response(409, CONFLICTS[type(error)], str(error))

    for error_class in CONFLICTS:
        blueprint.register_error_handler(error_class, conflict)

    return blueprint


def _package(connection: Connection, package_id: str) -> Package:
    found = queries.packages(connection, [package_id]) if "\0" not in package_id else {}
    if package_id not in found:
        raise ResourceNotFound(f"no package {package_id!r}")
    return found[package_id]


def _changes(database: Database, query: ChangesQuery) -> list[ChangeDetail]:
    assert query.after != "last"
    with database.read() as connection:
        return queries.changes(connection, after=query.after, limit=query.limit)


def _wait_for_changes(database: Database, query: ChangesQuery) -> list[ChangeDetail]:
    deadline = time.monotonic() + query.wait
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(FEED_POLL_SECONDS, left))
        if items := _changes(database, query):
            return items
    return []
