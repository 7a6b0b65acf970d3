"""Routes with which people sign: OneSpan's bulk signing, and a page in place of OneSpan's signing ceremony.

A caller with an API key signs as the sender, a caller with a session as the session's signer.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from html import escape

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from app.simulator import json_values, role_json
from app.simulator.auth import SESSION_COOKIE, Forbidden
from app.simulator.packages import CONSENT, Action, ImpossibleAction, Package
from app.simulator.routes import NotFound, RouteContext, json_object
from app.simulator.signer_sessions import CEREMONY, Seat, Sessions, seat_of

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
            context.perform(package_id, lambda package: _chosen(package, seat_of(package, signer_id), request.form))
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

    def _sign(package_id: str, wanted: Collection[str]) -> ResponseReturnValue:
        signer_id = _signer_id(package_id)
        context.perform(package_id, lambda package: signatures(package, seat_of(package, signer_id), wanted))
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


def signatures(package: Package, seat: Seat, wanted: Collection[str] = ()) -> Iterator[Action]:
    """Yield the actions with which a signer signs the wanted documents, the consent first; none wanted means all.

    Raises `ImpossibleAction` if the signer may not sign now.
    """
    role = package.roles[seat.position]
    if package.status != "SENT" or role.locked:
        raise ImpossibleAction(f"the signer cannot sign: status={package.status}, locked={role.locked}")
    if any(other.index < role.index and _is_awaited(package, number) for number, other in enumerate(package.roles)):
        raise ImpossibleAction("it is not the signer's turn yet")
    if unknown := set(wanted) - {document.id for document in package.documents}:
        raise NotFound(*unknown)
    for number in _open(package, seat.position):
        if not wanted or package.documents[number].id in {CONSENT, *wanted}:
            yield Action("sign", seat.position, number, member=seat.member)


def _is_awaited(package: Package, position: int) -> bool:
    return bool(package.owed(position)) and not package.is_signed(position)


def _open(package: Package, position: int) -> list[int]:
    """Return the positions of the documents that a role can still sign, optional signatures included."""
    return [
        number
        for number in range(len(package.documents))
        if any(not (approval.at or approval.disabled) for approval in package.approvals(position, document=number))
    ]


def _chosen(package: Package, seat: Seat, form: Mapping[str, str]) -> Iterable[Action]:
    if form.get("action") == "decline":
        return [Action("decline", seat.position, text=form.get("reason", ""), member=seat.member)]
    return signatures(package, seat)


def _existing(context: RouteContext, package_id: str) -> Package:
    package = context.account.package(package_id)
    if package is None or package.deleted:
        raise NotFound
    return package


def _page(package: Package, signer_id: str) -> str:
    position = seat_of(package, signer_id).position
    names = [package.documents[number].name for number in _open(package, position)] or ["Nothing is left to sign."]
    listed = "".join(f"<li>{escape(name)}</li>" for name in names)
    return PAGE.format(name=escape(package.name), person=escape(package.person(position).name), documents=listed)
