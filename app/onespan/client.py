"""OneSpan Sign's REST API, as far as the service and its handlers need it. Nobody else speaks to OneSpan.

Paths are those of the published OpenAPI document 11.51. Every call may raise what is below `OneSpanError`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote

import requests

from app.errors import NoOneSpan, NotThere, WrongAddress
from app.onespan.auth import Connection
from app.onespan.claims import AHEAD
from app.onespan.transport import (
    BACKOFF,
    TIMEOUTS,
    UNAUTHORIZED,
    check,
    faults_explained,
    is_no_page,
    is_onespans,
    new_session,
    read_json,
    read_json_if_any,
    reason,
)

NOT_FOUND = 404
CHUNK = 64 * 1024  # bytes of a file held in memory
GRAIN = timedelta(seconds=1)  # of a `Date` header
LAST_MOMENT = timedelta(milliseconds=999)  # of the second that a header says: OneSpan's times have milliseconds


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON as OneSpan answered it, and its bytes.

    `read_at` is a time of OneSpan's clock before it looked, so whatever had happened by then is in the answer;
    nothing that happened after `answered_at` is. A clock that is far ahead of ours is not believed.
    """

    json: Any
    body: bytes
    read_at: datetime
    answered_at: datetime


class OneSpan:
    """The client. Any number of threads may use one. Not connected, every call raises `NoOneSpan`."""

    def __init__(self, *, backoff: float = BACKOFF) -> None:
        self._connection: Connection | None = None
        self._clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._session = new_session(backoff=backoff)

    @property
    def is_connected(self) -> bool:
        """Whether there is a OneSpan to ask."""
        return self._connection is not None

    def connect(self, connection: Connection | None, *, clock: Callable[[], datetime] | None = None) -> None:
        """Ask this OneSpan from now on. `clock` is ours, where it is not this machine's."""
        self._connection = connection
        self._clock = clock or self._clock

    @property
    def name(self) -> str | None:
        """A name for the credentials, which tells nothing of them."""
        return self._connection.access.name if self._connection else None

    def package(self, package_id: str) -> Answer:
        """One package, whole (`GET /api/packages/{packageId}`)."""
        return self._get(f"/api/packages/{_part(package_id)}")

    def packages(self, **query: str | int) -> Answer:
        """A page of packages (`GET /api/packages`): `{"count", "results"}`. The parameters are OneSpan's."""
        return self._get("/api/packages", query=query)

    def signed_document(self, package_id: str, document_id: str, *, to: Path) -> Path:
        """Save one document as PDF, with the signatures it has so far."""
        return self._save(f"/api/packages/{_part(package_id)}/documents/{_part(document_id)}/pdf", to)

    def signed_documents(self, package_id: str, *, to: Path) -> Path:
        """Save all documents of a package, as one zip."""
        return self._save(f"/api/packages/{_part(package_id)}/documents/zip", to)

    def evidence(self, package_id: str, *, to: Path) -> Path:
        """Save the evidence summary, a PDF: who signed what, when and from where."""
        return self._save(f"/api/packages/{_part(package_id)}/evidence/summary", to)

    def attachment(self, package_id: str, attachment_id: str, *, to: Path) -> Path:
        """Save what a signer uploaded for one requirement; its id is in the role's `attachmentRequirements`."""
        return self._save(f"/api/packages/{_part(package_id)}/attachment/{_part(attachment_id)}", to)

    def attachments(self, package_id: str, *, to: Path, role_id: str | None = None) -> Path:
        """Save all attachments as one zip; only those of one role where it is named."""
        of_role = f"/{_part(role_id)}" if role_id else ""
        return self._save(f"/api/packages/{_part(package_id)}/attachment/zip{of_role}", to)

    def audit_trail(self, package_id: str) -> list[dict[str, Any]]:
        """What happened in a package, step by step, as OneSpan's `audit-events`: has names and IP addresses."""
        told = self._get(f"/api/packages/{_part(package_id)}/audit").json
        events = told.get("audit-events") if isinstance(told, dict) else None
        return [one for one in events if isinstance(one, dict)] if isinstance(events, list) else []

    def unlock(self, package_id: str, role_id: str) -> None:
        """Let a locked signer try again. `Signer.role_id` names the role."""
        self._tell(f"/api/packages/{_part(package_id)}/roles/{_part(role_id)}/unlock")

    def remind(self, package_id: str, role_id: str) -> None:
        """Mail the signers of a role that they are expected."""
        self._tell(f"/api/packages/{_part(package_id)}/roles/{_part(role_id)}/notifications")

    def callback(self) -> Answer:
        """The registered callback: `{"url", "key", "events"}`, the key in clear (`GET /api/callback`).

        How OneSpan says that there is none is not documented: expect `{}`, nulls, None, and `NotThere`. A 404 that is
        not OneSpan's own is a `WrongAddress`.
        """
        return self._get("/api/callback", read=read_json_if_any, is_denial=is_onespans)

    def register_callback(self, *, url: str, key: str, events: list[str]) -> None:
        """Register a callback in place of the one before (`POST /api/callback`)."""
        self._tell("/api/callback", {"url": url, "key": key, "events": events})

    def _get(
        self,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        read: Callable[[requests.Response], Any] = read_json,
        is_denial: Callable[[requests.Response], bool] = is_no_page,
    ) -> Answer:
        with self._asked("GET", path, is_denial=is_denial, params=query) as answer:
            return Answer(read(answer), answer.content, *_looked(answer, now=self._clock()))

    def _tell(self, path: str, what: object = None) -> None:
        with self._asked("POST", path, json={} if what is None else what) as answer:
            answer.content  # noqa: B018  (read to its end, so that the connection is free again)

    def _save(self, path: str, to: Path) -> Path:
        """Stream a file to disk. It gets its name only when it is whole, and replaces one of that name."""
        with self._asked("GET", path, stream=True) as answer, _whole(to) as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
        return to

    @contextmanager
    def _asked(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        is_denial: Callable[[requests.Response], bool] = is_no_page,
        **more: Any,
    ) -> Iterator[requests.Response]:
        if self._connection is None:
            raise NoOneSpan
        with faults_explained(self._connection.address):
            answer = self._send(method, path, self._connection, **more)
            if answer.status_code == UNAUTHORIZED and self._connection.access.renew(answer.request):
                answer.close()
                answer = self._send(method, path, self._connection, **more)
            with answer:
                if answer.status_code == NOT_FOUND and not is_denial(answer):
                    raise WrongAddress(f"{self._connection.address} answers 404, and not as OneSpan does")
                if answer.status_code == NOT_FOUND:
                    raise NotThere(reason(answer), answer=Answer(None, b"", *_looked(answer, now=self._clock())))
                check(answer)
                yield answer

    def _send(self, method: str, path: str, connection: Connection, **more: Any) -> requests.Response:
        return self._session.request(
            method,
            connection.address + path,
            auth=connection.access,
            headers={"Accept": "application/json, */*"},
            timeout=TIMEOUTS,
            allow_redirects=False,  # the API has none; a redirect leads to a login page, or to another region
            **more,
        )


def _looked(answer: requests.Response, *, now: datetime) -> tuple[datetime, datetime]:
    """Between which times OneSpan looked: its `Date`, less what all tries took.

    Without one that can be believed our clock must do. On both sides there is the header's grain.
    """
    try:
        answered = parsedate_to_datetime(answer.headers["Date"])
        answered = answered.replace(tzinfo=answered.tzinfo or UTC).astimezone(UTC)
        read_at = answered - answer.elapsed - GRAIN
        if read_at <= now + AHEAD:
            return read_at, answered + LAST_MOMENT
    except (KeyError, ValueError, TypeError, OverflowError):
        pass
    return now - answer.elapsed - GRAIN, now + GRAIN


@contextmanager
def _whole(to: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is whole and on the disk, or not at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    unfinished = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(to)
    finally:
        unfinished.unlink(missing_ok=True)


def _part(of_path: str) -> str:
    """An id as one part of a path: OneSpan's end in `=`, and may have anything in them."""
    if of_path in ("", ".", ".."):
        raise NotThere("no id is like that")  # and as a part of a path it means another place
    return quote(of_path, safe="")
