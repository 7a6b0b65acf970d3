"""A reference model: what a package must look like after a set of facts.

The model is a second, naive implementation that shares no code with the service. It sorts all facts by OneSpan's clock
and applies them one after another to a mutable `ReferenceModel`, whose final state is the expected package. The model
is slow, needs all facts at once, and does no merging.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from app.onespan.values import Package
from tests.support import reference_snapshots as read
from tests.support.reference_snapshots import COMPLETE_STATUSES, JSON

SAME_FACT = timedelta(minutes=5)
AHEAD = timedelta(minutes=15)
# A package with one of these statuses asks for no signature.
CLOSED_STATUSES = {"DRAFT", "EXPIRED", "DECLINED", "OPTED_OUT"} | COMPLETE_STATUSES
NEVER = datetime(1, 1, 1, tzinfo=UTC)
STATUS_AFTER = {
    "PACKAGE_CREATE": "DRAFT",
    "TEMPLATE_CREATE": "DRAFT",
    "PACKAGE_ACTIVATE": "SENT",
    "PACKAGE_DEACTIVATE": "DRAFT",
    "PACKAGE_COMPLETE": "COMPLETED",
    "PACKAGE_DECLINE": "DECLINED",
    "PACKAGE_OPT_OUT": "OPTED_OUT",
    "PACKAGE_EXPIRE": "EXPIRED",
    "PACKAGE_ARCHIVE": "ARCHIVED",
}
REACHABLE = {
    "locked": False,
    "bounce": None,
    "away": False,
    "kba": False,
}  # a person who signs or declines is reachable and not locked
EFFECTS = {
    "DOCUMENT_SIGNED": REACHABLE,
    "PACKAGE_ATTACHMENT": REACHABLE,
    "SIGNER_COMPLETE": {**REACHABLE, "complete": True},
    "SIGNER_LOCKED": {"locked": True},
    "KBA_FAILURE": {"kba": True},
    "PACKAGE_DECLINE": {**REACHABLE, "package_decline": True},
    "PACKAGE_OPT_OUT": {**REACHABLE, "package_opt_out": True},
}
SIGNER_EVENTS = set(EFFECTS)
# Only a package that exists can have these events, so they end a deletion.
LIVING_EVENTS = (
    {*STATUS_AFTER, *SIGNER_EVENTS, "PACKAGE_READY_FOR_COMPLETE", "PACKAGE_TRASH", "PACKAGE_RESTORE"}
    | {"ROLE_REASSIGN", "DOCUMENT_VIEWED", "COBROWSE_REQUEST"}
) - {"PACKAGE_CREATE", "TEMPLATE_CREATE"}
PACKAGE = ("package", "")
# What a member of a group does in the name of the group; all else concerns the member, if the member has a seat.
FOR_THE_GROUP = {"complete", "package_decline", "package_opt_out", "reason"}
# At the same instant events come before snapshots, because a snapshot shows the events up to its date.
EVENT, SNAPSHOT = 0, 1


def expected_package(
    callbacks: Iterable[tuple[JSON, datetime]],
    snapshots: Iterable[tuple[JSON, datetime]],
    *,
    offset: timedelta = timedelta(0),
) -> dict[str, Any]:
    """Derive the expected package from callbacks with their arrival times and snapshots with their dates.

    The callbacks must be in order of arrival, which matters only for callbacks without a date. OneSpan's clock is ahead
    of the arrival times by `offset`.
    """
    shown = list(snapshots)
    facts: list[tuple[datetime, int, str, JSON]] = [
        *((happened_at, EVENT, "apply_event", body) for body, happened_at in distinct_facts(callbacks, offset=offset)),
        *((read.settled(package, at), SNAPSHOT, "apply_what_may_lag", package) for package, at in shown),
        *((at, SNAPSHOT, "apply_snapshot", package) for package, at in shown),
    ]
    facts.sort(key=lambda fact: fact[:2])
    literal = _applied(ReferenceModel(shown), facts)
    return _applied(ReferenceModel(shown, literal), facts).expected()


def _applied(model: "ReferenceModel", facts: Iterable[tuple[datetime, int, str, JSON]]) -> "ReferenceModel":
    for at, source, how, body in facts:
        model.set_time(at, source)
        getattr(model, how)(body)
    return model


def distinct_facts(
    callbacks: Iterable[tuple[JSON, datetime]], *, offset: timedelta = timedelta(0)
) -> list[tuple[JSON, datetime]]:
    """Every distinct fact that callbacks report, with the time when the fact happened at OneSpan."""
    facts: list[tuple[JSON, datetime]] = []
    known: list[tuple[str, datetime | None]] = []
    for body, received_at in callbacks:
        members = {name: value for name, value in body.items() if value not in (None, "") and name != "@class"}
        members["name"] = members["name"].replace("_FOR_COMPLETION", "_FOR_COMPLETE")
        happened_at = members.get("createdDate") and read.time(members["createdDate"])
        members["createdDate"] = str(happened_at)
        content = json.dumps(members, sort_keys=True)
        when = None if happened_at else received_at
        if any(content == other and (when is None or abs(when - at) <= SAME_FACT) for other, at in known):
            continue
        known.append((content, when))
        believable = happened_at and happened_at <= received_at + offset + AHEAD
        facts.append((members, happened_at if believable else received_at + offset))
    return facts


class ReferenceModel:
    """The latest value of each attribute of each subject. A subject is `(kind, id)`.

    `literal` is a model of the same facts in which each id means itself. Without it, this model is the literal one.
    """

    def __init__(self, shown: list[tuple[JSON, datetime]], literal: "ReferenceModel | None" = None) -> None:
        self.literal = literal
        self.values: dict[tuple[tuple[str, str], str], Any] = {}
        self.dates: dict[tuple[tuple[str, str], str], tuple[datetime, int]] = {}
        self.event_times: dict[tuple[tuple[str, str], str], datetime] = {}  # when an event last set each value
        self.kba_failures: dict[str, set[datetime]] = {}
        self.uploads: dict[str, set[str]] = {}
        self.mentioned: dict[str, datetime] = {}  # the time of the last event about each person
        self.replaced: set[str] = set()  # who gave a role to another person, or got it
        self.addresses: dict[tuple[str, str], datetime] = {}  # when each address of a person was first shown
        self._assign_roles(shown)
        self.now_seated = literal.seated() if literal else []
        self.members = frozenset[str]().union(*(seat.members or () for seat in self.now_seated))
        self.has_groups = any(seat.members is not None for seat in self.now_seated)

    def _assign_roles(self, shown: list[tuple[JSON, datetime]]) -> None:
        """Find who has each role now or had it last. A role's id means its present person, else its last person."""
        seatings = [(at, read.weight(read.seats(package)), read.seats(package)) for package, at in shown]
        self.read_at = max((at for at, *_ in seatings), default=None)
        self.seats: list[list[str]] = max(seatings)[2] if seatings else []
        self.seated_now = {signer_id for signer_id, _ in self.seats}
        self.ever_shown = {signer_id for _, _, seats in seatings for signer_id, _ in seats}
        last_role: dict[str, tuple[datetime, str]] = {}
        for package, at in shown:
            for role in read.signing_roles(package):
                for signer in role["signers"]:
                    seat = (at, role["id"])
                    last_role[signer["id"]] = max(last_role.get(signer["id"], seat), seat)
        self.ever_seated = set(last_role)
        self.person_of_role = {
            role: signer_id
            for _, signer_id, role in sorted((at, signer_id, role) for signer_id, (at, role) in last_role.items())
        }
        self.person_of_role |= {role_id: signer_id for signer_id, role_id in reversed(self.seats)}

    def seated(self) -> list[read.Seat]:
        """The seats of the newest snapshot, as they are known in the end."""
        documents = {subject[1] for subject, name in self.values if name == "asked"}
        return [
            read.Seat(
                signer_id,
                role_id,
                owes=self.latest(("person", signer_id), "owes") is not False,
                documents={
                    document: self.latest(("document", document), f"shown {signer_id}")
                    for document in documents
                    if signer_id in dict(self.latest(("document", document), "asked"))
                },
                completed_at=self.latest(("person", signer_id), "complete_at")
                if self.latest(("person", signer_id), "complete")
                and not self.latest(("person", signer_id), "has_disabled")
                else None,
                members=None if members is None else frozenset(members),
            )
            for signer_id, role_id in self.seats
            for members in (self.latest(("person", signer_id), "members"),)
        ]

    def person(self, given_id: str) -> str:
        """The person or group for an id in an event: the signer's, the role's, or that of a member of a group."""
        if self.literal is None:
            return given_id
        finished = (("person", given_id), "complete")
        acted = self.literal.dates.get(finished) or self.literal.dates.get((("person", given_id), "signs"))
        return self._meant(given_id, None, acted[0] if acted else None, may_be_member=bool(acted))

    def signer_of(self, given_id: str, document: str) -> str:
        """The person or group that an id signed a document for."""
        if self.literal is None:
            return given_id
        at = self.literal.latest(("document", document), f"signed {given_id}")
        return self._meant(given_id, document, at, may_be_member=True)

    def _meant(self, given_id: str, document: str | None, at: datetime | None, *, may_be_member: bool) -> str:
        assert self.literal
        itself = self._itself(given_id)
        if itself in self.members:
            if self._was_asked(itself, document):
                return itself
        elif not may_be_member or not given_id or given_id in self.literal.replaced or not self._is_unknown(given_id):
            return itself
        seat = read.meant(self.now_seated, given_id, document, at)
        return seat.id if seat else itself

    def _itself(self, given_id: str) -> str:
        """The person for the id of a person or role, whatever the person may do for a group."""
        if self.literal is None or given_id in self.ever_seated:
            return given_id
        return self.person_of_role.get(given_id, given_id)

    def _is_stranger(self, given_id: str) -> bool:
        known = self.members | (self.literal.replaced if self.literal else set())
        return self.has_groups and given_id not in known and self._is_unknown(given_id)

    def _is_unknown(self, given_id: str) -> bool:
        """Whether no snapshot shows this id as that of a person or role."""
        return given_id not in self.ever_shown | set(self.person_of_role)

    def _was_asked(self, who: str, document: str | None) -> bool:
        """Whether a person who has no seat any more was asked by a seat to sign, or to sign this document."""
        assert self.literal
        if who in self.seated_now:
            return False
        if document is None:
            return who in self.ever_seated and self.literal.latest(("person", who), "owes") is not False
        return (("document", document), f"begun {who}") in self.literal.values

    def set_time(self, at: datetime, source: int) -> None:
        """Set the time and the source of the values that are recorded next."""
        self.at, self.source = at, source

    def record(self, subject: tuple[str, str], **values: Any) -> None:
        """Record values. Of two values from the same instant and source, the value with more weight stays."""
        for name, value in values.items():
            place, date = (subject, name), (self.at, self.source)
            if self.source == EVENT:
                self.event_times[place] = self.at
            if self.dates.get(place) == date and read.weight(self.values[place]) > read.weight(value):
                continue
            self.values[place], self.dates[place] = value, date

    def latest(self, subject: tuple[str, str], name: str) -> Any:
        """The latest value of an attribute of a subject."""
        return self.values.get((subject, name))

    def apply_event(self, body: JSON) -> None:
        """Apply one event to the model."""
        name, user = body["name"], body.get("sessionUser")
        self.record(PACKAGE, last_event_at=self.at)
        if name in STATUS_AFTER:
            self.record(PACKAGE, status=STATUS_AFTER[name], ready=False)
        if name in LIVING_EVENTS:
            self.record(PACKAGE, deleted=False)
        match name:
            case "PACKAGE_CREATE" | "TEMPLATE_CREATE":
                self.record(PACKAGE, type=name.partition("_")[0], created=self.at)
                self.record(PACKAGE, **({"sender": user} if user else {}))
            case "PACKAGE_READY_FOR_COMPLETE":
                self.record(PACKAGE, ready=True)
            case "PACKAGE_COMPLETE":
                self.record(PACKAGE, completed=self.at)
            case "PACKAGE_TRASH" | "PACKAGE_RESTORE":
                self.record(PACKAGE, trashed=name == "PACKAGE_TRASH")
            case "PACKAGE_DELETE":
                self.record(PACKAGE, deleted=True)
            case "PACKAGE_ACTIVATE":
                self.record(PACKAGE, sent=True)
        self._apply_to_person(name, body, user)
        if name == "DOCUMENT_SIGNED" and (document := body.get("documentId")):
            self.record(("document", document), named=True)
            self.record(("document", document), **{f"signed {self.signer_of(user or '', document)}": self.at})

    def _apply_to_person(self, name: str, body: JSON, user: str | None) -> None:
        """Apply an event to a person, and to the group if the person acts for one."""
        acts_for = self.person(user) if user else None
        itself = self._itself(user) if user else None
        who = itself if itself in self.ever_seated and acts_for in self._groups() else acts_for
        subject, group = (("person", who), ("person", acts_for)) if who and acts_for else (PACKAGE, PACKAGE)
        if who and (name in SIGNER_EVENTS or name in ("EMAIL_BOUNCE", "ROLE_REASSIGN")):
            self.mentioned[who] = self.at
        if who and name in SIGNER_EVENTS:
            self.record(subject, signs=True)
        for effect, value in EFFECTS.get(name, {}).items():
            self.record(group if effect in FOR_THE_GROUP else subject, **{effect: value})
        message = body.get("message")
        match name:
            case "KBA_FAILURE":
                self.kba_failures.setdefault(who or "", set()).add(self.at)
            case "EMAIL_BOUNCE" if message == "OOTO":
                self.record(subject, away=True)
            case "EMAIL_BOUNCE":
                self.record(subject, bounce=message or "UNKNOWN")
            case "PACKAGE_ATTACHMENT" if message:
                self.uploads.setdefault(group[1], set()).add(message)
                self.record(group, **{f"uploaded {message}": True})
            case "PACKAGE_DECLINE" | "PACKAGE_OPT_OUT":
                self.record(group, reason=message)
            case "ROLE_REASSIGN":
                self._apply_to_successor(body.get("newRoleId"))
                self.record(subject, left=self.at)
                self.replaced |= {user or ""}

    def _groups(self) -> set[str]:
        return {seat.id for seat in self.now_seated if seat.members is not None}

    def _apply_to_successor(self, given_id: str | None) -> None:
        if given_id:
            self.record(("person", self.person(given_id)), signs=True, left=None)
            self.mentioned[self.person(given_id)] = self.at
            self.replaced.add(given_id)

    def apply_what_may_lag(self, shown: JSON) -> None:
        """Apply what a snapshot may show as it was before an event: the status, and signatures that are not there."""
        ready = read.is_ready(shown)
        self.record(PACKAGE, status=shown["status"], **({} if ready is None else {"ready": ready}))
        self.record(PACKAGE, **({} if shown["completed"] else {"completed": None}))
        for role in read.signing_roles(shown):
            approvals = read.approvals(shown, role["id"])
            begun = read.begun_at(approvals)
            for signer in role["signers"] or [{"id": role["id"]}]:
                who = self._holder(role, signer)
                subject = ("person", who)
                if read.is_complete(shown, role["id"]) is False:
                    self.record(subject, complete=False, complete_at=None)
                if read.owes(shown, role["id"]) is not None and not begun:
                    self.record(subject, begun=None)
                self._apply_ending(shown, signer["id"], who, has_ended=False)
                for document in shown["documents"]:
                    in_document = read.approvals({**shown, "documents": [document]}, role["id"])
                    if in_document and not read.begun_at(in_document):
                        self.record(("document", document["id"]), **{f"begun {signer['id']}": None})
                    if read.is_unsigned(shown, in_document):
                        self.record(("document", document["id"]), **{f"signed {who}": None, f"shown {who}": None})

    def apply_snapshot(self, shown: JSON) -> None:
        """Apply all else that a snapshot shows."""
        sender = shown["sender"]
        self.record(
            PACKAGE,
            name=shown["name"],
            type=shown["type"],
            trashed=shown["trashed"],
            deleted=False,
            sender=sender["id"],
            sender_name=f"{sender['firstName']} {sender['lastName']}",
            created=read.time(shown["created"]),
            updated=read.time(shown["updated"]),
            due=read.time(shown["due"]),
            description=shown["description"] or None,
            data=shown.get("data") or None,
            documents=[document["id"] for document in sorted(shown["documents"], key=lambda item: item["index"])],
        )
        if shown["completed"]:
            self.record(PACKAGE, completed=read.time(shown["completed"]))
        if not any(role["locked"] for role in read.signing_roles(shown)):
            self.record(PACKAGE, locked=False)
        if read.have_all_signed(shown):
            self.record(PACKAGE, kba=False, bounce=None, away=False)
        for role in read.signing_roles(shown):
            for signer in role["signers"] or [{"id": role["id"]}]:
                self._apply_signer(shown, role, signer)
        for document in shown["documents"]:
            self._apply_document(shown, document)

    def _apply_signer(self, shown: JSON, role: JSON, signer: JSON) -> None:
        who, approvals = self._holder(role, signer), read.approvals(shown, role["id"])
        subject = ("person", who)
        group = signer.get("group")
        email = None if "@adhoc.groups." in (signer.get("email") or "") else signer.get("email")
        name = f"{signer['firstName']} {signer['lastName']}" if "firstName" in signer else None
        members = [member["userId"] for member in group["members"]] if group else None
        self.record(subject, sent=shown["status"] != "DRAFT", role=role["id"], order=role["index"], email=email)
        self.record(subject, name=group["name"] if group else name, members=members, locked=role["locked"])
        self.addresses[who, email or ""] = min(self.addresses.get((who, email or ""), self.at), self.at)
        if (owes := read.owes(shown, role["id"])) is not None:
            self.record(subject, owes=owes, **({"begun": begun} if (begun := read.begun_at(approvals)) else {}))
        if read.is_complete(shown, role["id"]):
            self.record(subject, complete=True, complete_at=max(read.signatures(shown, approvals), default=None))
            self.record(subject, kba=False, bounce=None, away=False)
            self.record(subject, has_disabled=read.has_disabled(shown, role["id"]))
        requirements = role["attachmentRequirements"]
        self.uploads.setdefault(who, set()).update(
            requirement["name"] for requirement in requirements if requirement["status"] == "COMPLETE"
        )
        self.record(subject, lacks=read.lacking(requirements))
        self._apply_ending(shown, signer["id"], who, has_ended=True)

    def _apply_document(self, shown: JSON, document: JSON) -> None:
        subject, asked = ("document", document["id"]), []
        for role in read.signing_roles(shown):
            in_document = read.approvals({**shown, "documents": [document]}, role["id"])
            for signer in (role["signers"] or [{"id": role["id"]}]) if in_document else ():
                asked.append([signer["id"], any(not approval["optional"] for approval in in_document)])
                if begun := read.begun_at(in_document):
                    self.record(subject, **{f"begun {signer['id']}": begun})
                if signed := read.signed_at(shown, in_document):
                    who = self._holder(role, signer)
                    self.record(subject, **{f"signed {who}": signed, f"shown {who}": signed})
        self.record(subject, name=document["name"], asked=asked)

    def _holder(self, role: JSON, signer: JSON) -> str:
        """The person in a role. What is shown of an empty role counts for the person who has it now."""
        return signer["id"] if role["signers"] else self._itself(role["id"])

    def _apply_ending(self, shown: JSON, seat_id: str, who: str, *, has_ended: bool) -> None:
        """Record that the person who wrote the newest message declined or opted out, and other people did not."""
        subject, how = ("person", who), {"DECLINED": "package_decline", "OPTED_OUT": "package_opt_out"}
        if shown["status"] not in how:
            self.record(subject, **({} if has_ended else {"package_decline": False, "package_opt_out": False}))
        elif shown["messages"]:
            newest = max(shown["messages"], key=lambda message: message["created"])
            author = newest["from"]["id"]
            seat = read.meant(read.seats_in(shown), author, at=read.time(newest["created"]))
            is_author = seat_id == (seat.id if seat else author)
            if is_author == has_ended:
                self.record(subject, **{how[shown["status"]]: is_author})
            if is_author and has_ended:
                self.record(subject, reason=newest["content"])

    def expected(self) -> dict[str, Any]:
        """Return the expected package as a dictionary."""
        signers = self._signers()
        waiting = [
            signer for signer in signers if signer["status"] in ("PENDING", "LOCKED") and signer["order"] is not None
        ]
        active = self._is_active()
        first = min((signer["order"] for signer in waiting), default=None)
        return {
            "name": self.latest(PACKAGE, "name"),
            "type": self.latest(PACKAGE, "type"),
            "status": self.latest(PACKAGE, "status"),
            "trashed": bool(self.latest(PACKAGE, "trashed")),
            "deleted": bool(self.latest(PACKAGE, "deleted")),
            "sender": (self.latest(PACKAGE, "sender"), self.latest(PACKAGE, "sender_name")),
            "created_at": self.latest(PACKAGE, "created"),
            "completed_at": self.latest(PACKAGE, "completed"),
            "due_at": self.latest(PACKAGE, "due"),
            "last_event_at": self.latest(PACKAGE, "last_event_at"),
            "read_at": self.read_at,
            "signers": signers,
            "description": self.latest(PACKAGE, "description"),
            "data": self.latest(PACKAGE, "data"),
            "signers_total": sum(signer["owes"] for signer in signers),
            "signers_completed": sum(signer["status"] == "COMPLETED" for signer in signers),
            "next_signers": [signer["id"] for signer in waiting if active and signer["order"] == first],
            "documents": self._documents(),
            "attention": self._attention(signers),
        }

    def _is_active(self) -> bool:
        closed = self.latest(PACKAGE, "trashed") or self.latest(PACKAGE, "deleted")
        return self.latest(PACKAGE, "status") not in CLOSED_STATUSES and not closed

    def _is_signer(self, signer_id: str) -> bool:
        """Whether a person is in the newest snapshot, was reassigned, or signs according to later events."""
        if signer_id in self.seated_now:
            return True
        if signer_id in self.ever_seated:
            return self._has_left(signer_id)
        if not self.latest(("person", signer_id), "signs") and signer_id == self.latest(PACKAGE, "sender"):
            return False
        if signer_id in self.mentioned and self.latest(("person", signer_id), "left") is not None:
            return True
        if signer_id not in self.mentioned or self.read_at is None:
            return signer_id in self.mentioned
        return self.mentioned[signer_id] > self.read_at and not self.has_groups  # else it may be a member of a group

    def _has_left(self, signer_id: str) -> bool:
        left = self.latest(("person", signer_id), "left")
        if signer_id in self.seated_now:
            return left is not None and left > self.read_at
        sent = self.latest(("person", signer_id), "sent")  # the sender may remove a signer from a draft
        return left is not None or (sent and self.latest(("person", signer_id), "role") in {r for _, r in self.seats})

    def _status(self, signer_id: str) -> str | None:
        subject = ("person", signer_id)
        is_over = self.latest(PACKAGE, "status") in COMPLETE_STATUSES or self.latest(PACKAGE, "ready")
        # A reassignment names the new role before a snapshot shows whether the role signs.
        is_known = self.latest(subject, "owes") is True or (subject, "left") not in self.values
        statuses = {
            "REASSIGNED": self._has_left(signer_id),
            None: self.latest(subject, "owes") is False,
            "COMPLETED": self.latest(subject, "complete"),
            "DECLINED": self._has_ended_package(signer_id, "package_decline"),
            "OPTED_OUT": self._has_ended_package(signer_id, "package_opt_out"),
        }
        waits = "LOCKED" if self.latest(subject, "locked") else "PENDING"
        otherwise = ("COMPLETED" if is_known else None) if is_over else waits
        return next((status for status, applies in statuses.items() if applies), otherwise)

    def _has_ended_package(self, signer_id: str, how: str) -> bool:
        """Whether a person declined or opted out of the package, and the package was not sent again later."""
        place, status = (("person", signer_id), how), self.latest(PACKAGE, "status")
        if not self.values.get(place):
            return False
        if status in COMPLETE_STATUSES:
            return self.dates[place][0] >= self.event_times.get((PACKAGE, "sent"), NEVER)
        return status == STATUS_AFTER[how.upper()] and self._since_the_last_step(place)

    def _since_the_last_step(self, place: tuple[tuple[str, str], str]) -> bool:
        date, _ = self.dates.get(place, (NEVER, EVENT))
        return date >= self.event_times.get((PACKAGE, "status"), NEVER)

    def _bounce(self, subject: tuple[str, str]) -> str | None:
        """The kind of bounce, unless OneSpan first showed the person's present address after it."""
        bounce, address = self.latest(subject, "bounce"), self.latest(subject, "email")
        return None if bounce and self._is_corrected(subject, "bounce", address) else bounce

    def _is_away(self, subject: tuple[str, str]) -> bool:
        is_away, address = self.latest(subject, "away"), self.latest(subject, "email")
        return bool(is_away) and not self._is_corrected(subject, "away", address)

    def _is_corrected(self, subject: tuple[str, str], name: str, address: str | None) -> bool:
        shown = [who for who, _ in self.addresses if who == subject[1]]
        if len(shown) < 2:
            return False
        return self.addresses[subject[1], address or ""] > self.dates[subject, name][0]

    def _begun(self, signer_id: str) -> datetime | None:
        signed = [at for (_, name), at in self.values.items() if name == f"signed {signer_id}"]
        return min(filter(None, (self.latest(("person", signer_id), "begun"), *signed)), default=None)

    def _signers(self) -> list[dict[str, Any]]:
        people = self.seated_now | self.ever_seated | set(self.mentioned)
        signers = [
            {
                "id": signer_id,
                "role_id": self.latest(("person", signer_id), "role"),
                "name": self.latest(("person", signer_id), "name"),
                "email": self.latest(("person", signer_id), "email"),
                "order": self.latest(("person", signer_id), "order"),
                "status": self._status(signer_id),
                "owes": self._status(signer_id) not in (None, "REASSIGNED"),
                "begun_at": self._begun(signer_id),
                "members": sorted(self.latest(("person", signer_id), "members") or ()),
                "locked": bool(self.latest(("person", signer_id), "locked")),
                "email_bounce": self._bounce(("person", signer_id))
                or ("OOTO" if self._is_away(("person", signer_id)) else None),
                "kba_failures": len(self.kba_failures.get(signer_id, ())),
                "attachments": sorted(self.uploads.get(signer_id, ())),
            }
            for signer_id in people
            if self._is_signer(signer_id)
        ]
        return sorted(signers, key=lambda signer: (signer["order"] is None, signer["order"], signer["id"]))

    def _documents(self) -> list[tuple[str, str | None, list[str], list[tuple[object, ...]]]]:
        shown = self.latest(PACKAGE, "documents") or []
        named = sorted(
            subject[1]
            for subject, name in self.values
            if name == "named" and (self.read_at is None or self.event_times[subject, name] > self.read_at)
        )
        return [
            (
                document_id,
                self.latest(("document", document_id), "name"),
                self._signed_by(document_id),
                self._signatures(document_id),
            )
            for document_id in (*shown, *(document_id for document_id in named if document_id not in shown))
        ]

    def _signatures(self, document: str) -> list[tuple[object, ...]]:
        """Who is asked to sign a document, how far each is, since when, and whether it is required."""
        asked, signed = dict(self.latest(("document", document), "asked") or ()), self._signed_by(document)
        rows: list[tuple[object, ...]] = []
        for signer_id in sorted({*asked, *signed}):
            at = self.latest(("document", document), f"signed {signer_id}")
            begun = self.latest(("document", document), f"begun {signer_id}")
            state = "SIGNED" if at else "BEGUN" if begun else "OPEN"
            rows.append((signer_id, state, at or begun, asked.get(signer_id, True)))
        return rows

    def _signed_by(self, document: str) -> list[str]:
        signed = [
            (at, name.removeprefix("signed "))
            for (subject, name), at in self.values.items()
            if subject == ("document", document) and name.startswith("signed ") and at is not None
        ]
        # A stranger may be a member of some group: the seat is not known.
        return [signer_id for _, signer_id in sorted(signed) if signer_id and not self._is_stranger(signer_id)]

    def _attention(self, signers: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
        status = self.latest(PACKAGE, "status")
        if self.latest(PACKAGE, "trashed") or self.latest(PACKAGE, "deleted"):
            return []
        if status == "DECLINED":
            return [("DECLINED", *self._decliner())]
        if status == "EXPIRED":
            return [("EXPIRED", None, None)]
        if not self._is_active():
            return []
        pending = [signer["id"] for signer in signers if signer["status"] in (None, "PENDING", "LOCKED")]
        open_ = [("READY_FOR_COMPLETION", None, None)] if self.latest(PACKAGE, "ready") else []
        open_ += self._problems(PACKAGE, None)
        for signer_id in pending:
            open_ += self._problems(("person", signer_id), signer_id)
        for signer in signers:
            open_ += self._attachments(signer) if signer["status"] != "REASSIGNED" else []
        for signer_id in self.mentioned:  # a person in no snapshot who does not sign, usually the sender
            bounce = self.latest(("person", signer_id), "bounce")
            if bounce and signer_id not in self.ever_seated and not self._is_signer(signer_id):
                open_.append(("EMAIL_BOUNCE", None, f"{bounce} ({signer_id})"))
        return sorted(open_, key=str)

    def _decliner(self) -> tuple[str | None, str | None]:
        people = {who for (_, who), name in self.values if name == "package_decline" and who}
        declined = [
            (self.dates[("person", signer_id), "package_decline"][0], signer_id)
            for signer_id in people
            if self._has_ended_package(signer_id, "package_decline")
        ]
        who = max(declined)[1] if declined else None
        subject = ("person", who) if who else PACKAGE
        return who, self.latest(subject, "reason") if self._since_the_last_step((subject, "reason")) else None

    def _problems(self, subject: tuple[str, str], who: str | None) -> list[tuple[str, str | None, str | None]]:
        bounce = self._bounce(subject)
        return (
            [("SIGNER_LOCKED", who, None)] * bool(self.latest(subject, "locked"))
            + [("KBA_FAILURE", who, None)] * bool(self.latest(subject, "kba"))
            + [("EMAIL_BOUNCE", who, bounce)] * bool(bounce)
            + [("OUT_OF_OFFICE", who, None)] * (self._is_away(subject) and not bounce)
        )

    def _attachments(self, signer: Mapping[str, Any]) -> list[tuple[str, str | None, str | None]]:
        """The rejected attachments, and the missing ones of a signer who has signed, unless uploaded since."""
        subject = ("person", signer["id"])
        shown_at = self.dates.get((subject, "lacks"), (NEVER, SNAPSHOT))[0]
        return [
            (f"ATTACHMENT_{lack}", signer["id"], name)
            for name, lack in (self.latest(subject, "lacks") or {}).items()
            if lack == "REJECTED" or signer["status"] == "COMPLETED"
            if self.event_times.get((subject, f"uploaded {name}"), NEVER) <= shown_at
        ]


def in_reference_form(package: Package) -> dict[str, Any]:
    """The service's package in the form of `ReferenceModel.expected`."""
    signer_fields = (
        *("id", "role_id", "name", "email", "order", "status", "locked", "email_bounce", "kba_failures"),
        *("owes", "begun_at"),
    )
    package_fields = (
        "name",
        "type",
        "status",
        "trashed",
        "deleted",
        "created_at",
        "completed_at",
        "due_at",
        "last_event_at",
        "description",
        "data",
    )
    return {
        **{name: getattr(package, name) for name in (*package_fields, "read_at", "signers_total", "signers_completed")},
        "sender": (package.sender.id, package.sender.name),
        "signers": [
            {
                **{name: getattr(signer, name) for name in signer_fields},
                "attachments": sorted(signer.attachments),
                "members": sorted(signer.group.members if signer.group else ()),
            }
            for signer in package.signers
        ],
        "next_signers": list(package.next_signers),
        "documents": [
            (
                document.id,
                document.name,
                list(document.signed_by),
                [
                    (signature.signer_id, signature.state, signature.at, signature.required)
                    for signature in document.signatures
                ],
            )
            for document in package.documents
        ],
        "attention": sorted(((entry.reason, entry.who, entry.detail) for entry in package.attention), key=str),
    }
