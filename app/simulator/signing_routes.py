"""Routes with which people sign: OneSpan's bulk signing, and a page in place of OneSpan's signing ceremony.

A caller with an API key signs as the sender, a caller with a session as the session's signer.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from html import escape

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from app.simulator import json_values, role_json
from app.simulator.auth import SESSION_COOKIE, Forbidden
from app.simulator.packages import CONSENT, Action, ImpossibleAction, Package
from app.simulator.routes import NotFound, RouteContext, json_object
from app.simulator.signer_sessions import CEREMONY, Seat, Sessions, seats_of

PAGE = """<!DOCTYPE html><html lang="en"><title>{name}</title><h1>{name}</h1>
<p>{person} signs in this simulated ceremony.</p><ul>{documents}</ul>
<form method="post"><input name="reason" placeholder="reason">
<button name="action" value="sign">Sign</button> <button name="action" value="decline">Decline</button></form></html>"""


def routes(context: RouteContext, sessions: Sessions) -> Blueprint:
    """Return the blueprint of the routes with which people sign."""
    blueprint = Blueprint("signing", __name__)

    @blueprint.route(CEREMONY, methods=["GET", "POST"])
    def ceremony() -> ResponseReturnValue:
        """Show what the signer of the session must still sign; the form signs all of it, or declines."""
        package_id, signer_id = sessions.find(request.cookies.get(SESSION_COOKIE, ""))
        if request.method == "POST":
            context.perform(package_id, lambda package: _chosen(package, seats_of(package, signer_id), request.form))
        return _page(_existing(context, package_id), signer_id)

    @blueprint.post("/api/packages/<package_id>/documents/signed_documents")
    def sign_documents(package_id: str) -> ResponseReturnValue:
        """Sign the documents of the body, or all if it has none, as the signer of the session or as the sender."""
        wanted = [json_values.text(part, "id") for part in json_values.objects(json_object(), "documents")]
        return _sign(package_id, wanted)

    @blueprint.post("/api/packages/<package_id>/documents/signConfirm")
    def sign_document(package_id: str) -> ResponseReturnValue:
        """Sign the one document whose id is in the body, as the signer of the session or as the sender."""
        return _sign(package_id, [json_values.text(json_object(), "id")])

    @blueprint.post("/api/packages/<package_id>/attachment/<attachment_id>")
    def upload(package_id: str, attachment_id: str) -> ResponseReturnValue:
        """Upload a requested attachment, as the signer of the session or as the sender. The file is not kept."""
        signer_id = _signer_id(package_id)
        context.perform(package_id, lambda package: [_upload(package, seats_of(package, signer_id), attachment_id)])
        return "", 200

    def _sign(package_id: str, wanted: Collection[str]) -> ResponseReturnValue:
        signer_id = _signer_id(package_id)
        context.perform(package_id, lambda package: signatures(package, seats_of(package, signer_id), wanted))
        return "", 200

    def _signer_id(package_id: str) -> str:
        """Return the id of who signs: the session's signer, or else the caller, as the sender or a group's member."""
        key = request.cookies.get(SESSION_COOKIE)
        session_package, signer_id = sessions.find(key) if key else ("", "")
        if session_package == package_id:
            return signer_id
        package, person = context.package(package_id), context.caller.person
        members = [member.id for role in package.roles if role.group for member in role.group.members]
        seated = [role.id for role in package.roles if role_json.is_seat_of(role, person)]
        if person.id not in members and not seated:
            raise Forbidden
        return person.id if person.id in members else seated[0]

    return blueprint


def signatures(package: Package, seats: Sequence[Seat], wanted: Collection[str] = ()) -> Iterator[Action]:
    """Yield the actions with which a signer signs the wanted documents in all seats; none wanted means all.

    Raises `ImpossibleAction` if the signer may not sign now.
    """
    if package.status != "SENT":
        raise ImpossibleAction(f"a package that is {package.status} cannot be signed")
    if unknown := set(wanted) - {document.id for document in package.documents}:
        raise NotFound(*unknown)
    allowed = [seat for seat in seats if not package.roles[seat.position].locked and _is_due(package, seat.position)]
    if not allowed:
        raise ImpossibleAction("the signer is locked, or it is not the signer's turn yet")
    for seat in allowed:
        for number in _open(package, seat.position):
            if not wanted or package.documents[number].id in {CONSENT, *wanted}:
                yield Action("sign", seat.position, number, member=seat.member)


def _is_due(package: Package, position: int) -> bool:
    """Return whether all who sign before this role are complete."""
    index = package.roles[position].index
    earlier = [number for number, role in enumerate(package.roles) if role.index < index]
    return all(package.is_signed(number) or not package.owed(number) for number in earlier)


def _open(package: Package, position: int) -> list[int]:
    """Return the positions of the documents that a role can still sign, in the order of signing.

    The consent comes first, and documents with required signatures come last: their last one may end the package.
    """
    asked = {
        number: [approval for approval in document.approvals if approval.role == position and not approval.disabled]
        for number, document in enumerate(package.documents)
    }
    numbers = [number for number, approvals in asked.items() if any(not approval.at for approval in approvals)]
    required = {number for number in numbers if any(not approval.optional for approval in asked[number])}
    return sorted(numbers, key=lambda number: package.documents[number].id != CONSENT and number in required)


def _chosen(package: Package, seats: Sequence[Seat], form: Mapping[str, str]) -> Iterable[Action]:
    if form.get("action") == "decline":
        return [Action("decline", seats[0].position, text=form.get("reason", ""), member=seats[0].member)]
    return signatures(package, seats)


def _upload(package: Package, seats: Sequence[Seat], attachment_id: str) -> Action:
    for seat in seats:
        for number, attachment in enumerate(package.roles[seat.position].attachments):
            if attachment.id == attachment_id:
                return Action("upload", seat.position, member=seat.member, attachment=number)
    raise NotFound


def _existing(context: RouteContext, package_id: str) -> Package:
    package = context.account.package(package_id)
    if package is None or package.deleted:
        raise NotFound
    return package


def _page(package: Package, signer_id: str) -> str:
    seats = seats_of(package, signer_id)
    names = [package.documents[number].name for seat in seats for number in _open(package, seat.position)]
    listed = "".join(f"<li>{escape(name)}</li>" for name in names or ["Nothing is left to sign."])
    person = package.person(seats[0].position)
    return PAGE.format(name=escape(package.name), person=escape(person.name), documents=listed)
