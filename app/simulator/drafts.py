"""Random new packages, with people, documents and requested signatures."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from app.simulator import ids, people
from app.simulator.anomalies import NO_ANOMALIES, Rates, occurs
from app.simulator.packages import CONSENT, Approval, Attachment, Document, Package, Role
from app.simulator.people import Person

SUBJECTS = ("Lease", "Loan agreement", "Employment contract", "Purchase order", "Consent to treatment", "NDA")
DOCUMENT_NAMES = ("Terms", "Annex A", "Price list", "Privacy notice", "Direct debit mandate")
ATTACHMENTS = ("Passport", "Proof of address", "Driving licence")
SCHEMES = {"NONE": 10, "SMS": 3, "CHALLENGE": 2, "KBA": 3}  # authentication methods of signers, with weights
SIGNER_COUNTS = {1: 3, 2: 5, 3: 3, 4: 1}  # numbers of signers per package, with weights
TEMPLATE_RATE = 0.06  # share of new packages that are templates
ORDERED_RATE = 0.5  # share of packages that have a signing order
COMPLETED_BY_HAND_RATE = 0.2  # share of packages that the sender must complete
SENDER_SIGNS_RATE = 0.15  # share of packages that the sender signs, too
ATTACHMENT_RATE = 0.2  # share of signers who must upload an attachment
SIGNER_AS_ROLE_ID_RATE = 0.2  # share of roles that have the signer's id as role id
DUE_DATE_RATE = 0.5  # share of packages that have a due date
FURTHER_DOCUMENT_RATE = 0.7  # share of the documents after the first that a signer signs


def draft(rng: Random, senders: Sequence[Person], *, now: datetime, rates: Rates = NO_ANOMALIES) -> Package:
    """Return a new package, template or layout."""
    sender = rng.choice(senders)
    kind = "TEMPLATE" if rng.random() < TEMPLATE_RATE else "LAYOUT" if occurs(rng, rates, "layout") else "PACKAGE"
    roles = _roles(rng, sender)
    subject = rng.choice(SUBJECTS)
    documents = _documents(rng, subject, roles)
    if kind != "PACKAGE":
        roles = [role if role.is_sender else replace(role, person=None) for role in roles]
    last_name = next((role.person.last_name for role in roles if role.person and not role.is_sender), kind.lower())
    return Package(
        id=ids.package_id(rng),
        name=f"{subject}, {last_name}",
        type=kind,
        sender=sender,
        roles=tuple(roles),
        documents=tuple(documents),
        autocomplete=rng.random() >= COMPLETED_BY_HAND_RATE,
        created=now,
        updated=now,
        due=now + timedelta(days=rng.randint(7, 60)) if rng.random() < DUE_DATE_RATE else None,
    )


def _roles(rng: Random, sender: Person) -> list[Role]:
    """Return the roles of one to four signers, in order or in parallel, and of the sender, who always has a role."""
    count = rng.choices(list(SIGNER_COUNTS), list(SIGNER_COUNTS.values()))[0]
    in_order = rng.random() < ORDERED_RATE
    roles = [_role(rng, index=position + 1 if in_order else 1) for position in range(count)]
    return [*roles, Role(ids.uuid(rng), index=count + 1 if in_order else 1, person=sender, is_sender=True)]


def _role(rng: Random, *, index: int) -> Role:
    """Return a role with a new id, or with the signer's id, which some integrators use as role id."""
    person = people.signer(rng)
    role_id = person.id if rng.random() < SIGNER_AS_ROLE_ID_RATE else ids.uuid(rng)
    attached = rng.random() < ATTACHMENT_RATE
    return Role(
        role_id,
        index,
        person,
        scheme=rng.choices(list(SCHEMES), list(SCHEMES.values()))[0],
        attachments=(Attachment(ids.uuid(rng), rng.choice(ATTACHMENTS)),) if attached else (),
    )


def _documents(rng: Random, subject: str, roles: Sequence[Role]) -> list[Document]:
    """Return the consent, which every signer accepts first, and one to three documents.

    Each signer signs the first document and some of the other documents.
    """
    signing = [n for n, role in enumerate(roles) if not role.is_sender or rng.random() < SENDER_SIGNS_RATE]
    names = [subject, *rng.sample(DOCUMENT_NAMES, k=rng.randint(0, 2))]
    documents = [
        _document(rng, name, [role for role in signing if n == 0 or rng.random() < FURTHER_DOCUMENT_RATE])
        for n, name in enumerate(names)
    ]
    return [_consent(_document(rng, "Electronic Disclosures and Signatures Consent", signing)), *documents]


def _document(rng: Random, name: str, signing: Sequence[int]) -> Document:
    approvals = tuple(Approval(ids.uuid(rng), role) for role in signing)
    return Document(ids.document_id(rng), name, pages=rng.randint(1, 12), approvals=approvals)


def _consent(document: Document) -> Document:
    """Return the document as the consent, which signers only accept."""
    approvals = tuple(replace(approval, fields=()) for approval in document.approvals)
    return replace(document, id=CONSENT, approvals=approvals)
