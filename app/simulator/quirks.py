"""Quirks: switches for undocumented behaviour of OneSpan, with their possible values and defaults.

Each field of `Quirks` is one switch. The first value of a switch is the default, and `help_text` describes the switch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from app.simulator import odd_callbacks


def _choice(*values: str, help_text: str) -> Any:
    return field(default=values[0], metadata={"values": values, "help": help_text})


def _number(default: int, maximum: int, *, help_text: str) -> Any:
    return field(default=default, metadata={"maximum": maximum, "help": help_text})


@dataclass(frozen=True, slots=True)
class Quirks:
    """The simulator's behaviour where the sources about OneSpan are silent or disagree."""

    list_dates: str = _choice(
        "both", "lastUpdated", "start", "neither", help_text="the pair of date parameters that the list honours"
    )
    list_grain: str = _choice(
        "day", "exact", help_text="whether a date parameter of the list means its whole day in UTC"
    )
    list_first: int = _number(0, 1, help_text="the number of the first item in `from` and `to`")
    list_largest: int = _number(100, 10**6, help_text="the maximum page size; 0 for no limit")
    list_items: str = _choice(
        "whole", "summary", help_text="whether items of the list have roles, documents and messages"
    )
    list_sort: str = _choice(
        "honoured", "ignored", "ignored-with-dates", help_text="whether `sort` and `dir` have an effect"
    )
    list_drafts: str = _choice(
        "folder", "status", help_text="whether `query=DRAFT` means the drafts folder or the status"
    )
    list_count: str = _choice(
        "all", "page", help_text="whether `count` counts all selected packages or those on the page"
    )
    list_lag: int = _number(0, 86_400, help_text="seconds until the list shows a change")
    package_lag: int = _number(0, 86_400, help_text="seconds until any answer shows a change of a package")
    trash_updated: str = _choice("moves", "stays", help_text="`updated` after a package is trashed or restored")
    rest_dates: str = _choice(
        "milliseconds", "shortest", "lower-case", help_text="the form of dates: shortest omits `.000`"
    )
    rest_nulls: str = _choice("absent", "null", help_text="the form of dates that a package does not have")
    document_order: str = _choice("index", "reversed", help_text="the order of documents in a package")
    consent_dates: str = _choice(
        "accepted", "both", help_text="the dates of a consent or another acceptance: without or with `signed`"
    )
    reviewer_type: str = _choice("SIGNER", "VIEWER", help_text="the type of a role without signatures")
    reviewer_views: str = _choice("no", "yes", help_text="whether a reviewer opens a document, which has an event")
    group_members: str = _choice("shown", "hidden", help_text="whether a group shows its members with logins")
    group_user: str = _choice(
        "member", "role", "unlisted", help_text="the id that `sessionUser` has after an action for a group"
    )
    owner_sees: str = _choice(
        "all", "managed", "named", "own", help_text="the packages that the owner's key may read; see `senders_see`"
    )
    senders_see: str = _choice(
        "own",
        "named",
        "managed",
        "all",
        help_text="the other packages that a sender's key may read: none; those of an owner that the request names; "
        "those and every single package; all",
    )
    auth: str = _choice("any", "key", "token", "oauth", help_text="the credentials that the account accepts")
    token_expires: str = _choice("ms", "s", help_text="the unit of `expiresAt` of an API token")
    token_lifetime: int = _number(1800, 86_400, help_text="the lifetime of an API token in seconds")
    oauth_lifetime: int = _number(300, 86_400, help_text="the lifetime of an OAuth 2.0 token in seconds")
    deleted_answer: str = _choice("404", "403", help_text="the answer for a deleted package")
    unarchive_event: str = _choice(
        "none",
        "PACKAGE_COMPLETE",
        "PACKAGE_RESTORE",
        "PACKAGE_UNARCHIVE",
        help_text="the event of un-archiving",
    )
    retention_event: str = _choice("none", "PACKAGE_DELETE", help_text="the event of a deletion by a retention rule")
    reassign_role: str = _choice(
        "changes",
        "stays",
        "signer",
        help_text="a reassigned role's id: new; unchanged; unchanged, with the new signer's id as `newRoleId`",
    )
    session_user: str = _choice("signer", "role", help_text="the id that `sessionUser` has after a signer's action")
    system_user: str = _choice(
        "somebody",
        "system",
        "null",
        help_text="the id that `sessionUser` has on expiry, bounces and retention",
    )
    ready_name: str = _choice(
        "PACKAGE_READY_FOR_COMPLETE", "PACKAGE_READY_FOR_COMPLETION", help_text="the spelling of this event's name"
    )
    connector_events: str = _choice(
        "both",
        "connector",
        help_text="where events of a connector's package go: also to the account's callback URL, or only to its own",
    )
    created_date: str = _choice("happened", "sent", help_text="the time in `createdDate`: of the event or of sending")
    undated: str = _choice("absent", "null", help_text="the form of `createdDate` in an undated callback")
    odd_members: str = _choice(
        "none",
        "mixed",
        *odd_callbacks.FORMS,
        help_text="the unusual form of one part of every callback; mixed varies it and loses nothing",
    )
    unused_fields: str = _choice("null", "absent", help_text="the form of unused `message` and `documentId`")
    file_mb: int = _number(0, 2048, help_text="the size of a PDF, and of each file in a zip, in MB; 0: minimal")


DEFAULT_QUIRKS = Quirks()


def descriptions() -> list[tuple[str, str, str]]:
    """Return name, possible values (the default first) and description of every quirk."""
    return [(quirk.name, _possible(quirk.metadata, quirk.default), quirk.metadata["help"]) for quirk in fields(Quirks)]


def parse(pairs: Iterable[str]) -> Quirks:
    """Parse quirks from texts such as `list_first=1`.

    Raises `ValueError`, whose message says which names or values are valid.
    """
    return Quirks(**dict(_parse(pair) for pair in pairs))


def _parse(pair: str) -> tuple[str, Any]:
    name, _, value = pair.partition("=")
    known = {quirk.name: quirk for quirk in fields(Quirks)}
    if name not in known:
        raise ValueError(f"unknown quirk {name!r}; choose from {', '.join(known)}")
    metadata = known[name].metadata
    if "values" in metadata and value in metadata["values"]:
        return name, value
    if "maximum" in metadata and value.isascii() and value.isdigit() and int(value) <= metadata["maximum"]:
        return name, int(value)
    raise ValueError(f"{name} must be {_possible(metadata, known[name].default)}")


def _possible(metadata: Mapping[str, Any], default: object) -> str:
    return " | ".join(metadata["values"]) if "values" in metadata else f"{default} | 0 to {metadata['maximum']}"
