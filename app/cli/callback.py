"""`flask callback`: show, change and check the registration of callbacks in OneSpan."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import click
from click import Command, Group

from app.cli.terminal import Unusable, beside, counted, is_interactive, print_result
from app.errors import NotPermitted, OneSpanError, OneSpanNotFound, RequestRejected
from app.onespan.client import OneSpan
from app.onespan.event_catalogue import CATALOGUE, event_type, nearest_name, wire_name
from app.onespan.registration import (
    DEFAULT_EVENTS,
    Difference,
    Registration,
    address_warnings,
    comma_separated,
    differences,
    parse_registration,
    printable,
    registration_mismatches,
    removed_parts,
    safe_url,
)
from app.onespan.registration_search import find_refused
from app.registry import Handlers
from config import Settings, validate_callback_url

NOT_REGISTERED = """Nothing is registered in OneSpan, so it sends no callbacks. Register this service:

  flask callback register{url}"""


def callback_group(settings: Settings, handlers: Handlers) -> Group:
    """Create the three `flask callback` commands. Each command may raise an `OneSpanError`."""

    @click.group("callback")
    def group() -> None:
        """Show, change or check the callback registration."""

    group.add_command(_show_command(settings, handlers.onespan))
    group.add_command(_register_command(settings, handlers.onespan))
    group.add_command(_check_command(settings, handlers))
    return group


def read(onespan: OneSpan) -> Registration:
    """Return the callback registration in OneSpan, empty if there is none. May raise an `OneSpanError`."""
    try:
        return parse_registration(onespan.callback().json)
    except OneSpanNotFound:
        return Registration()


def compare(registered: Registration, settings: Settings, handlers: Handlers) -> list[Difference]:
    """Return how a registration differs from the settings and from the events that handlers subscribe to."""
    keys = [(key.label, key.secret.get_secret_value()) for key in settings.callback_keys]
    events = {name for handler in handlers for name in handlers.events_of(handler) or DEFAULT_EVENTS}
    return differences(registered, url=settings.callback_url, keys=keys, events=events)


def _show_command(settings: Settings, onespan: OneSpan) -> Command:
    @click.command("show")
    def command() -> None:
        """Show the callback registration in OneSpan.

        Prints the URL, the events, and whether a key is set; never the key itself.
        """
        registered = read(onespan)
        if registered.url is None:
            click.echo(NOT_REGISTERED.format(url="" if settings.callback_url else " --url https://..."))
        else:
            _show(registered)

    return command


def _register_command(settings: Settings, onespan: OneSpan) -> Command:
    @click.command("register")
    @click.option("--url", callback=_url, help="The URL that OneSpan sends callbacks to.  [default: CALLBACK_URL]")
    @click.option(
        "--event",
        "events",
        multiple=True,
        metavar="NAME",
        callback=_event_names,
        help=f"An event to register; repeatable.  [default: {len(DEFAULT_EVENTS)} events, which OneSpan's API accepts]",
    )
    @click.option("--add", is_flag=True, help="Keep the events that are already registered.")
    @click.option("--drop-unknown", is_flag=True, help="Remove members that this version does not know.")
    @click.option("--yes", is_flag=True, help="Replace another URL or other events without confirmation.")
    def command(url: str | None, events: tuple[str, ...], *, add: bool, drop_unknown: bool, yes: bool) -> None:
        """Register this service for callbacks in OneSpan.

        Replaces the existing registration, after showing what would be lost and asking for confirmation. Registers the
        first key of ONESPAN_CALLBACK_KEYS, and sends members that it does not know back unchanged. If OneSpan refuses
        an event, finds it and registers the others. Exits with 1 if OneSpan refuses an event or shows another
        registration afterwards, 2 if OneSpan does not answer or refuses everything.
        """
        address, key = _url_to_register(url, settings), _newest_key(settings)
        before = read(onespan)
        kept = before.events if add else ()
        others = {} if drop_unknown else before.others
        wanted = Registration(address, key, tuple(dict.fromkeys([*kept, *(events or DEFAULT_EVENTS)])), others)
        _warn(wanted)
        _confirm(list(removed_parts(before, wanted)), wanted, yes=yes)
        _register(onespan, wanted, before)

    return command


def _check_command(settings: Settings, handlers: Handlers) -> Command:
    @click.command("check")
    def command() -> None:
        """Compare the callback registration in OneSpan with this service.

        Compares CALLBACK_URL, the first key of ONESPAN_CALLBACK_KEYS, and the events of the handlers in
        app/handlers.py. Prints how to fix each difference. Exits with 1 if there is a difference (warnings do not
        count), 2 if OneSpan does not answer.
        """
        found = compare(read(handlers.onespan), settings, handlers)
        for difference in found:
            print_result("warn" if difference.is_note else "FAIL", difference.about, difference.message)
        if not all(difference.is_note for difference in found):
            sys.exit(1)
        noted = {difference.about for difference in found}
        if not noted:
            print_result("ok", "registration", "as configured")
        elif others := [about for about in ("URL", "key", "events") if about not in noted]:
            print_result("ok", "registration", f"{' and '.join(others)} as configured")

    return command


def _show(registered: Registration) -> None:
    assert registered.url
    click.echo(f"URL     {safe_url(registered.url)}")
    click.echo(f"Key     {'set' if registered.key else 'none'}")
    events = sorted(registered.events, key=lambda name: [*CATALOGUE, name].index(name))
    lines = [f"{printable(name):27} {event_type(name).description}" for name in events] or ["none"]
    for head, line in zip(["Events", *[""] * len(lines)], lines, strict=False):
        click.echo(f"{head:7} {line}")
    _warn(registered)
    if absent := [name for name in CATALOGUE if name not in events]:
        click.echo("\n" + beside("Not registered: ", comma_separated(absent)))


def _warn(registration: Registration) -> None:
    """Print what may be wrong with a registration's URL, and the names of its unknown members."""
    for warning in address_warnings(registration.url or ""):
        print_result("warn", "URL", warning)
    if registration.others:
        print_result("warn", "other members", f"Unknown to this version: {comma_separated(registration.others)}")


def _confirm(losses: Sequence[tuple[str, str]], wanted: Registration, *, yes: bool) -> None:
    """Print what the new registration would replace, and ask whether to continue."""
    for what, lost in losses:
        click.echo(beside(f"{what:16}  ", lost))
    if not losses or yes:
        return
    if not is_interactive():
        raise Unusable("This would replace the existing registration. Use --yes to do so.")
    assert wanted.url
    click.confirm(f"Register {safe_url(wanted.url)} with {_events(wanted)} instead?", abort=True)


def _register(onespan: OneSpan, wanted: Registration, before: Registration) -> None:
    """Register the callbacks, then check that OneSpan shows the same registration."""
    try:
        _send(onespan, wanted, wanted.events)
    except RequestRejected as problem:
        _register_accepted(onespan, wanted, before, problem)
    except (NotPermitted, OneSpanNotFound) as problem:
        raise Unusable(f"{problem}. Sent: {comma_separated(wanted.events)}.") from None
    else:
        _verify(onespan, wanted)


def _send(onespan: OneSpan, wanted: Registration, events: Sequence[str]) -> None:
    assert wanted.url
    assert wanted.key
    onespan.register_callback(url=wanted.url, key=wanted.key, events=list(events), others=wanted.others)


def _register_accepted(
    onespan: OneSpan, wanted: Registration, before: Registration, problem: RequestRejected
) -> NoReturn:
    """Register the events that OneSpan accepts, report the others, and exit."""
    sent = f"{problem}. Sent: {comma_separated(wanted.events)}."
    kept = [name for name in wanted.events if name in before.events] if before.url else []
    try:
        found = find_refused(lambda events: _send(onespan, wanted, events), wanted.events, kept=kept)
    except OneSpanError as interruption:
        raise Unusable(f"{sent} The search for the refused event ended: {interruption}. Run it again.") from None
    if not found.registered:
        advice = "the URL or the key" + (", or the unknown members (--drop-unknown)" if wanted.others else "")
        raise Unusable(f"{sent} Nothing was changed. No single event is the cause: check the events, {advice}.")
    print_result("FAIL", "registration", sent)
    print_result(
        "FAIL", "events", f"OneSpan refuses {comma_separated(found.refused)}. The other events are registered."
    )
    _verify(onespan, replace(wanted, events=found.registered))
    sys.exit(1)


def _verify(onespan: OneSpan, wanted: Registration) -> None:
    """Check that OneSpan shows this registration; otherwise print the differences and exit."""
    assert wanted.url
    try:
        shown = read(onespan)
    except OneSpanError as problem:
        raise Unusable(f"OneSpan accepted it, but does not show it: {problem}") from None
    failures = list(registration_mismatches(wanted, shown))
    for failure in failures:
        print_result("FAIL", "registration", f"OneSpan accepted it, but {failure}")
    if failures:
        sys.exit(1)
    print_result("ok", "registration", f"OneSpan sends {_events(wanted)} to {safe_url(wanted.url)}")


def _events(registration: Registration) -> str:
    return counted(len(registration.events), "event")


def _url_to_register(url: str | None, settings: Settings) -> str:
    if address := url or settings.callback_url:
        return address
    raise click.UsageError("No URL to register: use --url, or set CALLBACK_URL.")


def _newest_key(settings: Settings) -> str:
    if settings.callback_keys:
        return settings.callback_keys[0].secret.get_secret_value()
    raise Unusable("No key to register: set ONESPAN_CALLBACK_KEYS.")


def _url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    try:
        return validate_callback_url(value.strip()) if value is not None else None
    except ValueError as problem:
        raise click.BadParameter(str(problem)) from None


def _event_names(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for name in values:
        if wire_name(name) not in CATALOGUE:
            near = nearest_name(name)
            raise click.BadParameter(f"{name!r} is not an event" + (f"; did you mean {near}?" if near else "."))
    return tuple(map(wire_name, values))
