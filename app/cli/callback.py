"""`flask callback`: what is registered in OneSpan, register it, and compare it with the settings."""

import sys
from collections.abc import Sequence

import click
from click import Command, Group

from app.cli.terminal import Unusable, beside, can_ask, counted, judge
from app.errors import NotThere, OneSpanError
from app.onespan.catalogue import CATALOGUE, event_type, nearest_name, wire_name
from app.onespan.client import OneSpan
from app.onespan.registration import (
    PUBLISHED,
    Difference,
    Registration,
    differences,
    listed,
    not_taken,
    printable,
    read_registration,
    replaced,
    safe_url,
)
from app.registry import Handlers
from config import Settings, read_callback_url

NOTHING = """Nothing is registered in OneSpan, so it calls nobody. Register this service:

  flask callback register{url}"""


def callback_group(settings: Settings, handlers: Handlers) -> Group:
    """The three commands. Each may raise what is below `OneSpanError`."""

    @click.group("callback")
    def group() -> None:
        """See, set and check where OneSpan calls."""

    group.add_command(_show_command(settings, handlers.onespan))
    group.add_command(_register_command(settings, handlers.onespan))
    group.add_command(_check_command(settings, handlers))
    return group


def ask(onespan: OneSpan) -> Registration:
    """What is registered. Raises what is below `OneSpanError`, but not where OneSpan says that there is nothing."""
    try:
        return read_registration(onespan.callback().json)
    except NotThere:
        return Registration()


def compare(registered: Registration, settings: Settings, handlers: Handlers) -> list[Difference]:
    """How it differs from what the settings say and the handlers want."""
    keys = [(key.label, key.secret.get_secret_value()) for key in settings.onespan_callback_keys]
    wanted = [name for handler in handlers for name in handlers.names_wanted_by(handler) or PUBLISHED]
    return differences(registered, url=settings.callback_url, keys=keys, events=set(wanted))


def _show_command(settings: Settings, onespan: OneSpan) -> Command:
    @click.command("show")
    def command() -> None:
        """Show what is registered in OneSpan.

        The URL, whether there is a key, and the events; never the key itself.
        """
        registered = ask(onespan)
        if registered.url is None:
            click.echo(NOTHING.format(url="" if settings.callback_url else " --url https://..."))
        else:
            _show(registered)

    return command


def _register_command(settings: Settings, onespan: OneSpan) -> Command:
    @click.command("register")
    @click.option("--url", callback=_url, help="The address that OneSpan shall call.  [default: CALLBACK_URL]")
    @click.option(
        "--event",
        "events",
        multiple=True,
        metavar="NAME",
        callback=_event_names,
        help=f"An event to be told of; repeatable.  [default: the {len(PUBLISHED)} of OneSpan's API]",
    )
    @click.option("--add", is_flag=True, help="Keep the events that are registered, too.")
    @click.option("--yes", is_flag=True, help="Do not ask before another URL or events are replaced.")
    def command(url: str | None, events: tuple[str, ...], *, add: bool, yes: bool) -> None:
        """Register this service in OneSpan.

        It takes the place of what is registered there: says what would be lost, and asks. The key is the first of
        ONESPAN_CALLBACK_KEYS. Exits with 1 when OneSpan shows something else afterwards, 2 when it cannot be asked.
        """
        address, key = _address(url, settings), _newest_key(settings)
        before = ask(onespan)
        kept = before.events if add else ()
        wanted = Registration(address, key, tuple(dict.fromkeys([*kept, *(events or PUBLISHED)])))
        _make_sure(list(replaced(before, wanted)), instead=wanted, sure=yes)
        _register(onespan, wanted)

    return command


def _check_command(settings: Settings, handlers: Handlers) -> Command:
    @click.command("check")
    def command() -> None:
        """Compare what is registered with what we want.

        That is CALLBACK_URL, the newest of ONESPAN_CALLBACK_KEYS, and the events that functions in app/handlers.py
        want. Says what to do about each difference. Exits with 1 when there is any, 2 when OneSpan cannot be asked;
        a warning is no difference.
        """
        found = compare(ask(handlers.onespan), settings, handlers)
        for one in found:
            judge("warn" if one.is_note else "FAIL", one.about, one.says)
        if not all(one.is_note for one in found):
            sys.exit(1)
        judge("ok", "registration", "otherwise as it should be" if found else "as it should be")

    return command


def _show(registered: Registration) -> None:
    assert registered.url
    click.echo(f"URL     {safe_url(registered.url)}")
    click.echo(f"Key     {'set' if registered.key else 'none'}")
    events = sorted(registered.events, key=lambda name: [*CATALOGUE, name].index(name))
    shown = [f"{printable(name):27} {event_type(name).meaning}" for name in events] or ["none"]
    for head, event in zip(["Events", *[""] * len(shown)], shown, strict=False):
        click.echo(f"{head:7} {event}")
    if absent := [name for name in CATALOGUE if name not in events]:
        click.echo("\n" + beside("Not registered: ", listed(absent)))


def _make_sure(losses: Sequence[tuple[str, str]], *, instead: Registration, sure: bool) -> None:
    """Say what is lost, and go on only if that is wanted."""
    for becomes, lost in losses:
        click.echo(beside(f"{becomes:16}  ", lost))
    if not losses or sure:
        return
    if not can_ask():
        raise Unusable("Something else is registered and would be replaced: say --yes if that is right.")
    assert instead.url
    told = counted(len(instead.events), "event")
    click.confirm(f"Register {safe_url(instead.url)} with {told} instead?", abort=True)


def _register(onespan: OneSpan, wanted: Registration) -> None:
    """Register, and look whether OneSpan took it."""
    assert wanted.url
    assert wanted.key
    onespan.register_callback(url=wanted.url, key=wanted.key, events=list(wanted.events))
    try:
        shown = ask(onespan)
    except OneSpanError as problem:
        raise Unusable(f"OneSpan took it, but does not show it: {problem}") from None
    failures = list(not_taken(wanted, shown))
    for failure in failures:
        judge("FAIL", "registration", f"OneSpan took it, but {failure}")
    if failures:
        sys.exit(1)
    told = counted(len(wanted.events), "event")
    judge("ok", "registration", f"OneSpan calls {safe_url(wanted.url)} and tells {told}")


def _address(url: str | None, settings: Settings) -> str:
    if address := url or settings.callback_url:
        return address
    raise click.UsageError("Say which address OneSpan shall call: --url, or set CALLBACK_URL.")


def _newest_key(settings: Settings) -> str:
    if settings.onespan_callback_keys:
        return settings.onespan_callback_keys[0].secret.get_secret_value()
    raise Unusable("There is no key to register: set ONESPAN_CALLBACK_KEYS.")


def _url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    try:
        return read_callback_url(value.strip()) if value is not None else None
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from None


def _event_names(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for name in values:
        if wire_name(name) not in CATALOGUE:
            near = nearest_name(name)
            raise click.BadParameter(f"{name!r} is no event's name" + (f"; is {near} meant?" if near else "."))
    return tuple(map(wire_name, values))
