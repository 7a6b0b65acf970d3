"""The history of a transaction: its events, what people and handlers did, and other changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.onespan.values import Package
from app.store.packages import Cause
from app.store.queries import ChangeDetail, EventDetail
from app.web.dashboard import labels

JOURNALED = ("callback", "snapshot", "absence")  # kinds of causes whose id is a journal id
# The CSS class and the text of each cause of changes that belong to no event.
CAUSE_KINDS: Mapping[str, tuple[str, str]] = {
    "callback": ("reported", "Updated by a callback"),
    "snapshot": ("read", "Updated from OneSpan"),
    "absence": ("read", "No longer in OneSpan"),
    "dispatch": ("handler", "Handler run"),
    "person": ("person", "Changed by {who}"),
    "rebuild": ("read", "Rebuilt from stored callbacks"),
    "upgrade": ("read", "Rebuilt after an upgrade of this service"),
    "fetch": ("read", "Could not be read from OneSpan"),
    "reconcile": ("read", "Sync with OneSpan"),
}
UNKNOWN_CAUSE = ("read", "Updated")
UPGRADE = Cause("rebuild", "upgrade")
ATTRIBUTES: Mapping[str, str] = {  # labels that differ from the attribute's name
    "due_at": "Due date",
    "trashed": "In trash",
    "sender_id": "Sender",
    "signed_by": "Signed by",
    "asked": "To be signed by",
    "begun_at": "Began to sign",
    "data": "Attributes",
    "order": "Signing order",
    "role_id": "Role",
    "locked": "Locked out",
    "email_bounce": "Email problem",
    "kba_failures": "Failed identity checks",
    "attachments": "Uploaded files",
    "unverified": "Not verified with OneSpan",
}
NAMES_OF_PEOPLE = ("sender_id", "signed_by", "asked")  # attributes whose values are ids of people


@dataclass(slots=True)
class Entry:
    """One entry of a transaction's history. `kind` is the CSS class, `raw_id` the journal id of the entry's source."""

    at: datetime
    kind: str
    text: str
    key: str
    event: EventDetail | None = None
    raw_id: int | str | None = None
    changes: list[tuple[str, str | datetime, str | datetime]] = field(default_factory=list)


def timeline(
    package: Package, events: Sequence[EventDetail], changes: Iterable[ChangeDetail], *, is_complete: bool
) -> list[Entry]:
    """Return the history of a transaction, newest entry first: events with their changes, actions and other changes.

    Unless the history `is_complete`, entries before the oldest of these events are left out.
    """
    entries = {event.id: _event_entry(package, event) for event in events}
    events_by_callback = {callback.id: event.id for event in events for callback in event.callbacks}
    oldest = None if is_complete else min(event.first_received_at for event in events)
    others: dict[object, Entry] = {}
    for change in sorted(changes, key=lambda change: change.id):
        cause = change.cause
        is_callback = cause.kind == "callback" and isinstance(cause.id, int)
        event_id = events_by_callback.get(int(cause.id)) if is_callback else None
        if event_id is None and oldest and change.recorded_at < oldest:
            continue
        if event_id is not None:
            entry = entries[event_id]
        else:
            action = action_text(change)
            at = change.recorded_at if _is_alone(change, action) else None
            entry = others.setdefault((cause, action, at), _other_entry(change, action))
        if _adds_detail(change, entry):
            entry.changes.append(change_texts(package, change))
    return sorted([*entries.values(), *others.values()], key=lambda entry: entry.at, reverse=True)


def _is_alone(change: ChangeDetail, action: str | None) -> bool:
    """Return whether a change is an entry of its own, because other changes with the same cause are of another time."""
    return action is not None or change.cause.kind in ("fetch", "rebuild")


def _adds_detail(change: ChangeDetail, entry: Entry) -> bool:
    """Return whether a change says more than the text of its history entry."""
    if change.attribute == "signed_by" and entry.event:
        return not set(change.old or []) <= set(change.new or [])
    return change.attribute not in ("read", "replay", "reread")


def _event_entry(package: Package, event: EventDetail) -> Entry:
    kind = "reported" if event.source == "callback" else "synced"
    raw_id = event.callbacks[0].id if event.callbacks else None
    return Entry(event.happened_at, kind, labels.sentence(package, event), str(event.id), event, raw_id)


def _other_entry(change: ChangeDetail, action: str | None) -> Entry:
    cause = change.cause
    kind, _ = CAUSE_KINDS.get(cause.kind, UNKNOWN_CAUSE)
    at = change.happened_at if cause.kind == "callback" else change.recorded_at
    key = f"{cause.kind}-{change.id if _is_alone(change, action) else cause.id}"
    return Entry(at, kind, action or cause_text(change), key, None, cause.id if cause.kind in JOURNALED else None)


def cause_text(change: ChangeDetail) -> str:
    """Return what caused a change that belongs to no event of the page."""
    kind = "upgrade" if change.cause == UPGRADE else change.cause.kind
    _, text = CAUSE_KINDS.get(kind, UNKNOWN_CAUSE)
    return text.replace("{who}", str(change.cause.id))


def action_text(change: ChangeDetail) -> str | None:
    """Return a sentence about what a person or a handler did, or None if the change records no such action."""
    person, handler = change.cause.id, change.subject.removeprefix("handler:")
    match change.cause.kind, change.attribute:
        case "person", "read":
            return f"{person} requested a refresh"
        case "person", "reread":
            return f"{person} read callback {change.new} again"
        case "person", "replay":
            return f"{person} ran {handler}{' again' if change.old else ''}"
        case "dispatch", _:
            return f"Handler failed: {handler}" if change.new else f"Handler run again: {handler}"
    return None


def change_texts(package: Package, change: ChangeDetail) -> tuple[str, str | datetime, str | datetime]:
    """Return the label, old value and new value of a change. A change of an issue has only a label."""
    kind, _, part = change.subject.partition(":")
    attribute = change.attribute.removeprefix("attention ")
    if change.attribute != attribute:
        who = f" ({labels.name_of(package, part)})" if part else ""
        return f"Issue {'opened' if change.new else 'resolved'}: {labels.issue(attribute).title}{who}", "", ""
    names = {"signer": labels.name_of(package, part), "document": labels.document_name(package, part), "handler": part}
    label = ATTRIBUTES.get(attribute) or attribute.replace("_", " ").capitalize()
    if kind in names:
        label = f"{names[kind]} · {label}"
    old, new = change.old, change.new
    if attribute in NAMES_OF_PEOPLE:
        new = _people(package, new)
        old = [name for name in _people(package, old) if name not in new]
    elif attribute == "group":
        old, new = (labels.group_members(package, group["members"]) if group else "" for group in (old, new))
    elif attribute == "email_bounce":
        old, new = labels.bounce(old), labels.bounce(new)
    elif attribute == "status":
        old, new = (_status_text(package, change, value) for value in (old, new))
    elif attribute.endswith("_at"):
        old, new = (datetime.fromisoformat(value) if isinstance(value, str) else value for value in (old, new))
    elif attribute == "unverified":
        old, new = labels.unverified(old).meaning, labels.unverified(new).meaning
    elif attribute == "type":
        old, new = labels.PACKAGE_TYPES.get(old, old), labels.PACKAGE_TYPES.get(new, new)
    return label, _text(old), _text(new) or "none"


def _people(package: Package, ids: object) -> list[str]:
    listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
    return [labels.name_of(package, str(person)) for person in listed]


def _status_text(package: Package, change: ChangeDetail, status: str | None) -> str | None:
    """Return the label of a status. A signer who is still listed but has no status any more has nothing to sign."""
    kind, _, part = change.subject.partition(":")
    if kind != "signer":
        return labels.status(status).text if status else None
    signs_nothing = change.old and any(signer.id == part for signer in package.signers)
    return labels.signer_state(status).text if status or signs_nothing else None


def _text(value: object) -> str | datetime:
    """Return a value of a change as text, or as a time. None and an empty list become an empty text."""
    match value:
        case None:
            return ""
        case datetime():
            return value
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{name}: {labels.as_text(item)}" for name, item in value.items())
    return str(value)
