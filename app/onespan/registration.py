"""The callback registration at OneSpan, and how it differs from the settings.

The functions are pure. An account has one registration, `{"url", "key", "events"}` (schema `Callback` of the OpenAPI
document 11.51).
"""

import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from app.errors import UnreadableAnswer
from app.onespan.event_catalogue import CATALOGUE, event_type, wire_name

RECEIVER_PATH = "/onespan/callback"
# The events that are registered by default.
DEFAULT_EVENTS = tuple(name for name, kind in CATALOGUE.items() if kind.registered)


@dataclass(frozen=True, slots=True)
class Registration:
    """A callback registration. `events` are unique event names; without a `url` OneSpan sends no callbacks.

    `others` are members that this version does not know, such as headers or other authentication.
    """

    url: str | None = None
    key: str | None = field(default=None, repr=False)
    events: tuple[str, ...] = ()
    others: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the registration and the settings, with advice. A note needs no action."""

    about: str
    message: str
    is_note: bool = False


def parse_registration(json: object) -> Registration:
    """Parse OneSpan's answer about the registration. None, `{}`, nulls and unknown forms count as no registration.

    Raises `UnreadableAnswer` if the answer is not a JSON object.
    """
    if json is not None and not isinstance(json, Mapping):
        raise UnreadableAnswer("it is not a registration")
    members = json or {}
    events = members.get("events")
    names = [wire_name(name) for name in events if isinstance(name, str)] if isinstance(events, list) else []
    others = {name: value for name, value in members.items() if _is_other(name, value)}
    unique = tuple(dict.fromkeys(filter(None, names)))
    return Registration(_text(members.get("url")), _text(members.get("key")), unique, others)


def differences(
    registered: Registration, *, url: str | None, keys: Sequence[tuple[str, str]], events: Collection[str]
) -> list[Difference]:
    """Return how the registration differs from the wanted `url` (None: any), `keys` and `events`.

    `keys` are pairs (label, key), newest first. The messages contain no keys, and no secret parts of URLs.
    """
    if registered.url is None:
        message = "Nothing is registered, so OneSpan sends no callbacks: run `flask callback register`."
        return [Difference("registration", message)]
    return [
        *_about_url(registered.url, url),
        *_about_key(registered.key, keys),
        *_about_events(registered.events, events),
        *_about_others(registered.others),
    ]


def removed_parts(before: Registration, after: Registration) -> Iterator[tuple[str, str]]:
    """Yield what a new registration removes from the old registration; the keys are not compared."""
    if before.url is not None and not _is_same(before.url, after.url):
        yield "No longer called", safe_url(before.url)
    if lost := [name for name in before.events if name not in after.events]:
        yield "No longer sent", comma_separated(lost)
    if dropped := [name for name in before.others if name not in after.others]:
        yield "No longer set", comma_separated(dropped)


def registration_mismatches(wanted: Registration, shown: Registration) -> Iterator[str]:
    """Yield how OneSpan's answer differs from what was registered; each text continues "OneSpan accepted it, but …"."""
    if not _is_same(shown.url, wanted.url):
        yield f"shows {safe_url(shown.url)} as the URL." if shown.url else "shows no URL."
    if not _matching(shown.key, [("", wanted.key or "")]):
        yield "shows a different key." if shown.key else "shows no key."
    if missing := [name for name in wanted.events if name not in shown.events]:
        yield f"does not show {comma_separated(missing)}."
    if more := [name for name in shown.events if name not in wanted.events]:
        yield f"also shows {comma_separated(more)}."
    if dropped := [name for name in wanted.others if name not in shown.others]:
        yield f"no longer has {comma_separated(dropped)}."


def address_warnings(url: str) -> Iterator[str]:
    """Yield what may be wrong with a callback URL, although OneSpan can call it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.scheme.lower() == "http":
        yield "OneSpan sends the callback key unencrypted to an http:// address: use https://."
    if not is_receiver_path(unquote(parts.path)):
        yield f"The path is not the receiver's, {RECEIVER_PATH}, so callbacks arrive only if a proxy changes it."


def is_receiver_path(path: str) -> bool:
    """Whether a path is the receiver's, except for case, blanks, and doubled or trailing slashes."""
    return re.sub(r"/+", "/", path.strip()).rstrip("/ ").lower() == RECEIVER_PATH


def safe_url(url: str) -> str:
    """Return a URL without its possible secrets: user, password and query."""
    base, has_query, _ = re.sub(r"(^|//)[^/]*@", r"\1", url).partition("#")[0].partition("?")
    return printable(base) + ("?***" if has_query else "")


def printable(text: str) -> str:
    """Replace the non-printable characters of an external text, which could control a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def comma_separated(names: Iterable[str]) -> str:
    """Join event names with commas."""
    return ", ".join(map(printable, names))


def _about_url(registered: str, url: str | None) -> Iterator[Difference]:
    shown = safe_url(registered)
    if url is None:
        yield Difference("URL", f"CALLBACK_URL is not set; is {shown} right?", is_note=True)
        yield from (Difference("URL", warning, is_note=True) for warning in address_warnings(registered))
    elif not _is_same(registered, url):
        message = f"OneSpan calls {shown}, not CALLBACK_URL, {safe_url(url)}: run `flask callback register`."
        yield Difference("URL", message)
    else:
        yield from (Difference("URL", warning, is_note=True) for warning in address_warnings(registered))


def _about_others(others: Collection[str]) -> Iterator[Difference]:
    if others:
        message = (
            f"The registration has members that this version does not know: {comma_separated(others)}. If they set "
            "another authentication than the key, callbacks get a 401."
        )
        yield Difference("other members", message, is_note=True)


def _about_key(registered: str | None, keys: Sequence[tuple[str, str]]) -> Iterator[Difference]:
    matching = _matching(registered, keys)
    if not keys:
        yield Difference("key", "ONESPAN_CALLBACK_KEYS is not set, so every callback is rejected: set it.")
    elif registered is None:
        message = "OneSpan has no key, so each callback gets a 401: run `flask callback register` to send the newest."
        yield Difference("key", message)
    elif not matching:
        yield Difference(
            "key",
            "OneSpan has a key that is not in ONESPAN_CALLBACK_KEYS, so each callback gets a 401: "
            "run `flask callback register` to send the newest, or add that key to the setting.",
        )
    elif matching[0] != (newest := keys[0][0]):
        yield Difference(
            "key",
            f"OneSpan has the key {matching[0]}, not the newest, {newest}: once every process has loaded {newest}, "
            "run `flask callback register`.",
            is_note=True,
        )


def _about_events(registered: Collection[str], wanted: Collection[str]) -> Iterator[Difference]:
    if not registered:
        yield Difference("events", "No event is registered, so OneSpan sends nothing: run `flask callback register`.")
        return
    missing = [name for name in CATALOGUE if name in wanted and name not in registered]
    if default := [name for name in missing if event_type(name).registered]:
        message = f"Handlers need unregistered events: {comma_separated(default)}. Run `flask callback register --add`."
        yield Difference("events", message)
    if others := [name for name in missing if not event_type(name).registered]:
        yield Difference(
            "events",
            f"Handlers need unregistered events: {comma_separated(others)}. OneSpan's API may not accept these "
            "names: enable them on its pages, or delete the handlers.",
            is_note=True,
        )


def _matching(registered: str | None, keys: Iterable[tuple[str, str]]) -> list[str]:
    """Return the labels of the keys that equal the registered key; all keys are compared in constant time."""
    given = (registered or "").encode("utf-8", "replace")
    return [label for label, key in keys if hmac.compare_digest(given, key.encode("utf-8", "replace"))]


def _is_same(first: str | None, second: str | None) -> bool:
    return _normalized(first or "") == _normalized(second or "")


def _normalized(url: str) -> str:
    """Return a URL with scheme and host in lower case."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower()).geturl()


def _is_other(name: object, value: object) -> bool:
    """Whether a member has a value that a new registration would lose. `@class` only names OneSpan's own type."""
    is_known = name in ("url", "key", "events") or str(name).startswith("@")
    return not is_known and value not in (None, "", [], {})


def _text(value: object) -> str | None:
    """Return a stripped text; None if it is blank or not a text."""
    return value.strip() or None if isinstance(value, str) else None
