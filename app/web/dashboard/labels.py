"""The texts of the pages: labels of statuses, events and issues, in the words of OneSpan's own pages."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from app.onespan.event_catalogue import event_type
from app.onespan.values import Document, Package, SignatureState, Signer, SignerStatus
from app.store.queries import EventDetail


class Label(NamedTuple):
    """A text and its tone, which is one of the colours of the style sheet."""

    text: str
    tone: str


class Issue(NamedTuple):
    """A reason for attention: its title, what it means and what to do.

    `full_access_advice` is for users who can do more than `general_advice` says.
    """

    title: str
    meaning: str
    general_advice: str
    tone: str
    full_access_advice: str = ""

    def advice(self, *, full_access: bool) -> str:
        """Return what a user can do about the issue."""
        return self.full_access_advice if full_access and self.full_access_advice else self.general_advice


class SignatureLabel(NamedTuple):
    """A cell of the table of documents: a short text, its meaning, and when that began."""

    text: str
    meaning: str
    at: datetime | None = None


SIGNED = "✓"
OPTIONAL_SIGNATURE = SignatureLabel("Optional", "Not signed; the signature is optional")
# The labels of package statuses, in the words of OneSpan's Transactions page.
STATUSES: Mapping[str, Label] = {
    "DRAFT": Label("Draft", "draft"),
    "SENT": Label("In progress", "progress"),
    "COMPLETED": Label("Completed", "done"),
    "ARCHIVED": Label("Archived", "archived"),
    "DECLINED": Label("Declined", "stop"),
    "OPTED_OUT": Label("Opted out", "stop"),
    "EXPIRED": Label("Expired", "warn"),
}
SIGNER_STATUSES: Mapping[str, Label] = {
    "PENDING": Label("Not signed", "draft"),
    "COMPLETED": Label("Signed", "done"),
    "LOCKED": Label("Locked out", "stop"),
    "DECLINED": Label("Declined", "stop"),
    "OPTED_OUT": Label("Opted out", "stop"),
    "REASSIGNED": Label("Reassigned", "archived"),
}
SIGNS_NOTHING = Label("No signature needed", "archived")
GROUP_MEMBER = Label("Group member", "archived")
SIGNING = Label("Has begun to sign", "progress")
WAITING_FOR_SIGNATURE = Label("Waiting for signature", "progress")
NOT_THEIR_TURN = Label("Not their turn yet", "draft")
DISPATCH_STATES: Mapping[str, Label] = {
    "due": Label("Queued", "progress"),
    "running": Label("Running", "progress"),
    "done": Label("Done", "done"),
    "parked": Label("Failed", "stop"),
    "discarded": Label("Discarded", "archived"),
}
BOUNCES: Mapping[str, str] = {
    "BOUNCE": "Address rejected the email",
    "COMPLAINT": "Marked as spam",
    "OOTO": "Out-of-office reply",
    "UNKNOWN": "Reason not given",
}
ISSUES: Mapping[str, Issue] = {
    "SIGNER_LOCKED": Issue(
        "Locked out",
        "The signer failed to authenticate too often and cannot sign.",
        "Check with the signer how they authenticate (phone number, answers), then unlock them in OneSpan.",
        "stop",
    ),
    "KBA_FAILURE": Issue(
        "Identity check failed",
        "The signer failed knowledge-based authentication (KBA).",
        "Ask the signer what went wrong. In OneSpan, correct their details or choose another way to authenticate.",
        "stop",
    ),
    "EMAIL_BOUNCE": Issue(
        "Email bounced",
        "The invitation may not have reached the signer.",
        "Correct the email address in OneSpan and send the invitation again, or contact the signer another way.",
        "warn",
    ),
    "ATTACHMENT_REJECTED": Issue(
        "Attachment rejected",
        "The sender rejected a file that the signer uploaded.",
        "Ask the signer to upload it again in OneSpan.",
        "warn",
    ),
    "ATTACHMENT_MISSING": Issue(
        "Attachment missing",
        "The signer signed, but did not upload a required file.",
        "Ask the signer to upload it in OneSpan.",
        "warn",
    ),
    "READY_FOR_COMPLETION": Issue(
        "Ready to complete",
        "Everyone has signed. The sender must complete it.",
        "Review it in OneSpan and press Complete.",
        "progress",
    ),
    "DECLINED": Issue(
        "Declined",
        "A signer declined, so no one else can sign.",
        "Read the reason and contact the signer. Then send a corrected transaction, or move this one to the trash.",
        "stop",
    ),
    "EXPIRED": Issue(
        "Expired",
        "The due date passed before everyone had signed.",
        "Set a new due date in OneSpan and send it again, or move it to the trash.",
        "warn",
    ),
    "OUT_OF_OFFICE": Issue(
        "Out of office",
        "An automatic reply says that the signer is away.",
        "Wait, or contact the signer another way.",
        "draft",
    ),
    "PARKED_HANDLER": Issue(
        "Automation stopped",
        "A handler failed for an event of this transaction.",
        "Ask your administrator to fix the cause, then run it again.",
        "stop",
        "Fix the cause, then press “Run again”.",
    ),
}
ATTENTION_FILTERS = (
    ("", "Any"),
    ("any", "Needs attention"),
    *((reason, issue.title) for reason, issue in ISSUES.items()),
    ("none", "No open issues"),
)
UNVERIFIED_TITLE = "Not verified with OneSpan"
# Why OneSpan does not show a transaction, and what to do.
UNVERIFIED: Mapping[str, Issue] = {
    "refused": Issue(
        UNVERIFIED_TITLE,
        "OneSpan does not let these credentials read this transaction",
        "Ask your administrator to use credentials of the account's owner, or to share this transaction with them.",
        "warn",
    ),
    "not_found": Issue(
        UNVERIFIED_TITLE,
        "OneSpan shows no such transaction to these credentials",
        "Ask your administrator whether it belongs to another account or sender, and to use credentials that see it.",
        "warn",
    ),
    "not_shown": Issue(
        UNVERIFIED_TITLE,
        "Sync could not read this transaction",
        "Press “Refresh from OneSpan”. If that does not help, ask your administrator to check the log.",
        "warn",
    ),
    "unusable_id": Issue(
        UNVERIFIED_TITLE,
        "OneSpan cannot be asked for an ID with the part “.” or “..”",
        "Nothing to do: OneSpan gives no such IDs, so the callback is not about a real transaction.",
        "warn",
    ),
}
UNKNOWN_SIGNER, UNKNOWN_DOCUMENT = "an unknown signer", "a document"  # in the sentences of events
MEMBER_OF = "a member of "  # begins the name of a member without a role
OUT_OF_OFFICE = "Out-of-office reply from {who}"  # the sentence of a bounce that is an automatic reply
PACKAGE_TYPES: Mapping[str, str] = {"PACKAGE": "Transaction", "TEMPLATE": "Template", "LAYOUT": "Layout"}
MISSED_CAUSES: Mapping[str, str] = {
    "down": "Service was down",
    "refused": "Service refused callbacks",
    "never reported": "Event never reported: check that it is switched on in OneSpan",
    "no trace": "No known cause",
}
JOURNAL_KINDS: Mapping[str, str] = {
    "callback": "Callback {id}",
    "snapshot": "Snapshot {id}",
    "absence": "Snapshot {id}: not in OneSpan",
}
RECONCILE_KINDS: Mapping[str, str] = {
    "reconcile": "Sync",
    "sweep": "Full sync (all transaction IDs)",
    "backfill": "Import of all transactions",
}
RECONCILE_REASONS: Mapping[str, str] = {
    "first": "initial import",
    "interval": "scheduled",
    "outage": "after an outage",
    "asked": "manual",
}


def status(value: str | None) -> Label:
    """Return the label of a package's status. An unknown status keeps OneSpan's spelling."""
    if value is None:
        return Label("Unknown", "draft")
    return STATUSES.get(value) or Label(value, "draft")


def signer_status(package: Package, signer: Signer) -> Label:
    """Return the label of a signer's status. Before the signature the label says whether it is the signer's turn."""
    if signer.status == SignerStatus.PENDING and package.status == "SENT":
        if signer.begun_at:
            return SIGNING
        return WAITING_FOR_SIGNATURE if signer.id in package.next_signers else NOT_THEIR_TURN
    return GROUP_MEMBER if signer.status is None and _groups_of(package, signer.id) else signer_state(signer.status)


def signer_state(value: str | None) -> Label:
    """Return the label of a signer's status in OneSpan, regardless of the signing order."""
    if value is None:
        return SIGNS_NOTHING
    return SIGNER_STATUSES.get(value) or Label(value, "draft")


def name_of(package: Package, person: str | None) -> str:
    """Return the name of a signer, a sender or a group's member, given the person's id or role id."""
    for signer in package.signers:
        if person is not None and person in (signer.id, signer.role_id):
            return signer.name or signer.email or signer.id
    if person is not None and person == package.sender.id:
        return package.sender.name or package.sender.email or person
    groups = _groups_of(package, person)
    return MEMBER_OF + name_of(package, groups[0].id) if len(groups) == 1 else person or UNKNOWN_SIGNER


def _groups_of(package: Package, person: str | None) -> list[Signer]:
    return [signer for signer in package.signers if signer.group and person in signer.group.members]


def document_name(package: Package, document_id: str | None) -> str:
    """Return the name of a document, given the document's id."""
    name = next((document.name for document in package.documents if document.id == document_id), None)
    return name or document_id or UNKNOWN_DOCUMENT


def progress(package: Package) -> str:
    """Return the progress of the signing in one line, such as `2 of 3 signed, waiting for Ada and Ben`."""
    if not package.signers_total:
        return "No signers yet" if package.status == "DRAFT" else ""
    signed = f"{package.signers_completed} of {package.signers_total} signed"
    waiting = [name_of(package, signer_id) for signer_id in package.next_signers]
    return f"{signed}, waiting for {join_names(waiting)}" if waiting and package.status == "SENT" else signed


def join_names(names: Sequence[str], *, limit: int = 2) -> str:
    """Join names for a sentence. Names beyond the limit are only counted."""
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return " and ".join(names)


def seat(package: Package, signer: Signer) -> str:
    """Return the CSS class of a signer's seat: `signed`, `next`, `stopped`, `reassigned`, `silent`, or empty."""
    if signer.status is None:
        return "silent"
    if signer.status in (SignerStatus.COMPLETED, SignerStatus.REASSIGNED):
        return "signed" if signer.status == SignerStatus.COMPLETED else "reassigned"
    if signer.status in (SignerStatus.LOCKED, SignerStatus.DECLINED, SignerStatus.OPTED_OUT):
        return "stopped"
    return "next" if signer.id in package.next_signers else ""


def sentence(package: Package, event: EventDetail) -> str:
    """Return a sentence about an event, or only the name of an unknown event."""
    is_away = event.name == "EMAIL_BOUNCE" and event.message == "OOTO"
    template = OUT_OF_OFFICE if is_away else event_type(event.name).label
    if not template:
        return event.name
    new_signer = event.extra.get("newRoleId")
    values = {
        "who": name_of(package, event.signer_id or event.session_user),
        "document": document_name(package, event.document_id),
        "new_signer": name_of(package, str(new_signer)) if new_signer else "another signer",
    }
    text = re.sub(r"\{(\w+)\}", lambda field: values[field[1]], template)
    return text[0].upper() + text[1:] if text.startswith((UNKNOWN_SIGNER, UNKNOWN_DOCUMENT, MEMBER_OF)) else text


def positions(package: Package) -> dict[str, int]:
    """Return each signer's position in the signing order, from 1. Signers with the same position sign in parallel."""
    orders = sorted({signer.order for signer in package.signers if signer.order is not None})
    return {signer.id: orders.index(signer.order) + 1 for signer in package.signers if signer.order is not None}


def group_members(package: Package, members: Sequence[str]) -> str:
    """Return the names of a group's members, given their ids. Members without a role of their own are counted."""
    names = {signer.id: signer.name or signer.email or signer.id for signer in package.signers}
    known = [names[member] for member in members if member in names]
    others = len(members) - len(known)
    if not known:
        return f"{others} member{'s' * (others != 1)}" if others else ""
    return ", ".join([*known, *([f"{others} more"] if others else [])])


def signature(document: Document, signer: Signer) -> SignatureLabel:
    """Return what a signer owes to a document, for a cell of the table of documents."""
    owed = next((item for item in document.signatures if item.signer_id == signer.id), None)
    if owed is None:
        return SignatureLabel("", "Not asked to sign")
    if owed.state == SignatureState.SIGNED:
        return SignatureLabel(SIGNED, "Signed", owed.at)
    if owed.state == SignatureState.BEGUN:
        return SignatureLabel("Begun", "Begun, but not confirmed", owed.at)
    return SignatureLabel("Not signed", "Asked to sign") if owed.required else OPTIONAL_SIGNATURE


def issue(reason: str) -> Issue:
    """Return the texts about a reason for attention."""
    return ISSUES.get(reason) or Issue(reason, "", "", "warn")


def unverified(reason: str | None) -> Issue:
    """Return the texts about the reason why OneSpan does not show a transaction; empty texts without a reason."""
    return UNVERIFIED.get(reason or "") or Issue(UNVERIFIED_TITLE, reason or "", "", "warn")


def bounce(detail: str | None) -> str:
    """Return the detail of an issue as text. A kind of email bounce becomes its label."""
    return BOUNCES.get(detail or "", detail or "")


def as_text(value: object) -> str:
    """Return a value of OneSpan's JSON as text: a text as it is, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(seconds: float | None) -> str:
    """Return a duration as text, such as `250 ms`, `3.2 s`, `1 min 5 s`, `5 h 12 min`, `3 d`."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < MINUTE:
        return f"{seconds:.3g} s"
    unit, size, smaller_unit, smaller = ("min", MINUTE, "s", 1) if seconds < HOUR else ("h", HOUR, "min", MINUTE)
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:.0f} d"
    count, rest = divmod(round(seconds / smaller), size // smaller)
    return f"{count} {unit} {rest} {smaller_unit}" if rest else f"{count} {unit}"


MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds per minute, hour and day
