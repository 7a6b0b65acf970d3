"""Where OneSpan calls: what is registered there, and how it differs from what is wanted. Pure: values in, values out.

An account has one registration, `{"url", "key", "events"}` (schema `Callback` of the OpenAPI document 11.51).
"""

import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.errors import UnreadableAnswer
from app.onespan.catalogue import CATALOGUE, UNPUBLISHED, wire_name

# What is registered unless events are named: all that OneSpan's OpenAPI document has.
PUBLISHED = tuple(name for name in CATALOGUE if name not in UNPUBLISHED)


@dataclass(frozen=True, slots=True)
class Registration:
    """What is registered. `events` are in wire spelling, each once; without a `url` OneSpan calls nobody."""

    url: str | None = None
    key: str | None = field(default=None, repr=False)
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it is wanted, and what to do; a `note` may stay so."""

    about: str
    says: str
    is_note: bool = False


def read_registration(shown: object) -> Registration:
    """Read what OneSpan shows. None, `{}` and nulls are no registration; what has another form than we know counts so.

    Raises `UnreadableAnswer` where it is no JSON object.
    """
    if shown is not None and not isinstance(shown, Mapping):
        raise UnreadableAnswer("it shows no registration")
    members = shown or {}
    events = members.get("events")
    names = [wire_name(one) for one in events if isinstance(one, str)] if isinstance(events, list) else []
    return Registration(_text(members.get("url")), _text(members.get("key")), tuple(dict.fromkeys(filter(None, names))))


def differences(
    registered: Registration, *, url: str | None, keys: Sequence[tuple[str, str]], events: Collection[str]
) -> list[Difference]:
    """What is not as it is wanted: another `url` (None: any will do), no key of ours, events that nobody tells us.

    `keys` are (label, key), newest first. No key is in any text, and of an address only what is no secret.
    """
    if registered.url is None:
        says = "Nothing is registered, so OneSpan calls nobody: `flask callback register`."
        return [Difference("registration", says)]
    return [
        *_about_url(registered.url, url),
        *_about_key(registered.key, keys),
        *_about_events(registered.events, events),
    ]


def replaced(before: Registration, after: Registration) -> Iterator[tuple[str, str]]:
    """What becomes of a registration with another in its place, and of which part; the key aside."""
    if before.url is not None and not _is_same(before.url, after.url):
        yield "No longer called", safe_url(before.url)
    if lost := [name for name in before.events if name not in after.events]:
        yield "No longer told", listed(lost)


def not_taken(wanted: Registration, shown: Registration) -> Iterator[str]:
    """How what OneSpan shows differs from what was just registered; each goes on from "OneSpan took it, but"."""
    if not _is_same(shown.url, wanted.url):
        yield f"shows {safe_url(shown.url)} as the URL." if shown.url else "shows no URL."
    if not _fitting(shown.key, [("", wanted.key or "")]):
        yield "shows another key than it was given." if shown.key else "shows no key."
    if missing := [name for name in wanted.events if name not in shown.events]:
        yield f"does not show {listed(missing)}."
    if more := [name for name in shown.events if name not in wanted.events]:
        yield f"shows {listed(more)}, too."


def safe_url(url: str) -> str:
    """An address without what may be a secret in it: user, password, query."""
    place, has_query, _ = re.sub(r"(^|//)[^/]*@", r"\1", url).partition("#")[0].partition("?")
    return printable(place) + ("?***" if has_query else "")


def printable(text: str) -> str:
    """A text of somebody else's that does nothing to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def listed(names: Iterable[str]) -> str:
    """Names of events in a sentence."""
    return ", ".join(map(printable, names))


def _about_url(registered: str, url: str | None) -> Iterator[Difference]:
    shown = safe_url(registered)
    if url is None:
        yield Difference("URL", f"CALLBACK_URL is not set; is {shown} right?", is_note=True)
    elif not _is_same(registered, url):
        says = f"OneSpan calls {shown}, not CALLBACK_URL, {safe_url(url)}: `flask callback register`."
        yield Difference("URL", says)


def _about_key(registered: str | None, keys: Sequence[tuple[str, str]]) -> Iterator[Difference]:
    fitting = _fitting(registered, keys)
    if not keys:
        yield Difference("key", "ONESPAN_CALLBACK_KEYS is not set, so no callback is believed: set it.")
    elif registered is None:
        says = "OneSpan has no key, so each callback gets a 401: `flask callback register` gives it the newest."
        yield Difference("key", says)
    elif not fitting:
        yield Difference(
            "key",
            "OneSpan has a key that is none of ONESPAN_CALLBACK_KEYS, so each callback gets a 401: "
            "`flask callback register` gives it the newest, or add that key to the setting.",
        )
    elif fitting[0] != (newest := keys[0][0]):
        yield Difference(
            "key",
            f"OneSpan has the key {fitting[0]}, not the newest, {newest}: once every process knows {newest}, "
            "`flask callback register`.",
            is_note=True,
        )


def _about_events(registered: Collection[str], wanted: Collection[str]) -> Iterator[Difference]:
    if not registered:
        yield Difference("events", "No event is switched on, so OneSpan tells nothing: `flask callback register`.")
        return
    missing = [name for name in CATALOGUE if name in wanted and name not in registered]
    if published := [name for name in missing if name not in UNPUBLISHED]:
        says = f"Handlers want what is not registered: {listed(published)}. `flask callback register --add`."
        yield Difference("events", says)
    if others := [name for name in missing if name in UNPUBLISHED]:
        yield Difference(
            "events",
            f"Handlers want what is not registered: {listed(others)}. OneSpan's API may not take such names: switch "
            "them on in its pages, or delete the handlers.",
            is_note=True,
        )


def _fitting(registered: str | None, keys: Iterable[tuple[str, str]]) -> list[str]:
    """Labels of the keys that are the registered one; each is compared, in constant time."""
    given = (registered or "").encode("utf-8", "replace")
    return [label for label, key in keys if hmac.compare_digest(given, key.encode("utf-8", "replace"))]


def _is_same(one: str | None, other: str | None) -> bool:
    return _normal(one or "") == _normal(other or "")


def _normal(url: str) -> str:
    """Scheme and host have no case."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower()).geturl()


def _text(value: object) -> str | None:
    """What a text says; a blank one says nothing."""
    return value.strip() or None if isinstance(value, str) else None
