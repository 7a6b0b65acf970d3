"""Routes for the senders of the account: to invite, list, change and delete them."""

from dataclasses import replace
from datetime import UTC, datetime

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from app.simulator import ids, json_values, rest_json, role_json
from app.simulator.auth import Forbidden
from app.simulator.callbacks import timestamp
from app.simulator.people import Person
from app.simulator.routes import BadRequest, RouteContext, index_of, json_object

DEFAULT_PAGE_SIZE = 10
SINCE = datetime(2020, 1, 1, tzinfo=UTC)  # since when the first senders have been in the account
SENDER_MEMBERS = role_json.PERSON_MEMBERS | {"status", "memberships", "hasDelegates"}


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes for senders."""
    blueprint = Blueprint("senders", __name__, url_prefix="/api/account/senders")

    @blueprint.get("")
    def senders() -> ResponseReturnValue:
        """Return a page of the senders, the owner first; `search` is a part of a name or an e-mail address."""
        search = request.args.get("search", "").lower()
        found = [person for person in context.account.people if search in f"{person.name} {person.email}".lower()]
        if request.args.get("dir") == "desc":
            found.reverse()
        first = request.args.get("from", 0, type=int)
        last = request.args.get("to", first + DEFAULT_PAGE_SIZE - 1, type=int)
        return {"count": len(found), "results": [_dump(person) for person in found[first : last + 1]]}

    @blueprint.post("")
    def invite() -> ResponseReturnValue:
        """Invite a person as a sender, who has an API key at once."""
        body = json_object()
        person = role_json.account_person(body, before=Person(ids.sender_id(context.rng), "", "", "", ""))
        if not person.email or any(person.email == other.email for other in context.account.people):
            raise BadRequest("email is missing, or is that of another sender")
        now = timestamp(context.clock())
        members = {"created": now, "updated": now, **json_values.others(body, SENDER_MEMBERS), "status": "INVITED"}
        return _dump(context.account.put_person(replace(person, members=members)))

    @blueprint.get("/<sender_id>")
    def show(sender_id: str) -> ResponseReturnValue:
        """Return one sender."""
        return _dump(_found(context, sender_id))

    @blueprint.route("/<sender_id>", methods=["POST", "PUT"])
    def change(sender_id: str) -> ResponseReturnValue:
        """Change the members of a sender, except the e-mail address, with which the sender logs in."""
        body, before = json_object(), _found(context, sender_id)
        person = replace(role_json.account_person(body, before=before), email=before.email)
        given = json_values.others(body, SENDER_MEMBERS)
        members = {**before.members, **given, "updated": timestamp(context.clock())}
        return _dump(context.account.put_person(replace(person, members=members)))

    @blueprint.delete("/<sender_id>")
    def remove(sender_id: str) -> ResponseReturnValue:
        """Delete a sender, whose packages remain. The owner cannot be deleted."""
        person = _found(context, sender_id)
        if person.id == context.account.owner.id:
            raise Forbidden
        context.account.remove_person(person)
        return "", 200

    @blueprint.post("/<sender_id>/invite")
    def invite_again(sender_id: str) -> ResponseReturnValue:
        """Send the invitation again, which has no effect here."""
        return _dump(_found(context, sender_id))

    return blueprint


def _found(context: RouteContext, sender_id: str) -> Person:
    people = context.account.people
    return people[index_of([person.id for person in people], sender_id)]


def _dump(person: Person) -> dict[str, object]:
    return rest_json.dump_sender(person, SINCE)
