"""Hypothesis strategies for the facts about one package: callbacks and snapshots that often collide.

The strategies draw few people, documents and minutes, so that ties, repeats and contradictions are common. A person is
named by the person's own id or by the id of the person's role. Two groups sign as one. A member may have a
role too, and a member that no snapshot shows is a stranger. Snapshots may show the package as it was minutes before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from app.onespan.event_catalogue import CATALOGUE
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON
from tests.support.fixtures import CONSENT, CONTRACT, JSON, approval, callback, document, package, person, role


def examples(number: int) -> int:
    """Scale a number of hypothesis examples: `make test-all` runs all examples, `make test` runs a tenth."""
    return number * settings.default.max_examples // 100


DAN, EVE = "dan-who-takes-over", "eve-who-may-sign-too"
ROLE_A, ROLE_B, ROLE_C, ROLE_OF_SENDER = "role-a", "role-b", "role-c", "role-of-sender"
BOARD, AUDIT, ROLE_OF_BOARD = "board-of-directors", "audit-committee", "role-of-board"
FAY, STRANGER = "fay-who-is-a-member", "member-not-listed"
LATER = NOON + 2 * HOUR  # a time after all drawn callbacks and snapshots
MINUTE = timedelta(minutes=1)
STATUSES = (
    "DRAFT",
    "SENT",
    "SENT",
    "SENT",
    "COMPLETED",
    "DECLINED",
    "EXPIRED",
    "OPTED_OUT",
    "ARCHIVED",
    "ARCHIVAL_PENDING",
)
PEOPLE = (ADA, BEN, DAN, EVE, CLEO, ROLE_A, ROLE_B, ROLE_C, None, FAY, STRANGER, BOARD, ROLE_OF_BOARD)
SUCCESSORS = (ROLE_C, DAN, STRANGER, None)


SIGNATURE = {"id": "1", "type": "SIGNATURE", "subtype": "FULLNAME"}
INPUT = {"id": "2", "type": "INPUT", "subtype": "TEXTFIELD"}
AGES = (timedelta(0), timedelta(0), MINUTE, 2 * MINUTE, HOUR)  # how old a package is by its own `updated`

SHORT = st.text(max_size=8)


def any_json(*leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str] = SHORT) -> Any:
    """Draw any JSON value, a few levels deep. `leaves` are strategies for values besides the usual plain values."""
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), *leaves)
    inner = st.one_of(plain, st.lists(plain, max_size=3), st.dictionaries(keys, plain, max_size=3))
    return st.one_of(inner, st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4))


times = st.integers(0, 6).map(lambda minutes: NOON + minutes * MINUTE)
names = st.sampled_from([*sorted(CATALOGUE), "PACKAGE_FRAMED"])


@dataclass(frozen=True)
class Facts:
    """All facts about one package: bodies of callbacks, and snapshots with their date."""

    callbacks: tuple[JSON, ...]
    snapshots: tuple[tuple[JSON, datetime], ...]

    def of(self, package_id: str) -> "Facts":
        """The same facts about another package."""
        return Facts(
            tuple({**body, "packageId": package_id} for body in self.callbacks),
            tuple(({**shown, "id": package_id}, at) for shown, at in self.snapshots),
        )


@st.composite
def callbacks(draw: st.DrawFn, happened_at: st.SearchStrategy[datetime | None] = times) -> JSON:
    """Draw one callback about the package `pkg-1`."""
    name = draw(names)
    members: dict[str, Any] = {"sessionUser": draw(st.sampled_from(PEOPLE))}
    match name:
        case "DOCUMENT_SIGNED" | "DOCUMENT_VIEWED":
            members["documentId"] = draw(st.sampled_from((CONTRACT, "terms", CONSENT, None)))
        case "EMAIL_BOUNCE":
            members["message"] = draw(st.sampled_from(("BOUNCE", "OOTO", None)))
        case "PACKAGE_DECLINE" | "PACKAGE_OPT_OUT":
            members["message"] = draw(st.sampled_from(("too expensive", "wrong name", None)))
        case "PACKAGE_ATTACHMENT":
            members["message"] = draw(st.sampled_from(("passport.pdf", "visa.pdf")))
        case "ROLE_REASSIGN":
            members["newRoleId"] = draw(st.sampled_from([to for to in SUCCESSORS if to != members["sessionUser"]]))
    return callback(name, draw(happened_at), **members)


@st.composite
def rewritten(draw: st.DrawFn, body: JSON) -> JSON:
    """Write a callback differently: order of members, spelling of the name, nulls and time zone."""
    again = {name: body[name] for name in draw(st.permutations(list(body)))}
    if draw(st.booleans()):
        again = {name: value for name, value in again.items() if value is not None and name != "@class"}
    if again["name"] == "PACKAGE_READY_FOR_COMPLETE" and draw(st.booleans()):
        again["name"] = "PACKAGE_READY_FOR_COMPLETION"
    if again.get("createdDate") and draw(st.booleans()):
        again["createdDate"] = datetime.fromisoformat(again["createdDate"]).isoformat()
    return again


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[JSON, datetime]:
    """Draw a snapshot of `pkg-1` and its date. No person has two roles; no signature is after the date."""
    at = draw(times)
    in_a = draw(st.sampled_from((ADA, ADA, DAN, None)))
    in_c = draw(st.sampled_from((None, *((DAN,) if in_a != DAN else ()))))
    # With custom ids of the SDKs, a role may have the id of its signer.
    role_of_ben = draw(st.sampled_from((ROLE_B, BEN)))
    seats = [(ROLE_A, in_a), *draw(_maybe((role_of_ben, BEN))), *draw(_maybe((ROLE_C, in_c)))]
    roles = [_role(draw, role_id, who) for role_id, who in seats]
    if in_a and draw(st.booleans()):
        roles[0]["signers"].append(person(EVE))  # makes two people share one role
    if draw(st.booleans()):
        roles.append(role(CLEO, ROLE_OF_SENDER, index=0, type="SENDER"))
    if draw(st.booleans()):
        roles += [_group(draw, BOARD, ROLE_OF_BOARD), *draw(st.sampled_from(([], [_group(draw, AUDIT, AUDIT)])))]
    places = draw(st.permutations(range(2)))  # OneSpan's order of documents is their `index`
    documents = [
        document(document_id, list(_approvals(draw, document_id, roles, at)), index=place)
        for place, document_id in zip(
            places, draw(st.sampled_from(((CONSENT, CONTRACT), (CONTRACT, "terms"), (CONTRACT,)))), strict=False
        )
    ]
    status = draw(st.sampled_from(STATUSES))
    ended = status in ("COMPLETED", "ARCHIVED")
    members = {
        "roles": roles,
        "documents": documents,
        "trashed": draw(st.booleans()) and draw(st.booleans()),
        "autocomplete": draw(st.booleans()),
        "due": _text(draw(st.sampled_from((None, LATER)))),
        "description": draw(st.sampled_from(("", "A lease"))),
        "data": draw(st.sampled_from((None, {}, {"contract": "7"}))),
        "updated": _text(at - draw(st.sampled_from(AGES))),
        "completed": _text(at) if ended else None,
        "messages": draw(_messages),
    }
    return package(status, **members), at


_messages = st.lists(
    st.builds(
        lambda minutes, who, content: {
            "created": _text(NOON + minutes * MINUTE),
            "from": {"id": who},
            "content": content,
        },
        st.integers(0, 6),
        st.sampled_from((ADA, BEN, DAN, FAY, STRANGER)),
        st.sampled_from(("too expensive", "not mine")),
    ),
    max_size=2,
    unique_by=lambda message: message["created"],
)


def _maybe(seat: tuple[str, str | None]) -> st.SearchStrategy[list[tuple[str, str | None]]]:
    return st.sampled_from(([], [seat]))


def _role(draw: st.DrawFn, role_id: str, who: str | None) -> JSON:
    status = draw(st.sampled_from((None, "INCOMPLETE", "COMPLETE", "REJECTED")))
    attachments = [{"id": "1", "name": "passport.pdf", "required": draw(st.booleans()), "status": status}]
    locked = draw(st.booleans()) and draw(st.booleans())
    index = draw(st.integers(0, 2))
    drawn = role(who, role_id, index=index, locked=locked, attachmentRequirements=attachments if status else [])
    for signer in drawn["signers"]:
        signer["email"] = draw(st.sampled_from((signer["email"], signer["email"], f"new-{signer['email']}", None)))
    return drawn


def _group(draw: st.DrawFn, group_id: str, role_id: str) -> JSON:
    """A role whose signer is a group. Its members may have roles of their own."""
    drawn = role(group_id, role_id, index=draw(st.integers(0, 2)))
    members = draw(st.sets(st.sampled_from((FAY, ADA, BEN, DAN)), max_size=3))
    drawn["signers"][0] |= {
        "email": f"0a1b{draw(st.sampled_from(('@adhoc.groups.e-signlive.com', '@example.com')))}",
        "signerType": draw(st.sampled_from(("GROUP_SIGNER", "AD_HOC_GROUP_SIGNER"))),
        "group": {
            "id": group_id,
            "name": group_id.title(),
            "members": [{"memberType": "REGULAR", "userId": member} for member in sorted(members)],
        },
    }
    return drawn


def _approvals(draw: st.DrawFn, document_id: str, roles: list[JSON], at: datetime) -> Iterator[JSON]:
    """The approvals of a document: none for some roles, several for others."""
    for drawn in roles:
        for _ in range(draw(st.sampled_from((0, 1, 1, 2)))):
            yield _approval(draw, document_id, drawn["id"], at)


def _approval(draw: st.DrawFn, document_id: str, role_id: str, at: datetime) -> JSON:
    """An approval: open, clicked only, or signed; perhaps optional, disabled, or without a signature field."""
    marked = draw(st.sampled_from((None, NOON - HOUR, at)))
    if document_id == CONSENT:
        return approval(role_id, accepted=marked)
    drawn = approval(role_id, signed=marked, optional=draw(st.integers(0, 3)) == 0)
    if draw(st.booleans()):
        drawn["accepted"] = _text(NOON - HOUR)
    if draw(st.integers(0, 4)) == 0:
        drawn["disabled"] = True
    drawn["fields"] = draw(st.sampled_from(([], [SIGNATURE], [SIGNATURE], [INPUT], [INPUT, SIGNATURE])))
    return drawn


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


facts = st.builds(
    Facts,
    callbacks=st.lists(callbacks(), max_size=9).map(tuple),
    snapshots=st.lists(snapshots(), max_size=3).map(tuple),
).filter(lambda drawn: drawn.callbacks or drawn.snapshots)

# Undated callbacks with their arrival times, which decide what is a repeat and what is a new fact.
undated = st.lists(st.tuples(callbacks(st.none() | times), times), min_size=1, max_size=8).map(
    lambda drawn: sorted(drawn, key=lambda arrival: arrival[1])
)
