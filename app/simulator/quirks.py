"""What nobody outside OneSpan knows of OneSpan, each as a switch: how it may behave, and how it does by default.

The table is the fields of `Quirks`: its first value is the default, `says` what is switched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


def _one_of(*values: str, says: str) -> Any:
    return field(default=values[0], metadata={"values": values, "says": says})


def _number(default: int, most: int, *, says: str) -> Any:
    return field(default=default, metadata={"most": most, "says": says})


@dataclass(frozen=True, slots=True)
class Quirks:
    """How this OneSpan behaves where the sources are silent or disagree."""

    list_dates: str = _one_of(
        "both", "lastUpdated", "start", "neither", says="which pair of date parameters the list honours"
    )
    list_grain: str = _one_of("day", "exact", says="whether a date in the list's parameters means its whole day in UTC")
    list_first: int = _number(0, 1, says="the number of the first item in `from` and `to`")
    list_largest: int = _number(100, 10**6, says="the largest page; 0 for no limit")
    list_items: str = _one_of("whole", "summary", says="whether items of the list have roles, documents and messages")
    list_sort: str = _one_of("honoured", "ignored", "ignored-with-dates", says="whether `sort` and `dir` do anything")
    list_drafts: str = _one_of("folder", "status", says="whether `query=DRAFT` means the drafts folder or the status")
    list_count: str = _one_of("all", "page", says="whether `count` counts all that is meant, or what is on the page")
    list_lag: int = _number(0, 86_400, says="seconds until the list shows a change")
    owner_sees: str = _one_of(
        "all", "managed", "named", "own", says="which packages the owner's key may read, see `senders_see`"
    )
    senders_see: str = _one_of(
        "own",
        "named",
        "managed",
        "all",
        says="which packages a sender's key may read beside their own: none, those whose owner the request names, "
        "the same but single ones always, all",
    )
    auth: str = _one_of("any", "key", "token", "oauth", says="which credentials the account takes")
    token_expires: str = _one_of("ms", "s", says="the unit of `expiresAt` of an API token")
    token_lifetime: int = _number(1800, 86_400, says="seconds for which an API token is good")
    oauth_lifetime: int = _number(300, 86_400, says="seconds for which an OAuth 2.0 token is good")
    deleted_answer: str = _one_of("404", "403", says="the answer for a package that was deleted")
    unarchive_event: str = _one_of(
        "none", "PACKAGE_COMPLETE", "PACKAGE_RESTORE", "PACKAGE_UNARCHIVE", says="what tells that one was un-archived"
    )
    retention_event: str = _one_of("none", "PACKAGE_DELETE", says="what tells of a deletion by a retention rule")
    reassign_role: str = _one_of(
        "changes", "stays", "signer", says="a reassigned role's id: new, the same, or `newRoleId` is the new signer's"
    )
    session_user: str = _one_of("signer", "role", says="whose id `sessionUser` has when a signer did it")
    system_user: str = _one_of(
        "somebody",
        "system",
        "null",
        says="whose id `sessionUser` has on expiry, bounces and retention",
    )
    ready_name: str = _one_of(
        "PACKAGE_READY_FOR_COMPLETE", "PACKAGE_READY_FOR_COMPLETION", says="the spelling of that event on the wire"
    )
    created_date: str = _one_of("happened", "sent", says="what `createdDate` dates: the event, or its sending")
    unused_fields: str = _one_of("null", "absent", says="what becomes of `message` and `documentId` where unused")
    file_mb: int = _number(0, 2048, says="size of a PDF, and of each file in a zip, in MB; 0: as small as can be")


USUAL = Quirks()


def described() -> list[tuple[str, str, str]]:
    """Of every quirk its name, what its values can be (the default first), and what is switched."""
    return [(one.name, _possible(one.metadata, one.default), one.metadata["says"]) for one in fields(Quirks)]


def read(pairs: Iterable[str]) -> Quirks:
    """Quirks from texts such as `list_first=1`.

    Raises `ValueError` with what is possible, where one is not.
    """
    return Quirks(**dict(_read(pair) for pair in pairs))


def _read(pair: str) -> tuple[str, Any]:
    name, _, value = pair.partition("=")
    table = {one.name: one for one in fields(Quirks)}
    if name not in table:
        raise ValueError(f"there is no quirk {name!r}; there are {', '.join(table)}")
    metadata = table[name].metadata
    if "values" in metadata and value in metadata["values"]:
        return name, value
    if "most" in metadata and value.isascii() and value.isdigit() and int(value) <= metadata["most"]:
        return name, int(value)
    raise ValueError(f"{name} can be {_possible(metadata, table[name].default)}")


def _possible(metadata: Mapping[str, Any], default: object) -> str:
    return " | ".join(metadata["values"]) if "values" in metadata else f"{default} | 0 to {metadata['most']}"
