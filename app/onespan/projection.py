"""The projection: derive the current state of a package from its merged claims, without I/O."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from app.onespan.lifecycle import COMPLETE_STATUSES
from app.onespan.merge import EPOCH, NO_CLAIM, State, current_value
from app.onespan.seats import People, asked_of, next_signers
from app.onespan.snapshot import MISSING, REJECTED
from app.onespan.subjects import SubjectClaims, moment
from app.onespan.values import (
    OPEN_SIGNER_STATUSES,
    Attention,
    AttentionReason,
    Document,
    Group,
    Package,
    Sender,
    Signature,
    SignatureState,
    Signer,
    SignerStatus,
)

# Raise the version with each change of the claims that a callback or snapshot makes, or of what is derived from them.
PROJECTION_VERSION = 6

# No one can sign in these statuses, so problems of signers need no attention.
NOT_SIGNABLE = COMPLETE_STATUSES | {"DRAFT", "DECLINED", "OPTED_OUT", "EXPIRED"}


def derive(package_id: str, state: State) -> Package:
    """Return the current state of a package from its merged claims."""
    people = People.of(state)
    about = people.about
    signers = _signers(people)
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
        signers_total=sum(signer.owes for signer in signers),
        signers_completed=sum(signer.status == SignerStatus.COMPLETED for signer in signers),
        attention=tuple(_attention(about, people, signers)),
        documents=tuple(_documents(people)),
        signers=tuple(signers),
        next_signers=next_signers(signers) if _is_signable(about) else (),
        last_event_at=moment(about.at("event")),
        read_at=moment(about.at("seats")),
        description=about.text("description"),
        data=data if isinstance(data := about.value("data"), Mapping) else None,
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


def _is_signable(about: SubjectClaims) -> bool:
    """Whether signers can sign the package now."""
    return about.value("status") not in NOT_SIGNABLE and not about.flag("trashed") and not about.flag("deleted")


def _signers(people: People) -> list[Signer]:
    """Return all signers, including those who were replaced and those who sign nothing, in signing order."""
    signers = [
        _signer(signer_id, claims, people)
        for signer_id, claims in people.claims.items()
        if people.is_signer(signer_id, claims)
    ]
    return sorted(signers, key=lambda signer: (signer.order is None, signer.order or 0, signer.id))


def _signer(signer_id: str, claims: SubjectClaims, people: People) -> Signer:
    status, status_at = _signer_status(signer_id, claims, people)
    order = claims.value("order")
    return Signer(
        id=signer_id,
        role_id=claims.text("role_id"),
        name=claims.text("name"),
        email=claims.text("email"),
        order=order if isinstance(order, int) else None,
        status=status.value if status else None,
        status_at=status_at,
        locked=claims.flag("locked"),
        email_bounce=_bounce(claims) or ("OOTO" if _is_away(claims) else None),
        kba_failures=len(claims.named("kba_failure")),
        attachments=tuple(name for name, _ in claims.named("attachment")),
        owes=status not in (None, SignerStatus.REASSIGNED),
        begun_at=_begun_at(signer_id, claims, people),
        group=_group(claims),
    )


def _signer_status(
    signer_id: str, claims: SubjectClaims, people: People
) -> tuple[SignerStatus | None, datetime | None]:
    """Return the first status that applies. A signer who declined is pending again after the package is resent.

    No one is pending in a complete package, nor in one that only waits for its sender: OneSpan says so without a date.
    """
    about = people.about
    if people.has_left(signer_id, claims):
        return SignerStatus.REASSIGNED, claims.since("reassigned")
    if claims.value("owes") is False:
        return None, None
    if claims.flag("done"):
        return SignerStatus.COMPLETED, claims.since("done") if _is_from_event(claims, "done") else _done_at(claims)
    is_complete = about.value("status") in COMPLETE_STATUSES
    for how, status in (("declined", SignerStatus.DECLINED), ("opted_out", SignerStatus.OPTED_OUT)):
        if (is_complete or about.value("status") == status) and _has_ended(how, claims, about, status=status):
            return status, _since(claims, how, about)
    # Before the first snapshot, the new role of a reassignment is only another id of a person who signs.
    is_known = claims.value("owes") is True or "reassigned" not in claims.attributes
    if is_complete or about.flag("ready"):
        return (SignerStatus.COMPLETED if is_known else None), None
    return (
        (SignerStatus.LOCKED, _since(claims, "locked", about))
        if claims.flag("locked")
        else (SignerStatus.PENDING, None)
    )


def _has_ended(how: str, claims: SubjectClaims, about: SubjectClaims, *, status: str) -> bool:
    """Whether this signer declined or opted out, and the package was not sent again since."""
    since = about.reported_at("status") if about.value("status") == status else about.at("sent")
    return claims.flag(how) and claims.at(how) >= since


def _is_from_event(claims: SubjectClaims, attribute: str) -> bool:
    """Whether a callback reported the current value of an attribute."""
    return claims.attributes.get(attribute, {}).get("event", NO_CLAIM)[1] == claims.value(attribute)


def _done_at(claims: SubjectClaims) -> datetime | None:
    return moment(claims.value("done_at"))


def _since(claims: SubjectClaims, attribute: str, about: SubjectClaims) -> datetime | None:
    """Return since when a value holds. A value that only snapshots show is not newer than their `updated`."""
    since = claims.since(attribute)
    if _is_from_event(claims, attribute):
        return since
    return min(filter(None, (since, moment(about.value("updated")))), default=None)


def _begun_at(signer_id: str, claims: SubjectClaims, people: People) -> datetime | None:
    signed = [signers[signer_id] for signers in people.signed.values() if signer_id in signers]
    return moment(min(filter(None, (claims.text("begun"), *signed)), default=None))


def _group(claims: SubjectClaims) -> Group | None:
    group = claims.value("group")
    return Group(group["name"], tuple(group["members"])) if isinstance(group, Mapping) else None


def _bounce(claims: SubjectClaims) -> str | None:
    """Return the kind of bounce; None if the sender has corrected the address since."""
    bounce = claims.text("email_bounce")
    return None if bounce and _is_corrected(claims, since="email_bounce") else bounce


def _is_away(claims: SubjectClaims) -> bool:
    """Whether an out-of-office reply came from the present address."""
    return claims.flag("out_of_office") and not _is_corrected(claims, since="out_of_office")


def _is_corrected(claims: SubjectClaims, *, since: str) -> bool:
    """Whether OneSpan first showed the present address, or none, after the claim of the attribute `since`."""
    address, shown_since = claims.text("email") or "", dict(claims.named("first email"))
    return len(shown_since) > 1 and current_value(shown_since.get(address, {}))[0] > claims.at(since)


def _documents(people: People) -> Iterable[Document]:
    ids = people.about.value("documents")
    order = {document_id: index for index, document_id in enumerate(ids if isinstance(ids, list) else ())}
    in_order = sorted(people.documents.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    for document_id, claims in in_order:
        if document_id in order or claims.at("seen") > people.read_at:
            yield _document(document_id, claims, people)


def _document(document_id: str, claims: SubjectClaims, people: People) -> Document:
    signed = people.signed[document_id]
    asked = asked_of(claims)
    return Document(
        id=document_id,
        name=claims.text("name"),
        signed_by=tuple(sorted(signed, key=lambda signer_id: (signed[signer_id], signer_id))),
        signed_at=moment(max(signed.values(), default=None)),
        signatures=tuple(
            _signature(signer_id, signed.get(signer_id), claims.text(f"begun {signer_id}"), asked.get(signer_id, True))
            for signer_id in sorted({*asked, *signed})
        ),
    )


def _signature(signer_id: str, signed: str | None, begun: str | None, required: bool) -> Signature:  # noqa: FBT001
    if signed:
        return Signature(signer_id, SignatureState.SIGNED.value, moment(signed), required)
    state = SignatureState.BEGUN if begun else SignatureState.OPEN
    return Signature(signer_id, state.value, moment(begun), required)


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
    yield from _problems(about, None, about)
    for signer in signers:
        claims = people.claims[signer.id]
        if signer.status in (None, *OPEN_SIGNER_STATUSES):
            yield from _problems(claims, signer.id, about)
        if signer.status != SignerStatus.REASSIGNED:
            yield from _attachment_problems(claims, signer, about)
    for user_id, claims in sorted(people.non_signers(), key=lambda item: item[0]):
        if bounce := claims.text("email_bounce"):
            detail = f"{bounce} ({user_id})"
            yield Attention(AttentionReason.EMAIL_BOUNCE.value, claims.since("email_bounce"), None, detail)


def _problems(claims: SubjectClaims, who: str | None, about: SubjectClaims) -> Iterable[Attention]:
    if claims.flag("locked"):
        yield Attention(AttentionReason.SIGNER_LOCKED.value, _since(claims, "locked", about), who)
    if claims.flag("kba"):
        yield Attention(AttentionReason.KBA_FAILURE.value, claims.since("kba"), who)
    if bounce := _bounce(claims):
        yield Attention(AttentionReason.EMAIL_BOUNCE.value, claims.since("email_bounce"), who, bounce)
    elif _is_away(claims):
        yield Attention(AttentionReason.OUT_OF_OFFICE.value, claims.since("out_of_office"), who)


def _attachment_problems(claims: SubjectClaims, signer: Signer, about: SubjectClaims) -> Iterable[Attention]:
    """Yield the attachments that the sender rejected, and those that a signer who has signed did not upload."""
    requirements, since = claims.value("requirements"), _since(claims, "requirements", about)
    uploads = {name: registers.get("event", NO_CLAIM)[0] for name, registers in claims.named("attachment")}
    for name, status in sorted(requirements.items()) if isinstance(requirements, Mapping) else ():
        if uploads.get(name, EPOCH) > claims.at("requirements"):
            continue
        if status == REJECTED:
            yield Attention(AttentionReason.ATTACHMENT_REJECTED.value, since, signer.id, name)
        elif status == MISSING and signer.status == SignerStatus.COMPLETED:
            yield Attention(AttentionReason.ATTACHMENT_MISSING.value, since, signer.id, name)


def _ended(about: SubjectClaims, people: People, status: str) -> Iterable[Attention]:
    who, reason = None, None
    if status == "DECLINED":
        declined = [
            (claims.at("declined"), signer_id)
            for signer_id, claims in people.claims.items()
            if _has_ended("declined", claims, about, status="DECLINED")
        ]
        who = max(declined)[1] if declined else None
        source = people.claims[who] if who else about
        reason = source.text("reason") if source.at("reason") >= about.reported_at("status") else None
    yield Attention(status, _status_since(about), who, reason)
