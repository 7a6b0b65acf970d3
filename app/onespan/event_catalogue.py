"""The event catalogue: OneSpan Sign's events, and what each event claims.

Names are spelled as in callbacks. The sources are the event tables of OneSpan's callback documentation
(docs.onespan.com, "Setting up callback notifications"), the `Callback.events` enum of its OpenAPI document
11.51, and `NotificationEvent` in its Java and .NET SDKs. `docs/onespan.md` lists the names in each source.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# A signer who acts is not locked, and their email works, even if earlier events said otherwise.
SIGNING = {"locked": False, "email_bounce": None, "kba": False}


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event, with the attributes that it claims of the `package` and of the `signer` in `sessionUser`.

    `extra_members` are the members of its callback besides those that every callback has. With `by_signer`,
    `sessionUser` is always a signer; otherwise `sessionUser` may be the sender. With `starts`, the event creates the
    package, so `sessionUser` is the package's sender. With `needs_fetch`, the package must be fetched afterwards.
    """

    name: str
    description: str
    package: Mapping[str, object] = field(default_factory=dict)
    signer: Mapping[str, object] = field(default_factory=dict)
    extra_members: tuple[str, ...] = ()
    by_signer: bool = False
    starts: bool = False
    needs_fetch: bool = False


def _status(value: str, **more: object) -> dict[str, object]:
    """Return the claims of a status change. After any status change, the package no longer waits for its sender."""
    return {"status": value, "ready": False, **more}


CATALOGUE: Mapping[str, EventType] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            EventType(
                "PACKAGE_CREATE",
                "a package was created",
                package=_status("DRAFT", type="PACKAGE"),
                starts=True,
                needs_fetch=True,
            ),
            EventType(
                "TEMPLATE_CREATE",
                "a template was created",
                package=_status("DRAFT", type="TEMPLATE"),
                starts=True,
                needs_fetch=True,
            ),
            EventType(
                "PACKAGE_ACTIVATE", "a package was sent for signature", package=_status("SENT"), needs_fetch=True
            ),
            EventType("PACKAGE_DEACTIVATE", "a sent package returned to draft", package=_status("DRAFT")),
            EventType(
                "PACKAGE_READY_FOR_COMPLETE",
                "all signers have signed and the sender must complete the package",
                package={"ready": True},
            ),
            EventType("PACKAGE_COMPLETE", "the package is complete", package=_status("COMPLETED")),
            EventType(
                "PACKAGE_DECLINE",
                "a signer declined, so the package is declined",
                package=_status("DECLINED"),
                signer={**SIGNING, "declined": True},
                extra_members=("message",),
                by_signer=True,
            ),
            EventType(
                "PACKAGE_OPT_OUT",
                "a signer opted out of signing electronically",
                package=_status("OPTED_OUT"),
                signer={**SIGNING, "opted_out": True},
                extra_members=("message",),
                by_signer=True,
            ),
            EventType("PACKAGE_EXPIRE", "the package's due date passed", package=_status("EXPIRED")),
            EventType("PACKAGE_ARCHIVE", "a completed package was archived", package=_status("ARCHIVED")),
            EventType("PACKAGE_TRASH", "the package was moved to the trash", package={"trashed": True}),
            EventType(
                "PACKAGE_RESTORE",
                "the package was restored from the trash",
                package={"trashed": False},
                needs_fetch=True,
            ),
            EventType("PACKAGE_DELETE", "the package was permanently deleted", package={"deleted": True}),
            EventType(
                "PACKAGE_ATTACHMENT",
                "a signer uploaded an attachment",
                signer=SIGNING,
                extra_members=("message",),
                by_signer=True,
                needs_fetch=True,
            ),
            EventType(
                "DOCUMENT_SIGNED",
                "a signer signed a document, or accepted the consent",
                signer=SIGNING,
                extra_members=("documentId",),
                by_signer=True,
            ),
            EventType("DOCUMENT_VIEWED", "a document was viewed", extra_members=("documentId",)),
            EventType(
                "SIGNER_COMPLETE",
                "a signer finished signing",
                signer={**SIGNING, "done": True},
                by_signer=True,
            ),
            EventType(
                "SIGNER_LOCKED",
                "a signer was locked after failed authentication attempts",
                signer={"locked": True},
                by_signer=True,
            ),
            EventType(
                "KBA_FAILURE",
                "a signer failed the knowledge-based authentication",
                signer={"kba": True},
                by_signer=True,
            ),
            EventType("EMAIL_BOUNCE", "an email to a signer bounced", extra_members=("message",)),
            EventType(
                "ROLE_REASSIGN",
                "a signer reassigned signing to another person",
                signer={"reassigned": True},
                extra_members=("newRoleId",),
                needs_fetch=True,
            ),
            EventType(
                "COBROWSE_REQUEST",
                "a signer requested a co-browsing session with the sender",
                extra_members=("phone", "comment", "selectedSupportBusinessHours"),
            ),
        )
    }
)

# Events whose `sessionUser` is a signer's id: the events by a signer, and five more by OneSpan's documentation. In
# PACKAGE_COMPLETE, `sessionUser` is the last signer; in the other four, the signer concerned.
NAMES_SIGNER = frozenset(
    {name for name, kind in CATALOGUE.items() if kind.by_signer}
    | {"PACKAGE_COMPLETE", "DOCUMENT_VIEWED", "EMAIL_BOUNCE", "ROLE_REASSIGN", "COBROWSE_REQUEST"}
)

# The constant in OneSpan's SDKs ends in -ION, the name in callbacks does not (`NotificationEvent` in both SDKs).
SPELLINGS = MappingProxyType({"PACKAGE_READY_FOR_COMPLETION": "PACKAGE_READY_FOR_COMPLETE"})

# Events in OneSpan's documentation that are missing from the `Callback.events` enum of its OpenAPI document 11.51.
# OneSpan does not document whether its API accepts these events in a registration.
UNPUBLISHED = frozenset({"DOCUMENT_VIEWED", "COBROWSE_REQUEST"})

# Statuses in lifecycle order. Of two claims of the same instant, the one with the later status wins.
STATUSES = ("DRAFT", "SENT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED")

UNKNOWN = EventType("", "an event that this version does not know")


def wire_name(name: str) -> str:
    """Return the spelling under which an event is stored."""
    return SPELLINGS.get(name, name)


def nearest_name(name: str) -> str | None:
    """Return the known event name that is closest to a misspelt name; None if no name is close."""
    return next(iter(difflib.get_close_matches(name.upper(), CATALOGUE, n=1)), None)


def event_type(name: str) -> EventType:
    """Return the catalogue's entry for an event name; an unknown event claims nothing."""
    return CATALOGUE.get(name, UNKNOWN)
