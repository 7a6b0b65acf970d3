"""What goes wrong with OneSpan's REST API on a bad day: refusals, breakdowns, slowness, cut connections, garbage.

Which request meets what is drawn from the dice. Nothing is refused before it is asked for: a fault takes the place of
an answer, or spoils one.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import MappingProxyType

Rates = Mapping[str, float]

# Each fault, its rate on a bad day, and what it is. A false 404 is a lie that no reader can see through, so a bad day
# has none.
FAULTS: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "401": (0.02, "the right credentials are refused"),
        "403": (0.01, "the caller may not, for once"),
        "404": (0.0, "what is there is denied"),
        "429": (0.02, "too many requests, without a word on when to come again"),
        "429-wait": (0.02, "the same with Retry-After, in seconds or as a date"),
        "500": (0.02, "an error inside"),
        "502": (0.02, "a bad gateway, in HTML"),
        "503": (0.02, "not available"),
        "slow": (0.03, "the answer takes its time"),
        "cut": (0.02, "the connection ends in the middle of the answer"),
        "html": (0.01, "an HTML page with status 200"),
        "truncated": (0.01, "JSON that ends early, with status 200"),
        "list": (0.01, "a JSON list instead of an object"),
        "no-id": (0.01, "a package without an id, or an object without one of its members"),
        "wrong-types": (0.01, "members that are of other types than documented"),
    }
)
NO_FAULTS: Rates = MappingProxyType({})
BAD_DAY: Rates = MappingProxyType({name: rate for name, (rate, _) in FAULTS.items() if rate})

# Faults that are an answer of their own: its status, the key of its error, the message.
REFUSALS: Mapping[str, tuple[int, str, str]] = MappingProxyType(
    {
        "401": (401, "unauthorized", "The credentials are not valid."),
        "403": (403, "forbidden.noPermission", "You do not have permission to do that."),
        "404": (404, "notFound", "The specified resource was not found."),
        "429": (429, "tooManyRequests", "Throttled."),
        "429-wait": (429, "tooManyRequests", "Throttled."),
        "500": (500, "internalServerError", "Unexpected error."),
        "502": (502, "", ""),
        "503": (503, "serviceUnavailable", "The service is not available."),
    }
)
PAGE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>We will be back shortly.</body></html>"
WRONG: Mapping[str, object] = MappingProxyType(
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
    """Draws a fault for each request. Whoever holds it may change `rates` and `outage` at any time.

    `outage` names the fault that befalls every request while it lasts; None: only chance does.
    """

    def __init__(self, dice: Random, rates: Rates = NO_FAULTS, *, slow_by: float = 5.0) -> None:
        """`slow_by`: seconds that a slow answer takes longer, at most."""
        self.rates = rates
        self.outage: str | None = None
        self.met: Counter[str] = Counter()
        self._dice = dice
        self._slow_by = slow_by
        self._lock = threading.Lock()

    def draw(self) -> str | None:
        """The fault that the next request meets, or None."""
        with self._lock:
            fault = self.outage or self._by_chance()
            if fault:
                self.met[fault] += 1
            return fault

    def seconds(self) -> float:
        """How long a slow answer takes."""
        with self._lock:
            return self._dice.uniform(self._slow_by / 10, self._slow_by)

    def spoiled(self, fault: str, body: bytes) -> bytes:
        """A JSON answer with that fault; any other as it is."""
        with self._lock:
            return SPOILS[fault](self._dice, body) if fault in SPOILS else body

    def wait(self) -> tuple[int, bool]:
        """After how many seconds to come again, and whether to say so as a date."""
        with self._lock:
            return self._dice.randint(1, 5), self._dice.random() < 0.5  # noqa: PLR2004

    def _by_chance(self) -> str | None:
        dot = self._dice.random() if self.rates else 1.0
        for fault, rate in self.rates.items():
            dot -= rate
            if dot < 0:
                return fault
        return None


def read(pairs: Iterable[str], table: Iterable[str], what: str) -> dict[str, float]:
    """Rates from texts such as `503=0.1`, of the names in the table.

    Raises `ValueError` with what is possible, where one is not.
    """
    known, rates = list(table), {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}; there are {', '.join(known)}")
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


def _truncated(dice: Random, body: bytes) -> bytes:
    return body[: dice.randrange(1, max(2, len(body) - 1))]


def _without_id(dice: Random, body: bytes) -> bytes:
    return _with_one_changed(dice, body, lambda one: one.pop("id" if "id" in one else dice.choice(sorted(one)), None))


def _wrong_types(dice: Random, body: bytes) -> bytes:
    wrong = dict(dice.sample(sorted(WRONG.items()), k=dice.randint(1, 3)))
    return _with_one_changed(dice, body, lambda one: one.update(wrong))


def _with_one_changed(dice: Random, body: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    """With one item changed where it is a list of results, otherwise the object itself."""
    shown = json.loads(body)
    items = shown.get("results") or [shown]
    change(dice.choice(items))
    return json.dumps(shown).encode()


# What each spoiling fault makes of a JSON object.
SPOILS: Mapping[str, Callable[[Random, bytes], bytes]] = MappingProxyType(
    {
        "html": lambda _, __: PAGE,
        "truncated": _truncated,
        "list": lambda _, body: b"[" + body + b"]",
        "no-id": _without_id,
        "wrong-types": _wrong_types,
    }
)
