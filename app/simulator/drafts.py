"""What packages are made of when they begin: people, documents, signatures asked for."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from app.simulator import ids, people
from app.simulator.anomalies import NOTHING_ODD, Rates, befalls
from app.simulator.packages import CONSENT, Approval, Attachment, Document, Package, Role
from app.simulator.people import Person

SUBJECTS = ("Lease", "Loan agreement", "Employment contract", "Purchase order", "Consent to treatment", "NDA")
PAPERS = ("Terms", "Annex A", "Price list", "Privacy notice", "Direct debit mandate")
ATTACHMENTS = ("Passport", "Proof of address", "Driving licence")
SCHEMES = {"NONE": 10, "SMS": 3, "CHALLENGE": 2, "KBA": 3}  # how signers prove who they are, and how often
MANY = {1: 3, 2: 5, 3: 3, 4: 1}  # signers, and how often there are so many
TEMPLATES, ORDERED, BY_HAND, SENDER_SIGNS, ATTACHED, ONE_ID = 0.06, 0.5, 0.2, 0.15, 0.2, 0.2  # how often
DUE, ASKED = 0.5, 0.7  # ... has a package a due date, does a further document ask a signer


def draft(dice: Random, senders: Sequence[Person], *, now: datetime, odd: Rates = NOTHING_ODD) -> Package:
    """A package as somebody has just made it, or a template, or a layout."""
    sender = dice.choice(senders)
    kind = "TEMPLATE" if dice.random() < TEMPLATES else "LAYOUT" if befalls(dice, odd, "layout") else "PACKAGE"
    roles = _roles(dice, sender)
    subject = dice.choice(SUBJECTS)
    documents = _documents(dice, subject, roles)
    if kind != "PACKAGE":
        roles = [role if role.is_sender else replace(role, person=None) for role in roles]
    last_name = next((role.person.last_name for role in roles if role.person and not role.is_sender), kind.lower())
    return Package(
        id=ids.package_id(dice),
        name=f"{subject}, {last_name}",
        type=kind,
        sender=sender,
        roles=tuple(roles),
        documents=tuple(documents),
        autocomplete=dice.random() >= BY_HAND,
        created=now,
        updated=now,
        due=now + timedelta(days=dice.randint(7, 60)) if dice.random() < DUE else None,
    )


def _roles(dice: Random, sender: Person) -> list[Role]:
    """One to four signers, in order or in parallel, and the sender, who has a role in every package."""
    many = dice.choices(list(MANY), list(MANY.values()))[0]
    in_order = dice.random() < ORDERED
    roles = [_role(dice, index=place + 1 if in_order else 1) for place in range(many)]
    return [*roles, Role(ids.uuid(dice), index=many + 1 if in_order else 1, person=sender, is_sender=True)]


def _role(dice: Random, *, index: int) -> Role:
    """OneSpan gives a role an id of its own, or the signer's where the integrator chose the signer's."""
    person = people.signer(dice)
    role_id = person.id if dice.random() < ONE_ID else ids.uuid(dice)
    attached = dice.random() < ATTACHED
    return Role(
        role_id,
        index,
        person,
        scheme=dice.choices(list(SCHEMES), list(SCHEMES.values()))[0],
        attachment=Attachment(ids.uuid(dice), dice.choice(ATTACHMENTS)) if attached else None,
    )


def _documents(dice: Random, subject: str, roles: Sequence[Role]) -> list[Document]:
    """The consent, which every signer accepts first, and one to three documents, of which each signs some."""
    signing = [place for place, role in enumerate(roles) if not role.is_sender or dice.random() < SENDER_SIGNS]
    names = [subject, *dice.sample(PAPERS, k=dice.randint(0, 2))]
    papers = [
        _asking(dice, name, [place for place in signing if n == 0 or dice.random() < ASKED])
        for n, name in enumerate(names)
    ]
    return [replace(_asking(dice, "Electronic Disclosures and Signatures Consent", signing), id=CONSENT), *papers]


def _asking(dice: Random, name: str, signing: Sequence[int]) -> Document:
    approvals = tuple(Approval(ids.uuid(dice), place) for place in signing)
    return Document(ids.document_id(dice), name, pages=dice.randint(1, 12), approvals=approvals)
