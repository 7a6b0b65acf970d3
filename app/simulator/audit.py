"""OneSpan's audit trail and evidence summary, derived from a package."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from zlib import crc32

from app.simulator.callbacks import timestamp
from app.simulator.packages import CONSENT, Package
from app.simulator.people import Person

REFUSAL_TYPES = {"DECLINED": "Decline", "OPTED_OUT": "Opt Out"}
LOGIN_LEAD = timedelta(seconds=1)  # time between a signer's login and first signature


class Entry(NamedTuple):
    """One line of the audit trail."""

    at: datetime
    type: str
    target_type: str
    target: str
    person: Person
    data: str = ""


def trail(package: Package) -> dict[str, object]:
    """Return the `ExportedAuditTrail` of a package."""
    return {"package-id": package.id, "audit-events": [_dump(entry) for entry in entries(package)]}


def entries(package: Package) -> list[Entry]:
    """Return all entries of a package's audit trail, oldest first."""
    return sorted([*_logins(package), *_signatures(package), *_refusals(package)], key=lambda entry: entry.at)


def summary(package: Package) -> list[str]:
    """Return the lines of a package's evidence summary."""
    lines = [f"{timestamp(entry.at)}  {entry.type}  {entry.target}  {entry.person.name}" for entry in entries(package)]
    return [
        "Evidence Summary",
        f"Transaction: {package.name}",
        f"Id: {package.id}",
        f"Status: {package.status}",
        "",
        *lines,
    ]


def _logins(package: Package) -> Iterator[Entry]:
    for position, role in enumerate(package.roles):
        dates = [approval.at for approval in package.approvals(position) if approval.at]
        if role.person and dates:
            yield Entry(min(dates) - LOGIN_LEAD, "Login", "Package", package.name, role.person)


def _signatures(package: Package) -> Iterator[Entry]:
    for document in package.documents:
        verb = "Accept" if document.id == CONSENT else "Click To Sign"
        for approval in document.approvals:
            person = package.roles[approval.role].person
            if approval.at and person:
                yield Entry(approval.at, verb, "Document", document.name, person)


def _refusals(package: Package) -> Iterator[Entry]:
    for message in package.messages:
        yield Entry(
            message.at,
            REFUSAL_TYPES.get(package.status, "Decline"),
            "Package",
            package.name,
            message.by,
            message.content,
        )


def _dump(entry: Entry) -> dict[str, str]:
    return {
        "type": entry.type,
        "date-time": timestamp(entry.at),
        "target": entry.target,
        "target-type": entry.target_type,
        "user": entry.person.name,
        "user-email": entry.person.email or "",
        # The network 203.0.113.0/24 (TEST-NET-3) is reserved for documentation.
        "user-ip": f"203.0.113.{crc32(entry.person.id.encode()) % 254 + 1}",
        "data": entry.data,
    }
