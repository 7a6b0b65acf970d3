"""What stands around every page: where one can go, what must be known, who looks; and how a page stays fresh."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import Response, current_app, render_template, request
from sqlalchemy.engine import Connection

from app.store import queries
from app.store.db import Database
from app.web.dashboard import words

ROOMS = (
    ("/", "Transactions", "transactions"),
    ("/attention", "Needs attention", "attention"),
    ("/events", "Events", "events"),
    ("/handlers", "Handlers", "handlers"),
    ("/health", "Health", "health"),
)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something everybody should know, on every page."""

    text: str
    tone: str = ""
    href: str | None = None
    link: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all pages share. `notices` says what is wrong just now."""

    database: Database
    clock: Callable[[], datetime]
    notices: Callable[[Connection], Iterable[Notice]] = field(default=lambda _: ())

    def page(self, connection: Connection, template: str, *, here: str, **shown: Any) -> Response:
        """A page, or 304 where the one that asks has it already.

        The ETag is of what is seen, without the token against forgery, which is another one each time.
        """
        rooms = list(self._rooms(connection, here))
        html = render_template(template, rooms=rooms, notices=list(self.notices(connection)), words=words, **shown)
        return fresh(html, forget=shown.get("token", ""))

    def _rooms(self, connection: Connection, here: str) -> Iterable[dict[str, Any]]:
        needing = sum(queries.attention_counts(connection).values())
        parked = sum(one.parked for one in queries.handler_counts(connection))
        counts = {"attention": (needing, "need attention"), "handlers": (parked, "parked")}
        for href, name, key in ROOMS:
            count, counted = counts.get(key, (0, ""))
            yield {
                "href": href,
                "name": name,
                "here": key == here,
                "count": f"{count:,}",
                "counted": counted,
                "alarm": True,
            }


def fresh(html: str, *, forget: str) -> Response:
    """The page with its ETag, or nothing but that it is still the same."""
    response: Response = current_app.response_class(html)
    seen = html.replace(forget, "") if forget else html
    response.set_etag(hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()[:32])
    if request.if_none_match.contains_weak(response.get_etag()[0] or ""):
        response.status_code = 304
        response.set_data(b"")
    return response
