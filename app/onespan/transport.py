"""How requests to OneSpan travel: patience, retries, and faults told as errors that say what to do."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from app.errors import (
    KeyRefused,
    NotPermitted,
    NotThere,
    OneSpanDown,
    OneSpanError,
    RefusedByOneSpan,
    Throttled,
    UnreadableAnswer,
    UnsendableRequest,
    WrongAddress,
)

TIMEOUTS = (5.0, 60.0)  # seconds to connect, and between two bytes
TRIES_AGAIN = 3
BACKOFF = 0.5  # seconds, doubled with each try, and by chance up to so much more
LONGEST_WAIT = 20  # seconds between two tries; who is told to wait longer gets the error, with how long
KEY_LENGTH = 200  # characters of a `messageKey` that are believed to be one
UNAUTHORIZED, TOO_MANY = 401, 429
MEANING: Mapping[int, type[OneSpanError]] = {UNAUTHORIZED: KeyRefused, 403: NotPermitted, 404: NotThere}


class PatientRetry(Retry):
    """The library's, but who must wait long does so elsewhere, with the thread free."""

    def increment(self, *args: Any, **kwargs: Any) -> "PatientRetry":
        """One try less; none where OneSpan asks for more patience than a thread should have."""
        response = kwargs.get("response")
        wait = wait_asked(response.headers) if response is not None else None
        left = self.new(total=0) if wait is not None and wait > LONGEST_WAIT else self
        return super(PatientRetry, left).increment(*args, **kwargs)

    def get_retry_after(self, response: Any) -> float | None:
        """A header that cannot be read asks for nothing."""
        return wait_asked(response.headers)


def new_session(*, backoff: float = BACKOFF) -> requests.Session:
    """A session for any number of threads: it keeps connections, and nothing else."""
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    retry = PatientRetry(
        total=TRIES_AGAIN,
        status_forcelist=(TOO_MANY, 500, 502, 503, 504),
        allowed_methods=("GET",),  # what was told may have been done, so it is told once
        backoff_factor=backoff,
        backoff_jitter=backoff,
        raise_on_status=False,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=32))
    return session


@contextmanager
def faults_explained(address: str) -> Iterator[None]:
    """Tell a fault on the way by its kind and the address alone: its text may have ids in it, or a key."""
    try:
        yield
    except requests.exceptions.InvalidURL:
        raise WrongAddress from None
    except requests.RequestException as fault:
        raise OneSpanDown(f"{type(fault).__name__} at {address}; is ONESPAN_URL right?") from None
    except ValueError:
        raise UnsendableRequest from None


def check(answer: requests.Response) -> None:
    """Raise what a status other than 2xx means."""
    status = answer.status_code
    if status < 300:  # noqa: PLR2004
        return
    if status < 400:  # noqa: PLR2004
        raise WrongAddress(f"it answers {status}, as a web page does")
    if status == TOO_MANY:
        raise Throttled(wait_asked(answer.headers))
    if status >= 500:  # noqa: PLR2004
        raise OneSpanDown(f"it answers {status}")
    raise MEANING.get(status, RefusedByOneSpan)(reason(answer))


def read_json(answer: requests.Response) -> Any:
    """The answer's JSON. Raises `UnreadableAnswer`, and `WrongAddress` where it is a web page."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        if "html" in answer.headers.get("Content-Type", ""):
            raise WrongAddress("it answers with a web page") from None
        raise UnreadableAnswer("it is not JSON") from None


def read_json_if_any(answer: requests.Response) -> Any:
    """The answer's JSON, None where there is nothing in it. Raises as `read_json` does."""
    return read_json(answer) if answer.content.strip() else None


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds, given as a number or as a date; None where there is none, or nothing one can read."""
    told = headers.get("Retry-After")
    try:
        return Retry().parse_retry_after(told) if told else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def is_no_page(answer: requests.Response) -> bool:
    """Whether a refusal may come from an API, and not from a web server that knows no such address."""
    return not answer.content.lstrip().startswith(b"<")


def is_onespans(answer: requests.Response) -> bool:
    """Whether a refusal has the form of OneSpan's (schema `DefaultError` of the OpenAPI document)."""
    try:
        return "messageKey" in answer.json()
    except (ValueError, TypeError, RecursionError, requests.RequestException):
        return False


def reason(answer: requests.Response) -> str:
    """The status and OneSpan's key for what is wrong; its sentence may name a person."""
    try:
        key = answer.json().get("messageKey")
    except (ValueError, AttributeError, RecursionError, requests.RequestException):
        key = None
    known = isinstance(key, str) and len(key) <= KEY_LENGTH
    return f"{answer.status_code} {key}" if known else str(answer.status_code)
