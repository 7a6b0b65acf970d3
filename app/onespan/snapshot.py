"""A snapshot: one answer of OneSpan about one package, as immutable values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.onespan.approvals import SeatSignature
from app.onespan.lifecycle import COMPLETE_STATUSES
from app.onespan.seats import SeatDuty, Seats
from app.onespan.values import Group, Sender

COMPLETE, REJECTED, MISSING = "COMPLETE", "REJECTED", "MISSING"  # the states of an attachment requirement


@dataclass(frozen=True, slots=True)
class Seat:
    """A role and its person or group. In a role without a person, `signer_id` is the role's id, `occupied` is false.

    `owes` says that the role has a signature in some document. `completed` says that the role has signed all it owes.
    `begun_at` is the time of its first click. `attachments` maps each attachment requirement to whether it is fulfilled
    (COMPLETE), REJECTED, or MISSING though required. A value that is not known is None. `has_disabled` says that a
    condition has disabled a block of the role, which then may have completed later than `completed_at`.
    """

    signer_id: str
    role_id: str
    order: int | None
    name: str | None
    email: str | None
    locked: bool | None
    completed: bool | None
    attachments: Mapping[str, str | None] | None
    occupied: bool = True
    owes: bool | None = None
    completed_at: str | None = None
    begun_at: str | None = None
    group: Group | None = None
    has_disabled: bool = False

    @property
    def uploaded(self) -> tuple[str, ...] | None:
        """The names of the fulfilled attachment requirements; None if they are not known."""
        if self.attachments is None:
            return None
        return tuple(name for name, status in self.attachments.items() if status == COMPLETE)


@dataclass(frozen=True, slots=True)
class DocumentSnapshot:
    """A document of a snapshot. `signatures` maps the id of each role that is asked to sign it to what the role owes.

    `signatures` itself is None if the signing roles are not known. `disabled` are the ids of the roles of which a
    condition has disabled a block.
    """

    id: str
    name: str | None
    signatures: Mapping[str, SeatSignature] | None
    disabled: frozenset[str] = frozenset()

    def begun_at(self, role_id: str) -> str | None:
        """Return when a role began to sign a document that it has not signed; None if it did not, or if not known."""
        signature = (self.signatures or {}).get(role_id)
        return signature.begun_at if signature and not signature.signed_at else None

    def signed_at(self, role_id: str) -> str | None:
        """Return when a role signed the document; None if it did not, or if that is not known."""
        signature = (self.signatures or {}).get(role_id)
        return signature.signed_at if signature else None


@dataclass(frozen=True, slots=True)
class EndedBy:
    """The person who declined or opted out, when and why, from the newest message of the package."""

    person_id: str
    reason: str | None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class PackageSnapshot:
    """One answer of OneSpan about one package. A value that the answer does not contain is None.

    `has_parts` says that the answer has roles and documents, which an item of a list may lack. `incomplete` says that
    some roles, signers or documents cannot be parsed, `documents_incomplete` that some documents or approvals cannot.
    `has_odd_values` says that some other values cannot.
    """

    id: str
    name: str | None = None
    type: str | None = None
    status: str | None = None
    trashed: bool | None = None
    sender: Sender = field(default_factory=Sender)
    created: str | None = None
    updated: str | None = None
    due: str | None = None
    completed: str | None = None
    autocomplete: bool | None = None
    seats: tuple[Seat, ...] = ()
    documents: tuple[DocumentSnapshot, ...] = ()
    description: str | None = None
    data: Mapping[str, object] | None = None
    ended_by: EndedBy | None = None
    has_parts: bool = True
    incomplete: bool = False
    documents_incomplete: bool = False
    has_odd_values: bool = False

    @property
    def all_signed(self) -> bool | None:
        """Whether there are signing roles and all of them have signed; None if that is not known."""
        roles = {seat.role_id for seat in self.seats}
        if self.documents_incomplete or any({*(document.signatures or ())} - roles for document in self.documents):
            return None
        completed = [seat.completed for seat in self.seats if seat.owes]
        return False if False in completed or not completed else None if None in completed else True

    @property
    def ready(self) -> bool | None:
        """Whether all signers have signed and the sender must complete the package by hand; None if not known."""
        is_sent = None if self.status is None else self.status == "SENT"
        by_hand = None if self.autocomplete is None else not self.autocomplete
        conditions = (is_sent, self.all_signed, by_hand)
        return False if False in conditions else None if None in conditions else True

    @property
    def is_whole(self) -> bool:
        """Whether all that is read of a package could be parsed."""
        return self.has_parts and not self.incomplete and not self.has_odd_values

    @property
    def clicked_at(self) -> str | None:
        """The time of the first click on a block that is not signed yet; None if there is none."""
        clicks = (document.begun_at(role_id) for document in self.documents for role_id in document.signatures or ())
        return min(filter(None, clicks), default=None)

    @property
    def is_complete(self) -> bool:
        """Whether the package is complete, so that no signature is open any more."""
        return self.status in COMPLETE_STATUSES

    @property
    def duties(self) -> Seats:
        """The seats, as far as they decide who is meant by an id."""
        return Seats(tuple(self._duty(seat) for seat in self.seats))

    def _duty(self, seat: Seat) -> SeatDuty:
        documents = {
            document.id: document.signed_at(seat.role_id)
            for document in self.documents
            if seat.role_id in (document.signatures or ())
        }
        members = frozenset(seat.group.members) if seat.group else None
        ended = None if seat.has_disabled else seat.completed_at
        return SeatDuty(seat.signer_id, seat.role_id, seat.owes is not False, documents, members, ended)
