"""What one snapshot says, for the reference model: who must sign what, who has signed, and which seat an id means.

The module shares no code with the service. The facts about approvals and groups are those of `docs/onespan.md`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

JSON = Mapping[str, Any]

LAG = timedelta(minutes=10)  # how old the status and the signatures in a snapshot may be
SECOND, NEAR, MINUTE = timedelta(seconds=1), timedelta(seconds=5), timedelta(minutes=1)
STATUS_ORDER = ("DRAFT", "SENT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED")
ARKHINEO = {f"ARCHIVAL_{step}" for step in ("PENDING", "VALIDATING", "INTERVENTION_REQUIRED", "COMPLETED")}
COMPLETE_STATUSES = {"COMPLETED", "ARCHIVED"} | ARKHINEO


@dataclass(frozen=True)
class Seat:
    """A role with its person or group. `documents` maps each document to sign to the time of the signature."""

    id: str
    role_id: str
    owes: bool
    documents: Mapping[str, datetime | None]
    completed_at: datetime | None
    members: frozenset[str] | None

    def is_asked(self, document: str | None) -> bool:
        """Whether the seat must sign this document; True if no document is meant."""
        return document is None or document in self.documents

    def is_open(self, document: str | None, at: datetime | None, within: timedelta = MINUTE) -> bool:
        """Whether the seat had still to sign at this time. OneSpan may date a signature a minute before its event."""
        ended = self.documents.get(document) if document else self.completed_at
        return ended is None or at is None or ended >= at - within

    def has_signed(self, document: str | None, at: datetime | None) -> bool:
        """Whether the seat signed the document at this time."""
        signed = self.documents.get(document) if document else None
        return bool(signed and at) and abs(signed - at) <= SECOND


def meant(seats: Iterable[Seat], given_id: str, document: str | None = None, at: datetime | None = None) -> Seat | None:
    """The seat that an id means. It is a person, a role, a member of a group or, if unknown, perhaps a member."""
    known = list(seats)
    own = next((seat for seat in known if seat.id == given_id), None)
    own = own or next((seat for seat in known if seat.role_id == given_id), None)
    ids = {given_id, own.id} if own else {given_id}
    groups = [seat for seat in known if ids & (seat.members or frozenset())]
    rules: tuple[Callable[[Seat], bool], ...] = (
        lambda seat: seat.owes and seat.is_asked(document),
        lambda seat: seat.is_open(document, at),
        lambda seat: seat.is_open(document, at, NEAR),
        lambda seat: seat.has_signed(document, at),
    )
    if own is None and not groups:
        groups = [seat for seat in known if seat.members is not None]
        groups = [seat for seat in groups if seat.is_asked(document) and seat.is_open(document, at)]
        rules = rules[2:]
    possible = [own, *groups] if own and (own.owes or not groups) else groups
    for rule in rules:
        if len(possible) > 1:
            possible = list(filter(rule, possible)) or possible
    return possible[0] if len(possible) == 1 else own


def settled(shown: JSON, at: datetime) -> datetime:
    """The time until which the status and the signatures in a snapshot are complete: OneSpan's API may lag."""
    updated = time(shown["updated"])
    return min(at, max(updated + SECOND, at - LAG)) if updated else at


def time(text: str | None) -> datetime | None:
    """Parse a time of OneSpan; None if there is none."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def weight(value: Any) -> tuple[bool, int, str]:
    """The rank of a value in a tie: None is lowest, a later status is higher, other values compare as text."""
    step = STATUS_ORDER.index(value) if value in STATUS_ORDER else -1
    return value is not None, step, json.dumps(value, default=str)


def signing_roles(shown: JSON) -> list[JSON]:
    """The roles that sign; the sender has a role that usually does not."""
    return [role for role in shown["roles"] if role["type"] != "SENDER" or approvals(shown, role["id"])]


def seats(shown: JSON) -> list[list[str]]:
    """The ids of each signer and its role. An empty role is its own signer."""
    return [
        [signer["id"], role["id"]]
        for role in signing_roles(shown)
        for signer in role["signers"] or [{"id": role["id"]}]
    ]


def approvals(shown: JSON, role_id: str) -> list[JSON]:
    """What a role is asked to sign. An approval that a condition disabled is not owed, unless it is signed."""
    return [
        approval
        for document in shown["documents"]
        for approval in document["approvals"]
        if approval["role"] == role_id and (approval["signed"] or not approval.get("disabled"))
    ]


def has_disabled(shown: JSON, role_id: str) -> bool:
    """Whether a condition has disabled an approval of a role. The role's last signature may be older than its end."""
    every = sum(approval["role"] == role_id for document in shown["documents"] for approval in document["approvals"])
    return len(approvals(shown, role_id)) < every


def by_document(shown: JSON, role_id: str) -> list[list[JSON]]:
    """What a role is asked to sign in each document that asks it."""
    documents = [approvals({"documents": [document]}, role_id) for document in shown["documents"]]
    return [approvals for approvals in documents if approvals]


def owes(shown: JSON, role_id: str) -> bool | None:
    """Whether a role has something to sign; None if the package asks for no signature yet."""
    if not any(document["approvals"] for document in shown["documents"]):
        return None
    return bool(approvals(shown, role_id))


def signature_time(shown: JSON, approval: JSON) -> datetime | None:
    """When an approval was signed. A click counts in a complete package, and where nothing has to be confirmed."""
    has_signature_field = any(field["type"] == "SIGNATURE" for field in approval["fields"])
    counts = shown["status"] in COMPLETE_STATUSES or not has_signature_field
    return time(approval["signed"]) or (time(approval["accepted"]) if counts else None)


def signatures(shown: JSON, approvals: Iterable[JSON]) -> list[datetime]:
    """When each of the signed approvals was signed."""
    return [at for approval in approvals if (at := signature_time(shown, approval))]


def signed_at(shown: JSON, in_document: list[JSON]) -> datetime | None:
    """When a role signed a document: None while a required approval of the document is not signed."""
    required = [approval for approval in in_document if not approval["optional"]]
    if len(signatures(shown, required)) < len(required):
        return None
    return max(signatures(shown, in_document), default=None)


def is_unsigned(shown: JSON, in_document: list[JSON]) -> bool:
    """Whether a document is certainly not signed: the package is open, and something required was not clicked."""
    must = [approval for approval in in_document if not approval["optional"]]
    is_untouched = any(not approval["signed"] and not approval["accepted"] for approval in must)
    return is_untouched and shown["status"] not in COMPLETE_STATUSES


def is_complete(shown: JSON, role_id: str) -> bool | None:
    """Whether a role has signed all that it must; None where a snapshot cannot say."""
    documents = by_document(shown, role_id)
    if any(is_unsigned(shown, in_document) for in_document in documents):
        return False
    must = [in_document for in_document in documents if any(not approval["optional"] for approval in in_document)]
    signed = [signed_at(shown, in_document) is not None for in_document in must or documents]
    if signed and (all(signed) or (shown["status"] in COMPLETE_STATUSES and not must and any(signed))):
        return True
    return None


def have_all_signed(shown: JSON) -> bool | None:
    """Whether all who must sign have signed; None where a snapshot cannot say."""
    roles = [role for role in signing_roles(shown) if approvals(shown, role["id"])]
    complete = [is_complete(shown, role["id"]) for role in roles]
    if not complete or False in complete:
        return False
    return None if None in complete else True


def is_ready(shown: JSON) -> bool | None:
    """Whether a package only waits for its sender to complete it; None where a snapshot cannot say."""
    if shown["status"] != "SENT" or shown["autocomplete"]:
        return False
    return have_all_signed(shown)


def begun_at(approvals: Iterable[JSON]) -> datetime | None:
    """When the first approval was clicked."""
    clicked = (time(approval["accepted"] or approval["signed"]) for approval in approvals)
    return min(filter(None, clicked), default=None)


def lacking(requirements: Iterable[JSON]) -> dict[str, str]:
    """The attachments that the sender rejected, and the required ones that the signer did not upload."""
    return {
        item["name"]: "REJECTED" if item["status"] == "REJECTED" else "MISSING"
        for item in requirements
        if item["required"] and item["status"] in ("REJECTED", "INCOMPLETE")
    }


def seats_in(shown: JSON) -> list[Seat]:
    """The seats as one snapshot shows them."""
    return [
        Seat(
            signer["id"],
            role["id"],
            owes=owes(shown, role["id"]) is not False,
            documents={
                document["id"]: signed_at(shown, in_document)
                for document in shown["documents"]
                if (in_document := approvals({"documents": [document]}, role["id"]))
            },
            completed_at=max(signatures(shown, approvals(shown, role["id"])), default=None)
            if is_complete(shown, role["id"]) and not has_disabled(shown, role["id"])
            else None,
            members=frozenset(member["userId"] for member in signer["group"]["members"])
            if signer.get("group")
            else None,
        )
        for role in signing_roles(shown)
        for signer in role["signers"] or [{"id": role["id"]}]
    ]
