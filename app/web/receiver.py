"""The door: where OneSpan's callbacks come in."""

from collections.abc import Callable, Iterable
from datetime import datetime

import structlog
from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import NothingTakesIt, NotOneSpan, UnreadableCallback
from app.onespan.callbacks import read_callback
from app.store.journal import Entry
from app.web.auth import authenticate
from app.web.errors import refuse
from app.web.request_body import LIMIT, whole_body

log = structlog.get_logger()


def door(
    *,
    keys: Iterable[tuple[str, str]],
    keep: Callable[[Entry], int | None],
    wake: Callable[[], None],
    clock: Callable[[], datetime],
) -> Blueprint:
    """The blueprint of the door.

    `keep` makes an entry durable and returns its journal id, None where it went to the spool; it raises
    `NothingTakesIt` when it could not. `wake` says that there is something to digest.
    """
    blueprint = Blueprint("door", __name__)
    believed = tuple(keys)

    @blueprint.post("/onespan/callback")
    def receive() -> ResponseReturnValue:
        """Believe it, read it, write it down, say thanks."""
        # The raw header: OneSpan sends `Basic <key>`, not base64, which request.authorization cannot read.
        key = authenticate(request.headers.get("Authorization"), scheme="basic", keys=believed)
        if key is None:
            raise NotOneSpan
        entry, problem = read_entry(whole_body(), received_at=clock(), key=key)
        journal_id = keep(entry)
        wake()
        if problem:
            log.warning("callback.unreadable", journal_id=journal_id, key=key, reason=problem.detail)
            return refuse(400, "unreadable_callback", str(problem))
        return {"callback": journal_id}

    @blueprint.errorhandler(NotOneSpan)
    def not_onespan(error: NotOneSpan) -> ResponseReturnValue:
        log.warning("callback.refused", reason="no callback key of ours")
        hint = "Send the callback key as `Authorization: Basic <key>`, as it stands in OneSpan's settings."
        return refuse(401, "not_onespan", f"{error} {hint}", {"WWW-Authenticate": 'Basic realm="OneSpan callbacks"'})

    @blueprint.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> ResponseReturnValue:
        log.warning("callback.too_large", limit=LIMIT)
        what = f"The body has more than {LIMIT} bytes, which no callback has; nothing of it is kept."
        return refuse(413, "request_entity_too_large", what)

    @blueprint.errorhandler(NothingTakesIt)
    def nothing_takes_it(error: NothingTakesIt) -> ResponseReturnValue:
        log.error("callback.not_kept")
        return refuse(503, "not_kept", f"{error} Please send it again.", {"Retry-After": "30"})

    return blueprint


def read_entry(body: bytes, *, received_at: datetime, key: str) -> tuple[Entry, UnreadableCallback | None]:
    """The journal's entry for what came in, and why it cannot be read if it cannot."""
    try:
        callback = read_callback(body)
    except UnreadableCallback as problem:
        return Entry("callback", received_at, body, key=key, error=problem.detail), problem
    return Entry("callback", received_at, body, key=key, package_id=callback.package_id), None
