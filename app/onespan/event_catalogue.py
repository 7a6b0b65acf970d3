"""The event catalogue: OneSpan Sign's events, and all that is known of each event.

Names are spelled as in callbacks. The sources are the event tables of OneSpan's callback documentation
(docs.onespan.com, "Setting up callback notifications"), the `Callback.events` enum of its OpenAPI document
11.51, and `NotificationEvent` in its Java and .NET SDKs. `docs/onespan.md` lists the names in each source.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Literal

# A signer who acts is not locked, and their email works, even if earlier events said otherwise.
SIGNING = {"locked": False, "email_bounce": None, "out_of_office": False, "kba": False}
# Only a package that exists can have such an event, so a later one ends an earlier deletion.
LIVING = {"deleted": False}
# How much later a callback may be dated than the snapshot that shows its event, by when the event can happen again.
# OneSpan's clocks may differ, and `createdDate` may be the time of sending.
CLOCK_TOLERANCE, UNLIMITED = timedelta(minutes=1), timedelta(days=36_500)
MAX_DATE_LAGS = {"never": UNLIMITED, "later": CLOCK_TOLERANCE, "soon": timedelta(0)}


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind of event: all that the service knows of it, except the claims that depend on other members.

    `label` is its sentence on pages, with the places `{who}`, `{document}` and `{new_signer}`. The event claims the
    attributes `package` of the package, and the attributes `signer` of the signer in `sessionUser`.

    - `extra_members`: the members of its callback besides those that every callback has.
    - `by_signer`: `sessionUser` is always the signer who acts; otherwise `sessionUser` may be the sender.
    - `concerns_signer`: `sessionUser` is the signer concerned, by OneSpan's documentation.
    - `starts`: the event creates the package, so `sessionUser` is the package's sender.
    - `needs_fetch`: the package must be fetched afterwards.
    - `in_snapshots`: the difference between two snapshots shows the event.
    - `dated_in_snapshots`: a snapshot shows the event's time; otherwise the time is estimated.
    - `again`: when the same event can happen again.
    - `registered`: `flask callback register` registers the event by default.
    """

    name: str
    label: str
    description: str
    package: Mapping[str, object] = field(default_factory=dict)
    signer: Mapping[str, object] = field(default_factory=dict)
    extra_members: tuple[str, ...] = ()
    by_signer: bool = False
    concerns_signer: bool = False
    starts: bool = False
    needs_fetch: bool = False
    in_snapshots: bool = True
    dated_in_snapshots: bool = False
    again: Literal["never", "later", "soon"] = "soon"
    registered: bool = True

    @property
    def names_signer(self) -> bool:
        """Whether `sessionUser` is a signer's id, by OneSpan's documentation."""
        return self.by_signer or self.concerns_signer

    @property
    def max_date_lag(self) -> timedelta:
        """How much later a callback may be dated than the snapshot that shows its event."""
        return MAX_DATE_LAGS[self.again]


def _created(kind: str) -> dict[str, object]:
    """Return the claims of a creation. It comes before any deletion, so it does not end one."""
    return {"status": "DRAFT", "ready": False, "type": kind}


def _status(value: str) -> dict[str, object]:
    """Return the claims of a status change. After any status change, the package no longer waits for its sender."""
    return {"status": value, "ready": False, **LIVING}


# The order of the rows is the order of events of the same instant, and the order in lists.
CATALOGUE: Mapping[str, EventType] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            EventType(
                "PACKAGE_CREATE",
                "Created",
                "a package was created",
                package=_created("PACKAGE"),
                starts=True,
                needs_fetch=True,
                dated_in_snapshots=True,
                again="never",
            ),
            EventType(
                "TEMPLATE_CREATE",
                "Template created",
                "a template was created",
                package=_created("TEMPLATE"),
                starts=True,
                needs_fetch=True,
                dated_in_snapshots=True,
                again="never",
            ),
            EventType(
                "PACKAGE_ACTIVATE",
                "Sent for signature",
                "a package was sent for signature",
                package=_status("SENT"),
                needs_fetch=True,
            ),
            EventType(
                "PACKAGE_DEACTIVATE", "Returned to draft", "a sent package returned to draft", package=_status("DRAFT")
            ),
            EventType(
                "EMAIL_BOUNCE",
                "Email to {who} bounced",
                "an email to a signer bounced",  # a bounce may arrive after the deletion, so it claims no `LIVING`
                extra_members=("message",),
                concerns_signer=True,
                in_snapshots=False,
            ),
            EventType(
                "ROLE_REASSIGN",
                "{who} reassigned signing to {new_signer}",
                "a signer reassigned signing to another person",
                package=LIVING,
                signer={"reassigned": True},
                extra_members=("newRoleId",),
                concerns_signer=True,
                needs_fetch=True,
            ),
            EventType(
                "KBA_FAILURE",
                "{who} failed the identity check",
                "a signer failed the knowledge-based authentication",
                package=LIVING,
                signer={"kba": True},
                by_signer=True,
                in_snapshots=False,
            ),
            EventType(
                "SIGNER_LOCKED",
                "{who} was locked out",
                "a signer was locked after failed authentication attempts",
                package=LIVING,
                signer={"locked": True},
                by_signer=True,
            ),
            EventType(
                "COBROWSE_REQUEST",
                "{who} requested co-browsing",
                "a signer requested a co-browsing session with the sender",
                package=LIVING,
                extra_members=("phone", "comment", "selectedSupportBusinessHours"),
                concerns_signer=True,
                in_snapshots=False,
                registered=False,  # OneSpan does not document whether its API accepts this name in a registration
            ),
            EventType(
                "DOCUMENT_VIEWED",
                "{document} was viewed",
                "a document was viewed",
                package=LIVING,
                extra_members=("documentId",),
                concerns_signer=True,
                in_snapshots=False,
            ),
            EventType(
                "PACKAGE_ATTACHMENT",
                "{who} uploaded an attachment",
                "a signer uploaded an attachment",
                package=LIVING,
                signer=SIGNING,
                extra_members=("message",),
                by_signer=True,
                needs_fetch=True,
            ),
            EventType(
                "DOCUMENT_SIGNED",
                "{who} signed {document}",
                "a signer signed a document, or accepted the consent",
                package=LIVING,
                signer=SIGNING,
                extra_members=("documentId",),
                by_signer=True,
                dated_in_snapshots=True,
                again="later",
            ),
            EventType(
                "SIGNER_COMPLETE",
                "{who} finished signing",
                "a signer finished signing",
                package=LIVING,
                signer={**SIGNING, "done": True},
                by_signer=True,
                dated_in_snapshots=True,
                again="later",
            ),
            EventType(
                "PACKAGE_READY_FOR_COMPLETE",
                "Everyone has signed; ready for the sender to complete",
                "all signers have signed and the sender must complete the package",
                package={"ready": True, **LIVING},
            ),
            EventType(
                "PACKAGE_COMPLETE",
                "Completed",
                "the package is complete",
                package=_status("COMPLETED"),
                concerns_signer=True,  # the last signer
                dated_in_snapshots=True,
                again="later",
            ),
            EventType(
                "PACKAGE_DECLINE",
                "Declined by {who}",
                "a signer declined, so the package is declined",
                package=_status("DECLINED"),
                signer={**SIGNING, "declined": True},
                extra_members=("message",),
                by_signer=True,
            ),
            EventType(
                "PACKAGE_OPT_OUT",
                "{who} opted out of signing electronically",
                "a signer opted out of signing electronically",
                package=_status("OPTED_OUT"),
                signer={**SIGNING, "opted_out": True},
                extra_members=("message",),
                by_signer=True,
                registered=False,  # OneSpan's SDKs removed the name in 2022 as unused, so a registration may be refused
            ),
            EventType("PACKAGE_EXPIRE", "Expired", "the package's due date passed", package=_status("EXPIRED")),
            EventType("PACKAGE_ARCHIVE", "Archived", "a completed package was archived", package=_status("ARCHIVED")),
            EventType(
                "PACKAGE_TRASH",
                "Moved to trash",
                "the package was moved to the trash",
                package={"trashed": True, **LIVING},
            ),
            EventType(
                "PACKAGE_RESTORE",
                "Restored from trash",
                "the package was restored from the trash",
                package={"trashed": False, **LIVING},
                needs_fetch=True,
            ),
            EventType(
                "PACKAGE_DELETE",
                "Deleted",
                "the package was deleted",
                package={"deleted": True},
                again="later",  # OneSpan's support can bring a deleted package back
            ),
        )
    }
)

# The constant in OneSpan's SDKs ends in -ION, the name in callbacks does not (`NotificationEvent` in both SDKs).
SPELLINGS = MappingProxyType({"PACKAGE_READY_FOR_COMPLETION": "PACKAGE_READY_FOR_COMPLETE"})

# Statuses in lifecycle order. Of two claims of the same instant, the one with the later status wins.
STATUSES = ("DRAFT", "SENT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED")

UNKNOWN = EventType("", "", "an event that this version does not know", in_snapshots=False, registered=False)


def wire_name(name: str) -> str:
    """Return the spelling under which an event is stored."""
    return SPELLINGS.get(name, name)


def nearest_name(name: str) -> str | None:
    """Return the known event name that is closest to a misspelt name; None if no name is close."""
    return next(iter(difflib.get_close_matches(name.upper(), CATALOGUE, n=1)), None)


def event_type(name: str) -> EventType:
    """Return the catalogue's entry for an event name; an unknown event claims nothing."""
    return CATALOGUE.get(name, UNKNOWN)


def life_rank(name: str) -> int:
    """Return the place of an event in a package's life; unknown events come last."""
    return [*CATALOGUE, name].index(name)
