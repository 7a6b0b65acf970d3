"""Your code: one function for each event of OneSpan Sign.

Fill in the functions that you need and delete the others. Several functions can handle the same event.

    @handlers.on("PACKAGE_COMPLETE")
    def file_signed_documents(event: Event, package: Package) -> None:
        onespan.signed_documents(package.id, to=ARCHIVE / f"{event.key}.zip")

`event` says what happened; `package` is the current state of the package. Both are immutable.

A function that raises is run again after 10 s, 1 min, 10 min, 1 h and 6 h. Then the run is parked: it waits until
a person fixes the cause and replays it. `app.handling` has three exceptions to control this:

- `RetryAfter(seconds)`: run again after this time.
- `GiveUp(reason)`: park now, because trying again cannot help.
- `Discard(reason)`: there is nothing to do.

A function can run twice for the same event, for example after a power failure. Pass `event.key` to other systems,
so that they do the work once. Do not log names or email addresses of signers.

`docs/handlers.md` lists all fields, the methods of `onespan`, and examples.
"""

import structlog

from app.handling import Event, Handlers, Package
from app.onespan.event_catalogue import CATALOGUE

handlers = Handlers()
onespan = handlers.onespan  # client for OneSpan's REST API: signed documents, evidence, attachments, reminders
log = structlog.get_logger()


@handlers.on("PACKAGE_CREATE")
def package_created(event: Event, package: Package) -> None:
    """A package was created as a draft."""
    log_event(event, package)


@handlers.on("TEMPLATE_CREATE")
def template_created(event: Event, package: Package) -> None:
    """A template was created."""
    log_event(event, package)


@handlers.on("PACKAGE_ACTIVATE")
def package_sent(event: Event, package: Package) -> None:
    """A package was sent to its signers."""
    log_event(event, package)


@handlers.on("PACKAGE_DEACTIVATE")
def package_returned_to_draft(event: Event, package: Package) -> None:
    """A sent package was returned to draft for changes."""
    log_event(event, package)


@handlers.on("PACKAGE_READY_FOR_COMPLETE")
def package_ready_for_completion(event: Event, package: Package) -> None:
    """All signers have signed; the sender must complete the package."""
    log_event(event, package)


@handlers.on("PACKAGE_COMPLETE")
def package_completed(event: Event, package: Package) -> None:
    """The package is complete; its signed documents can be downloaded."""
    log_event(event, package)


@handlers.on("PACKAGE_DECLINE")
def package_declined(event: Event, package: Package) -> None:
    """A signer declined; `event.message` is the reason."""
    log_event(event, package)


@handlers.on("PACKAGE_OPT_OUT")
def package_opted_out(event: Event, package: Package) -> None:
    """A signer opted out of signing electronically; `event.message` may be the reason."""
    log_event(event, package)


@handlers.on("PACKAGE_EXPIRE")
def package_expired(event: Event, package: Package) -> None:
    """The due date passed before all signers had signed."""
    log_event(event, package)


@handlers.on("PACKAGE_ARCHIVE")
def package_archived(event: Event, package: Package) -> None:
    """A completed package was archived."""
    log_event(event, package)


@handlers.on("PACKAGE_TRASH")
def package_trashed(event: Event, package: Package) -> None:
    """The package was moved to the trash; its status does not change."""
    log_event(event, package)


@handlers.on("PACKAGE_RESTORE")
def package_restored(event: Event, package: Package) -> None:
    """The package was restored from the trash."""
    log_event(event, package)


@handlers.on("PACKAGE_DELETE")
def package_deleted(event: Event, package: Package) -> None:
    """The package was deleted in OneSpan."""
    log_event(event, package)


@handlers.on("PACKAGE_ATTACHMENT")
def attachment_uploaded(event: Event, package: Package) -> None:
    """A signer uploaded an attachment; `event.message` is its name."""
    log_event(event, package)


@handlers.on("DOCUMENT_SIGNED")
def document_signed(event: Event, package: Package) -> None:
    """`event.signer_id` signed `event.document_id`; `default-consent` is the consent document."""
    log_event(event, package)


@handlers.on("DOCUMENT_VIEWED")
def document_viewed(event: Event, package: Package) -> None:
    """The document `event.document_id` was viewed."""
    log_event(event, package)


@handlers.on("SIGNER_COMPLETE")
def signer_completed(event: Event, package: Package) -> None:
    """`event.signer_id` has finished signing."""
    log_event(event, package)


@handlers.on("SIGNER_LOCKED")
def signer_locked(event: Event, package: Package) -> None:
    """`event.signer_id` failed to authenticate too often and must be unlocked."""
    log_event(event, package)


@handlers.on("KBA_FAILURE")
def kba_failed(event: Event, package: Package) -> None:
    """`event.signer_id` failed knowledge-based authentication (KBA)."""
    log_event(event, package)


@handlers.on("EMAIL_BOUNCE")
def email_bounced(event: Event, package: Package) -> None:
    """An email bounced; `event.message` is BOUNCE, COMPLAINT, OOTO (out of office) or UNKNOWN."""
    log_event(event, package)


@handlers.on("ROLE_REASSIGN")
def role_reassigned(event: Event, package: Package) -> None:
    """A signer reassigned their role; `event.extra["newRoleId"]` is the new role."""
    log_event(event, package)


@handlers.on("COBROWSE_REQUEST")
def cobrowsing_requested(event: Event, package: Package) -> None:
    """A signer requested co-browsing; `phone` and `comment` are in `event.extra`."""
    log_event(event, package)


@handlers.on("*")
def unknown_event(event: Event, package: Package) -> None:
    """This function runs for every event, but handles only the events that this version does not know."""
    if event.name not in CATALOGUE:
        log_event(event, package)


def log_event(event: Event, package: Package) -> None:
    """Log that an event happened, without personal data."""
    log.info("event.happened", name=event.name, package_id=package.id, status=package.status, source=event.source)
