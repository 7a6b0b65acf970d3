"""What OneSpan's OpenAPI document 11.51 requires of its answers, restated in our own words as JSON Schemas."""

from typing import Any

from jsonschema import Draft202012Validator

TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
TEXT, YES_NO, NUMBER, ANYTHING = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"type": "object"}


def one_of(*values: str) -> dict[str, Any]:
    """One of these texts."""
    return {"type": "string", "enum": list(values)}


def many(shape: dict[str, Any]) -> dict[str, Any]:
    """An array of such."""
    return {"type": "array", "items": shape}


def shape(members: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object that has all these members, and may have the optional ones and others."""
    return {"type": "object", "required": list(members), "properties": {**members, **optional}}


# What OneSpan's OpenAPI document 11.51 requires of a package, in our own words.
USER = {
    **dict.fromkeys(("id", "name", "firstName", "lastName", "email", "company", "timezoneId"), TEXT),
    **dict.fromkeys(("created", "updated"), TIME),
    **dict.fromkeys(("userCustomFields", "professionalIdentityFields"), many(ANYTHING)),
}
SENDER = {
    **USER,
    "type": one_of("REGULAR", "MANAGER"),
    "status": one_of("INVITED", "ACTIVE", "LOCKED"),
    "memberships": many(ANYTHING),
    "hasDelegates": YES_NO,
}
SIGNER = {
    **USER,
    "signerType": one_of("ACCOUNT_SENDER", "EXTERNAL_SENDER", "EXTERNAL_SIGNER", "GROUP_SIGNER"),
    "auth": shape(
        {
            "scheme": one_of("NONE", "PROVIDER", "CHALLENGE", "SMS", "SSO", "KBA", "SAA"),
            "challenges": many(ANYTHING),
        }
    ),
    "delivery": shape(dict.fromkeys(("email", "download", "provider"), YES_NO)),
    "knowledgeBasedAuthentication": shape(
        {},
        knowledgeBasedAuthenticationStatus=one_of("NOT_YET_ATTEMPTED", "PASSED", "FAILED", "INVALID_SIGNER", "UPDATED"),
    ),
}
ATTACHMENT = {"id": TEXT, "name": TEXT, "required": YES_NO, "status": one_of("INCOMPLETE", "REJECTED", "COMPLETE")}
ROLE = {
    "id": TEXT,
    "name": TEXT,
    "type": one_of("SIGNER", "SENDER"),
    "index": NUMBER,
    "signers": many(shape(SIGNER)),
    "attachmentRequirements": many(shape(ATTACHMENT)),
}
DOCUMENT = {
    **dict.fromkeys(("id", "name", "description"), TEXT),
    **dict.fromkeys(("index", "size"), NUMBER),
    **dict.fromkeys(("extract", "tagged"), YES_NO),
    "extractionTypes": many(TEXT),
    "fields": many(ANYTHING),
    "pages": many(shape({"id": TEXT, "index": NUMBER, "version": NUMBER})),
    "approvals": many(shape({"role": TEXT}, id=TEXT, optional=YES_NO, accepted=TIME, signed=TIME)),
}
MESSAGE = {
    "status": one_of("NEW", "READ", "TRASHED"),
    "from": shape(USER),
    "to": many(shape(USER)),
    "created": TIME,
    "content": TEXT,
    "documents": many(ANYTHING),
}
PACKAGE = {
    **dict.fromkeys(("id", "name", "description", "emailMessage"), TEXT),
    **dict.fromkeys(("created", "updated"), TIME),
    **dict.fromkeys(("trashed", "autocomplete", "notarized", "bulkSendable"), YES_NO),
    "status": one_of("DRAFT", "SENT", "COMPLETED", "ARCHIVED", "DECLINED", "OPTED_OUT", "EXPIRED"),
    "type": one_of("PACKAGE", "TEMPLATE", "LAYOUT"),
    "visibility": one_of("ACCOUNT", "SENDER"),
    "sender": shape(SENDER),
    "roles": many(shape(ROLE, locked=YES_NO, reassign=YES_NO)),
    "documents": many(shape(DOCUMENT)),
    "messages": many(shape(MESSAGE)),
}
PACKAGE_SHAPE = Draft202012Validator(shape(PACKAGE, due=TIME, completed=TIME))
ERROR_SHAPE = Draft202012Validator(shape({"code": NUMBER, "messageKey": TEXT, "message": TEXT}))

ROLE_SHAPE = Draft202012Validator(shape(ROLE, locked=YES_NO, reassign=YES_NO))
CALLBACK_SHAPE = Draft202012Validator(shape({"url": TEXT, "key": TEXT, "events": many(TEXT)}))
AUDIT_SHAPE = Draft202012Validator(
    shape(
        {
            "package-id": TEXT,
            "audit-events": many(
                shape(
                    {
                        **dict.fromkeys(("target", "user", "user-email", "user-ip", "data"), TEXT),
                        "date-time": TIME,
                        "type": one_of("Accept", "Click To Sign", "Login", "Opt Out", "Decline"),
                        "target-type": one_of("Document", "Package"),
                    }
                )
            ),
        }
    )
)


def page_of(items: dict[str, Any]) -> Draft202012Validator:
    """A page of a list."""
    return Draft202012Validator(shape({"count": NUMBER, "results": many(items)}))


PAGE_SHAPE, ROLES_SHAPE = page_of(shape(PACKAGE)), page_of(shape(ROLE))
