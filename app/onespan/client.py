"""The client of OneSpan Sign's REST API, for the service and its handlers.

The paths are from OneSpan's published OpenAPI document 11.51. Every call may raise a subclass of `OneSpanError`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import requests

from app.errors import OneSpanError, OneSpanNotConfigured, OneSpanNotFound, UnusableId, WrongAddress
from app.onespan.auth import ApiConnection
from app.onespan.clock import DATE_RESOLUTION, MAX_JUMP, OffsetRange, measure, parse_date
from app.onespan.ids import can_be_requested
from app.onespan.saved_files import durable_file
from app.onespan.transport import (
    BACKOFF_SECONDS,
    TIMEOUTS,
    UNAUTHORIZED,
    check,
    is_not_html,
    is_onespan_error,
    new_session,
    parse_json,
    parse_json_if_any,
    reason,
    translated_faults,
)

NOT_FOUND = 404
CHUNK_BYTES = 64 * 1024  # bytes of a downloaded file that are in memory at once
SECOND_END = timedelta(milliseconds=999)  # the last millisecond of the second in a `Date` header


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of OneSpan: the parsed JSON and its bytes.

    `read_at` and `answered_at` are times on OneSpan's clock. The answer includes everything that happened before
    `read_at`, and nothing that happened after `answered_at`. `offset` is how far OneSpan's clock is ahead, as far as
    the answer shows; None if its `Date` header is missing or not credible.
    """

    json: Any
    body: bytes
    read_at: datetime
    answered_at: datetime
    offset: OffsetRange | None = None


class OneSpan:
    """A thread-safe client of OneSpan's REST API. Without a connection, every call raises `OneSpanNotConfigured`."""

    def __init__(self, *, backoff: float = BACKOFF_SECONDS) -> None:
        self._connection: ApiConnection | None = None
        self._clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._session = new_session(backoff=backoff)
        # This function is called after each request, with its error, or with None if OneSpan answered it.
        self.report: Callable[[OneSpanError | None], None] = lambda _: None
        self._offset = timedelta(0)  # how far OneSpan's clock is ahead, by the last credible answer

    @property
    def is_connected(self) -> bool:
        """Whether OneSpan is configured."""
        return self._connection is not None

    def connect(self, connection: ApiConnection | None, *, clock: Callable[[], datetime] | None = None) -> None:
        """Use this connection for all later calls. `clock` replaces the machine's clock."""
        self._connection = connection
        self._clock = clock or self._clock

    @property
    def name(self) -> str | None:
        """A name that identifies the credentials and reveals nothing about them."""
        return self._connection.credentials.name if self._connection else None

    def package(self, package_id: str) -> Answer:
        """Get one package with all its parts (`GET /api/packages/{packageId}`)."""
        return self._get(f"/api/packages/{_part(package_id)}")

    def packages(self, **query: str | int) -> Answer:
        """Get a page of packages, `{"count", "results"}` (`GET /api/packages`). `query` has OneSpan's parameters."""
        return self._get("/api/packages", query=query)

    def signed_document(self, package_id: str, document_id: str, *, to: Path) -> Path:
        """Save one document as PDF, with its signatures so far."""
        return self._save(f"/api/packages/{_part(package_id)}/documents/{_part(document_id)}/pdf", to)

    def signed_documents(self, package_id: str, *, to: Path) -> Path:
        """Save all documents of a package as one zip."""
        return self._save(f"/api/packages/{_part(package_id)}/documents/zip", to)

    def evidence(self, package_id: str, *, to: Path) -> Path:
        """Save the evidence summary, a PDF: who signed what, when and from where."""
        return self._save(f"/api/packages/{_part(package_id)}/evidence/summary", to)

    def attachment(self, package_id: str, attachment_id: str, *, to: Path) -> Path:
        """Save one attachment of a signer. The attachment's id is in the role's `attachmentRequirements`."""
        return self._save(f"/api/packages/{_part(package_id)}/attachment/{_part(attachment_id)}", to)

    def attachments(self, package_id: str, *, to: Path, role_id: str | None = None) -> Path:
        """Save all attachments of a package, or those of one role, as one zip."""
        of_role = f"/{_part(role_id)}" if role_id else ""
        return self._save(f"/api/packages/{_part(package_id)}/attachment/zip{of_role}", to)

    def audit_trail(self, package_id: str) -> list[dict[str, Any]]:
        """Get OneSpan's `audit-events` of a package, which contain names and IP addresses."""
        answer = self._get(f"/api/packages/{_part(package_id)}/audit").json
        events = answer.get("audit-events") if isinstance(answer, dict) else None
        return [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []

    def unlock(self, package_id: str, role_id: str) -> None:
        """Unlock a locked signer. `role_id` is the signer's `Signer.role_id`."""
        self._post(f"/api/packages/{_part(package_id)}/roles/{_part(role_id)}/unlock")

    def remind(self, package_id: str, role_id: str) -> None:
        """Send the signers of a role a reminder, by email or SMS."""
        self._post(f"/api/packages/{_part(package_id)}/roles/{_part(role_id)}/notifications")

    def callback(self) -> Answer:
        """Get the registered callback: `{"url", "key", "events"}`, with the key in plain text (`GET /api/callback`).

        OneSpan does not document the answer if nothing is registered: expect `{}`, nulls, None or `OneSpanNotFound`.
        A 404 that does not have the form of OneSpan's errors raises `WrongAddress`.
        """
        return self._get("/api/callback", parse=parse_json_if_any, is_not_found=is_onespan_error)

    def register_callback(
        self, *, url: str, key: str, events: list[str], others: Mapping[str, object] | None = None
    ) -> None:
        """Register a callback, replacing the previous one (`POST /api/callback`). `others` are further members."""
        self._post("/api/callback", {**(others or {}), "url": url, "key": key, "events": events})

    def _get(
        self,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        parse: Callable[[requests.Response], Any] = parse_json,
        is_not_found: Callable[[requests.Response], bool] = is_not_html,
    ) -> Answer:
        sent_at = self._clock()
        with self._request("GET", path, is_not_found=is_not_found, params=query) as answer:
            return self._dated(answer, parse(answer), answer.content, sent_at=sent_at)

    def _post(self, path: str, body: object = None) -> None:
        with self._request("POST", path, json=body) as answer:
            answer.content  # noqa: B018  (reads to the end, so that the connection can be reused)

    def _save(self, path: str, to: Path) -> Path:
        """Stream a file to disk. The file appears under its name when it is complete, and replaces an existing file."""
        with self._request("GET", path, stream=True) as answer, durable_file(to) as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
        return to

    @contextmanager
    def _request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        is_not_found: Callable[[requests.Response], bool] = is_not_html,
        **more: Any,
    ) -> Iterator[requests.Response]:
        if self._connection is None:
            raise OneSpanNotConfigured
        try:
            with self._answer(method, path, self._connection, is_not_found=is_not_found, **more) as answer:
                yield answer
        except OneSpanError as problem:
            self.report(problem)
            raise
        self.report(None)

    @contextmanager
    def _answer(
        self,
        method: Literal["GET", "POST"],
        path: str,
        connection: ApiConnection,
        *,
        is_not_found: Callable[[requests.Response], bool],
        **more: Any,
    ) -> Iterator[requests.Response]:
        sent_at = self._clock()
        with translated_faults(connection.address):
            answer = self._send(method, path, connection, **more)
            if answer.status_code == UNAUTHORIZED and connection.credentials.renew(answer.request):
                answer.close()
                answer = self._send(method, path, connection, **more)
            with answer:
                if answer.status_code == NOT_FOUND and not is_not_found(answer):
                    raise WrongAddress(f"{connection.address} answers 404, but not in OneSpan's form")
                if answer.status_code == NOT_FOUND:
                    raise OneSpanNotFound(reason(answer), answer=self._dated(answer, None, b"", sent_at=sent_at))
                check(answer)
                yield answer

    def _send(self, method: str, path: str, connection: ApiConnection, **more: Any) -> requests.Response:
        return self._session.request(
            method,
            connection.address + path,
            auth=connection.credentials,
            headers={"Accept": "application/json, */*"},
            timeout=TIMEOUTS,
            allow_redirects=False,  # the API does not redirect; a redirect leads to a login page or another region
            **more,
        )

    def _dated(self, answer: requests.Response, json: Any, body: bytes, *, sent_at: datetime) -> Answer:
        """Return an answer with its times on OneSpan's clock, which allow for the resolution of the `Date` header.

        `read_at` is earlier than the header by the duration of all attempts. If the header is missing or too far ahead,
        the times are those of the local clock, corrected by the last credible offset. A header that is too far behind
        still counts: at worst the answer claims less than it could.
        """
        date, now = parse_date(answer.headers.get("Date")), self._clock()
        offset = self._credible(measure(date, sent_at=sent_at, received_at=now), answer)
        if date and (offset or date < sent_at + self._offset):
            return Answer(json, body, date - answer.elapsed - DATE_RESOLUTION, date + SECOND_END, offset)
        read_at, answered_at = sent_at + self._offset, now + self._offset
        return Answer(json, body, read_at - DATE_RESOLUTION, answered_at + DATE_RESOLUTION)

    def _credible(self, offset: OffsetRange | None, answer: requests.Response) -> OffsetRange | None:
        """Return a measured offset if it is near the last one, or if the same request measures it again."""
        if offset and not offset.is_within(MAX_JUMP, self._offset):
            assert self._connection
            sent_at = self._clock()
            with self._send("GET", str(answer.request.path_url), self._connection, stream=True) as second:
                date = parse_date(second.headers.get("Date"))
            again = measure(date, sent_at=sent_at, received_at=self._clock())
            offset = offset if again and again.agrees(offset) else None
        if offset:
            self._offset = offset.nearest(self._offset)
        return offset


def _part(object_id: str) -> str:
    """Quote an id as one part of a URL path; OneSpan's ids end in `=` and may contain any character."""
    if not can_be_requested(object_id):
        raise UnusableId
    return quote(object_id, safe="")
