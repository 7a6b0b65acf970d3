"""Who did what when, as OneSpan's audit trail and evidence summary say it: told from the package as it stands."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from zlib import crc32

from app.simulator.callbacks import timestamp
from app.simulator.packages import CONSENT, Package
from app.simulator.people import Person

LEAVING = {"DECLINED": "Decline", "OPTED_OUT": "Opt Out"}
BEFORE = timedelta(seconds=1)  # a signer logs in so long before they first do something


class Entry(NamedTuple):
    """One line of it."""

    at: datetime
    type: str
    target_type: str
    target: str
    person: Person
    data: str = ""


def trail(one: Package) -> dict[str, object]:
    """The `ExportedAuditTrail` of a package."""
    return {"package-id": one.id, "audit-events": [_shown(entry) for entry in entries(one)]}


def entries(one: Package) -> list[Entry]:
    """All of it, oldest first."""
    return sorted([*_logins(one), *_signed(one), *_left(one)], key=lambda entry: entry.at)


def summary(one: Package) -> list[str]:
    """The lines of the evidence summary."""
    told = [f"{timestamp(entry.at)}  {entry.type}  {entry.target}  {entry.person.name}" for entry in entries(one)]
    return ["Evidence Summary", f"Transaction: {one.name}", f"Id: {one.id}", f"Status: {one.status}", "", *told]


def _logins(one: Package) -> Iterator[Entry]:
    for place, role in enumerate(one.roles):
        dates = [approval.at for approval in one.approvals(place) if approval.at]
        if role.person and dates:
            yield Entry(min(dates) - BEFORE, "Login", "Package", one.name, role.person)


def _signed(one: Package) -> Iterator[Entry]:
    for document in one.documents:
        verb = "Accept" if document.id == CONSENT else "Click To Sign"
        for approval in document.approvals:
            person = one.roles[approval.role].person
            if approval.at and person:
                yield Entry(approval.at, verb, "Document", document.name, person)


def _left(one: Package) -> Iterator[Entry]:
    for message in one.messages:
        yield Entry(message.at, LEAVING.get(one.status, "Decline"), "Package", one.name, message.by, message.content)


def _shown(entry: Entry) -> dict[str, str]:
    return {
        "type": entry.type,
        "date-time": timestamp(entry.at),
        "target": entry.target,
        "target-type": entry.target_type,
        "user": entry.person.name,
        "user-email": entry.person.email,
        "user-ip": f"203.0.113.{crc32(entry.person.id.encode()) % 254 + 1}",  # addresses that nobody has
        "data": entry.data,
    }
