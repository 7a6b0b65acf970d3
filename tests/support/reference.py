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

JSON = Mapping[str, Any]

SAME_FACT = timedelta(minutes=5)
AHEAD = timedelta(minutes=15)
STATUS_ORDER = ("DRAFT", "SENT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED")
ARKHINEO = {f"ARCHIVAL_{step}" for step in ("PENDING", "VALIDATING", "INTERVENTION_REQUIRED", "COMPLETED")}
# A package with one of these statuses asks for no signature.
CLOSED_STATUSES = {"DRAFT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED"} | ARKHINEO
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
# At the same instant events come before snapshots, because a snapshot shows the events up to its date.
EVENT, SNAPSHOT = 0, 1


def expected_package(
    callbacks: Iterable[tuple[JSON, datetime]], snapshots: Iterable[tuple[JSON, datetime]]
) -> dict[str, Any]:
    """Derive the expected package from callbacks with their arrival times and snapshots with their dates.

    The callbacks must be in order of arrival, which matters only for callbacks without a date.
    """
    shown = list(snapshots)
    facts: list[tuple[datetime, int, JSON]] = [
        *((happened_at, EVENT, body) for body, happened_at in distinct_facts(callbacks)),
        *((at, SNAPSHOT, package) for package, at in shown),
    ]
    model = ReferenceModel(shown)
    for at, source, body in sorted(facts, key=lambda fact: fact[:2]):
        model.set_time(at, source)
        model.apply_event(body) if source == EVENT else model.apply_snapshot(body)
    return model.expected()


def distinct_facts(callbacks: Iterable[tuple[JSON, datetime]]) -> list[tuple[JSON, datetime]]:
    """Every distinct fact that callbacks report, with the time when the fact happened."""
    facts: list[tuple[JSON, datetime]] = []
    known: list[tuple[str, datetime | None]] = []
    for body, received_at in callbacks:
        members = {name: value for name, value in body.items() if value not in (None, "") and name != "@class"}
        members["name"] = members["name"].replace("_FOR_COMPLETION", "_FOR_COMPLETE")
        happened_at = members.get("createdDate") and _time(members["createdDate"])
        members["createdDate"] = str(happened_at)
        content = json.dumps(members, sort_keys=True)
        when = None if happened_at else received_at
        if any(content == other and (when is None or abs(when - at) <= SAME_FACT) for other, at in known):
            continue
        known.append((content, when))
        believable = happened_at and happened_at <= received_at + AHEAD
        facts.append((members, happened_at if believable else received_at))
    return facts


class ReferenceModel:
    """The latest value of each attribute of each subject. A subject is `(kind, id)`."""

    def __init__(self, shown: list[tuple[JSON, datetime]]) -> None:
        self.values: dict[tuple[tuple[str, str], str], Any] = {}
        self.dates: dict[tuple[tuple[str, str], str], tuple[datetime, int]] = {}
        self.event_times: dict[tuple[tuple[str, str], str], datetime] = {}  # when an event last set each value
        self.kba_failures: dict[str, set[datetime]] = {}
        self.uploads: dict[str, set[str]] = {}
        self.mentioned: dict[str, datetime] = {}  # the time of the last event about each person
        self._assign_roles(shown)

    def _assign_roles(self, shown: list[tuple[JSON, datetime]]) -> None:
        """Find who has each role now or had it last. A role's id means its present person, else its last person."""
        seatings = [(at, _weight(_seats(package)), _seats(package)) for package, at in shown]
        self.read_at = max((at for at, *_ in seatings), default=None)
        self.seats: list[list[str]] = max(seatings)[2] if seatings else []
        self.seated_now = {signer_id for signer_id, _ in self.seats}
        last_role: dict[str, tuple[datetime, str]] = {}
        for package, at in shown:
            for role in _signing_roles(package):
                for signer in role["signers"]:
                    seat = (at, role["id"])
                    last_role[signer["id"]] = max(last_role.get(signer["id"], seat), seat)
        self.ever_seated = set(last_role)
        self.person_of_role = {
            role: signer_id
            for _, signer_id, role in sorted((at, signer_id, role) for signer_id, (at, role) in last_role.items())
        }
        self.person_of_role |= {role_id: signer_id for signer_id, role_id in reversed(self.seats)}

    def person(self, given_id: str) -> str:
        """The person for an id, which may be the id of a signer or of a role."""
        return (
            given_id if given_id in self.ever_seated | self.seated_now else self.person_of_role.get(given_id, given_id)
        )

    def set_time(self, at: datetime, source: int) -> None:
        """Set the time and the source of the values that are recorded next."""
        self.at, self.source = at, source

    def record(self, subject: tuple[str, str], **values: Any) -> None:
        """Record values. Of two values from the same instant and source, the value with more weight stays."""
        for name, value in values.items():
            place, date = (subject, name), (self.at, self.source)
            if self.source == EVENT:
                self.event_times[place] = self.at
            if self.dates.get(place) == date and _weight(self.values[place]) > _weight(value):
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
        self._apply_to_person(name, body, self.person(user) if user else None)
        if name == "DOCUMENT_SIGNED" and (document := body.get("documentId")):
            self.record(("document", document), named=True)
            self.record(("document", document), **{f"signed {self.person(user or '')}": self.at})

    def _apply_to_person(self, name: str, body: JSON, who: str | None) -> None:
        subject = ("person", who) if who else PACKAGE
        if who and (name in SIGNER_EVENTS or name in ("EMAIL_BOUNCE", "ROLE_REASSIGN")):
            self.mentioned[who] = self.at
        if who and name in SIGNER_EVENTS:
            self.record(subject, signs=True)
        self.record(subject, **EFFECTS.get(name, {}))
        message = body.get("message")
        match name:
            case "KBA_FAILURE":
                self.kba_failures.setdefault(who or "", set()).add(self.at)
            case "EMAIL_BOUNCE":
                self.record(subject, bounce=message or "UNKNOWN")
            case "PACKAGE_ATTACHMENT" if message:
                self.uploads.setdefault(who or "", set()).add(message)
            case "PACKAGE_DECLINE" | "PACKAGE_OPT_OUT":
                self.record(subject, reason=message)
            case "ROLE_REASSIGN":
                self._apply_to_successor(body.get("newRoleId"))
                self.record(subject, left=self.at)

    def _apply_to_successor(self, given_id: str | None) -> None:
        if given_id:
            self.record(("person", self.person(given_id)), signs=True, left=None)
            self.mentioned[self.person(given_id)] = self.at

    def apply_snapshot(self, shown: JSON) -> None:
        """Apply one snapshot to the model."""
        sender = shown["sender"]
        signing = [_has_signed(approvals) for role in shown["roles"] if (approvals := _approvals(shown, role["id"]))]
        self.record(
            PACKAGE,
            name=shown["name"],
            type=shown["type"],
            status=shown["status"],
            trashed=shown["trashed"],
            deleted=False,
            sender=sender["id"],
            sender_name=f"{sender['firstName']} {sender['lastName']}",
            created=_time(shown["created"]),
            updated=_time(shown["updated"]),
            due=_time(shown["due"]),
            completed=_time(shown["completed"]),
            ready=shown["status"] == "SENT" and not shown["autocomplete"] and bool(signing) and all(signing),
            documents=[document["id"] for document in shown["documents"]],
        )
        if not any(role["locked"] for role in _signing_roles(shown)):
            self.record(PACKAGE, locked=False)
        if signing and all(signing):
            self.record(PACKAGE, kba=False, bounce=None)
        for role in _signing_roles(shown):
            self._apply_role(shown, role)
            for signer in role["signers"] or [{"id": role["id"]}]:
                self._apply_ending(shown, self.person(signer["id"]))
        for document in shown["documents"]:
            self.record(("document", document["id"]), name=document["name"])

    def _apply_role(self, shown: JSON, role: JSON) -> None:
        approvals = _approvals(shown, role["id"])
        for signer in role["signers"] or [{"id": role["id"]}]:
            subject = ("person", self.person(signer["id"]))
            complete = bool(approvals) and _has_signed(approvals)
            if approvals:
                self.record(subject, complete=complete)
            self.record(subject, sent=shown["status"] != "DRAFT")
            self.record(subject, role=role["id"], order=role["index"], email=signer.get("email"))
            self.record(subject, name=f"{signer['firstName']} {signer['lastName']}" if "firstName" in signer else None)
            self.record(subject, locked=role["locked"])
            if complete:
                self.record(subject, kba=False, bounce=None)
            for requirement in role["attachmentRequirements"]:
                if requirement["status"] == "COMPLETE":
                    self.uploads.setdefault(subject[1], set()).add(requirement["name"])
            for document in shown["documents"]:
                if in_document := [approval for approval in document["approvals"] if approval["role"] == role["id"]]:
                    signed_at = (
                        max(filter(None, map(_signed_at, in_document)), default=None)
                        if _has_signed(in_document)
                        else None
                    )
                    self.record(("document", document["id"]), **{f"signed {subject[1]}": signed_at})

    def _apply_ending(self, shown: JSON, who: str) -> None:
        """Record that the person who wrote the newest message declined or opted out, and other people did not."""
        subject, how = ("person", who), {"DECLINED": "package_decline", "OPTED_OUT": "package_opt_out"}
        if shown["status"] not in how:
            self.record(subject, package_decline=False, package_opt_out=False)
        elif shown["messages"]:
            newest = max(shown["messages"], key=lambda message: message["created"])
            is_author = newest["from"]["id"] == who
            self.record(
                subject, **{how[shown["status"]]: is_author}, **({"reason": newest["content"]} if is_author else {})
            )

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
            "signers_total": sum(signer["status"] != "REASSIGNED" for signer in signers),
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
        return signer_id in self.mentioned and (self.read_at is None or self.mentioned[signer_id] > self.read_at)

    def _has_left(self, signer_id: str) -> bool:
        left = self.latest(("person", signer_id), "left")
        if signer_id in self.seated_now:
            return left is not None and left > self.read_at
        sent = self.latest(("person", signer_id), "sent")  # the sender may remove a signer from a draft
        return left is not None or (sent and self.latest(("person", signer_id), "role") in {r for _, r in self.seats})

    def _status(self, signer_id: str) -> str:
        subject = ("person", signer_id)
        if self._has_left(signer_id):
            return "REASSIGNED"
        if self.latest(subject, "complete"):
            return "COMPLETED"
        if self._has_ended_package(signer_id, "package_decline"):
            return "DECLINED"
        if self._has_ended_package(signer_id, "package_opt_out"):
            return "OPTED_OUT"
        return "LOCKED" if self.latest(subject, "locked") else "PENDING"

    def _has_ended_package(self, signer_id: str, how: str) -> bool:
        """Whether a person declined or opted out of the package, and the package was not sent again later."""
        place = (("person", signer_id), how)
        ended = self.latest(PACKAGE, "status") == STATUS_AFTER[how.upper()]
        return bool(ended and self.values.get(place) and self._since_the_last_step(place))

    def _since_the_last_step(self, place: tuple[tuple[str, str], str]) -> bool:
        date, _ = self.dates.get(place, (NEVER, EVENT))
        return date >= self.event_times.get((PACKAGE, "status"), NEVER)

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
                "locked": bool(self.latest(("person", signer_id), "locked")),
                "email_bounce": self.latest(("person", signer_id), "bounce"),
                "kba_failures": len(self.kba_failures.get(signer_id, ())),
                "attachments": sorted(self.uploads.get(signer_id, ())),
            }
            for signer_id in people
            if self._is_signer(signer_id)
        ]
        return sorted(signers, key=lambda signer: (signer["order"] is None, signer["order"], signer["id"]))

    def _documents(self) -> list[tuple[str, str | None, list[str]]]:
        shown = self.latest(PACKAGE, "documents") or []
        named = sorted(
            subject[1]
            for subject, name in self.values
            if name == "named" and (self.read_at is None or self.event_times[subject, name] > self.read_at)
        )
        return [
            (document_id, self.latest(("document", document_id), "name"), self._signed_by(document_id))
            for document_id in (*shown, *(document_id for document_id in named if document_id not in shown))
        ]

    def _signed_by(self, document: str) -> list[str]:
        signed = [
            (at, name.removeprefix("signed "))
            for (subject, name), at in self.values.items()
            if subject == ("document", document) and name.startswith("signed ") and at is not None
        ]
        return [signer_id for _, signer_id in sorted(signed) if signer_id]

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
        pending = [signer["id"] for signer in signers if signer["status"] in ("PENDING", "LOCKED")]
        open_ = [("READY_FOR_COMPLETION", None, None)] if self.latest(PACKAGE, "ready") else []
        open_ += self._problems(PACKAGE, None)
        for signer_id in pending:
            open_ += self._problems(("person", signer_id), signer_id)
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
        bounce = self.latest(subject, "bounce")
        return (
            [("SIGNER_LOCKED", who, None)] * bool(self.latest(subject, "locked"))
            + [("KBA_FAILURE", who, None)] * bool(self.latest(subject, "kba"))
            + [("EMAIL_BOUNCE", who, bounce)] * bool(bounce)
        )


def in_reference_form(package: Package) -> dict[str, Any]:
    """The service's package in the form of `ReferenceModel.expected`."""
    signer_fields = ("id", "role_id", "name", "email", "order", "status", "locked", "email_bounce", "kba_failures")
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
    )
    return {
        **{name: getattr(package, name) for name in (*package_fields, "read_at", "signers_total", "signers_completed")},
        "sender": (package.sender.id, package.sender.name),
        "signers": [
            {**{name: getattr(signer, name) for name in signer_fields}, "attachments": sorted(signer.attachments)}
            for signer in package.signers
        ],
        "next_signers": list(package.next_signers),
        "documents": [(document.id, document.name, list(document.signed_by)) for document in package.documents],
        "attention": sorted(((entry.reason, entry.who, entry.detail) for entry in package.attention), key=str),
    }


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _weight(value: Any) -> tuple[bool, int, str]:
    """The rank of a value in a tie: None is lowest, a later status is higher, other values compare as text."""
    step = STATUS_ORDER.index(value) if value in STATUS_ORDER else -1
    return value is not None, step, json.dumps(value, default=str)


def _signing_roles(shown: JSON) -> list[JSON]:
    return [role for role in shown["roles"] if role["type"] != "SENDER" or _approvals(shown, role["id"])]


def _seats(shown: JSON) -> list[list[str]]:
    return [
        [signer["id"], role["id"]]
        for role in _signing_roles(shown)
        for signer in role["signers"] or [{"id": role["id"]}]
    ]


def _approvals(shown: JSON, role_id: str) -> list[JSON]:
    return [
        approval for document in shown["documents"] for approval in document["approvals"] if approval["role"] == role_id
    ]


def _has_signed(approvals: list[JSON]) -> bool:
    """Whether all required approvals are signed or, if no approval is required, any approval is signed."""
    must = [approval for approval in approvals if not approval["optional"]]
    return all(map(_signed_at, must)) if must else any(map(_signed_at, approvals))


def _signed_at(approval: JSON) -> datetime | None:
    return _time(approval["signed"]) or _time(approval["accepted"])
