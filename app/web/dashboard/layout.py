"""What all pages share: the navigation, the banner, the user, and ETags that keep open pages up to date."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from flask import Response, current_app, render_template, request
from flask_wtf.csrf import generate_csrf
from sqlalchemy.engine import Connection

from app.store import onespan_clock, queries
from app.store.db import Database
from app.store.queries.bounded import COUNT_LIMIT
from app.web.actions import Actions
from app.web.api.endpoints import ResourceNotFound
from app.web.api.health import HealthSources
from app.web.dashboard import labels
from app.web.dashboard.user import has_full_access, user_name

NAVIGATION = (  # URL, name and key of each page
    ("/", "Transactions", "transactions"),
    ("/attention", "Needs attention", "attention"),
    ("/events", "Events", "events"),
    ("/handlers", "Handlers", "handlers"),
    ("/health", "Health", "health"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of pages, which renders each page with the parts that all pages share.

    `onespan_url` is the address of OneSpan's own pages, or None. `accepts_callbacks` says whether a callback key is
    set. `subscriptions` returns the events that each handler is subscribed to.
    """

    database: Database
    clock: Callable[[], datetime]
    actions: Actions
    health: HealthSources
    onespan_url: str | None
    accepts_callbacks: bool
    subscriptions: Callable[[], Mapping[str, Sequence[str]]]

    def page(
        self, connection: Connection, template: str, *, here: str, etag: str | None = None, **values: Any
    ) -> Response:
        """Render a page, or answer 304 if the client has the page already.

        Without `etag` the ETag is a hash of the page without the CSRF token, which differs each time.
        """
        if "silence" not in values:
            values["silence"] = queries.silence(connection)
        html = render_template(
            template,
            navigation=list(self._navigation(connection, here)),
            is_sync_on=self.actions.is_connected(),
            has_onespan_url=self.onespan_url is not None,
            accepts_callbacks=self.accepts_callbacks,
            labels=labels,
            now=onespan_clock.onespan_time(connection, self.clock()),
            **values,
        )
        return respond(html, etag=etag or _hash(html.replace(generate_csrf(), "")))

    def cached_page(
        self,
        template: str,
        *,
        here: str,
        read: Callable[[Connection], dict[str, Any]],
        load: Callable[[], dict[str, Any]] = dict,
    ) -> Response:
        """Render a page from the status store. If nothing changed, answer 304 without reading the store.

        `load` runs a query that may be slow, on its own connection. If the result of `load` says `is_partial`, the page
        gets no lasting ETag, so that the next request can show the whole page.
        """
        with self.database.read() as connection:
            etag = self._etag(connection)
        if client_has(etag):
            return respond("", etag=etag)
        loaded = load()
        is_partial = loaded.pop("is_partial", False)
        with self.database.read() as connection:
            values = loaded | read(connection)
            return self.page(connection, template, here=here, etag=None if is_partial else etag, **values)

    def _etag(self, connection: Connection) -> str:
        """Return an ETag for the URL, the user, the revision of the status store and the current minute."""
        revision = queries.store_revision(connection)
        return _hash(f"{request.full_path} {user_name()} {has_full_access()} {revision} {self.clock():%H:%M}")

    def titles(self, connection: Connection, package_ids: Iterable[str | None]) -> dict[str, str | None]:
        """Return the names of these packages."""
        return queries.names(connection, [package_id for package_id in package_ids if package_id is not None])

    def onespan_page(self, package_id: str) -> str | None:
        """Return the URL of a transaction at OneSpan, as OneSpan's guide to authentication tokens gives it."""
        return f"{self.onespan_url}/a/transaction/{quote(package_id, safe='')}" if self.onespan_url else None

    def _navigation(self, connection: Connection, here: str) -> Iterable[dict[str, object]]:
        open_issues = queries.attention_counts(connection)
        counts = {
            "attention": (sum(open_issues.values()), "open"),
            "handlers": (open_issues["PARKED_HANDLER"], "failed"),
        }
        for href, name, key in NAVIGATION:
            count, unit = counts.get(key, (0, ""))
            shown = {"count": count and format_count(count), "unit": unit}
            yield {"href": href, "name": name, "is_current": key == here, **shown}


def format_count(count: int) -> str:
    """Return a count as text. Counting stops at `COUNT_LIMIT`, which shows as `500+`."""
    return f"{COUNT_LIMIT:,}+" if count >= COUNT_LIMIT else f"{count:,}"


def respond(html: str, *, etag: str) -> Response:
    """Return a response with this ETag, or an empty 304 if the client has the page already."""
    response: Response = current_app.response_class(html)
    response.set_etag(etag)
    if client_has(etag):
        response.status_code = 304
        response.set_data(b"")
    return response


def client_has(etag: str) -> bool:
    """Return whether the client sent this ETag, which means that the client has the page already."""
    return request.if_none_match.contains_weak(etag)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def required(value: Any, message: str) -> Any:
    """Return the value. Raises `ResourceNotFound` with this message if the value is None."""
    if value is None:
        raise ResourceNotFound(message)
    return value
