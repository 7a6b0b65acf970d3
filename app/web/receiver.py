"""The receiver: the endpoint that OneSpan calls."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import structlog
from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from app.errors import InvalidCallbackKey, StorageUnavailable, UnreadableCallback
from app.onespan.compression import MAX_BODY_BYTES
from app.onespan.registration import RECEIVER_PATH
from app.store.intake import journal_entries
from app.store.journal import Entry
from app.web.auth import authenticate
from app.web.errors import error_response
from app.web.request_body import plain_body

log = structlog.get_logger()


def receiver(
    *,
    keys: Iterable[tuple[str, str]],
    keep: Callable[[Entry], int | None],
    wake: Callable[[], None],
    clock: Callable[[], datetime],
) -> Blueprint:
    """Return the blueprint of the callback endpoint.

    `keys` are (label, key) pairs. `keep` makes an entry durable and returns its journal id, or None for an entry in
    the spool. `keep` raises `StorageUnavailable` if it cannot store the entry. `wake` signals work for the digest.
    """
    blueprint = Blueprint("receiver", __name__)
    callback_keys = tuple(keys)

    @blueprint.post(RECEIVER_PATH)
    def receive() -> ResponseReturnValue:
        """Authenticate a callback, store it durably, acknowledge it."""
        # `request.authorization` cannot read OneSpan's header: `Basic <key>` with a key that is not base64.
        key = authenticate(request.headers.get("Authorization"), scheme="basic", keys=callback_keys)
        if key is None:
            raise InvalidCallbackKey
        entries = journal_entries(plain_body(), received_at=clock(), key=key)
        journal_ids = [keep(entry) for entry in entries]
        wake()
        for entry, journal_id in zip(entries, journal_ids, strict=True):
            if entry.error:
                log.warning("callback.unreadable", journal_id=journal_id, key=key, reason=entry.error)
            elif journal_id is not None:  # otherwise `callback.spooled` is the line
                log.info("callback.accepted", journal_id=journal_id, package_id=entry.package_id, key=key)
        if all(entry.error for entry in entries):
            return error_response(400, "unreadable_callback", str(UnreadableCallback(entries[0].error)))
        return {"callback": journal_ids[0]}

    @blueprint.errorhandler(InvalidCallbackKey)
    def invalid_key(error: InvalidCallbackKey) -> ResponseReturnValue:
        log.warning("callback.refused", reason=_why_refused(request.headers.get("Authorization"), callback_keys))
        hint = "Send the callback key as `Authorization: Basic <key>`, exactly as entered in OneSpan's settings."
        return error_response(
            401, "not_onespan", f"{error} {hint}", {"WWW-Authenticate": 'Basic realm="OneSpan callbacks"'}
        )

    @blueprint.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> ResponseReturnValue:
        log.warning("callback.too_large", limit=MAX_BODY_BYTES)
        message = f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was stored."
        return error_response(413, "request_entity_too_large", message)

    @blueprint.errorhandler(StorageUnavailable)
    def not_stored(error: StorageUnavailable) -> ResponseReturnValue:
        log.error("callback.not_kept")
        return error_response(503, "not_kept", f"{error} Send it again.", {"Retry-After": "30"})

    return blueprint


def _why_refused(authorization: str | None, keys: Sequence[tuple[str, str]]) -> str:
    if not keys:
        return "ONESPAN_CALLBACK_KEYS is not set"
    if not authorization:
        return "no Authorization header"
    return "unknown key" if authorization.lower().startswith("basic ") else "another scheme than Basic"
