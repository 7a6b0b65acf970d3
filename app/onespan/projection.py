"""The projection: derive the current state of a package from its merged claims, without I/O."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from app.onespan.lifecycle import COMPLETE_STATUSES
from app.onespan.merge import EPOCH, NO_CLAIM, PACKAGE, Registers, State, current_value, union, valid_since
from app.onespan.values import (
    OPEN_SIGNER_STATUSES,
    Attention,
    AttentionReason,
    Document,
    Package,
    Sender,
    Signer,
    SignerStatus,
)

# No one can sign in these statuses, so problems of signers need no attention.
NOT_SIGNABLE = COMPLETE_STATUSES | {"DRAFT", "DECLINED", "OPTED_OUT", "EXPIRED"}


class SubjectClaims:
    """The merged claims of one subject (package, signer or document), with access to each attribute."""

    def __init__(self, attributes: Mapping[str, Registers]) -> None:
        self.attributes = attributes
        self._current = {attribute: current_value(registers) for attribute, registers in attributes.items()}

    def value(self, attribute: str) -> object:
        """Return the current value of an attribute, or None."""
        return self._current.get(attribute, NO_CLAIM)[1]

    def at(self, attribute: str) -> str:
        """Return the time of the newest claim of an attribute; `EPOCH` if no claim exists."""
        return self._current.get(attribute, NO_CLAIM)[0]

    @property
    def newest(self) -> str:
        """The time of the newest claim of any attribute."""
        return max(at for at, _ in self._current.values())

    def since(self, attribute: str) -> datetime | None:
        """Return the time since which the current value of an attribute holds."""
        return moment(valid_since(self.attributes.get(attribute, {})))

    def text(self, attribute: str) -> str | None:
        """Return the value of an attribute if the value is a text, else None."""
        value = self.value(attribute)
        return value if isinstance(value, str) else None

    def flag(self, attribute: str) -> bool:
        """Whether the value of an attribute is true."""
        return self.value(attribute) is True

    def named(self, kind: str) -> list[tuple[str, Registers]]:
        """Return the names and claims of one kind of attribute. `attachment passport.pdf` has the kind `attachment`."""
        prefix = f"{kind} "
        return sorted(
            (attribute.removeprefix(prefix), registers)
            for attribute, registers in self.attributes.items()
            if attribute.startswith(prefix)
        )


def moment(text: object) -> datetime | None:
    """Parse a claimed time; None if no time is claimed."""
    return datetime.fromisoformat(text) if isinstance(text, str) and text != EPOCH else None


def derive(package_id: str, state: State) -> Package:
    """Return the current state of a package from its merged claims."""
    people = People.of(state)
    about = people.about
    signers = people.signers()
    waiting = [signer for signer in signers if signer.status in OPEN_SIGNER_STATUSES]
    return Package(
        id=package_id,
        name=about.text("name"),
        type=about.text("type"),
        status=about.text("status"),
        status_at=_status_since(about),
        trashed=about.flag("trashed"),
        deleted=about.flag("deleted"),
        sender=Sender(about.text("sender_id"), about.text("sender_name"), about.text("sender_email")),
        created_at=moment(about.value("created")),
        updated_at=_updated(about),
        due_at=moment(about.value("due")),
        completed_at=moment(about.value("completed")),
        signers_total=sum(signer.status != SignerStatus.REASSIGNED for signer in signers),
        signers_completed=sum(signer.status == SignerStatus.COMPLETED for signer in signers),
        attention=tuple(_attention(about, people, signers)),
        documents=tuple(_documents(about, people, state)),
        signers=tuple(signers),
        next_signers=_next(about, waiting),
        last_event_at=moment(about.at("event")),
        read_at=moment(about.at("seats")),
    )


def _status_since(about: SubjectClaims) -> datetime | None:
    """Return the time since which the package has its status.

    A snapshot has no time for the status, but the status cannot be newer than the snapshot's `updated`.
    """
    valid_from = about.since("status")
    if about.value("status") is None:
        return None
    latest = moment(about.value("completed" if about.value("status") == "COMPLETED" else "updated"))
    is_from_event = about.attributes.get("status", {}).get("event", NO_CLAIM)[1] == about.value("status")
    return valid_from if is_from_event else min(filter(None, (valid_from, latest)), default=None)


def _updated(about: SubjectClaims) -> datetime | None:
    return max(filter(None, (moment(about.at("event")), moment(about.value("updated")))), default=None)


def _next(about: SubjectClaims, waiting: Iterable[Signer]) -> tuple[str, ...]:
    """Return the ids of the signers whose turn it is; empty if no one can sign or the order is unknown."""
    ordered = [(signer.order, signer.id) for signer in waiting if signer.order is not None]
    if about.value("status") in NOT_SIGNABLE or about.flag("trashed") or about.flag("deleted") or not ordered:
        return ()
    first = min(order for order, _ in ordered)
    return tuple(signer_id for order, signer_id in ordered if order == first)


class People:
    """The people of one package: which ids are signers, which ids name the same signer, and which signers have left.

    `sessionUser` may be the id of a signer or of a role (OneSpan's sources disagree), or of the sender if the sender
    acts. The newest snapshot assigns signers to roles; before the first snapshot, ids from events are used.
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
        self.claims = self._gather(state)

    @classmethod
    def of(cls, state: State) -> "People":
        """Return the people in the merged claims of a package."""
        return cls(SubjectClaims(state.get(PACKAGE, {})), state)

    def _seat_history(self, state: State) -> Iterable[tuple[str, str, str]]:
        for signer_id in self.ever_seated:
            at, role_id = current_value(state[f"signer:{signer_id}"]["role_id"])
            yield at, signer_id, str(role_id)

    def _gather(self, state: State) -> dict[str, SubjectClaims]:
        by_signer: dict[str, list[Mapping[str, Registers]]] = {}
        for subject, attributes in state.items():
            if subject.startswith("signer:"):
                by_signer.setdefault(self.person(subject.removeprefix("signer:")), []).append(attributes)
        return {
            signer_id: SubjectClaims(subjects[0] if len(subjects) == 1 else union(subjects))
            for signer_id, subjects in by_signer.items()
        }

    def person(self, user_id: str) -> str:
        """Return the id of the signer that `user_id` identifies: the same id, or the holder of the role `user_id`."""
        if user_id in self.seats or user_id in self.ever_seated:
            return user_id
        return self.holders.get(user_id) or self.last_holders.get(user_id, user_id)

    def signers(self) -> list[Signer]:
        """Return all signers, including those who were replaced, in signing order."""
        signers = [
            self._signer(signer_id, claims)
            for signer_id, claims in self.claims.items()
            if self._is_signer(signer_id, claims)
        ]
        return sorted(signers, key=lambda signer: (signer.order is None, signer.order or 0, signer.id))

    def non_signers(self) -> Iterable[tuple[str, SubjectClaims]]:
        """Return the ids, from events, that belong to no current or past signer, with their claims."""
        return (
            (user_id, claims)
            for user_id, claims in self.claims.items()
            if user_id not in self.ever_seated and not self._is_signer(user_id, claims)
        )

    def _is_signer(self, signer_id: str, claims: SubjectClaims) -> bool:
        if signer_id in self.seats:
            return True
        if signer_id in self.ever_seated:
            return self._has_left(signer_id, claims)
        if not claims.flag("seen") and signer_id == self.about.value("sender_id"):
            return False
        if claims.flag("reassigned"):
            return True  # the signer was replaced before the first snapshot of the seats
        return self.read_at == EPOCH or claims.newest > self.read_at

    def _has_left(self, signer_id: str, claims: SubjectClaims) -> bool:
        """Whether another person has this signer's seat, according to the newest snapshot or a later event.

        A signer that the sender removes from a draft was never asked to sign, and does not count.
        """
        if signer_id in self.seats:
            return claims.flag("reassigned") and claims.at("reassigned") > self.read_at
        was_asked = claims.value("asked") is not False
        return claims.flag("reassigned") or (was_asked and claims.value("role_id") in self.holders)

    def _signer(self, signer_id: str, claims: SubjectClaims) -> Signer:
        status, status_at = self._status(signer_id, claims)
        order = claims.value("order")
        return Signer(
            id=signer_id,
            role_id=claims.text("role_id"),
            name=claims.text("name"),
            email=claims.text("email"),
            order=order if isinstance(order, int) else None,
            status=status,
            status_at=status_at,
            locked=claims.flag("locked"),
            email_bounce=claims.text("email_bounce"),
            kba_failures=len(claims.named("kba_failure")),
            attachments=tuple(name for name, _ in claims.named("attachment")),
        )

    @property
    def status_event_at(self) -> str:
        """The time of the newest event that claims a status."""
        return self.about.attributes.get("status", {}).get("event", NO_CLAIM)[0]

    def ended(self, claims: SubjectClaims, how: str, status: str) -> bool:
        """Whether this signer ended the package with `status`, and the package was not sent again since."""
        return self.about.value("status") == status and claims.flag(how) and claims.at(how) >= self.status_event_at

    def _status(self, signer_id: str, claims: SubjectClaims) -> tuple[str, datetime | None]:
        """Return the first status that applies. A signer who declined is pending again after the package is resent."""
        for attribute, status, holds in (
            ("reassigned", SignerStatus.REASSIGNED, self._has_left(signer_id, claims)),
            ("done", SignerStatus.COMPLETED, claims.flag("done")),
            ("declined", SignerStatus.DECLINED, self.ended(claims, "declined", "DECLINED")),
            ("opted_out", SignerStatus.OPTED_OUT, self.ended(claims, "opted_out", "OPTED_OUT")),
            ("locked", SignerStatus.LOCKED, claims.flag("locked")),
        ):
            if holds:
                return status.value, claims.since(attribute)
        return SignerStatus.PENDING.value, None


def _documents(about: SubjectClaims, people: People, state: State) -> Iterable[Document]:
    ids = about.value("documents")
    order = {document_id: index for index, document_id in enumerate(ids if isinstance(ids, list) else ())}
    documents = [
        (subject.removeprefix("document:"), SubjectClaims(attributes))
        for subject, attributes in state.items()
        if subject.startswith("document:")
    ]
    for document_id, claims in sorted(documents, key=lambda item: (order.get(item[0], len(order)), item[0])):
        if document_id in order or claims.at("seen") > people.read_at:
            yield _document(document_id, claims, people)


def _document(document_id: str, claims: SubjectClaims, people: People) -> Document:
    by_signer: dict[str, list[Mapping[str, Registers]]] = {}
    for user_id, registers in claims.named("signed"):
        by_signer.setdefault(people.person(user_id), []).append({"signed": registers})
    signed = {
        signer_id: at
        for signer_id, subjects in by_signer.items()
        if (at := SubjectClaims(union(subjects)).text("signed"))
    }
    return Document(
        id=document_id,
        name=claims.text("name"),
        signed_by=tuple(sorted(filter(None, signed), key=lambda signer_id: (signed[signer_id], signer_id))),
        signed_at=moment(max(signed.values(), default=None)),
    )


def _attention(about: SubjectClaims, people: People, signers: Iterable[Signer]) -> Iterable[Attention]:
    """Return what needs the sender's attention, in a fixed order, so that equal states have equal projections."""
    if about.flag("trashed") or about.flag("deleted"):
        return
    status = about.value("status")
    if status in ("DECLINED", "EXPIRED"):
        yield from _ended(about, people, str(status))
    if status in NOT_SIGNABLE:
        return
    if about.flag("ready"):
        yield Attention(AttentionReason.READY_FOR_COMPLETION.value, about.since("ready"))
    yield from _signer_problems(about, None)
    for signer in signers:
        if signer.status in OPEN_SIGNER_STATUSES:
            yield from _signer_problems(people.claims[signer.id], signer.id)
    for user_id, claims in sorted(people.non_signers(), key=lambda item: item[0]):
        if bounce := claims.text("email_bounce"):
            detail = f"{bounce} ({user_id})"
            yield Attention(AttentionReason.EMAIL_BOUNCE.value, claims.since("email_bounce"), None, detail)


def _signer_problems(claims: SubjectClaims, who: str | None) -> Iterable[Attention]:
    if claims.flag("locked"):
        yield Attention(AttentionReason.SIGNER_LOCKED.value, claims.since("locked"), who)
    if claims.flag("kba"):
        yield Attention(AttentionReason.KBA_FAILURE.value, claims.since("kba"), who)
    if bounce := claims.text("email_bounce"):
        yield Attention(AttentionReason.EMAIL_BOUNCE.value, claims.since("email_bounce"), who, bounce)


def _ended(about: SubjectClaims, people: People, status: str) -> Iterable[Attention]:
    who, reason = None, None
    if status == "DECLINED":
        declined = [
            (claims.at("declined"), signer_id)
            for signer_id, claims in people.claims.items()
            if people.ended(claims, "declined", "DECLINED")
        ]
        who = max(declined)[1] if declined else None
        source = people.claims[who] if who else about
        reason = source.text("reason") if source.at("reason") >= people.status_event_at else None
    yield Attention(status, _status_since(about), who, reason)
