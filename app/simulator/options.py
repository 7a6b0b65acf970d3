"""The options of `flask simulate`: their declarations, checks and parsed values."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from textwrap import fill
from typing import Any

import click

from app.simulator import anomalies, faults, features, outbox, quirks
from app.simulator.account import AT_ONCE, SENDERS
from app.simulator.anomalies import ANOMALIES
from app.simulator.auth import CLIENT_ID, CLIENT_SECRET
from app.simulator.faults import FAULTS
from app.simulator.features import FEATURES
from app.simulator.outbox import Mishaps
from app.simulator.quirks import Quirks

URL = "http://127.0.0.1:8000/onespan/callback"
API_KEY = "simulated-api-key"
HELP_COLUMNS = 96  # the longest line of the tables at the end of the help, which click indents by two
# The pattern matches a callback key with a label (`label=key`), but not a base64 key that ends in "=".
LABELLED = re.compile(r"[A-Za-z0-9_.-]{1,40}=(.*[^=].*)", re.DOTALL)

NO_KEY = """There is no callback key. Give a key that the service accepts with --key, or set ONESPAN_CALLBACK_KEYS
in the environment or in the settings file (SETTINGS_FILE)."""


@dataclass(frozen=True)
class SimulateOptions:
    """The parsed options of `flask simulate`. If the rate of a mishap is None, `bad_day` decides the rate."""

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
    plain: bool
    feature: Mapping[str, float]
    clock_ahead: float
    quirks: Quirks

    @property
    def mishaps(self) -> Mishaps:
        """The rates of mishaps of callbacks."""
        day = outbox.BAD_DAY if self.bad_day else outbox.NO_MISHAPS
        given = {name: getattr(self, name) for name in ("drop", "repeat", "delay", "reorder", "undated")}
        chosen = {name: rate for name, rate in given.items() if rate is not None}
        return replace(day, delay_by=self.delay_by, **chosen)

    @property
    def faults(self) -> Mapping[str, float]:
        """The rates of REST API faults."""
        return {**(faults.BAD_DAY if self.bad_day else {}), **self.fault}

    @property
    def anomalies(self) -> Mapping[str, float]:
        """The rates of anomalies of packages."""
        return {**(anomalies.BAD_DAY if self.bad_day else {}), **self.odd}

    @property
    def features(self) -> Mapping[str, float]:
        """The rates of features of packages."""
        return {**(features.NO_FEATURES if self.plain else features.SOME), **self.feature}


def _first_key(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """Return the first of the callback keys (`ONESPAN_CALLBACK_KEYS`), without its label."""
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


def _parse_pairs(
    reader: Callable[[Iterable[str]], Any], _: click.Context, __: click.Parameter, pairs: tuple[str, ...]
) -> Any:
    try:
        return reader(pairs)
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from None


def _rate(name: str, help_text: str) -> Callable[..., Any]:
    return click.option(f"--{name}", type=click.FloatRange(0, 1), metavar="RATE", help=help_text)


def _seconds(name: str, default: float, help_text: str) -> Callable[..., Any]:
    kind = click.FloatRange(0, 3600)
    return click.option(f"--{name}", default=default, show_default=True, type=kind, metavar="SECONDS", help=help_text)


def _pairs(name: str, kind: str, reader: Callable[[Iterable[str]], Any], help_text: str) -> Callable[..., Any]:
    variable = f"{name}s" if name == "quirk" else name
    return click.option(
        f"--{name}",
        variable,
        multiple=True,
        metavar=f"NAME={kind}",
        callback=partial(_parse_pairs, reader),
        help=help_text,
    )


OPTIONS = (
    click.option(
        "--packages",
        default=20,
        show_default=True,
        type=click.IntRange(min=0),
        help="Number of packages; 0: no limit, until stopped.",
    ),
    click.option(
        "--at-once",
        default=AT_ONCE,
        show_default=True,
        type=click.IntRange(1, 100_000),
        help="Number of packages in progress at the same time.",
    ),
    click.option(
        "--senders",
        default=SENDERS,
        show_default=True,
        type=click.IntRange(0, 10_000),
        help="Number of senders besides the account's owner; each has an API key.",
    ),
    click.option(
        "--rate",
        default=10.0,
        show_default=True,
        type=click.FloatRange(min=0, min_open=True),
        help="Maximum number of callbacks per second.",
    ),
    click.option("--seed", type=int, help="The same seed replays the same stories.  [default: random]"),
    click.option("--url", default=URL, show_default=True, callback=_address, help="The callback URL."),
    click.option(
        "--key",
        envvar="ONESPAN_CALLBACK_KEYS",
        callback=_first_key,
        help="The callback key; by default the first key of ONESPAN_CALLBACK_KEYS.",
    ),
    click.option(
        "--serve",
        "port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Also answer OneSpan's REST API on this port; 0 uses a free port.",
    ),
    click.option("--keep-serving", is_flag=True, help="With --serve: keep answering after all stories have ended."),
    click.option("--api-key", envvar="ONESPAN_API_KEY", default=API_KEY, help="The API key of the account's owner."),
    click.option("--client-id", envvar="ONESPAN_CLIENT_ID", default=CLIENT_ID, help="The client app's id, for tokens."),
    click.option(
        "--client-secret", envvar="ONESPAN_CLIENT_SECRET", default=CLIENT_SECRET, help="The client app's secret."
    ),
    click.option(
        "--bad-day", is_flag=True, help="Enable everything below at moderate rates; explicit options override it."
    ),
    _rate("drop", "Share of callbacks that are lost, from 0 to 1."),
    _rate("repeat", "Share of callbacks that arrive two or three times."),
    _rate("delay", "Share of callbacks that arrive late."),
    _rate("reorder", "Share of callbacks that arrive after later events."),
    _rate("undated", "Share of callbacks without createdDate."),
    _seconds("delay-by", 30, "Maximum delay of a delayed callback."),
    _seconds("slow-by", 5, "Maximum delay of a slow REST API answer."),
    _pairs(
        "fault",
        "RATE",
        partial(faults.parse_rates, names=FAULTS, kind="fault"),
        "With --serve: share of requests that meet this fault; see below. Repeatable.",
    ),
    _pairs(
        "odd",
        "RATE",
        partial(faults.parse_rates, names=ANOMALIES, kind="anomaly"),
        "Share of packages with this anomaly; see below. Repeatable.",
    ),
    click.option("--plain", is_flag=True, help="No features of packages, except those of --feature."),
    _pairs(
        "feature",
        "RATE",
        partial(faults.parse_rates, names=FEATURES, kind="feature"),
        "Share of packages or signers with this feature; see below. Repeatable.",
    ),
    click.option(
        "--clock-ahead",
        default=0,
        show_default=True,
        type=click.FloatRange(-86_400, 86_400),
        metavar="SECONDS",
        help="How far OneSpan's clock is ahead of this machine's; negative: behind.",
    ),
    _pairs("quirk", "VALUE", quirks.parse, "Undocumented behaviour of OneSpan; see below. Repeatable."),
)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `flask simulate` to a command, in the order of `OPTIONS`."""
    return reduce(lambda inner, option: option(inner), reversed(OPTIONS), command)


def help_epilog() -> str:
    """Return the possible values of --fault, --odd, --feature and --quirk, for the end of the command's help."""
    tables: tuple[tuple[str, Iterable[tuple[str, str]]], ...] = (
        ("Faults (--fault), with their rates on a bad day", _rated(FAULTS)),
        ("Anomalies (--odd), with their rates on a bad day", _rated(ANOMALIES)),
        ("Features (--feature), with their default rates", _rated(FEATURES)),
        (
            "Quirks (--quirk), the default first",
            ((f"{name}={values}", help_text) for name, values, help_text in quirks.descriptions()),
        ),
    )
    return "\n\n".join("\n".join(("\b", f"{title}:", *_lines(rows))) for title, rows in tables)


def _rated(table: Mapping[str, tuple[float, str]]) -> Iterator[tuple[str, str]]:
    return ((f"{name}={rate:g}", help_text) for name, (rate, help_text) in table.items())


def _lines(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for left, help_text in rows:
        yield fill(left, HELP_COLUMNS, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
        yield fill(help_text, HELP_COLUMNS, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False)
