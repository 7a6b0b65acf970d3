"""Random small histories of one package: what happens at OneSpan, what callbacks say, and what the API shows.

A history is plain random, from a seed. `Truth` is a simple model of OneSpan that shares no code with the service or
with the simulator. Times are milliseconds since `BEGINNING`. Each value has its time, so the API can show a package as
it was some time ago.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

BEGINNING = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND, MINUTE = 1000, 60_000
DUE = 30 * 24 * 60 * MINUTE  # the due date of a package, until the sender extends it
SENDER = "cleo"
Fact = tuple[str, str | None, str | None]  # an event's name, the seat concerned, and the document
FIELDS = ([{"type": "SIGNATURE"}], [{"type": "INPUT"}, {"type": "SIGNATURE"}])


def moment(at: int) -> datetime:
    """Return the time `at` as a datetime."""
    return BEGINNING + timedelta(milliseconds=at)


def text(at: int | None) -> str | None:
    """Return the time `at` as OneSpan writes it."""
    return None if at is None else moment(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Timed:
    """A value that changes, with the times of its changes."""

    changes: list[tuple[int, Any]]

    def set(self, at: int, value: object) -> None:
        """Change the value at the time `at`."""
        self.changes.append((at, value))

    def at(self, at: int) -> Any:
        """Return the value at the time `at`."""
        return next((value for since, value in reversed(self.changes) if since <= at), self.changes[0][1])

    @property
    def now(self) -> Any:
        """The last value."""
        return self.changes[-1][1]


@dataclass
class Block:
    """One approval: where a seat signs a document. `accepted` is the click, `signed` the confirmation."""

    optional: bool = False
    accepted: int | None = None
    signed: int | None = None
    fields: list[dict[str, str]] = field(default_factory=list)


@dataclass
class SeatTruth:
    """A role and its person or group. `blocks` maps documents to what the seat signs in each."""

    signer_id: str
    role_id: str
    order: int
    ids: tuple[str, ...]  # who may act: the signer or the role, or the members of a group, or a stranger
    members: tuple[str, ...] | None
    blocks: dict[str, list[Block]]
    locked: Timed
    finished: int | None = None
    reported_finished: bool = False

    @property
    def owes(self) -> bool:
        """Whether the seat has anything to sign."""
        return bool(self.blocks)

    @property
    def is_optional(self) -> bool:
        """Whether the seat need not sign anything."""
        return all(block.optional for blocks in self.blocks.values() for block in blocks)


@dataclass
class Happened:
    """One event at OneSpan. `who` is the `sessionUser` of its callback, `seat` the seat concerned."""

    at: int
    name: str
    who: str | None = None
    seat: str | None = None
    document: str | None = None

    @property
    def fact(self) -> Fact:
        """The fact that handlers must see once."""
        return self.name, self.seat, self.document


class Truth:
    """A package at OneSpan. `step` lets one random thing happen to it."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.happened: list[Happened] = []
        self.now = 0
        self.by_hand = dice.random() < 0.4
        self.documents = ["d1", "d2"][: dice.choice((1, 1, 2))]
        self.status = Timed([(0, "DRAFT")])
        self.updated = Timed([(0, 0)])
        self.trashed, self.deleted = Timed([(0, False)]), Timed([(0, False)])
        self.completed, self.due = Timed([(0, None)]), Timed([(0, DUE)])
        self.messages: list[tuple[int, str]] = []
        self.seats = self._seats()
        self._happen("PACKAGE_CREATE", SENDER)

    def _seats(self) -> list[SeatTruth]:
        dice, seats = self.dice, list[SeatTruth]()
        groups = dice.choice((0, 0, 1, 2))
        for number in range(dice.choice((1, 2, 2, 3))):
            is_group = number < groups
            signer, role = f"s{number}", f"s{number}" if dice.random() < 0.2 else f"r{number}"
            members = tuple(f"m{number}{letter}" for letter in "ab"[: dice.choice((0, 1, 2))])
            asked = dice.choice((self.documents, self.documents, self.documents[:1], []))
            blocks = {document: self._blocks() for document in asked}
            must_sign = any(not block.optional for of_document in blocks.values() for block in of_document)
            stranger = (f"x{number}",) * (must_sign and dice.random() < 0.3)  # else no snapshot shows the group
            ids = ((*members, *stranger) or (signer,)) if is_group else ()
            locked = Timed([(0, False)])
            order = dice.choice((1, number))
            seat = SeatTruth(signer, role, order, ids or (signer, role), members if is_group else None, blocks, locked)
            seats.append(seat)
        if not any(seat.owes and not seat.is_optional for seat in seats):
            seats[0].blocks = {self.documents[0]: [Block(fields=FIELDS[0])]}
        return seats

    def _blocks(self) -> list[Block]:
        optional = self.dice.random() < 0.15
        return [Block(optional, fields=self.dice.choice(FIELDS)) for _ in range(self.dice.choice((1, 1, 2)))]

    def _happen(
        self, name: str, who: str | None = None, *, seat: SeatTruth | None = None, document: str | None = None
    ) -> None:
        self.happened.append(Happened(self.now, name, who, seat.signer_id if seat else None, document))

    def _touch(self) -> None:
        """Date the change. OneSpan may date a callback up to a second after the package's `updated`."""
        self.updated.set(self.now, self.now - self.dice.choice((0, 0, 300, 900)))

    def _turn_to(self, status: str, name: str, who: str = SENDER, *, seat: SeatTruth | None = None) -> None:
        self.status.set(self.now, status)
        self._happen(name, who, seat=seat)
        self._touch()

    # What can happen

    def step(self, gap: int) -> None:
        """Let something happen, `gap` after the last step."""
        self.now += gap
        possible = list(self._possible())
        if possible:
            what, seat = self.dice.choice(possible)
            getattr(self, what)(*([seat] if seat else []))

    def _possible(self) -> Iterator[tuple[str, SeatTruth | None]]:
        """What can happen now, the usual more often."""
        status = self.status.now
        if self.deleted.now:
            yield from [("bring_back", None)] * (not self.trashed.now and status not in ("COMPLETED", "ARCHIVED"))
            return
        yield from (
            (what, None)
            for what in ("trash", "delete")
            if self.dice.random() < 0.15 and not (what == "trash" and self.trashed.now)
        )
        if self.trashed.now:
            yield "restore", None
            return
        match status:
            case "DRAFT" | "DECLINED":
                yield from [("activate", None)] * 4
            case "EXPIRED":
                yield "extend", None
            case "COMPLETED":
                yield "archive", None
            case "SENT":
                yield from self._possible_while_sent()

    def _possible_while_sent(self) -> Iterator[tuple[str, SeatTruth | None]]:
        open_seats = [seat for seat in self.seats if seat.owes and seat.finished is None]
        for seat in open_seats:
            yield from [("sign", seat)] * 4
            yield "click", seat
            yield from [("finish", seat)] * seat.is_optional
            yield "unlock" if seat.locked.now else "lock", seat
            if self.dice.random() < 0.3:
                yield "decline", seat
        if not open_seats and self.by_hand:
            yield from [("complete", None)] * 3
        if open_seats and self.dice.random() < 0.3:
            yield "deactivate", None
            yield "expire", None

    def activate(self) -> None:
        """The sender sends the package."""
        self._turn_to("SENT", "PACKAGE_ACTIVATE")

    def deactivate(self) -> None:
        """The sender takes the package back."""
        self._turn_to("DRAFT", "PACKAGE_DEACTIVATE")

    def expire(self) -> None:
        """The due date passes."""
        self._turn_to("EXPIRED", "PACKAGE_EXPIRE")

    def extend(self) -> None:
        """The sender extends an expired package, which has no event."""
        self.status.set(self.now, "DRAFT")
        self.due.set(self.now, DUE + self.now)
        self._touch()

    def archive(self) -> None:
        """The sender archives the package."""
        self._turn_to("ARCHIVED", "PACKAGE_ARCHIVE")

    def complete(self) -> None:
        """The package is complete."""
        self.completed.set(self.now, self.now)
        self._turn_to("COMPLETED", "PACKAGE_COMPLETE")

    def trash(self) -> None:
        """The sender moves the package to the trash, which does not change `updated`."""
        self.trashed.set(self.now, value=True)
        self._happen("PACKAGE_TRASH", SENDER)

    def restore(self) -> None:
        """The sender takes the package out of the trash."""
        self.trashed.set(self.now, value=False)
        self._happen("PACKAGE_RESTORE", SENDER)

    def delete(self) -> None:
        """The package is deleted for good."""
        self.deleted.set(self.now, value=True)
        self._happen("PACKAGE_DELETE", SENDER)

    def bring_back(self) -> None:
        """OneSpan's support brings a deleted package back, and it is sent again."""
        self.deleted.set(self.now, value=False)
        self._turn_to("SENT", "PACKAGE_ACTIVATE")

    def lock(self, seat: SeatTruth) -> None:
        """A signer fails to authenticate too often."""
        if seat.members is None:
            seat.locked.set(self.now, value=True)
            self._happen("SIGNER_LOCKED", self.dice.choice(seat.ids), seat=seat)

    def unlock(self, seat: SeatTruth) -> None:
        """The sender unlocks a signer, which has no event."""
        seat.locked.set(self.now, value=False)

    def click(self, seat: SeatTruth) -> None:
        """A signer clicks a block without confirming the document."""
        block = self.dice.choice([block for blocks in seat.blocks.values() for block in blocks])
        if not block.optional:  # in a complete package, OneSpan shows no difference between a click and a signature
            block.accepted = block.accepted or self.now
            self._touch()

    def sign(self, seat: SeatTruth) -> None:
        """A signer confirms the next document, and so perhaps finishes."""
        document = next((name for name, blocks in seat.blocks.items() if not blocks[0].signed), None)
        if document is None:
            return
        who = self.dice.choice(seat.ids)
        for block in seat.blocks[document]:
            block.accepted, block.signed = block.accepted or self.now, self.now
        seat.locked.set(self.now, value=False)
        self._happen("DOCUMENT_SIGNED", who, seat=seat, document=document)
        must = [blocks for blocks in seat.blocks.values() if seat.is_optional or not blocks[0].optional]
        if all(blocks[0].signed for blocks in must):
            self.finish(seat, who)
        self._touch()

    def finish(self, seat: SeatTruth, who: str | None = None) -> None:
        """A signer finishes, perhaps without an optional signature, and so perhaps completes the package."""
        who = who or self.dice.choice(seat.ids)
        seat.finished = self.now
        seat.locked.set(self.now, value=False)
        self._happen("SIGNER_COMPLETE", who, seat=seat)
        self._touch()
        if all(other.finished is not None for other in self.seats if other.owes):
            if self.by_hand:
                self._happen("PACKAGE_READY_FOR_COMPLETE", who)
            else:
                self.complete()

    def decline(self, seat: SeatTruth) -> None:
        """A signer declines, with a message to the sender."""
        groups = [other for other in self.seats if other.members is not None]
        known = [seat.signer_id] if len(groups) > 1 and seat.members is not None else seat.ids
        who = self.dice.choice(known)  # which of several groups a person declined for may not be known
        self.messages.append((self.now, who))
        seat.locked.set(self.now, value=False)
        self._turn_to("DECLINED", "PACKAGE_DECLINE", who, seat=seat)

    # What OneSpan shows

    def shown(self, at: int, *, lag: int = 0) -> dict[str, Any] | None:
        """Return the package as the API shows it at the time `at`; None if it answers 404.

        `lag` is how old the status and the signatures are. Trash, locks and deletions are never old.
        """
        if self.deleted.at(at):
            return None
        past, seen = max(0, at - lag), at
        return {
            "id": "p",
            "name": "Lease",
            "type": "PACKAGE",
            "status": self.status.at(past),
            "trashed": self.trashed.at(seen),
            "autocomplete": not self.by_hand,
            "created": text(0),
            "updated": text(self.updated.at(past)),
            "completed": text(self.completed.at(past)),
            "due": text(self.due.at(past)),
            "sender": {"id": SENDER, "firstName": "Cleo", "lastName": "Sends", "email": "cleo@example.com"},
            "roles": [self._role(seat, seen) for seat in self.seats],
            "documents": [
                {"id": name, "name": name, "index": index, "approvals": list(self._approvals(name, past))}
                for index, name in enumerate(self.documents)
            ],
            "messages": [
                {"created": text(written), "from": {"id": who}, "content": "no"}
                for written, who in self.messages
                if written <= past
            ],
        }

    def _role(self, seat: SeatTruth, at: int) -> dict[str, Any]:
        signer: dict[str, Any] = {"id": seat.signer_id, "firstName": seat.signer_id, "lastName": "Signs", "email": None}
        if seat.members is not None:
            signer["signerType"] = "GROUP_SIGNER"
            signer["group"] = {"name": seat.signer_id, "members": [{"userId": member} for member in seat.members]}
        return {
            "id": seat.role_id,
            "type": "SIGNER",
            "index": seat.order,
            "signers": [signer],
            "locked": seat.locked.at(at),
            "attachmentRequirements": [],
        }

    def _approvals(self, document: str, at: int) -> Iterator[dict[str, Any]]:
        for seat in self.seats:
            for block in seat.blocks.get(document, ()):
                yield {
                    "role": seat.role_id,
                    "optional": block.optional,
                    "accepted": text(block.accepted if block.accepted is not None and block.accepted <= at else None),
                    "signed": text(block.signed if block.signed is not None and block.signed <= at else None),
                    "fields": block.fields,
                }

    # What must come of it

    def facts(self) -> Counter[Fact]:
        """Count what happened."""
        return Counter(event.fact for event in self.happened)

    def seat_of(self, user_id: str | None) -> str | None:
        """Return the seat that an id means; None for the sender."""
        for seat in self.seats:
            if user_id in (seat.signer_id, seat.role_id, *seat.ids):
                return seat.signer_id
        return None
