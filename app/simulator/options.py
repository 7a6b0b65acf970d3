"""What `flask simulate` can be told: its options, their checks, and the wish that they make together."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import click

from app.simulator import anomalies, faults, outbox, quirks
from app.simulator.account import CROWD, SENDERS
from app.simulator.anomalies import ODDITIES
from app.simulator.auth import CLIENT_ID, CLIENT_SECRET
from app.simulator.faults import FAULTS
from app.simulator.outbox import Mishaps
from app.simulator.quirks import Quirks

URL = "http://127.0.0.1:8000/onespan/callback"
API_KEY = "simulated-api-key"
LABELLED = re.compile(r"[A-Za-z0-9_.-]{1,40}=(.*[^=].*)", re.DOTALL)  # a base64 key that merely ends in "=" is not

NO_KEY = """There is no callback key. Say which key the service believes with --key, or set ONESPAN_CALLBACK_KEYS,
here or in the settings file (SETTINGS_FILE)."""


@dataclass(frozen=True)
class Wish:
    """What was asked for; None for a mishap means: as the day is, good or bad."""

    packages: int
    at_once: int
    senders: int
    rate: float
    seed: int | None
    url: str
    key: str
    port: int | None
    keep_serving: bool
    api_key: str
    client_id: str
    client_secret: str
    bad_day: bool
    drop: float | None
    repeat: float | None
    delay: float | None
    reorder: float | None
    undated: float | None
    delay_by: float
    slow_by: float
    fault: Mapping[str, float]
    odd: Mapping[str, float]
    quirks: Quirks

    @property
    def mishaps(self) -> Mishaps:
        """What befalls callbacks."""
        day = outbox.BAD_DAY if self.bad_day else outbox.NO_MISHAPS
        given = {name: getattr(self, name) for name in ("drop", "repeat", "delay", "reorder", "undated")}
        wanted = {name: rate for name, rate in given.items() if rate is not None}
        return replace(day, delay_by=self.delay_by, **wanted)

    @property
    def faults(self) -> Mapping[str, float]:
        """What befalls answers of the REST API."""
        return {**(faults.BAD_DAY if self.bad_day else {}), **self.fault}

    @property
    def anomalies(self) -> Mapping[str, float]:
        """What befalls packages."""
        return {**(anomalies.BAD_DAY if self.bad_day else {}), **self.odd}


def _first_key(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """The first entry of the setting, without its label."""
    entries = [entry.strip() for entry in (value or "").split(",")]
    first = next(filter(None, entries), None)
    if first is None:
        raise click.UsageError(NO_KEY)
    labelled = LABELLED.fullmatch(first)
    return labelled[1] if labelled else first


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+/\S*", value):
        raise click.BadParameter(f"must look like {URL}")
    return value


def _read(reader: Callable[[Iterable[str]], Any], _: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> Any:
    try:
        return reader(pairs)
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from None


def _rate(name: str, says: str) -> Callable[..., Any]:
    return click.option(f"--{name}", type=click.FloatRange(0, 1), metavar="RATE", help=says)


def _seconds(name: str, default: float, says: str) -> Callable[..., Any]:
    kind = click.FloatRange(0, 3600)
    return click.option(f"--{name}", default=default, show_default=True, type=kind, metavar="SECONDS", help=says)


def _pairs(name: str, kind: str, reader: Callable[[Iterable[str]], Any], says: str) -> Callable[..., Any]:
    variable = f"{name}s" if name == "quirk" else name
    return click.option(
        f"--{name}", variable, multiple=True, metavar=f"NAME={kind}", callback=partial(_read, reader), help=says
    )


OPTIONS = (
    click.option(
        "--packages",
        default=20,
        show_default=True,
        type=click.IntRange(min=0),
        help="How many packages live their lives; 0: ever more, until stopped.",
    ),
    click.option(
        "--at-once",
        default=CROWD,
        show_default=True,
        type=click.IntRange(1, 100_000),
        help="How many packages are under way at the same time.",
    ),
    click.option(
        "--senders",
        default=SENDERS,
        show_default=True,
        type=click.IntRange(0, 10_000),
        help="How many people send packages besides the account's owner; each has an API key.",
    ),
    click.option(
        "--rate",
        default=10.0,
        show_default=True,
        type=click.FloatRange(min=0, min_open=True),
        help="Callbacks per second, at most.",
    ),
    click.option("--seed", type=int, help="The same seed tells the same histories again.  [default: a new one]"),
    click.option("--url", default=URL, show_default=True, callback=_address, help="Where callbacks go."),
    click.option(
        "--key",
        envvar="ONESPAN_CALLBACK_KEYS",
        callback=_first_key,
        help="The callback key; by default the first of ONESPAN_CALLBACK_KEYS.",
    ),
    click.option(
        "--serve",
        "port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Answer OneSpan's REST API on this port meanwhile; 0 takes a free one.",
    ),
    click.option("--keep-serving", is_flag=True, help="With --serve: go on answering when all histories have ended."),
    click.option("--api-key", envvar="ONESPAN_API_KEY", default=API_KEY, help="The API key of the account's owner."),
    click.option("--client-id", envvar="ONESPAN_CLIENT_ID", default=CLIENT_ID, help="The client app's id, for tokens."),
    click.option(
        "--client-secret", envvar="ONESPAN_CLIENT_SECRET", default=CLIENT_SECRET, help="The client app's secret."
    ),
    click.option(
        "--bad-day", is_flag=True, help="Everything below goes wrong now and then; other options win over it."
    ),
    _rate("drop", "The share of callbacks that never arrive, from 0 to 1."),
    _rate("repeat", "The share that arrives two or three times."),
    _rate("delay", "The share that arrives late."),
    _rate("reorder", "The share that is overtaken by what happened later."),
    _rate("undated", "The share that has no createdDate."),
    _seconds("delay-by", 30, "How late a delayed callback arrives, at most."),
    _seconds("slow-by", 5, "How long a slow answer of the REST API takes, at most."),
    _pairs(
        "fault",
        "RATE",
        partial(faults.read, table=FAULTS, what="fault"),
        "With --serve: the share of requests that meet a fault, see below. Repeatable.",
    ),
    _pairs(
        "odd",
        "RATE",
        partial(faults.read, table=ODDITIES, what="oddity"),
        "The share of packages that an oddity befalls, see below. Repeatable.",
    ),
    _pairs("quirk", "VALUE", quirks.read, "How this OneSpan behaves where nobody knows, see below. Repeatable."),
)


def taken(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all these options, shown in this order."""
    return reduce(lambda inner, option: option(inner), reversed(OPTIONS), command)


def explained() -> str:
    """The names that --fault, --odd and --quirk take, for the help."""
    tables: tuple[tuple[str, Iterable[tuple[str, str]]], ...] = (
        ("Faults, with their rates on a bad day", _rated(FAULTS)),
        ("Oddities, with their rates on a bad day", _rated(ODDITIES)),
        ("Quirks, the default first", ((f"{name}={values}", says) for name, values, says in quirks.described())),
    )
    return "\n\n".join("\n".join(("\b", f"{title}:", *_lines(rows))) for title, rows in tables)


def _rated(table: Mapping[str, tuple[float, str]]) -> Iterator[tuple[str, str]]:
    return ((f"{name}={rate:g}", says) for name, (rate, says) in table.items())


def _lines(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f"  {left}\n      {says}" for left, says in rows)
