"""Edits of a package by REST callers: its roles, documents and requested signatures, and the consent that follows them.

The functions are pure. Each returns the values of an `Action`: the attributes of the package that the edit replaces.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random

from app.simulator import ids
from app.simulator.json_values import unique
from app.simulator.packages import CONSENT, Approval, Document, Package, Role
from app.simulator.routes import BadRequest

CONSENT_NAME = "Electronic Disclosures and Signatures Consent"
Values = Mapping[str, object]


def with_consent(package: Package, *, rng: Random) -> Package:
    """Return the package with the consent as its first document, which everyone accepts who must sign anything."""
    documents = [document for document in package.documents if document.id != CONSENT]
    asked = [approval for document in documents for approval in document.approvals]
    signing = sorted({approval.role for approval in asked if not approval.optional})
    consent = next((document for document in package.documents if document.id == CONSENT), None)
    before = {approval.role: approval for approval in consent.approvals} if consent else {}
    approvals = tuple(before.get(role) or Approval(ids.uuid(rng), role, fields=()) for role in signing)
    base = consent or Document(CONSENT, CONSENT_NAME, 1, ())
    return replace(package, documents=(replace(base, approvals=approvals), *documents))


def set_documents(package: Package, documents: Iterable[Document], *, rng: Random) -> Values:
    """Replace all documents."""
    after = with_consent(replace(package, documents=unique("documents", documents)), rng=rng)
    return {"documents": after.documents}


def set_document(package: Package, number: int, document: Document, *, rng: Random) -> Values:
    """Replace the document at this position."""
    documents = (*package.documents[:number], document, *package.documents[number + 1 :])
    return set_documents(package, documents, rng=rng)


def set_approvals(package: Package, number: int, approvals: Iterable[Approval], *, rng: Random) -> Values:
    """Replace the requested signatures of the document at this position."""
    document = replace(package.documents[number], approvals=unique("approvals", approvals))
    return set_document(package, number, document, rng=rng)


def set_role(package: Package, position: int, role: Role) -> Values:
    """Replace the role at this position, or add it at the end."""
    roles = (*package.roles[:position], role, *package.roles[position + 1 :])
    return {"roles": unique("roles", roles)}


def without_role(package: Package, position: int) -> Values:
    """Remove the role at this position with its requested signatures. The sender's role remains."""
    if package.roles[position].is_sender:
        raise BadRequest("the role of the sender cannot be deleted")
    kept = [number for number in range(len(package.roles)) if number != position]
    documents = [
        _renumbered(document, {number: at for at, number in enumerate(kept)}) for document in package.documents
    ]
    return {"roles": tuple(package.roles[number] for number in kept), "documents": tuple(documents)}


def reordered(package: Package, indexes: Mapping[str, int]) -> Values:
    """Give roles, by their ids, their positions in the signing order."""
    return {"roles": tuple(replace(role, index=indexes.get(role.id, role.index)) for role in package.roles)}


def _renumbered(document: Document, positions: Mapping[int, int]) -> Document:
    approvals = [approval for approval in document.approvals if approval.role in positions]
    return replace(
        document, approvals=tuple(replace(approval, role=positions[approval.role]) for approval in approvals)
    )
