"""The JSON API: what a front end, or another system, reads instead of polling OneSpan."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue
from sqlalchemy.engine import Connection
from werkzeug.routing import PathConverter

from app.errors import MoreThanExpected, NoOneSpan, ReceiverError, StillRunning, TooMany, UnderWay
from app.onespan.values import Package
from app.store import queries
from app.store.db import Database
from app.store.queries import BadCursor, ChangeDetail, EventDetail, EventFilter, PackageFilter, PackagePage, Page
from app.web.actions import Acts
from app.web.api import attention, callbacks, dispatches, fetch, health, reconciles, reference
from app.web.api.endpoints import Endpoints, NoSuchThing, id_in, page_of
from app.web.api.health import Bedside
from app.web.api.parameters import LAST_ID, BadParameter, ChangesQuery, CursorQuery, EventQuery, PackageQuery
from app.web.auth import authenticate
from app.web.errors import refuse

NOT_NOW = {
    StillRunning: "still_running",
    UnderWay: "under_way",
    NoOneSpan: "no_onespan",
    MoreThanExpected: "more_than_expected",
    TooMany: "too_many",
}
FOR_ANYONE = ("api.openapi", "api.reference")
LOOK = 0.25  # seconds between two looks for a change while a request is held


class AnyId(PathConverter):
    """An id in a path: any text, with slashes and line breaks, even at its start."""

    regex = r"[\s\S]+?"
    part_isolating = False


def api(  # noqa: C901, PLR0915  (a list of views, each of them short)
    database: Database,
    *,
    tokens: Iterable[tuple[str, str]],
    clock: Callable[[], datetime],
    acts: Acts,
    listening: Callable[[], Mapping[str, Sequence[str]]],
    bedside: Bedside,
    waiters: int,
) -> Blueprint:
    """The blueprint of `/api`.

    `listening` tells which events each handler listens to. So many `waiters` of the feed are held at once.
    """
    blueprint = Blueprint("api", __name__, template_folder="templates")
    endpoints = Endpoints(blueprint)
    known = tuple(tokens)
    places = threading.BoundedSemaphore(waiters)

    @blueprint.before_request
    def who_is_it() -> ResponseReturnValue | None:
        if request.endpoint in FOR_ANYONE or request.method == "OPTIONS":
            return None
        g.token = authenticate(request.headers.get("Authorization"), scheme="bearer", keys=known)
        if g.token is None:
            hint = "Send one of API_TOKENS as `Authorization: Bearer <token>`."
            return refuse(401, "no_token", hint, {"WWW-Authenticate": "Bearer"})
        return None

    get = endpoints.get

    @get("/api/packages", answer=PackagePage, query=PackageQuery)
    def packages(asked: PackageQuery) -> PackagePage:
        """Packages, as they are believed to be now.

        A query that takes longer than 5 s is stopped: the page is empty then, with `timed_out` true and no `next`.
        """
        wanted = PackageFilter(**asked.model_dump(exclude={"limit", "cursor", "sort"}))
        return queries.package_page(database, wanted, sort=asked.sort, limit=asked.limit, cursor=asked.cursor)

    @get("/api/packages/<id:package_id>/history", answer=Page[ChangeDetail], query=CursorQuery, errors=(404,))
    def history(package_id: str, asked: CursorQuery) -> Page[ChangeDetail]:
        """The changes of a package, oldest first, each with its cause."""
        with database.read() as connection:
            _package(connection, package_id)
            after = id_in(asked.cursor) or 0
            items = queries.history(connection, package_id, limit=asked.limit + 1, after=after)
        return page_of(items, asked.limit)

    @get("/api/packages/<id:package_id>", answer=Package, errors=(404,))
    def package(package_id: str) -> Package:
        """One package."""
        with database.read() as connection:
            return _package(connection, package_id)

    @get("/api/events", answer=Page[EventDetail], query=EventQuery)
    def events(asked: EventQuery) -> Page[EventDetail]:
        """Facts, newest first, with the callbacks that told them and what the handlers made of them."""
        wanted = EventFilter(**asked.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.event_page(connection, wanted, limit=asked.limit, before=id_in(asked.cursor))

    @get("/api/events/<int:event_id>", answer=EventDetail, errors=(404,))
    def event(event_id: int) -> EventDetail:
        """One fact."""
        with database.read() as connection:
            found = queries.event(connection, event_id) if event_id <= LAST_ID else None
        if found is None:
            raise NoSuchThing(f"no event {event_id}")
        return found

    @get("/api/changes", answer=Page[ChangeDetail], query=ChangesQuery)
    def changes(asked: ChangesQuery) -> Page[ChangeDetail]:
        """Every change after a given one, in order, none skipped; `next` is what to pass as `after`.

        Holds the request until there is a change, up to `wait` seconds. When too many requests are held
        already it answers at once, with no items. After `last` there is nothing yet, and `next` is where to begin.
        """
        if asked.after == "last":
            with database.read() as connection:
                return Page([], str(queries.last_change(connection)))
        items = _changes(database, asked)
        if not items and asked.wait and places.acquire(blocking=False):
            try:
                items = _wait_for_changes(database, asked)
            finally:
                places.release()
        return Page(items, str(items[-1].id) if items else None)

    reconciles.add_views(endpoints, database, acts, clock=clock)
    fetch.add_views(endpoints, acts)
    callbacks.add_views(endpoints, database)
    attention.add_views(endpoints, database)
    dispatches.add_views(endpoints, database, acts, listening=listening)
    health.add_views(endpoints, database, at=bedside, clock=clock)
    reference.add_views(endpoints, blueprint)

    @blueprint.errorhandler(BadParameter)
    @blueprint.errorhandler(BadCursor)
    def bad_parameter(error: ReceiverError) -> ResponseReturnValue:
        message = f"cursor: {error}" if isinstance(error, BadCursor) else error.detail or str(error)
        return refuse(400, "bad_parameter", message)

    @blueprint.errorhandler(NoSuchThing)
    def no_such_thing(error: NoSuchThing) -> ResponseReturnValue:
        return refuse(404, "not_found", error.detail or str(error))

    def not_now(error: ReceiverError) -> ResponseReturnValue:
        return refuse(409, NOT_NOW[type(error)], str(error))

    for kind in NOT_NOW:
        blueprint.register_error_handler(kind, not_now)

    return blueprint


def _package(connection: Connection, package_id: str) -> Package:
    found = queries.packages(connection, [package_id]) if "\0" not in package_id else {}
    if package_id not in found:
        raise NoSuchThing(f"no package {package_id!r}")
    return found[package_id]


def _changes(database: Database, asked: ChangesQuery) -> list[ChangeDetail]:
    assert asked.after != "last"
    with database.read() as connection:
        return queries.changes(connection, after=asked.after, limit=asked.limit)


def _wait_for_changes(database: Database, asked: ChangesQuery) -> list[ChangeDetail]:
    deadline = time.monotonic() + asked.wait
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(LOOK, left))
        if items := _changes(database, asked):
            return items
    return []
