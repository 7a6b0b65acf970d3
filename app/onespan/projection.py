"""From what the witnesses claim to what we believe: the picture of one package. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from app.onespan.claims import EPOCH, NEVER, PACKAGE, Registers, State, believed, since, union
from app.onespan.lifecycle import SIGNED
from app.onespan.values import Attention, Document, Package, Sender, Signer

# In these statuses nobody is asked to sign, so what hinders a signer needs no hand.
AT_REST = SIGNED | {"DRAFT", "DECLINED", "OPTED_OUT", "EXPIRED"}


class Known:
    """All that is claimed of one subject, read attribute by attribute."""

    def __init__(self, attributes: Mapping[str, Registers]) -> None:
        self.attributes = attributes
        self._believed = {attribute: believed(registers) for attribute, registers in attributes.items()}

    def value(self, attribute: str) -> object:
        """What we believe, or None."""
        return self._believed.get(attribute, NEVER)[1]

    def at(self, attribute: str) -> str:
        """When the newest claim of it is dated; `EPOCH` when there is none."""
        return self._believed.get(attribute, NEVER)[0]

    @property
    def newest(self) -> str:
        """When the newest claim of any of it is dated."""
        return max(at for at, _ in self._believed.values())

    def since(self, attribute: str) -> datetime | None:
        """From when what we believe holds."""
        return moment(since(self.attributes.get(attribute, {})))

    def text(self, attribute: str) -> str | None:
        """The value where it is a text."""
        value = self.value(attribute)
        return value if isinstance(value, str) else None

    def flag(self, attribute: str) -> bool:
        """Whether it is believed to be so."""
        return self.value(attribute) is True

    def named(self, kind: str) -> list[tuple[str, Registers]]:
        """The attributes of one kind that carry a name: `attachment passport.pdf` is kind `attachment`."""
        prefix = f"{kind} "
        return sorted(
            (attribute.removeprefix(prefix), registers)
            for attribute, registers in self.attributes.items()
            if attribute.startswith(prefix)
        )


def moment(text: object) -> datetime | None:
    """A claimed time, or None where there is none."""
    return datetime.fromisoformat(text) if isinstance(text, str) and text != EPOCH else None


def derive(package_id: str, state: State) -> Package:
    """What to believe of a package, given all that is claimed of it."""
    people = People.of(state)
    about = people.about
    signers = people.signers()
    waiting = [one for one in signers if one.status in ("PENDING", "LOCKED")]
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
        signers_total=sum(one.status != "REASSIGNED" for one in signers),
        signers_completed=sum(one.status == "COMPLETED" for one in signers),
        attention=tuple(_attention(about, people, signers)),
        documents=tuple(_documents(about, people, state)),
        signers=tuple(signers),
        next_signers=_next(about, waiting),
        last_event_at=moment(about.at("event")),
        read_at=moment(about.at("seats")),
    )


def _status_since(about: Known) -> datetime | None:
    """Since when the status holds. A snapshot shows a status without its time, but not one newer than `updated`."""
    held = about.since("status")
    if about.value("status") is None:
        return None
    shown = moment(about.value("completed" if about.value("status") == "COMPLETED" else "updated"))
    told_by_event = about.attributes.get("status", {}).get("event", (EPOCH, None))[1] == about.value("status")
    return min(filter(None, (held, shown)), default=None) if not told_by_event else held


def _updated(about: Known) -> datetime | None:
    return max(filter(None, (moment(about.at("event")), moment(about.value("updated")))), default=None)


def _next(about: Known, waiting: Iterable[Signer]) -> tuple[str, ...]:
    """Whose turn it is; nobody's while the package is not out for signature or the signing order is not known."""
    ordered = [(one.order, one.id) for one in waiting if one.order is not None]
    if about.value("status") in AT_REST or about.flag("trashed") or about.flag("deleted") or not ordered:
        return ()
    first = min(order for order, _ in ordered)
    return tuple(signer_id for order, signer_id in ordered if order == first)


class People:
    """Who is who in one package: which ids are signers, which are another name for one, and who has left.

    `sessionUser` may be a signer's id or a role's (OneSpan's sources disagree), and it is the sender's for what
    senders do. The newest snapshot says who sits where; before the first one we take events at their word.
    """

    def __init__(self, about: Known, state: State) -> None:
        self.about = about
        shown = about.value("seats")
        self.seats: dict[str, str] = dict(shown) if isinstance(shown, list) else {}
        self.holders = {role_id: signer_id for signer_id, role_id in reversed(self.seats.items())}
        self.seated = {
            subject.removeprefix("signer:")
            for subject, attributes in state.items()
            if subject.startswith("signer:") and "person" in attributes
        }
        self.roles = {one: role_id for _, one, role_id in sorted(self._sat(state))}
        self.sat = {role_id: one for one, role_id in self.roles.items()}
        self.read_at = about.at("seats")
        self.known = self._gather(state)

    @classmethod
    def of(cls, state: State) -> "People":
        """Those of the package of which all this is claimed."""
        return cls(Known(state.get(PACKAGE, {})), state)

    def _sat(self, state: State) -> Iterable[tuple[str, str, str]]:
        for one in self.seated:
            at, role_id = believed(state[f"signer:{one}"]["role_id"])
            yield at, one, str(role_id)

    def _gather(self, state: State) -> dict[str, Known]:
        told: dict[str, list[Mapping[str, Registers]]] = {}
        for subject, attributes in state.items():
            if subject.startswith("signer:"):
                told.setdefault(self.person(subject.removeprefix("signer:")), []).append(attributes)
        return {signer_id: Known(all_[0] if len(all_) == 1 else union(all_)) for signer_id, all_ in told.items()}

    def person(self, told_id: str) -> str:
        """The signer whom an id means: a signer's own, or the one in the seat of that role."""
        if told_id in self.seats or told_id in self.seated:
            return told_id
        return self.holders.get(told_id) or self.sat.get(told_id, told_id)

    def signers(self) -> list[Signer]:
        """Everybody who signs or has left their seat, in signing order."""
        shown = [self._signer(one, known) for one, known in self.known.items() if self._is_signer(one, known)]
        return sorted(shown, key=lambda one: (one.order is None, one.order or 0, one.id))

    def strangers(self) -> Iterable[tuple[str, Known]]:
        """Ids that events speak of, and that are no signer's, now or before."""
        return (
            (one, known)
            for one, known in self.known.items()
            if one not in self.seated and not self._is_signer(one, known)
        )

    def _is_signer(self, signer_id: str, known: Known) -> bool:
        if signer_id in self.seats:
            return True
        if signer_id in self.seated:
            return self._has_left(signer_id, known)
        if not known.flag("seen") and signer_id == self.about.value("sender_id"):
            return False
        if known.flag("reassigned"):
            return True  # they had left before anybody read who sat there
        return self.read_at == EPOCH or known.newest > self.read_at

    def _has_left(self, signer_id: str, known: Known) -> bool:
        """Whether somebody else has the seat: the newest snapshot shows it, or an event after it told so.

        Whom the sender takes out of a draft was not asked yet, and has left nothing.
        """
        if signer_id in self.seats:
            return known.flag("reassigned") and known.at("reassigned") > self.read_at
        was_asked = known.value("asked") is not False
        return known.flag("reassigned") or (was_asked and known.value("role_id") in self.holders)

    def _signer(self, signer_id: str, known: Known) -> Signer:
        status, status_at = self._status(signer_id, known)
        order = known.value("order")
        return Signer(
            id=signer_id,
            role_id=known.text("role_id"),
            name=known.text("name"),
            email=known.text("email"),
            order=order if isinstance(order, int) else None,
            status=status,
            status_at=status_at,
            locked=known.flag("locked"),
            email_bounce=known.text("email_bounce"),
            kba_failures=len(known.named("kba_failure")),
            attachments=tuple(name for name, _ in known.named("attachment")),
        )

    @property
    def stepped_at(self) -> str:
        """When the newest status step was told."""
        return self.about.attributes.get("status", {}).get("event", NEVER)[0]

    def ended(self, known: Known, how: str, status: str) -> bool:
        """Whether it is they who ended the package so, and it was not sent again since."""
        return self.about.value("status") == status and known.flag(how) and known.at(how) >= self.stepped_at

    def _status(self, signer_id: str, known: Known) -> tuple[str, datetime | None]:
        """The first of these that holds. Who declined is pending again when the package was sent anew."""
        for attribute, status, holds in (
            ("reassigned", "REASSIGNED", self._has_left(signer_id, known)),
            ("done", "COMPLETED", known.flag("done")),
            ("declined", "DECLINED", self.ended(known, "declined", "DECLINED")),
            ("opted_out", "OPTED_OUT", self.ended(known, "opted_out", "OPTED_OUT")),
            ("locked", "LOCKED", known.flag("locked")),
        ):
            if holds:
                return status, known.since(attribute)
        return "PENDING", None


def _documents(about: Known, people: People, state: State) -> Iterable[Document]:
    shown = about.value("documents")
    order = {document_id: place for place, document_id in enumerate(shown if isinstance(shown, list) else ())}
    found = [
        (subject.removeprefix("document:"), Known(attributes))
        for subject, attributes in state.items()
        if subject.startswith("document:")
    ]
    for document_id, known in sorted(found, key=lambda item: (order.get(item[0], len(order)), item[0])):
        if document_id in order or known.at("seen") > people.read_at:
            yield _document(document_id, known, people)


def _document(document_id: str, known: Known, people: People) -> Document:
    told: dict[str, list[Mapping[str, Registers]]] = {}
    for told_id, registers in known.named("signed"):
        told.setdefault(people.person(told_id), []).append({"signed": registers})
    signed = {one: at for one, all_ in told.items() if (at := Known(union(all_)).text("signed"))}
    return Document(
        id=document_id,
        name=known.text("name"),
        signed_by=tuple(sorted(filter(None, signed), key=lambda one: (signed[one], one))),
        signed_at=moment(max(signed.values(), default=None)),
    )


def _attention(about: Known, people: People, signers: Iterable[Signer]) -> Iterable[Attention]:
    """What a sender must act on now; in a fixed order, so that two pictures of the same facts are equal."""
    if about.flag("trashed") or about.flag("deleted"):
        return
    status = about.value("status")
    if status in ("DECLINED", "EXPIRED"):
        yield from _ended(about, people, str(status))
    if status in AT_REST:
        return
    if about.flag("ready"):
        yield Attention("READY_FOR_COMPLETION", about.since("ready"))
    yield from _hindrances(about, None)
    for one in signers:
        if one.status in ("PENDING", "LOCKED"):
            yield from _hindrances(people.known[one.id], one.id)
    for told_id, known in sorted(people.strangers(), key=lambda item: item[0]):
        if bounce := known.text("email_bounce"):
            yield Attention("EMAIL_BOUNCE", known.since("email_bounce"), None, f"{bounce} ({told_id})")


def _hindrances(known: Known, who: str | None) -> Iterable[Attention]:
    if known.flag("locked"):
        yield Attention("SIGNER_LOCKED", known.since("locked"), who)
    if known.flag("kba"):
        yield Attention("KBA_FAILURE", known.since("kba"), who)
    if bounce := known.text("email_bounce"):
        yield Attention("EMAIL_BOUNCE", known.since("email_bounce"), who, bounce)


def _ended(about: Known, people: People, status: str) -> Iterable[Attention]:
    who, reason = None, None
    if status == "DECLINED":
        declined = [
            (known.at("declined"), one)
            for one, known in people.known.items()
            if people.ended(known, "declined", "DECLINED")
        ]
        who = max(declined)[1] if declined else None
        told = people.known[who] if who else about
        reason = told.text("reason") if told.at("reason") >= people.stepped_at else None
    yield Attention(status, _status_since(about), who, reason)
