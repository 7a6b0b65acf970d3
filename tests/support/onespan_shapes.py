"""JSON Schemas of OneSpan's answers: what OpenAPI document 11.51 requires, rewritten by hand."""

from typing import Any

from jsonschema import Draft202012Validator

TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
TEXT, BOOLEAN, NUMBER, OBJECT = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"type": "object"}


def enum(*values: str) -> dict[str, Any]:
    """The schema of a string with one of these values."""
    return {"type": "string", "enum": list(values)}


def array_of(shape: dict[str, Any]) -> dict[str, Any]:
    """The schema of an array whose items have the given schema."""
    return {"type": "array", "items": shape}


def shape(members: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """The schema of an object that requires `members` and may have the `optional` members and others."""
    return {"type": "object", "required": list(members), "properties": {**members, **optional}}


# The required members of the objects in a package.
USER = {
    **dict.fromkeys(("id", "name", "firstName", "lastName", "email", "company", "timezoneId"), TEXT),
    **dict.fromkeys(("created", "updated"), TIME),
    **dict.fromkeys(("userCustomFields", "professionalIdentityFields"), array_of(OBJECT)),
}
SENDER = {
    **USER,
    "type": enum("REGULAR", "MANAGER"),
    "status": enum("INVITED", "ACTIVE", "LOCKED"),
    "memberships": array_of(OBJECT),
    "hasDelegates": BOOLEAN,
}
SIGNER = {
    **USER,
    "email": {"type": ["string", "null"]},
    "signerType": enum("ACCOUNT_SENDER", "EXTERNAL_SENDER", "EXTERNAL_SIGNER", "GROUP_SIGNER", "AD_HOC_GROUP_SIGNER"),
    "auth": shape(
        {
            "scheme": enum("NONE", "PROVIDER", "CHALLENGE", "SMS", "SSO", "KBA", "SAA"),
            "challenges": array_of(OBJECT),
        }
    ),
    "delivery": shape(dict.fromkeys(("email", "download", "provider"), BOOLEAN)),
    "knowledgeBasedAuthentication": shape(
        {},
        knowledgeBasedAuthenticationStatus=enum("NOT_YET_ATTEMPTED", "PASSED", "FAILED", "INVALID_SIGNER", "UPDATED"),
    ),
}
GROUP = {
    **dict.fromkeys(("name", "email"), TEXT),
    **dict.fromkeys(("created", "updated"), TIME),
    **dict.fromkeys(("emailMembers", "reciprocalDelegation"), BOOLEAN),
    "members": array_of(
        shape({**dict.fromkeys(("userId", "firstName", "lastName", "email", "memberType"), TEXT), "pending": BOOLEAN})
    ),
}
ATTACHMENT = {"id": TEXT, "name": TEXT, "required": BOOLEAN, "status": enum("INCOMPLETE", "REJECTED", "COMPLETE")}
ROLE = {
    "id": TEXT,
    "name": TEXT,
    "type": enum("SIGNER", "SENDER", "VIEWER"),
    "index": NUMBER,
    "signers": array_of(shape(SIGNER, phone=TEXT, group=shape(GROUP))),
    "attachmentRequirements": array_of(shape(ATTACHMENT, comment=TEXT, description=TEXT)),
}
FIELD = {
    **dict.fromkeys(("id", "name", "subtype"), TEXT),
    "type": enum("SIGNATURE", "INPUT", "IMAGE"),
    "page": NUMBER,
    "extract": BOOLEAN,
}
APPROVAL = {"id": TEXT, "optional": BOOLEAN, "disabled": BOOLEAN, "accepted": TIME, "signed": TIME}
DOCUMENT = {
    **dict.fromkeys(("id", "name", "description"), TEXT),
    **dict.fromkeys(("index", "size"), NUMBER),
    **dict.fromkeys(("extract", "tagged"), BOOLEAN),
    "extractionTypes": array_of(TEXT),
    "fields": array_of(shape(FIELD)),
    "pages": array_of(shape({"id": TEXT, "index": NUMBER, "version": NUMBER})),
    "approvals": array_of(shape({"role": TEXT, "fields": array_of(shape(FIELD))}, **APPROVAL)),
}
MESSAGE = {
    "status": enum("NEW", "READ", "TRASHED"),
    "from": shape(USER),
    "to": array_of(shape(USER)),
    "created": TIME,
    "content": TEXT,
    "documents": array_of(OBJECT),
}
PACKAGE = {
    **dict.fromkeys(("id", "name", "description", "emailMessage"), TEXT),
    **dict.fromkeys(("created", "updated"), TIME),
    **dict.fromkeys(("trashed", "autocomplete", "notarized", "bulkSendable"), BOOLEAN),
    "status": enum("DRAFT", "SENT", "COMPLETED", "ARCHIVED", "DECLINED", "OPTED_OUT", "EXPIRED"),
    "type": enum("PACKAGE", "TEMPLATE", "LAYOUT"),
    "visibility": enum("ACCOUNT", "SENDER"),
    "sender": shape(SENDER),
    "roles": array_of(shape(ROLE, locked=BOOLEAN, reassign=BOOLEAN)),
    "documents": array_of(shape(DOCUMENT)),
    "messages": array_of(shape(MESSAGE)),
}
PACKAGE_SHAPE = Draft202012Validator(shape(PACKAGE, due=TIME, completed=TIME))
DOCUMENT_SHAPE = Draft202012Validator(shape(DOCUMENT))
APPROVAL_SHAPE = Draft202012Validator(shape({"role": TEXT, "fields": array_of(shape(FIELD))}, **APPROVAL))
SENDER_SHAPE = Draft202012Validator(shape(SENDER))
ERROR_SHAPE = Draft202012Validator(shape({"code": NUMBER, "messageKey": TEXT, "message": TEXT}))

ROLE_SHAPE = Draft202012Validator(shape(ROLE, locked=BOOLEAN, reassign=BOOLEAN))
CALLBACK_SHAPE = Draft202012Validator(shape({"url": TEXT, "key": TEXT, "events": array_of(TEXT)}))
AUDIT_SHAPE = Draft202012Validator(
    shape(
        {
            "package-id": TEXT,
            "audit-events": array_of(
                shape(
                    {
                        **dict.fromkeys(("target", "user", "user-email", "user-ip", "data"), TEXT),
                        "date-time": TIME,
                        "type": enum("Accept", "Click To Sign", "Login", "Opt Out", "Decline"),
                        "target-type": enum("Document", "Package"),
                    }
                )
            ),
        }
    )
)


def page_of(items: dict[str, Any]) -> Draft202012Validator:
    """A validator for one page of a list with the given items."""
    return Draft202012Validator(shape({"count": NUMBER, "results": array_of(items)}))


PAGE_SHAPE, ROLES_SHAPE, SENDERS_SHAPE = page_of(shape(PACKAGE)), page_of(shape(ROLE)), page_of(shape(SENDER))
