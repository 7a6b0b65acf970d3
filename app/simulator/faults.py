"""Faults of OneSpan's REST API on a bad day: refusals, failures, slow answers, cut connections, corrupt answers.

A random generator draws the fault of each request. A fault replaces the answer or corrupts it.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import MappingProxyType

Rates = Mapping[str, float]

# The rate of each fault on a bad day, and its description. A bad day has no false 404, which no client can detect.
FAULTS: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "401": (0.02, "valid credentials are refused"),
        "403": (0.01, "the caller has no permission, for this request only"),
        "waf": (0.01, "the firewall in front of OneSpan refuses the request, with 403 in HTML"),
        "404": (0.0, "an existing package is reported as missing"),
        "429": (0.02, "too many requests, without Retry-After"),
        "429-wait": (0.02, "too many requests, with Retry-After in seconds or as a date"),
        "500": (0.02, "an internal error"),
        "502": (0.02, "a bad gateway, in HTML"),
        "503": (0.02, "service unavailable"),
        "slow": (0.03, "the answer is slow"),
        "cut": (0.02, "the connection ends in the middle of the answer"),
        "html": (0.01, "an HTML page with status 200"),
        "truncated": (0.01, "JSON that ends early, with status 200"),
        "list": (0.01, "a JSON list instead of an object"),
        "no-id": (0.01, "a package without an id, or an object without one of its members"),
        "wrong-types": (0.01, "members with other types than documented"),
    }
)
NO_FAULTS: Rates = MappingProxyType({})
BAD_DAY: Rates = MappingProxyType({name: rate for name, (rate, _) in FAULTS.items() if rate})

# The answer to a request with one of these faults: HTTP status, key of the error, message.
REFUSALS: Mapping[str, tuple[int, str, str]] = MappingProxyType(
    {
        "401": (401, "unauthorized", "The credentials are not valid."),
        "403": (403, "forbidden.noPermission", "You do not have permission to do that."),
        "waf": (403, "", ""),
        "404": (404, "notFound", "The specified resource was not found."),
        "429": (429, "tooManyRequests", "Throttled."),
        "429-wait": (429, "tooManyRequests", "Throttled."),
        "500": (500, "internalServerError", "Unexpected error."),
        "502": (502, "", ""),
        "503": (503, "serviceUnavailable", "The service is not available."),
    }
)
MAINTENANCE_PAGE = (
    b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>We will be back shortly.</body></html>"
)
FIREWALL_PAGE = (
    b"<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head>"
    b"<body><h1>Sorry, you have been blocked</h1></body></html>"
)
# The page and the headers of refusals in HTML.
HTML_REFUSALS: Mapping[str, tuple[bytes, Mapping[str, str]]] = MappingProxyType(
    {"waf": (FIREWALL_PAGE, {"Server": "cloudflare", "CF-RAY": "8a0b1c2d3e4f5a6b-BRU"}), "502": (MAINTENANCE_PAGE, {})}
)
WRONG_TYPES: Mapping[str, object] = MappingProxyType(
    {
        "name": 7,
        "status": ["SENT"],
        "trashed": "false",
        "updated": 1_772_452_800_000,
        "created": False,
        "sender": [],
        "roles": {"count": 0},
        "documents": "none",
    }
)


class Faults:
    """The random faults of requests. `rates` and `outage` may be changed at any time.

    `outage` names a fault that every request meets; None means only random faults.
    """

    def __init__(self, rng: Random, rates: Rates = NO_FAULTS, *, slow_by: float = 5.0) -> None:
        """`slow_by` is the maximum delay of a slow answer, in seconds."""
        self.rates = rates
        self.outage: str | None = None
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._slow_by = slow_by
        self._lock = threading.Lock()

    def draw(self) -> str | None:
        """Return the fault of the next request, or None for no fault."""
        with self._lock:
            fault = self.outage or self._by_chance()
            if fault:
                self.counts[fault] += 1
            return fault

    def slow_seconds(self) -> float:
        """Return the random delay of a slow answer, in seconds."""
        with self._lock:
            return self._rng.uniform(self._slow_by / 10, self._slow_by)

    def corrupt(self, fault: str, body: bytes) -> bytes:
        """Return a JSON body as the fault corrupts it. Faults that do not corrupt answers leave the body unchanged."""
        with self._lock:
            return CORRUPTIONS[fault](self._rng, body) if fault in CORRUPTIONS else body

    def retry_after(self) -> tuple[int, bool]:
        """Return the seconds that a client must wait, and whether Retry-After gives the wait as a date."""
        with self._lock:
            return self._rng.randint(1, 5), self._rng.random() < 0.5  # noqa: PLR2004

    def _by_chance(self) -> str | None:
        dot = self._rng.random() if self.rates else 1.0
        for fault, rate in self.rates.items():
            dot -= rate
            if dot < 0:
                return fault
        return None


def parse_rates(pairs: Iterable[str], names: Iterable[str], kind: str) -> dict[str, float]:
    """Parse rates from texts such as `503=0.1`. `kind` is the word for the names in error messages.

    Raises `ValueError`, whose message says which names or values are valid.
    """
    known, rates = list(names), {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}; choose from {', '.join(known)}")
        rates[name] = _rate(name, text)
    return rates


def _rate(name: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ValueError(f"{name} needs a rate from 0 to 1, as in {name}=0.1")
    return rate


def _truncated(rng: Random, body: bytes) -> bytes:
    return body[: rng.randrange(1, max(2, len(body) - 1))]


def _without_id(rng: Random, body: bytes) -> bytes:
    return _change_item(rng, body, lambda item: item.pop("id" if "id" in item else rng.choice(sorted(item)), None))


def _wrong_types(rng: Random, body: bytes) -> bytes:
    wrong = dict(rng.sample(sorted(WRONG_TYPES.items()), k=rng.randint(1, 3)))
    return _change_item(rng, body, lambda item: item.update(wrong))


def _change_item(rng: Random, body: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    """Change a random item of the `results` in a JSON body, or the whole object if the body has no results."""
    parsed = json.loads(body)
    items = parsed.get("results") or [parsed]
    change(rng.choice(items))
    return json.dumps(parsed).encode()


# The function with which each corrupting fault changes a JSON body.
CORRUPTIONS: Mapping[str, Callable[[Random, bytes], bytes]] = MappingProxyType(
    {
        "html": lambda _, __: MAINTENANCE_PAGE,
        "truncated": _truncated,
        "list": lambda _, body: b"[" + body + b"]",
        "no-id": _without_id,
        "wrong-types": _wrong_types,
    }
)
