"""What is said to people of statuses, events and reasons to act, in the words of OneSpan's own pages."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.onespan.values import Package, Signer
from app.store.queries import ChangeDetail, EventDetail

# A time as changes keep it.
MOMENT = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:\.\d+)?Z$")
NOTHING = "nothing"


class Said(NamedTuple):
    """A word, and its tone: one of the colours of the style sheet."""

    word: str
    tone: str


class Advice(NamedTuple):
    """A reason to act: what it is called, what it means, and what the sender can do."""

    title: str
    meaning: str
    advice: str
    tone: str


# As OneSpan's Transactions page calls them.
STATUSES: Mapping[str, Said] = {
    "DRAFT": Said("Draft", "draft"),
    "SENT": Said("In progress", "progress"),
    "COMPLETED": Said("Completed", "done"),
    "ARCHIVED": Said("Archived", "shelved"),
    "DECLINED": Said("Declined", "stop"),
    "OPTED_OUT": Said("Opted out", "stop"),
    "EXPIRED": Said("Expired", "warn"),
}
SIGNER_STATUSES: Mapping[str, Said] = {
    "PENDING": Said("Waiting", "draft"),
    "COMPLETED": Said("Signed", "done"),
    "LOCKED": Said("Locked out", "stop"),
    "DECLINED": Said("Declined", "stop"),
    "OPTED_OUT": Said("Opted out", "stop"),
    "REASSIGNED": Said("Reassigned", "shelved"),
}
RUN_STATES: Mapping[str, Said] = {
    "due": Said("Due", "progress"),
    "running": Said("Running", "progress"),
    "done": Said("Done", "done"),
    "parked": Said("Parked", "stop"),
    "discarded": Said("Discarded", "shelved"),
}
BOUNCES: Mapping[str, str] = {
    "BOUNCE": "the address does not take mail",
    "COMPLAINT": "marked as spam",
    "OOTO": "an out-of-office answer came",
    "UNKNOWN": "OneSpan does not say why",
}
REASONS: Mapping[str, Advice] = {
    "SIGNER_LOCKED": Advice(
        "Locked out",
        "The signer failed to authenticate too often and cannot sign.",
        "Check with them how they authenticate (phone number, answers), then unlock them in OneSpan.",
        "stop",
    ),
    "KBA_FAILURE": Advice(
        "Identity check failed",
        "The signer failed the knowledge-based authentication.",
        "Ask them what went wrong. In OneSpan, correct their details or choose another way to authenticate.",
        "stop",
    ),
    "EMAIL_BOUNCE": Advice(
        "E-mail came back",
        "The invitation may never have reached the signer.",
        "Correct the e-mail address in OneSpan and send the invitation again, or reach them another way.",
        "warn",
    ),
    "READY_FOR_COMPLETION": Advice(
        "Ready to complete",
        "Everybody has signed; the transaction waits for its sender.",
        "Review it in OneSpan and press Complete.",
        "progress",
    ),
    "DECLINED": Advice(
        "Declined",
        "A signer declined, and with that nobody can sign any more.",
        "Read the reason and talk to them. Then send a corrected transaction, or move this one to the trash.",
        "stop",
    ),
    "EXPIRED": Advice(
        "Expired",
        "The due date passed before everybody had signed.",
        "Set a new due date in OneSpan and send it again, or move it to the trash.",
        "warn",
    ),
    "PARKED_HANDLER": Advice(
        "Automation stopped",
        "One of your own functions gave up on an event of this transaction.",
        "Ask the people who run this service to mend the cause and replay it.",
        "stop",
    ),
}
EVENTS: Mapping[str, str] = {
    "PACKAGE_CREATE": "Created",
    "TEMPLATE_CREATE": "Template created",
    "PACKAGE_ACTIVATE": "Sent to its signers",
    "PACKAGE_DEACTIVATE": "Taken back to draft",
    "PACKAGE_READY_FOR_COMPLETE": "Everybody has signed; waits for the sender to complete it",
    "PACKAGE_COMPLETE": "Completed",
    "PACKAGE_DECLINE": "Declined by {who}",
    "PACKAGE_OPT_OUT": "{who} opted out of signing electronically",
    "PACKAGE_EXPIRE": "Expired",
    "PACKAGE_ARCHIVE": "Archived",
    "PACKAGE_TRASH": "Moved to the trash",
    "PACKAGE_RESTORE": "Restored from the trash",
    "PACKAGE_DELETE": "Deleted for good",
    "PACKAGE_ATTACHMENT": "{who} uploaded an attachment",
    "DOCUMENT_SIGNED": "{who} signed {document}",
    "DOCUMENT_VIEWED": "{document} was viewed",
    "SIGNER_COMPLETE": "{who} has signed everything",
    "SIGNER_LOCKED": "{who} was locked out",
    "KBA_FAILURE": "{who} failed the identity check",
    "EMAIL_BOUNCE": "An e-mail to {who} came back",
    "ROLE_REASSIGN": "{who} handed the seat to somebody else",
    "COBROWSE_REQUEST": "{who} asks for a co-browsing session",
}
CAUSES: Mapping[str, str] = {
    "down": "this service was down",
    "refused": "this service refused callbacks",
    "never reported": "no callback of this event ever came: is it switched on in OneSpan?",
    "no trace": "no trace of a callback here",
}

# What changed something without being an event that is shown: how it looks, and what it is called.
CAUSE_KINDS: Mapping[str, tuple[str, str]] = {
    "callback": ("told", "A callback told more"),
    "snapshot": ("read", "Read from OneSpan"),
    "absence": ("read", "OneSpan has it no longer"),
    "dispatch": ("handler", "A handler gave up, or was run again"),
    "person": ("person", "{who} asked for it"),
    "rebuild": ("read", "Derived again from what was told"),
}

KINDS: Mapping[str, str] = {"callback": "Callback", "snapshot": "Reading", "absence": "Absence"}
RUNS: Mapping[str, str] = {
    "reconcile": "Reconcile",
    "sweep": "Reconcile, with the ids of all transactions",
    "backfill": "Import of the whole account",
}
RUN_REASONS: Mapping[str, str] = {
    "first": "the first time",
    "interval": "it was time",
    "outage": "after an outage",
    "asked": "somebody asked",
}


def status(value: str | None) -> Said:
    """A package's status; one nobody has heard of in its own letters."""
    if value is None:
        return Said("Not known yet", "draft")
    return STATUSES.get(value) or Said(value, "draft")


def signer_status(value: str) -> Said:
    """A signer's status."""
    return SIGNER_STATUSES.get(value) or Said(value, "draft")


def name_of(package: Package, person: str | None) -> str:
    """Who is called so in a package: by their id, or by their role's."""
    for one in package.signers:
        if person is not None and person in (one.id, one.role_id):
            return one.name or one.email or one.id
    if person is not None and person == package.sender.id:
        return package.sender.name or package.sender.email or person
    return person or "Somebody"


def document_name(package: Package, document: str | None) -> str:
    """What a document is called."""
    found = next((one.name for one in package.documents if one.id == document), None)
    return found or document or "a document"


def progress(package: Package) -> str:
    """How far the signing is, in a line: `2 of 3 signed, waiting for Ada and Ben`."""
    if not package.signers_total:
        return "No signers yet" if package.status == "DRAFT" else ""
    told = f"{package.signers_completed} of {package.signers_total} signed"
    waiting = [name_of(package, one) for one in package.next_signers]
    return f"{told}, waiting for {listing(waiting)}" if waiting and package.status == "SENT" else told


def listing(names: Sequence[str], *, most: int = 2) -> str:
    """Names in a row, the last ones only counted where there are many."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(names)


def seat(package: Package, one: Signer) -> str:
    """How a signer's seat looks: `signed`, `turn`, `halted`, `gone`, or `` while they wait for others."""
    if one.status in ("COMPLETED", "REASSIGNED"):
        return "signed" if one.status == "COMPLETED" else "gone"
    if one.status in ("LOCKED", "DECLINED", "OPTED_OUT"):
        return "halted"
    return "turn" if one.id in package.next_signers else ""


def sentence(package: Package, event: EventDetail) -> str:
    """What happened."""
    told = EVENTS.get(event.name)
    if told is None:
        return event.name
    who = name_of(package, event.signer_id or event.session_user)
    return told.replace("{who}", who).replace("{document}", document_name(package, event.document_id))


def change(package: Package, one: ChangeDetail) -> tuple[str, str, str]:
    """What changed: of what, from what, to what."""
    kind, _, which = one.subject.partition(":")
    attribute = one.attribute.removeprefix("attention ")
    if one.attribute != attribute:
        opened = "opened" if one.new else "closed"
        return f"{reason(attribute).title}: {opened}", "", ""
    if one.attribute == "read":
        return "to be read from OneSpan", "", ""
    whose = {"signer": name_of(package, which), "document": document_name(package, which), "handler": which}
    subject = f"{whose[kind]}: " if kind in whose else ""
    if one.attribute in PEOPLE:
        former, latter = (_people(package, told) for told in (one.old, one.new))
        return subject + PEOPLE[one.attribute], value([name for name in former if name not in latter]), value(latter)
    if one.attribute == "status":
        said = signer_status if kind == "signer" else status
        old, new = (said(told).word if isinstance(told, str) else told for told in (one.old, one.new))
        return f"{subject}status", value(old), value(new)
    return subject + attribute.replace("_", " "), value(one.old), value(one.new)


PEOPLE = {
    "sender_id": "sender",
    "signed_by": "signed by",
}  # attributes whose values are people, and what they are called


def _people(package: Package, told: object) -> list[str]:
    ids = told if isinstance(told, list) else [] if told is None else [told]
    return [name_of(package, str(one)) for one in ids]


def places(package: Package) -> dict[str, int]:
    """Each signer's place in the signing order, from 1; equal ones sign at once."""
    orders = sorted({one.order for one in package.signers if one.order is not None})
    return {one.id: orders.index(one.order) + 1 for one in package.signers if one.order is not None}


def value(told: object) -> str:
    """A value of a change, as one reads it."""
    match told:
        case None:
            return NOTHING
        case bool():
            return "yes" if told else "no"
        case list():
            return ", ".join(map(str, told)) or NOTHING
    return MOMENT.sub(r"\1 \2 UTC", str(told))


def reason(name: str) -> Advice:
    """A reason to act."""
    return REASONS.get(name) or Advice(name, "", "", "warn")


def span(seconds: float | None) -> str:
    """A length of time: `250 ms`, `3.2 s`, `4 min`, `5 h`, `3 d`."""
    if seconds is None:
        return "none yet"
    for unit, size, most in SPANS:
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.0f} d"


# Units, how many seconds they have, and up to how many they are used.
SPANS = (("ms", 0.001, 1), ("s", 1, 60), ("min", 60, 3600), ("h", 3600, 2 * 86400))
