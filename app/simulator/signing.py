"""What signers do: click, sign, finish, upload attachments; and signatures that a condition disables."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from app.simulator.packages import Action, Approval, Attachment, Event, ImpossibleAction, Package

REQUIRED = "required"  # the text of an action that leaves out the optional signatures
Outcome = tuple[Package, list[Event]]


def begin(package: Package, action: Action, at: datetime) -> Outcome:
    """Click the signatures of a document without confirming the document. OneSpan sends no event."""

    def click(approval: Approval) -> Approval:
        is_left_out = approval.is_acceptance or (approval.optional and action.text == REQUIRED)
        return approval if is_left_out else replace(approval, accepted=approval.accepted or at)

    return _with_approvals(package, action, click), []


def sign(package: Package, action: Action, at: datetime) -> Outcome:
    """Sign a document. The last document completes the signer; the last signer completes an `autocomplete` package.

    With the text `required`, the signer leaves out the optional signatures.
    """

    def give(approval: Approval) -> Approval:
        if approval.optional and action.text == REQUIRED:
            return approval
        return replace(approval, accepted=approval.accepted or at, signed=None if approval.is_acceptance else at)

    signed = _with_approvals(package, action, give)
    if signed.roles[action.role].scheme == "KBA":
        signed = with_role(signed, action.role, {"kba": "PASSED"})
    document = package.documents[action.document].id
    event = Event("DOCUMENT_SIGNED", package.id, package.actor(action).id, at, document_id=document)
    return _with_completion(package, signed, action, at=at, events=[event])


def finish(package: Package, action: Action, at: datetime) -> Outcome:
    """Let a signer who has only optional signatures finish without the rest of them."""
    owed = package.owed(action.role)
    if package.is_signed(action.role) or not owed or not all(approval.optional for approval in owed):
        raise ImpossibleAction("finish is not possible: the signer must sign or is complete")
    finished = with_role(package, action.role, {"finished": at})
    return _with_completion(package, finished, action, at=at, events=[])


def _with_completion(before: Package, after: Package, action: Action, *, at: datetime, events: list[Event]) -> Outcome:
    """Add the completion of the signer and of the package, if the action completed them."""
    who = before.actor(action).id
    if after.is_signed(action.role) and not before.is_signed(action.role):
        events.append(Event("SIGNER_COMPLETE", after.id, who, at))
    if not after.is_signed() or before.is_signed():
        return after, events
    if not after.autocomplete:
        return after, [*events, Event("PACKAGE_READY_FOR_COMPLETE", after.id, who, at)]
    return replace(after, status="COMPLETED", completed=at), [*events, Event("PACKAGE_COMPLETE", after.id, who, at)]


def disable(package: Package, action: Action, at: datetime) -> Outcome:
    """Let a condition disable the signatures of a role in a document, as when the signer ticks a box."""
    disabled = _with_approvals(package, action, lambda approval: replace(approval, disabled=True))
    return _with_completion(package, disabled, action, at=at, events=[])


def enable(package: Package, action: Action, _: datetime) -> Outcome:
    """Let a condition enable the signatures of a role in a document again."""
    if package.is_signed(action.role):
        raise ImpossibleAction("enable is not possible: the signer is complete")
    enabled = change_approvals(
        package, action.role, action.document, lambda approval: replace(approval, disabled=False)
    )
    return _if_changed(package, enabled), []


def _with_approvals(package: Package, action: Action, change: Callable[[Approval], Approval]) -> Package:
    """Change the approvals of a role in a document that are enabled and not yet given."""

    def change_open(approval: Approval) -> Approval:
        return approval if approval.disabled or approval.at else change(approval)

    return _if_changed(package, change_approvals(package, action.role, action.document, change_open))


def _if_changed(before: Package, after: Package) -> Package:
    if after == before:
        raise ImpossibleAction("the role has no such signature in this document")
    return after


def change_approvals(package: Package, role: int, number: int, change: Callable[[Approval], Approval]) -> Package:
    """Return the package with changed requested signatures of a role in the document at this position."""
    document = package.documents[number]
    approvals = tuple(change(approval) if approval.role == role else approval for approval in document.approvals)
    changed = replace(document, approvals=approvals)
    return replace(package, documents=(*package.documents[:number], changed, *package.documents[number + 1 :]))


def upload(package: Package, action: Action, at: datetime) -> Outcome:
    """Upload an attachment, also once more after the sender rejected the first file."""
    attachment, package = _attached(package, action, status="COMPLETE")
    return package, [Event("PACKAGE_ATTACHMENT", package.id, package.actor(action).id, at, message=attachment.name)]


def reject(package: Package, action: Action, _: datetime) -> Outcome:
    """Reject an uploaded attachment, with the action's text as comment. OneSpan sends no event."""
    attachment, package = _attached(package, action, status="REJECTED", comment=action.text)
    if not attachment.uploaded:
        raise ImpossibleAction("reject is not possible: no file was uploaded")
    return package, []


def _attached(package: Package, action: Action, **values: str) -> tuple[Attachment, Package]:
    """Return an attachment of a role, and the package with these values of the attachment."""
    attachments = package.roles[action.role].attachments
    if action.attachment >= len(attachments):
        raise ImpossibleAction("the role has no such attachment")
    attachment = attachments[action.attachment]
    changed = replace(attachment, **values)  # type: ignore[arg-type]
    attachments = (*attachments[: action.attachment], changed, *attachments[action.attachment + 1 :])
    return attachment, with_role(package, action.role, {"attachments": attachments})


def with_role(package: Package, position: int, values: Mapping[str, object]) -> Package:
    """Return the package with these values of the role at this position."""
    role = replace(package.roles[position], **values)  # type: ignore[arg-type]
    return replace(package, roles=(*package.roles[:position], role, *package.roles[position + 1 :]))
