"""What your company does when something happens in OneSpan Sign: one function for each event.

This file is yours. Fill in the functions you need and delete the others; several functions may take the same
event. Each gets the event and the package as it stands now, both immutable; `docs/handlers.md` lists their fields.

A function may be called again for the same event: when it raised, or when the machine died half-way. So hand
`event.key` to whatever must not happen twice. Raise anything to be called again later (after 10 s, 1 min,
10 min, 1 h, 6 h; then a person has to look), `RetryAfter(seconds)` to say when, `GiveUp(reason)` when trying
again cannot help, `Discard(reason)` when there is nothing to do. Signers' names and e-mail addresses do not
belong in a log.
"""

import structlog

from app.handling import Event, Handlers, Package
from app.onespan.catalogue import CATALOGUE

handlers = Handlers()
onespan = handlers.onespan  # OneSpan's REST API: signed documents, evidence, attachments, reminders
log = structlog.get_logger()


@handlers.on("PACKAGE_CREATE")
def package_created(event: Event, package: Package) -> None:
    """A package was created, as a draft."""
    note(event, package)


@handlers.on("TEMPLATE_CREATE")
def template_created(event: Event, package: Package) -> None:
    """A template was created."""
    note(event, package)


@handlers.on("PACKAGE_ACTIVATE")
def package_sent(event: Event, package: Package) -> None:
    """A package was sent to its signers."""
    note(event, package)


@handlers.on("PACKAGE_DEACTIVATE")
def package_taken_back(event: Event, package: Package) -> None:
    """A sent package went back to draft, to be changed."""
    note(event, package)


@handlers.on("PACKAGE_READY_FOR_COMPLETE")
def package_waits_for_sender(event: Event, package: Package) -> None:
    """All have signed; the sender must complete the package."""
    note(event, package)


@handlers.on("PACKAGE_COMPLETE")
def package_completed(event: Event, package: Package) -> None:
    """The package is complete: file the documents, start what was agreed."""
    note(event, package)


@handlers.on("PACKAGE_DECLINE")
def package_declined(event: Event, package: Package) -> None:
    """A signer declined; `event.message` is the reason they gave."""
    note(event, package)


@handlers.on("PACKAGE_OPT_OUT")
def package_opted_out(event: Event, package: Package) -> None:
    """A signer opted out of signing electronically; `event.message` may say why."""
    note(event, package)


@handlers.on("PACKAGE_EXPIRE")
def package_expired(event: Event, package: Package) -> None:
    """The due date passed before all had signed."""
    note(event, package)


@handlers.on("PACKAGE_ARCHIVE")
def package_archived(event: Event, package: Package) -> None:
    """A completed package was archived."""
    note(event, package)


@handlers.on("PACKAGE_TRASH")
def package_trashed(event: Event, package: Package) -> None:
    """The package was moved to the trash; its status stays what it was."""
    note(event, package)


@handlers.on("PACKAGE_RESTORE")
def package_restored(event: Event, package: Package) -> None:
    """The package came back from the trash."""
    note(event, package)


@handlers.on("PACKAGE_DELETE")
def package_deleted(event: Event, package: Package) -> None:
    """The package was deleted in OneSpan, for good."""
    note(event, package)


@handlers.on("PACKAGE_ATTACHMENT")
def attachment_uploaded(event: Event, package: Package) -> None:
    """A signer uploaded an attachment; `event.message` is its name."""
    note(event, package)


@handlers.on("DOCUMENT_SIGNED")
def document_signed(event: Event, package: Package) -> None:
    """`event.signer_id` signed `event.document_id`; `default-consent` is the consent."""
    note(event, package)


@handlers.on("DOCUMENT_VIEWED")
def document_viewed(event: Event, package: Package) -> None:
    """`event.document_id` was viewed."""
    note(event, package)


@handlers.on("SIGNER_COMPLETE")
def signer_completed(event: Event, package: Package) -> None:
    """`event.signer_id` has signed everything asked of them."""
    note(event, package)


@handlers.on("SIGNER_LOCKED")
def signer_locked(event: Event, package: Package) -> None:
    """`event.signer_id` failed to authenticate too often and must be unlocked."""
    note(event, package)


@handlers.on("KBA_FAILURE")
def kba_failed(event: Event, package: Package) -> None:
    """`event.signer_id` failed the knowledge-based authentication."""
    note(event, package)


@handlers.on("EMAIL_BOUNCE")
def email_bounced(event: Event, package: Package) -> None:
    """An e-mail came back; `event.message` is BOUNCE, COMPLAINT, OOTO or UNKNOWN."""
    note(event, package)


@handlers.on("ROLE_REASSIGN")
def role_reassigned(event: Event, package: Package) -> None:
    """A signer handed over their seat; `event.extra["newRoleId"]` is the new one."""
    note(event, package)


@handlers.on("COBROWSE_REQUEST")
def cobrowsing_requested(event: Event, package: Package) -> None:
    """A signer asks for help; `phone` and `comment` are in `event.extra`."""
    note(event, package)


@handlers.on("*")
def unknown_event(event: Event, package: Package) -> None:
    """Every event comes here too. Those that OneSpan has added since this was written come nowhere else."""
    if event.name not in CATALOGUE:
        note(event, package)


def note(event: Event, package: Package) -> None:
    """Say in the log what happened."""
    log.info("event.happened", name=event.name, package_id=package.id, status=package.status, source=event.source)
