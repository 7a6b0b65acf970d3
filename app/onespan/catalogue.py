"""The events OneSpan Sign tells, and what each one claims.

Names are OneSpan's wire spelling. Sources: the event tables of OneSpan's callback documentation
(docs.onespan.com, "Setting up callback notifications"), the `Callback.events` enum of its OpenAPI document
11.51, and `NotificationEvent` in its Java and .NET SDKs. `docs/onespan.md` says which source has which name.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# A signer who signs or declines is there, in reach and not locked out, whatever we were told before.
SIGNING = {"locked": False, "email_bounce": None, "kba": False}


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event.

    `package` and `signer` are the attributes it claims of the package and of the signer in `sessionUser`;
    `carries` are the members it has beside the common ones; `by_signer` says that `sessionUser` is a signer
    (otherwise it may as well be the sender); `starts` that the package begins with it, so `sessionUser` is its sender.
    """

    name: str
    meaning: str
    package: Mapping[str, object] = field(default_factory=dict)
    signer: Mapping[str, object] = field(default_factory=dict)
    carries: tuple[str, ...] = ()
    by_signer: bool = False
    starts: bool = False
    surprises: bool = False


def _status(value: str, **more: object) -> dict[str, object]:
    """A status step; whatever it is, the package no longer waits for its sender to complete it."""
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
                surprises=True,
            ),
            EventType(
                "TEMPLATE_CREATE",
                "a template was created",
                package=_status("DRAFT", type="TEMPLATE"),
                starts=True,
                surprises=True,
            ),
            EventType("PACKAGE_ACTIVATE", "a package was sent to its signers", package=_status("SENT"), surprises=True),
            EventType("PACKAGE_DEACTIVATE", "a sent package went back to draft", package=_status("DRAFT")),
            EventType(
                "PACKAGE_READY_FOR_COMPLETE",
                "all have signed and the sender must complete the package",
                package={"ready": True},
            ),
            EventType("PACKAGE_COMPLETE", "the package is complete", package=_status("COMPLETED")),
            EventType(
                "PACKAGE_DECLINE",
                "a signer declined, and with them the package",
                package=_status("DECLINED"),
                signer={**SIGNING, "declined": True},
                carries=("message",),
                by_signer=True,
            ),
            EventType(
                "PACKAGE_OPT_OUT",
                "a signer opted out of signing electronically",
                package=_status("OPTED_OUT"),
                signer={**SIGNING, "opted_out": True},
                carries=("message",),
                by_signer=True,
            ),
            EventType("PACKAGE_EXPIRE", "the package's due date passed", package=_status("EXPIRED")),
            EventType("PACKAGE_ARCHIVE", "a completed package was archived", package=_status("ARCHIVED")),
            EventType("PACKAGE_TRASH", "the package was moved to the trash", package={"trashed": True}),
            EventType(
                "PACKAGE_RESTORE", "the package came back from the trash", package={"trashed": False}, surprises=True
            ),
            EventType("PACKAGE_DELETE", "the package was deleted for good", package={"deleted": True}),
            EventType(
                "PACKAGE_ATTACHMENT",
                "a signer uploaded an attachment",
                signer=SIGNING,
                carries=("message",),
                by_signer=True,
                surprises=True,
            ),
            EventType(
                "DOCUMENT_SIGNED",
                "a signer signed a document, or accepted the consent",
                signer=SIGNING,
                carries=("documentId",),
                by_signer=True,
            ),
            EventType("DOCUMENT_VIEWED", "a document was viewed", carries=("documentId",)),
            EventType(
                "SIGNER_COMPLETE",
                "a signer has signed everything asked of them",
                signer={**SIGNING, "done": True},
                by_signer=True,
            ),
            EventType(
                "SIGNER_LOCKED", "a signer failed to authenticate too often", signer={"locked": True}, by_signer=True
            ),
            EventType(
                "KBA_FAILURE",
                "a signer failed the knowledge-based authentication",
                signer={"kba": True},
                by_signer=True,
            ),
            EventType("EMAIL_BOUNCE", "an e-mail to a signer came back", carries=("message",)),
            EventType(
                "ROLE_REASSIGN",
                "a signer handed the seat to somebody else",
                signer={"reassigned": True},
                carries=("newRoleId",),
                surprises=True,
            ),
            EventType(
                "COBROWSE_REQUEST",
                "a signer asks the sender for a co-browsing session",
                carries=("phone", "comment", "selectedSupportBusinessHours"),
            ),
        )
    }
)

# Whose id `sessionUser` is, beside the events by a signer: of PACKAGE_COMPLETE OneSpan's documentation says
# that it is the last signer, of the others that the signer is who it is about.
ABOUT_SIGNER = frozenset(
    {name for name, kind in CATALOGUE.items() if kind.by_signer}
    | {"PACKAGE_COMPLETE", "DOCUMENT_VIEWED", "EMAIL_BOUNCE", "ROLE_REASSIGN", "COBROWSE_REQUEST"}
)

# The SDKs' constant for it ends in -ION, the wire does not (NotificationEvent in both SDKs); both mean one event.
SPELLINGS = MappingProxyType({"PACKAGE_READY_FOR_COMPLETION": "PACKAGE_READY_FOR_COMPLETE"})

# Named by OneSpan's documentation, but not by the `Callback.events` enum of its OpenAPI document 11.51: whether they
# can be registered by the API, nobody says.
UNPUBLISHED = frozenset({"DOCUMENT_VIEWED", "COBROWSE_REQUEST"})

# Statuses in the order of a package's life; it breaks ties between claims of one and the same instant.
STATUSES = ("DRAFT", "SENT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED")

UNKNOWN = EventType("", "an event this version does not know")


def wire_name(name: str) -> str:
    """The one spelling under which an event is kept, whichever came in."""
    return SPELLINGS.get(name, name)


def nearest_name(name: str) -> str | None:
    """The event that is probably meant by a name that is none's."""
    return next(iter(difflib.get_close_matches(name.upper(), CATALOGUE, n=1)), None)


def event_type(name: str) -> EventType:
    """What we know of an event of this name; of an unknown one nothing, and so it claims nothing."""
    return CATALOGUE.get(name, UNKNOWN)
