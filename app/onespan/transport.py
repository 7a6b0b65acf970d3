"""HTTP transport to OneSpan: timeouts, retries, and faults turned into errors that say what to do."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from app.errors import (
    CredentialsRejected,
    FirewallRefused,
    NotPermitted,
    OneSpanError,
    OneSpanNotFound,
    OneSpanUnavailable,
    RequestRejected,
    Throttled,
    UnreadableAnswer,
    UnsendableRequest,
    WrongAddress,
)
from app.onespan.answer_limits import LimitedAdapter, limit_answer

TIMEOUTS = (5.0, 60.0)  # longest wait for a connection and for the next bytes, in seconds
MAX_RETRIES = 3
BACKOFF_SECONDS = 0.5  # the delay doubles with each retry, plus a random part of up to this size
MAX_RETRY_WAIT_SECONDS = 20  # if OneSpan asks for a longer wait, the caller gets the error at once
MAX_MESSAGE_KEY_LENGTH = 200  # characters; a longer `messageKey` is not reported
USER_AGENT = "onespan-sign-receiver/1"  # firewalls may refuse the default name of the library `requests`
UNAUTHORIZED, FORBIDDEN, TOO_MANY_REQUESTS = 401, 403, 429
ERROR_BY_STATUS: Mapping[int, type[OneSpanError]] = {
    UNAUTHORIZED: CredentialsRejected,
    FORBIDDEN: NotPermitted,
    404: OneSpanNotFound,
}


class ShortRetry(Retry):
    """urllib3's `Retry` that gives up if the server asks for a long wait, so that no thread is blocked."""

    def increment(self, *args: Any, **kwargs: Any) -> "ShortRetry":
        """Count a retry; allow no retry if OneSpan asks for a wait of more than `MAX_RETRY_WAIT_SECONDS`."""
        response = kwargs.get("response")
        wait = retry_after(response.headers) if response is not None else None
        retry = self.new(total=0) if wait is not None and wait > MAX_RETRY_WAIT_SECONDS else self
        return super(ShortRetry, retry).increment(*args, **kwargs)

    def get_retry_after(self, response: Any) -> float | None:
        """Return the wait that OneSpan requests, in seconds; None if the header is missing or invalid."""
        return retry_after(response.headers)


def new_session(*, backoff: float = BACKOFF_SECONDS) -> requests.Session:
    """Return a thread-safe session that reuses connections, limits answers and stores no cookies."""
    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    retry = ShortRetry(
        total=MAX_RETRIES,
        status_forcelist=(TOO_MANY_REQUESTS, 500, 502, 503, 504),
        allowed_methods=("GET",),  # a POST may have taken effect, so it is not repeated
        backoff_factor=backoff,
        backoff_jitter=backoff,
        raise_on_status=False,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, LimitedAdapter(max_retries=retry, pool_maxsize=32))
    session.hooks["response"].append(limit_answer)
    return session


@contextmanager
def translated_faults(address: str) -> Iterator[None]:
    """Turn an exception of the library `requests` into a `OneSpanError` with the exception's type and the address.

    The exception's text is left out, because it may contain ids or a key.
    """
    try:
        yield
    except requests.exceptions.InvalidURL:
        raise WrongAddress from None
    except requests.RequestException as fault:
        raise OneSpanUnavailable(f"no answer from {address} ({type(fault).__name__}); check ONESPAN_URL") from None
    except ValueError:
        raise UnsendableRequest from None


def check(answer: requests.Response) -> None:
    """Raise the `OneSpanError` for an answer with a status other than 2xx."""
    status = answer.status_code
    if status < 300:  # noqa: PLR2004
        return
    if status < 400:  # noqa: PLR2004
        raise WrongAddress(f"it answers {status}, a redirect{_origin_of(answer.headers.get('Location', ''))}")
    if status == TOO_MANY_REQUESTS:
        raise Throttled(retry_after(answer.headers))
    if status >= 500:  # noqa: PLR2004
        raise OneSpanUnavailable(f"it answers {status}")
    if status == FORBIDDEN and not _is_api_answer(answer):
        raise FirewallRefused("403 without JSON")
    raise ERROR_BY_STATUS.get(status, RequestRejected)(reason(answer))


def parse_json(answer: requests.Response) -> Any:
    """Parse the JSON of an answer. Raises `UnreadableAnswer`, or `WrongAddress` if the answer is a web page."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        if "html" in answer.headers.get("Content-Type", "") or not is_not_html(answer):
            raise WrongAddress("it answers with a web page") from None
        raise UnreadableAnswer("it is not JSON") from None


def parse_json_if_any(answer: requests.Response) -> Any:
    """Parse the JSON of an answer; None if the body is empty. Raises like `parse_json`."""
    return parse_json(answer) if answer.content.strip() else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse `Retry-After`, a number or a date, into seconds; None if it is missing or invalid."""
    value = headers.get("Retry-After")
    try:
        return Retry().parse_retry_after(value) if value else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def is_not_html(answer: requests.Response) -> bool:
    """Whether a 404 answer may come from an API. A web server that lacks the path answers with HTML."""
    return not answer.content.lstrip().startswith(b"<")


def _is_api_answer(answer: requests.Response) -> bool:
    """Whether an error answer may come from OneSpan's API, whose errors are JSON. Firewalls answer with a page or text.

    An empty body may come from either, so it counts as OneSpan's unless it is declared as HTML.
    """
    if "html" in answer.headers.get("Content-Type", "") or "cf-mitigated" in answer.headers:
        return False
    try:
        if answer.content.strip():
            answer.json()
    except (ValueError, RecursionError, requests.RequestException):
        return False
    return True


def _origin_of(location: str) -> str:
    """Return ` to ` and the scheme and host of a redirect, without its path, which may hold a secret."""
    try:
        parts = urlsplit(location)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f" to {parts.scheme}://{parts.hostname}{port}" if parts.scheme and parts.hostname else ""


def is_onespan_error(answer: requests.Response) -> bool:
    """Whether an answer has the form of OneSpan's errors (schema `DefaultError` of the OpenAPI document)."""
    try:
        return "messageKey" in answer.json()
    except (ValueError, TypeError, RecursionError, requests.RequestException):
        return False


def reason(answer: requests.Response) -> str:
    """Return the status and `messageKey` of an error answer, without its message, which may name a person."""
    try:
        key = answer.json().get("messageKey")
    except (ValueError, AttributeError, RecursionError, requests.RequestException):
        key = None
    known = isinstance(key, str) and len(key) <= MAX_MESSAGE_KEY_LENGTH
    return f"{answer.status_code} {key}" if known else str(answer.status_code)
