"""The JSON of packages that a REST caller sends, with their documents and requested signatures.

Missing ids, positions and types are generated. Members that the simulator does not work with are kept and shown as
they were sent. Members that OneSpan itself sets, such as dates, are ignored, so a caller may send what it has read.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from random import Random

from app.simulator import ids, role_json
from app.simulator.json_values import Json, child, moment, number, objects, others, text, unique
from app.simulator.packages import Approval, Document, Field, Package, Role
from app.simulator.people import Person
from app.simulator.routes import BadRequest

TYPES = ("PACKAGE", "TEMPLATE", "LAYOUT")
# The members that the simulator works with or that OneSpan sets. All others are kept as they are.
PACKAGE_MEMBERS = frozenset(
    {
        *("id", "name", "type", "status", "trashed", "created", "updated", "completed", "due", "autocomplete"),
        *("description", "data", "sender", "roles", "documents", "messages"),
    }
)
DOCUMENT_MEMBERS = frozenset({"id", "name", "index", "size", "pages", "approvals", "fields", "base64Content"})
APPROVAL_MEMBERS = frozenset({"id", "role", "optional", "disabled", "accepted", "signed", "fields"})
SIGNATURE_FIELD = {"type": "SIGNATURE", "subtype": "FULLNAME"}
INPUT_FIELD = {"type": "INPUT", "subtype": "TEXTFIELD"}
PDF_PAGE = re.compile(rb"/Type\s*/Page\b")


def package(json: Json, *, sender: Person, rng: Random, now: datetime, files: Sequence[bytes] = ()) -> Package:
    """Return the package that a caller creates, as a draft, with a role for the sender.

    The files belong to the documents of the JSON in their order.
    """
    kind = text(json, "type") or "PACKAGE"
    if kind not in TYPES:
        raise BadRequest(f"type must be one of {', '.join(TYPES)}")
    name = text(json, "name")
    if not name:
        raise BadRequest("name is missing")
    given = [role_json.role(part, rng=rng) for part in objects(json, "roles")]
    roles = role_json.with_linked_members(role_json.with_sender(given, sender, rng=rng))
    documents = new_documents(objects(json, "documents"), roles, rng=rng, files=files)
    return Package(
        id=ids.package_id(rng),
        name=name,
        type=kind,
        sender=sender,
        roles=unique("roles", roles),
        documents=unique("documents", documents),
        autocomplete=json.get("autocomplete") is not False,
        created=now,
        updated=now,
        due=moment(json, "due"),
        description=text(json, "description"),
        data=child(json, "data"),
        members=others(json, PACKAGE_MEMBERS),
    )


def document(
    json: Json, roles: Sequence[Role], *, rng: Random, before: Document | None = None, file: bytes = b""
) -> Document:
    """Return the document with these members, and its requested signatures by the given roles."""
    base = before or Document(text(json, "id") or ids.document_id(rng), "", 1, ())
    content = file or _decoded(text(json, "base64Content")) or base.file
    asked = [approval(part, roles, rng=rng) for part in objects(json, "approvals")]
    fields = (
        {"fields": [field(part, INPUT_FIELD, rng=rng) for part in objects(json, "fields")]} if "fields" in json else {}
    )
    return replace(
        base,
        name=text(json, "name", base.name) or f"Document {base.id[:8]}",
        pages=len(PDF_PAGE.findall(content)) or base.pages,
        approvals=unique("approvals", asked) if json.get("approvals") is not None else base.approvals,
        file=content,
        members={**base.members, **others(json, DOCUMENT_MEMBERS), **fields},
    )


def new_documents(
    parts: Sequence[Json], roles: Sequence[Role], *, rng: Random, files: Sequence[bytes]
) -> list[Document]:
    """Return documents with their files, in the order of `index`; documents without an `index` come last."""
    if len(files) > len(parts):
        raise BadRequest("there are more files than documents")
    contents = dict(enumerate(files))
    order = sorted(range(len(parts)), key=lambda at: number(parts[at], "index", len(parts)))
    return [document(parts[at], roles, rng=rng, file=contents.get(at, b"")) for at in order]


def approval(json: Json, roles: Sequence[Role], *, rng: Random, before: Approval | None = None) -> Approval:
    """Return the requested signature with these members. Its `role` must be the id of a role of the package.

    A new one without fields gets a signature field.
    """
    role_id, role_ids = text(json, "role"), [role.id for role in roles]
    if role_id not in role_ids and (role_id or before is None):
        raise BadRequest("the role of an approval is not a role of the package")
    base = before or Approval(text(json, "id") or ids.uuid(rng), role_ids.index(role_id))
    changed = replace(
        base,
        role=role_ids.index(role_id) if role_id else base.role,
        optional=bool(json.get("optional", base.optional)),
        disabled=bool(json.get("disabled", base.disabled)),
        members={**base.members, **others(json, APPROVAL_MEMBERS)},
    )
    given = objects(json, "fields") or ([] if before else [{}])
    fields = [field(part, SIGNATURE_FIELD, rng=rng) for part in given]
    return with_fields(changed, fields) if fields else changed


def with_fields(approval: Approval, fields: Sequence[Json]) -> Approval:
    """Return the approval with these fields, shown as they are."""
    kinds = tuple(Field(text(part, "type"), text(part, "subtype"), text(part, "id")) for part in fields)
    return replace(approval, fields=kinds, members={**approval.members, "fields": fields})


def field(json: Json, default: Json, *, rng: Random) -> dict[str, object]:
    """Return a field of a document or signature with every member that OneSpan's schema requires."""
    return {"id": ids.uuid(rng), "name": "", "page": 0, "extract": False, **default, **others(json, ())}


def _decoded(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        raise BadRequest("base64Content is not base64") from None
