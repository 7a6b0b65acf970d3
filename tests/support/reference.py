"""What a package must look like after a set of facts, told the long way round.

A second, naive reading of the same words, to hold the service against. It shares no code with it: all facts are
put in the order of OneSpan's clock and told, one after another, to a plain changeable `Story`; what it then says
is the expected picture. It is slow, it wants all facts at once, and it knows nothing of merging.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from app.onespan.values import Package

JSON = Mapping[str, Any]

SAME_FACT = timedelta(minutes=5)
AHEAD = timedelta(minutes=15)
LIFE = ("DRAFT", "SENT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED")
ARKHINEO = {f"ARCHIVAL_{step}" for step in ("PENDING", "VALIDATING", "INTERVENTION_REQUIRED", "COMPLETED")}
AT_REST = {"DRAFT", "EXPIRED", "DECLINED", "OPTED_OUT", "COMPLETED", "ARCHIVED"} | ARKHINEO  # nobody is asked to sign
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
STEPS = {
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
HERE = {"locked": False, "bounce": None, "kba": False}  # who signs or declines is there, and nothing keeps them from it
HEARD = {
    "DOCUMENT_SIGNED": HERE,
    "PACKAGE_ATTACHMENT": HERE,
    "SIGNER_COMPLETE": {**HERE, "complete": True},
    "SIGNER_LOCKED": {"locked": True},
    "KBA_FAILURE": {"kba": True},
    "PACKAGE_DECLINE": {**HERE, "package_decline": True},
    "PACKAGE_OPT_OUT": {**HERE, "package_opt_out": True},
}
BY_SIGNER = set(HEARD)
PACKAGE = ("package", "")
EVENT, SNAPSHOT = 0, 1  # of one instant: a snapshot is dated so that it has seen what events told


def believe(callbacks: Iterable[tuple[JSON, datetime]], snapshots: Iterable[tuple[JSON, datetime]]) -> dict[str, Any]:
    """The picture of one package, from callbacks with their arrival and snapshots with their date.

    Callbacks are given in the order of their arrival; it matters to those without a date only.
    """
    shown = list(snapshots)
    facts: list[tuple[datetime, int, JSON]] = [
        *((happened_at, EVENT, body) for body, happened_at in each_once(callbacks)),
        *((at, SNAPSHOT, package) for package, at in shown),
    ]
    story = Story(shown)
    for at, witness, what in sorted(facts, key=lambda fact: fact[:2]):
        story.turn_to(at, witness)
        story.hear(what) if witness == EVENT else story.look(what)
    return story.picture()


def each_once(callbacks: Iterable[tuple[JSON, datetime]]) -> list[tuple[JSON, datetime]]:
    """Every fact once, with when it happened."""
    facts: list[tuple[JSON, datetime]] = []
    known: list[tuple[str, datetime | None]] = []
    for body, received_at in callbacks:
        said = {name: value for name, value in body.items() if value not in (None, "") and name != "@class"}
        said["name"] = said["name"].replace("_FOR_COMPLETION", "_FOR_COMPLETE")
        happened_at = said.get("createdDate") and _time(said["createdDate"])
        said["createdDate"] = str(happened_at)
        content = json.dumps(said, sort_keys=True)
        when = None if happened_at else received_at
        if any(content == other and (when is None or abs(when - at) <= SAME_FACT) for other, at in known):
            continue
        known.append((content, when))
        believable = happened_at and happened_at <= received_at + AHEAD
        facts.append((said, happened_at if believable else received_at))
    return facts


class Story:
    """Everything said so far, the newest word about each thing. Things are `(kind, id)`."""

    def __init__(self, shown: list[tuple[JSON, datetime]]) -> None:
        self.words: dict[tuple[tuple[str, str], str], Any] = {}
        self.stamps: dict[tuple[tuple[str, str], str], tuple[datetime, int]] = {}
        self.told_at: dict[tuple[tuple[str, str], str], datetime] = {}  # by an event, the last time
        self.kba_failures: dict[str, set[datetime]] = {}
        self.uploads: dict[str, set[str]] = {}
        self.spoken_of: dict[str, datetime] = {}  # people, by events
        self._meet(shown)

    def _meet(self, shown: list[tuple[JSON, datetime]]) -> None:
        """Who sits where now, and who sat where before: a role's id means whoever sits there or sat there last."""
        seatings = [(at, _weight(_seats(package)), _seats(package)) for package, at in shown]
        self.read_at = max((at for at, *_ in seatings), default=None)
        self.seats: list[list[str]] = max(seatings)[2] if seatings else []
        self.seated_now = {signer_id for signer_id, _ in self.seats}
        last_role: dict[str, tuple[datetime, str]] = {}
        for package, at in shown:
            for role in _signing_roles(package):
                for someone in role["signers"]:
                    seat = (at, role["id"])
                    last_role[someone["id"]] = max(last_role.get(someone["id"], seat), seat)
        self.ever_seated = set(last_role)
        self.sitter = {role: one for _, one, role in sorted((at, one, role) for one, (at, role) in last_role.items())}
        self.sitter |= {role_id: signer_id for signer_id, role_id in reversed(self.seats)}

    def person(self, told_id: str) -> str:
        """Who is meant by an id that may be a signer's or a role's."""
        return told_id if told_id in self.ever_seated | self.seated_now else self.sitter.get(told_id, told_id)

    def turn_to(self, at: datetime, witness: int) -> None:
        """What is noted from here on was true at this time."""
        self.at, self.witness = at, witness

    def note(self, thing: tuple[str, str], **words: Any) -> None:
        """Write down; of two words about the very same instant by the same witness, the weightier one stays."""
        for name, value in words.items():
            place, stamp = (thing, name), (self.at, self.witness)
            if self.witness == EVENT:
                self.told_at[place] = self.at
            if self.stamps.get(place) == stamp and _weight(self.words[place]) > _weight(value):
                continue
            self.words[place], self.stamps[place] = value, stamp

    def says(self, thing: tuple[str, str], name: str) -> Any:
        """The newest word."""
        return self.words.get((thing, name))

    def hear(self, body: JSON) -> None:
        """One event."""
        name, user = body["name"], body.get("sessionUser")
        self.note(PACKAGE, last_event_at=self.at)
        if name in STEPS:
            self.note(PACKAGE, status=STEPS[name], ready=False)
        match name:
            case "PACKAGE_CREATE" | "TEMPLATE_CREATE":
                self.note(PACKAGE, type=name.partition("_")[0], created=self.at)
                self.note(PACKAGE, **({"sender": user} if user else {}))
            case "PACKAGE_READY_FOR_COMPLETE":
                self.note(PACKAGE, ready=True)
            case "PACKAGE_COMPLETE":
                self.note(PACKAGE, completed=self.at)
            case "PACKAGE_TRASH" | "PACKAGE_RESTORE":
                self.note(PACKAGE, trashed=name == "PACKAGE_TRASH")
            case "PACKAGE_DELETE":
                self.note(PACKAGE, deleted=True)
        self._hear_of_person(name, body, self.person(user) if user else None)
        if name == "DOCUMENT_SIGNED" and (document := body.get("documentId")):
            self.note(("document", document), told=True)
            self.note(("document", document), **{f"signed {self.person(user or '')}": self.at})

    def _hear_of_person(self, name: str, body: JSON, who: str | None) -> None:
        thing = ("person", who) if who else PACKAGE
        if who and (name in BY_SIGNER or name in ("EMAIL_BOUNCE", "ROLE_REASSIGN")):
            self.spoken_of[who] = self.at
        if who and name in BY_SIGNER:
            self.note(thing, signs=True)
        self.note(thing, **HEARD.get(name, {}))
        message = body.get("message")
        match name:
            case "KBA_FAILURE":
                self.kba_failures.setdefault(who or "", set()).add(self.at)
            case "EMAIL_BOUNCE":
                self.note(thing, bounce=message or "UNKNOWN")
            case "PACKAGE_ATTACHMENT" if message:
                self.uploads.setdefault(who or "", set()).add(message)
            case "PACKAGE_DECLINE" | "PACKAGE_OPT_OUT":
                self.note(thing, reason=message)
            case "ROLE_REASSIGN":
                self._hear_of_successor(body.get("newRoleId"))
                self.note(thing, left=self.at)

    def _hear_of_successor(self, told_id: str | None) -> None:
        if told_id:
            self.note(("person", self.person(told_id)), signs=True, left=None)
            self.spoken_of[self.person(told_id)] = self.at

    def look(self, shown: JSON) -> None:
        """One snapshot."""
        sender = shown["sender"]
        signing = [_has_signed(marks) for role in shown["roles"] if (marks := _asked(shown, role["id"]))]
        self.note(
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
            self.note(PACKAGE, locked=False)
        if signing and all(signing):
            self.note(PACKAGE, kba=False, bounce=None)
        for role in _signing_roles(shown):
            self._look_at_role(shown, role)
            for someone in role["signers"] or [{"id": role["id"]}]:
                self._look_who_ended_it(shown, self.person(someone["id"]))
        for document in shown["documents"]:
            self.note(("document", document["id"]), name=document["name"])

    def _look_at_role(self, shown: JSON, role: JSON) -> None:
        marks = _asked(shown, role["id"])
        for someone in role["signers"] or [{"id": role["id"]}]:
            thing = ("person", self.person(someone["id"]))
            complete = bool(marks) and _has_signed(marks)
            if marks:
                self.note(thing, complete=complete)
            self.note(thing, sent=shown["status"] != "DRAFT")
            self.note(thing, role=role["id"], order=role["index"], email=someone.get("email"))
            self.note(thing, name=f"{someone['firstName']} {someone['lastName']}" if "firstName" in someone else None)
            self.note(thing, locked=role["locked"])
            if complete:
                self.note(thing, kba=False, bounce=None)
            for asked in role["attachmentRequirements"]:
                if asked["status"] == "COMPLETE":
                    self.uploads.setdefault(thing[1], set()).add(asked["name"])
            for document in shown["documents"]:
                if there := [mark for mark in document["approvals"] if mark["role"] == role["id"]]:
                    signed_at = max(filter(None, map(_mark, there)), default=None) if _has_signed(there) else None
                    self.note(("document", document["id"]), **{f"signed {thing[1]}": signed_at})

    def _look_who_ended_it(self, shown: JSON, who: str) -> None:
        """The newest message of a declined package is from who declined; otherwise nobody has."""
        thing, how = ("person", who), {"DECLINED": "package_decline", "OPTED_OUT": "package_opt_out"}
        if shown["status"] not in how:
            self.note(thing, package_decline=False, package_opt_out=False)
        elif shown["messages"]:
            newest = max(shown["messages"], key=lambda one: one["created"])
            theirs = newest["from"]["id"] == who
            self.note(thing, **{how[shown["status"]]: theirs}, **({"reason": newest["content"]} if theirs else {}))

    def picture(self) -> dict[str, Any]:
        """What to believe, in the end."""
        signers = self._signers()
        waiting = [one for one in signers if one["status"] in ("PENDING", "LOCKED") and one["order"] is not None]
        active = self._is_active()
        first = min((one["order"] for one in waiting), default=None)
        return {
            "name": self.says(PACKAGE, "name"),
            "type": self.says(PACKAGE, "type"),
            "status": self.says(PACKAGE, "status"),
            "trashed": bool(self.says(PACKAGE, "trashed")),
            "deleted": bool(self.says(PACKAGE, "deleted")),
            "sender": (self.says(PACKAGE, "sender"), self.says(PACKAGE, "sender_name")),
            "created_at": self.says(PACKAGE, "created"),
            "completed_at": self.says(PACKAGE, "completed"),
            "due_at": self.says(PACKAGE, "due"),
            "last_event_at": self.says(PACKAGE, "last_event_at"),
            "read_at": self.read_at,
            "signers": signers,
            "signers_total": sum(one["status"] != "REASSIGNED" for one in signers),
            "signers_completed": sum(one["status"] == "COMPLETED" for one in signers),
            "next_signers": [one["id"] for one in waiting if active and one["order"] == first],
            "documents": self._documents(),
            "attention": self._attention(signers),
        }

    def _is_active(self) -> bool:
        closed = self.says(PACKAGE, "trashed") or self.says(PACKAGE, "deleted")
        return self.says(PACKAGE, "status") not in AT_REST and not closed

    def _is_signer(self, one: str) -> bool:
        """The newest snapshot shows them, or they left their seat; or events after it say they sign."""
        if one in self.seated_now:
            return True
        if one in self.ever_seated:
            return self._has_left(one)
        if not self.says(("person", one), "signs") and one == self.says(PACKAGE, "sender"):
            return False
        if one in self.spoken_of and self.says(("person", one), "left") is not None:
            return True
        return one in self.spoken_of and (self.read_at is None or self.spoken_of[one] > self.read_at)

    def _has_left(self, one: str) -> bool:
        left = self.says(("person", one), "left")
        if one in self.seated_now:
            return left is not None and left > self.read_at
        sent = self.says(("person", one), "sent")  # otherwise their sender may have taken them out
        return left is not None or (sent and self.says(("person", one), "role") in {r for _, r in self.seats})

    def _status(self, one: str) -> str:
        thing = ("person", one)
        if self._has_left(one):
            return "REASSIGNED"
        if self.says(thing, "complete"):
            return "COMPLETED"
        if self._ended_it(one, "package_decline"):
            return "DECLINED"
        if self._ended_it(one, "package_opt_out"):
            return "OPTED_OUT"
        return "LOCKED" if self.says(thing, "locked") else "PENDING"

    def _ended_it(self, one: str, how: str) -> bool:
        """Whether they ended it as it stands: not so when it was sent again since."""
        place = (("person", one), how)
        ended = self.says(PACKAGE, "status") == STEPS[how.upper()]
        return bool(ended and self.words.get(place) and self._since_the_last_step(place))

    def _since_the_last_step(self, place: tuple[tuple[str, str], str]) -> bool:
        stamped, _ = self.stamps.get(place, (LONG_AGO, EVENT))
        return stamped >= self.told_at.get((PACKAGE, "status"), LONG_AGO)

    def _signers(self) -> list[dict[str, Any]]:
        people = self.seated_now | self.ever_seated | set(self.spoken_of)
        signers = [
            {
                "id": one,
                "role_id": self.says(("person", one), "role"),
                "name": self.says(("person", one), "name"),
                "email": self.says(("person", one), "email"),
                "order": self.says(("person", one), "order"),
                "status": self._status(one),
                "locked": bool(self.says(("person", one), "locked")),
                "email_bounce": self.says(("person", one), "bounce"),
                "kba_failures": len(self.kba_failures.get(one, ())),
                "attachments": sorted(self.uploads.get(one, ())),
            }
            for one in people
            if self._is_signer(one)
        ]
        return sorted(signers, key=lambda one: (one["order"] is None, one["order"], one["id"]))

    def _documents(self) -> list[tuple[str, str | None, list[str]]]:
        shown = self.says(PACKAGE, "documents") or []
        told = sorted(
            thing[1]
            for thing, name in self.words
            if name == "told" and (self.read_at is None or self.told_at[thing, name] > self.read_at)
        )
        return [
            (one, self.says(("document", one), "name"), self._signed_by(one))
            for one in (*shown, *(one for one in told if one not in shown))
        ]

    def _signed_by(self, document: str) -> list[str]:
        signed = [
            (at, name.removeprefix("signed "))
            for (thing, name), at in self.words.items()
            if thing == ("document", document) and name.startswith("signed ") and at is not None
        ]
        return [one for _, one in sorted(signed) if one]

    def _attention(self, signers: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
        status = self.says(PACKAGE, "status")
        if self.says(PACKAGE, "trashed") or self.says(PACKAGE, "deleted"):
            return []
        if status == "DECLINED":
            return [("DECLINED", *self._who_declined())]
        if status == "EXPIRED":
            return [("EXPIRED", None, None)]
        if not self._is_active():
            return []
        pending = [one["id"] for one in signers if one["status"] in ("PENDING", "LOCKED")]
        open_ = [("READY_FOR_COMPLETION", None, None)] if self.says(PACKAGE, "ready") else []
        open_ += self._hindrances(PACKAGE, None)
        for one in pending:
            open_ += self._hindrances(("person", one), one)
        for one in self.spoken_of:  # somebody whom no snapshot ever showed and who does not sign: the sender, mostly
            bounce = self.says(("person", one), "bounce")
            if bounce and one not in self.ever_seated and not self._is_signer(one):
                open_.append(("EMAIL_BOUNCE", None, f"{bounce} ({one})"))
        return sorted(open_, key=str)

    def _who_declined(self) -> tuple[str | None, str | None]:
        people = {who for (_, who), name in self.words if name == "package_decline" and who}
        declined = [
            (self.stamps[("person", one), "package_decline"][0], one)
            for one in people
            if self._ended_it(one, "package_decline")
        ]
        who = max(declined)[1] if declined else None
        thing = ("person", who) if who else PACKAGE
        return who, self.says(thing, "reason") if self._since_the_last_step((thing, "reason")) else None

    def _hindrances(self, thing: tuple[str, str], who: str | None) -> list[tuple[str, str | None, str | None]]:
        bounce = self.says(thing, "bounce")
        return (
            [("SIGNER_LOCKED", who, None)] * bool(self.says(thing, "locked"))
            + [("KBA_FAILURE", who, None)] * bool(self.says(thing, "kba"))
            + [("EMAIL_BOUNCE", who, bounce)] * bool(bounce)
        )


def seen(package: Package) -> dict[str, Any]:
    """The service's picture in the words of `Story.picture`."""
    signer = ("id", "role_id", "name", "email", "order", "status", "locked", "email_bounce", "kba_failures")
    plain = ("name", "type", "status", "trashed", "deleted", "created_at", "completed_at", "due_at", "last_event_at")
    return {
        **{name: getattr(package, name) for name in (*plain, "read_at", "signers_total", "signers_completed")},
        "sender": (package.sender.id, package.sender.name),
        "signers": [
            {**{name: getattr(one, name) for name in signer}, "attachments": sorted(one.attachments)}
            for one in package.signers
        ],
        "next_signers": list(package.next_signers),
        "documents": [(one.id, one.name, list(one.signed_by)) for one in package.documents],
        "attention": sorted(((one.reason, one.who, one.detail) for one in package.attention), key=str),
    }


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _weight(value: Any) -> tuple[bool, int, str]:
    """How ties end: something outweighs nothing, a later status an earlier one, the rest goes by its spelling."""
    step = LIFE.index(value) if value in LIFE else -1
    return value is not None, step, json.dumps(value, default=str)


def _signing_roles(shown: JSON) -> list[JSON]:
    return [role for role in shown["roles"] if role["type"] != "SENDER" or _asked(shown, role["id"])]


def _seats(shown: JSON) -> list[list[str]]:
    return [
        [someone["id"], role["id"]]
        for role in _signing_roles(shown)
        for someone in role["signers"] or [{"id": role["id"]}]
    ]


def _asked(shown: JSON, role_id: str) -> list[JSON]:
    return [mark for document in shown["documents"] for mark in document["approvals"] if mark["role"] == role_id]


def _has_signed(marks: list[JSON]) -> bool:
    """All that must be signed is; where nothing must be, anything is."""
    must = [mark for mark in marks if not mark["optional"]]
    return all(map(_mark, must)) if must else any(map(_mark, marks))


def _mark(mark: JSON) -> datetime | None:
    return _time(mark["signed"]) or _time(mark["accepted"])
