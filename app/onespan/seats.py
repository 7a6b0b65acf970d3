"""Who is meant by an id, who has which seat, what they owe, and whose turn it is. The functions are pure.

A seat is one role with one person, or with one group that signs as one. `app.onespan.approvals` reads from a snapshot
what a seat owes. A callback names a person by the id of the signer, of the role, or of a group's member.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from app.onespan.merge import EPOCH, PACKAGE, Registers, State, current_value, signer, union
from app.onespan.subjects import SubjectClaims
from app.onespan.values import OPEN_SIGNER_STATUSES, Signer
from app.types import iso

Attributes = Mapping[str, Registers]  # the merged claims about one subject
# How much earlier than its callback OneSpan may date a signature, so that both are still one fact.
SIGNATURE_TOLERANCE = timedelta(minutes=1)
# The same, where the callback may also report another signature, and may be undated and so count a little later.
NEAR_TOLERANCE = timedelta(seconds=5)
DATE_TOLERANCE = timedelta(seconds=1)  # how much later than a signature its callback is usually dated
# What a member of a group does for the group, not for themselves.
DONE_FOR_GROUP = ("done", "declined", "opted_out", "reason")


@dataclass(frozen=True, slots=True)
class SeatDuty:
    """A seat, as far as it decides who is meant by an id. `documents` are those that the seat is asked to sign.

    `members` are the ids of a group's members; None if the seat is no group. `completed_at` is None if it is not known
    exactly: a condition that disables the last open signature completes a seat later than its last signature.
    """

    signer_id: str
    role_id: str
    owes: bool
    documents: Mapping[str, str | None]
    members: frozenset[str] | None = None
    completed_at: str | None = None

    def is_asked(self, document_id: str | None) -> bool:
        """Whether the seat is asked to sign this document; True if no document is given."""
        return document_id is None or document_id in self.documents

    def was_open(self, document_id: str | None, *, at: str | None, tolerance: timedelta = SIGNATURE_TOLERANCE) -> bool:
        """Whether the seat had not signed the document, or not completed, before the time `at`."""
        ended = self.completed_at if document_id is None else self.documents.get(document_id)
        if ended is None or at is None:
            return True
        return ended >= iso(datetime.fromisoformat(at) - tolerance)

    def has_signed(self, document_id: str | None, *, at: str | None) -> bool:
        """Whether the seat signed the document at the time `at` of the callback."""
        signed_at = None if document_id is None else self.documents.get(document_id)
        if signed_at is None or at is None:
            return False
        return abs(datetime.fromisoformat(signed_at) - datetime.fromisoformat(at)) <= DATE_TOLERANCE


@dataclass(frozen=True, slots=True)
class Seats:
    """The seats of one package."""

    seats: tuple[SeatDuty, ...]

    def seats_of(
        self,
        user_id: str,
        *,
        document_id: str | None = None,
        at: str | None = None,
        tolerance: timedelta = NEAR_TOLERANCE,
    ) -> Sequence[SeatDuty]:
        """Return the seats that `user_id` may have acted for at the time `at`: the own seat first, then groups.

        A person without a seat and a group may be a member of each open group.
        """
        own = self.own_seat(user_id)
        ids = {user_id, own.signer_id if own else user_id}  # the id may be that of the person's own role
        groups = [seat for seat in self.seats if seat.members and ids & seat.members]
        if own is None and not groups:
            seats = [seat for seat in self.groups if seat.is_asked(document_id) and seat.was_open(document_id, at=at)]
        else:
            seats = [own, *groups] if own and (own.owes or not groups) else groups
            seats = _narrowed(seats, lambda seat: seat.owes and seat.is_asked(document_id))
            seats = _narrowed(seats, lambda seat: seat.was_open(document_id, at=at))
        seats = _narrowed(seats, lambda seat: seat.was_open(document_id, at=at, tolerance=tolerance))
        return _narrowed(seats, lambda seat: seat.has_signed(document_id, at=at))

    def seat_of(self, user_id: str, *, document_id: str | None = None, at: str | None = None) -> SeatDuty | None:
        """Return the seat that `user_id` acted for at the time `at`; None if no seat or several groups may be meant.

        Of an own seat and groups, the own seat counts.
        """
        own, seats = self.own_seat(user_id), self.seats_of(user_id, document_id=document_id, at=at)
        return seats[0] if len(seats) == 1 else own

    def own_seat(self, user_id: str) -> SeatDuty | None:
        """Return the seat whose signer or role has this id; None if there is none."""
        own = next((seat for seat in self.seats if user_id == seat.signer_id), None)
        return own or next((seat for seat in self.seats if user_id == seat.role_id), None)

    @property
    def groups(self) -> tuple[SeatDuty, ...]:
        """The seats of groups."""
        return tuple(seat for seat in self.seats if seat.members is not None)


def _narrowed(seats: list[SeatDuty], condition: Callable[[SeatDuty], bool]) -> list[SeatDuty]:
    """Return the seats that meet a condition; all of them if there is only one, or if none meets it."""
    return [seat for seat in seats if condition(seat)] or seats if len(seats) > 1 else seats


class People:
    """The people of one package, from its merged claims: which ids name the same signer, and which signers have left.

    `sessionUser` may be the id of a signer or of a role (OneSpan's sources disagree), of a member of a group, or of the
    sender if the sender acts. The newest snapshot assigns signers to roles; before the first snapshot, ids from events
    are used.
    """

    def __init__(self, about: SubjectClaims, state: State) -> None:
        self.about = about
        seats = about.value("seats")
        self.seats: dict[str, str] = dict(seats) if isinstance(seats, list) else {}
        self.holders = {role_id: signer_id for signer_id, role_id in reversed(self.seats.items())}
        self.ever_seated = {
            subject.removeprefix("signer:")
            for subject, attributes in state.items()
            if subject.startswith("signer:") and "person" in attributes
        }
        self.roles = {signer_id: role_id for _, signer_id, role_id in sorted(self._seat_history(state))}
        self.last_holders = {role_id: signer_id for signer_id, role_id in self.roles.items()}
        self.read_at = about.at("seats")
        self.documents = {
            subject.removeprefix("document:"): SubjectClaims(attributes)
            for subject, attributes in state.items()
            if subject.startswith("document:")
        }
        self.subjects = {
            subject.removeprefix("signer:"): SubjectClaims(attributes)
            for subject, attributes in state.items()
            if subject.startswith("signer:")
        }
        self.has_groups = any(self.about_id(signer_id).value("group") for signer_id in self.seats)

    @classmethod
    def of(cls, state: State) -> "People":
        """Return the people in the merged claims of a package."""
        return cls(SubjectClaims(state.get(PACKAGE, {})), state)

    def _seat_history(self, state: State) -> Iterable[tuple[str, str, str]]:
        for signer_id in self.ever_seated:
            at, role_id = current_value(state[signer(signer_id)]["role_id"])
            yield at, signer_id, str(role_id)

    @cached_property
    def duties(self) -> Seats:
        """The seats, as far as they decide who is meant by an id."""
        return Seats(tuple(self._duty(*seat) for seat in self.seats.items()))

    @cached_property
    def members(self) -> frozenset[str]:
        """The ids of all members of the groups."""
        return frozenset().union(*(group.members or () for group in self.duties.groups))

    def about_id(self, user_id: str) -> SubjectClaims:
        """Return the claims about an id as it was reported; empty if there are none."""
        return self.subjects.get(user_id) or SubjectClaims({})

    def _duty(self, signer_id: str, role_id: str) -> SeatDuty:
        """Return what a seat owes, according to the merged claims of snapshots."""
        claims = self.about_id(signer_id)
        documents = {
            document_id: _signed_in_snapshot(document, signer_id)
            for document_id, document in self.documents.items()
            if signer_id in asked_of(document)
        }
        group = claims.value("group")
        members = frozenset(group.get("members", ())) if isinstance(group, Mapping) else None
        is_dated = claims.flag("done") and not claims.flag("has_disabled")
        completed_at = claims.text("done_at") if is_dated else None
        return SeatDuty(signer_id, role_id, claims.value("owes") is not False, documents, members, completed_at)

    def _signatures(self, document_id: str) -> dict[str, str]:
        """Return the signers of a document, each with the time of the signature."""
        by_signer: dict[str, list[Attributes]] = {}
        for user_id, registers in self.documents[document_id].named("signed"):
            at = current_value(registers)[1]
            own_id = self._holder(user_id)
            who = self.person(user_id, document_id=document_id, at=at if isinstance(at, str) else None)
            is_own = who == own_id or own_id not in self.ever_seated
            shares = [(who, registers)] if is_own else [(own_id, _shown(registers)), (who, _acted(registers))]
            for signer_id, share in shares:
                if share:
                    by_signer.setdefault(signer_id, []).append({"signed": share})
        found = {
            signer_id: current_value(union(claims)["signed"] if len(claims) > 1 else claims[0]["signed"])[1]
            for signer_id, claims in by_signer.items()
            if signer_id and not self.is_stranger(signer_id)
        }
        return {signer_id: at for signer_id, at in found.items() if isinstance(at, str)}

    @cached_property
    def signed(self) -> dict[str, dict[str, str]]:
        """The signers of each document, each with the time of the signature."""
        return {document_id: self._signatures(document_id) for document_id in self.documents}

    @cached_property
    def claims(self) -> dict[str, SubjectClaims]:
        """The claims about each person or group, by the id of the signer."""
        by_signer: dict[str, list[SubjectClaims]] = {}
        for user_id, claims in self.subjects.items():
            for signer_id, share in self._shares(user_id, claims):
                by_signer.setdefault(signer_id, []).append(share)
        return {
            signer_id: shares[0] if len(shares) == 1 else SubjectClaims(union(share.attributes for share in shares))
            for signer_id, shares in by_signer.items()
        }

    def _shares(self, user_id: str, claims: SubjectClaims) -> Iterator[tuple[str, SubjectClaims]]:
        """Yield who the claims about an id are about: a member of a group has claims of their own and for the group."""
        done, seen = claims.reported_at("done"), claims.reported_at("seen")
        at = done if done != EPOCH else seen
        own_id = self._holder(user_id)
        if self._is_seat_or_person(user_id) or (at == EPOCH and own_id not in self.members):
            yield own_id, claims
            return
        signer_id = self.person(user_id, at=at if at != EPOCH else None)
        if signer_id == own_id or own_id not in self.ever_seated:
            yield signer_id, claims
            return
        attributes = claims.attributes
        for_group = {name: registers for name, registers in attributes.items() if _is_for_group(name)}
        own = {name: _shown(registers) if name in for_group else registers for name, registers in attributes.items()}
        acted = {name: _acted(registers) for name, registers in for_group.items()}
        for who, share in ((own_id, own), (signer_id, acted)):
            if known := {name: registers for name, registers in share.items() if registers}:
                yield who, SubjectClaims(known)

    def about_seat(self, signer_id: str) -> SubjectClaims:
        """Return the claims about a signer; empty if there are none."""
        return self.claims.get(signer_id) or SubjectClaims({})

    def person(self, user_id: str, *, document_id: str | None = None, at: str | None = None) -> str:
        """Return the id of the signer that `user_id` identifies, acting for a document at the time `at`, if known."""
        if self._is_seat_or_person(user_id, document_id):
            return self._holder(user_id)
        seat = self.duties.seat_of(user_id, document_id=document_id, at=at)
        return seat.signer_id if seat else self._holder(user_id)

    def _holder(self, user_id: str) -> str:
        """Return the id of the signer, or of the present or last signer in a role."""
        if user_id in self.seats or user_id in self.ever_seated:
            return user_id
        return self.holders.get(user_id) or self.last_holders.get(user_id, user_id)

    def _is_seat_or_person(self, user_id: str, document_id: str | None = None) -> bool:
        """Whether an id names a seat, now or before, or a person who got or gave a role: no member of a group.

        A member who had a seat before still means that seat where it was asked to sign.
        """
        if not self.has_groups or not user_id:
            return True
        holder = self._holder(user_id)
        if holder not in self.members:
            claims = self.about_id(user_id).attributes
            is_role = user_id in self.holders or user_id in self.last_holders
            return is_role or "role_id" in claims or "reassigned" in claims
        if holder in self.seats:
            return False  # the seats say for which of them the member acts
        if document_id is not None:
            return document_id in self.documents and f"begun {holder}" in self.documents[document_id].attributes
        return holder in self.ever_seated and self.about_id(holder).value("owes") is not False

    def is_stranger(self, user_id: str) -> bool:
        """Whether the id has no seat, but may be that of a member of a group."""
        return not self._is_seat_or_person(user_id) and self._holder(user_id) not in self.members

    def is_signer(self, signer_id: str, claims: SubjectClaims) -> bool:
        """Whether this person is listed as a signer: has a seat, had one, or acts according to events."""
        if signer_id in self.seats:
            return True
        if signer_id in self.ever_seated:
            return self.has_left(signer_id, claims)
        if not claims.flag("seen") and signer_id == self.about.value("sender_id"):
            return False
        if claims.flag("reassigned"):
            return True  # the signer was replaced before the first snapshot of the seats
        return self.read_at == EPOCH or (claims.newest > self.read_at and not self.has_groups)

    def non_signers(self) -> Iterable[tuple[str, SubjectClaims]]:
        """Return the ids, from events, that belong to no current or past signer, with their claims."""
        return (
            (user_id, claims)
            for user_id, claims in self.claims.items()
            if user_id not in self.ever_seated and not self.is_signer(user_id, claims)
        )

    def has_left(self, signer_id: str, claims: SubjectClaims) -> bool:
        """Whether another person has this signer's seat, according to the newest snapshot or a later event.

        A signer that the sender removes from a draft was never asked to sign, and does not count.
        """
        if signer_id in self.seats:
            return claims.flag("reassigned") and claims.at("reassigned") > self.read_at
        was_asked = claims.value("asked") is not False
        return claims.flag("reassigned") or (was_asked and claims.value("role_id") in self.holders)


def _signed_in_snapshot(document: SubjectClaims, signer_id: str) -> str | None:
    signed = _shown(document.attributes.get(f"signed {signer_id}", {}))
    at = current_value(signed)[1]
    return at if isinstance(at, str) else None


def _is_for_group(attribute: str) -> bool:
    return attribute in DONE_FOR_GROUP or attribute.startswith("attachment ")


def _shown(registers: Registers) -> Registers:
    """Return the claims of snapshots."""
    return {"snapshot": registers["snapshot"]} if "snapshot" in registers else {}


def _acted(registers: Registers) -> Registers:
    """Return the claims of callbacks."""
    return {"event": registers["event"]} if "event" in registers else {}


def asked_of(claims: SubjectClaims) -> dict[str, bool]:
    """Return the signers of a document, according to the newest snapshot, each with whether they must sign it."""
    asked = claims.value("asked")
    return dict(asked) if isinstance(asked, list) else {}


def next_signers(signers: Iterable[Signer]) -> tuple[str, ...]:
    """Return the ids of the signers whose turn it is: the first in the signing order who still have to sign."""
    ordered = [
        (signer.order, signer.id)
        for signer in signers
        if signer.status in OPEN_SIGNER_STATUSES and signer.order is not None
    ]
    first = min((order for order, _ in ordered), default=None)
    return tuple(signer_id for order, signer_id in ordered if order == first)
