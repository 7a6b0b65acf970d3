"""What stands around every page: where one can go, what must be known, who looks; and how a page stays fresh."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from flask import Response, current_app, render_template, request
from flask_wtf.csrf import generate_csrf
from sqlalchemy.engine import Connection

from app.store import queries
from app.store.db import Database
from app.store.queries.bounded import COUNTED
from app.web.actions import Acts
from app.web.api.endpoints import NoSuchThing
from app.web.api.health import Bedside
from app.web.dashboard import labels
from app.web.dashboard.user import may_act, who

NAVIGATION = (  # address, name, key
    ("/", "Transactions", "transactions"),
    ("/attention", "Needs attention", "attention"),
    ("/events", "Events", "events"),
    ("/handlers", "Handlers", "handlers"),
    ("/health", "Health", "health"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What all pages share.

    `onespan_url` is where OneSpan's own pages are, None where nothing is asked of it; `is_open` whether any callback
    is believed; `listening` tells which events each handler listens to.
    """

    database: Database
    clock: Callable[[], datetime]
    acts: Acts
    bedside: Bedside
    onespan_url: str | None
    is_open: bool
    listening: Callable[[], Mapping[str, Sequence[str]]]

    def page(
        self, connection: Connection, template: str, *, here: str, mark: str | None = None, **shown: Any
    ) -> Response:
        """A page, or 304 for who has it already.

        Without a `mark` the ETag is of what is seen, but for the token against forgery, which is another one each time.
        """
        if "silence" not in shown:
            shown["silence"] = queries.silence(connection)
        html = render_template(
            template,
            rooms=list(self._rooms(connection, here)),
            is_asked=self.acts.is_connected(),
            is_open=self.is_open,
            words=labels,
            now=self.clock(),
            **shown,
        )
        seen = html.replace(generate_csrf(), "")
        return answer(html, etag=mark or _hash(seen))

    def page_of_picture(
        self,
        template: str,
        *,
        here: str,
        show: Callable[[Connection], dict[str, Any]],
        load: Callable[[], dict[str, Any]] = dict,
    ) -> Response:
        """A page that shows nothing but the picture: where that is as it was, nothing is read for it.

        `load` reads what may take long, by a connection of its own. Where it says that what it has `is_partial`, the
        whole may be shown when it is asked for again.
        """
        with self.database.read() as connection:
            mark = self._mark(connection)
        if has_it(mark):
            return answer("", etag=mark)
        loaded = load()
        is_partial = loaded.pop("is_partial", False)
        with self.database.read() as connection:
            shown = loaded | show(connection)
            return self.page(connection, template, here=here, mark=None if is_partial else mark, **shown)

    def _mark(self, connection: Connection) -> str:
        """What the picture is made of, to the minute, for this visitor."""
        ends = queries.picture_mark(connection)
        return _hash(f"{request.full_path} {who()} {may_act()} {ends} {self.clock():%H:%M}")

    def titles(self, connection: Connection, package_ids: Iterable[str | None]) -> dict[str, str | None]:
        """What these packages are called."""
        return queries.names(connection, [one for one in package_ids if one is not None])

    def onespan_page(self, package_id: str) -> str | None:
        """A transaction's page at OneSpan (its authentication token guide names the address)."""
        return f"{self.onespan_url}/a/transaction/{quote(package_id, safe='')}" if self.onespan_url else None

    def _rooms(self, connection: Connection, here: str) -> Iterable[dict[str, object]]:
        open_ = queries.attention_counts(connection)
        counts = {
            "attention": (sum(open_.values()), "open"),
            "handlers": (open_["PARKED_HANDLER"], "parked"),
        }
        for href, name, key in NAVIGATION:
            count, counted = counts.get(key, (0, ""))
            is_here = {"href": href, "name": name, "here": key == here}
            yield {**is_here, "count": count and up_to(count), "counted": counted}


def up_to(count: int) -> str:
    """A count that ends at `COUNTED`."""
    return f"{COUNTED:,}+" if count >= COUNTED else f"{count:,}"


def answer(html: str, *, etag: str) -> Response:
    """The page with its ETag, or nothing but that it is still the same."""
    response: Response = current_app.response_class(html)
    response.set_etag(etag)
    if has_it(etag):
        response.status_code = 304
        response.set_data(b"")
    return response


def has_it(etag: str) -> bool:
    """Whether the one that asks has this already."""
    return request.if_none_match.contains_weak(etag)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def found(thing: Any, what: str) -> Any:
    """The same. Raises `NoSuchThing` where it is None."""
    if thing is None:
        raise NoSuchThing(what)
    return thing
