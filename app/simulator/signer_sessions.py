"""Sessions of signers: a token for a signer opens a session, and the session's id is the cookie of later requests."""

from typing import NamedTuple

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from app.simulator import ids, json_values
from app.simulator.auth import SESSION_COOKIE, Unauthorized
from app.simulator.packages import Package, Role
from app.simulator.routes import NotFound, RouteContext, index_of, json_object

CEREMONY = "/transaction/sign"  # the path of the page on which a signer signs


class Sessions:
    """The sessions of signers, and the tokens that open them: each names a package and a person."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, str]] = {}
        self._single: set[str] = set()

    def start(self, key: str, package_id: str, person_id: str, *, is_single_use: bool = False) -> str:
        """Remember a token or a session, and return its key."""
        self._open[key] = (package_id, person_id)
        if is_single_use:
            self._single.add(key)
        return key

    def find(self, key: str) -> tuple[str, str]:
        """Return the package and the person of a token or session. Raises `Unauthorized`."""
        found = self._open.get(key)
        if found is None:
            raise Unauthorized
        if key in self._single:
            del self._open[key]
        return found


def routes(context: RouteContext, sessions: Sessions) -> Blueprint:
    """Return the blueprint of the routes that open sessions of signers."""
    blueprint = Blueprint("sessions", __name__)

    @blueprint.post("/api/authenticationTokens/signer/<any(multiUse, singleUse):use>")
    def token(use: str) -> ResponseReturnValue:
        """Return a token that opens a session of one signer, once or many times."""
        body = json_object()
        package = context.package(json_values.text(body, "packageId"))
        signer_id = json_values.text(body, "signerId")
        package.person(seats_of(package, signer_id)[0].position)
        key = sessions.start(ids.uuid(context.rng), package.id, signer_id, is_single_use=use == "singleUse")
        return {"packageId": package.id, "signerId": signer_id, "value": key}

    @blueprint.get("/api/packages/<package_id>/roles/<role_id>/signingUrl")
    def signing_url(package_id: str, role_id: str) -> ResponseReturnValue:
        """Return the address at which the signer of a role can sign."""
        package = context.package(package_id)
        person = package.person(index_of([role.id for role in package.roles], role_id))
        key = sessions.start(ids.uuid(context.rng), package.id, person.id)
        url = f"{request.host_url}auth?signerAuthenticationToken={key}&target={CEREMONY}"
        return {"packageId": package.id, "roleId": role_id, "url": url}

    @blueprint.get("/auth")
    def session() -> Response:
        """Open the session that a token allows. With the `target` of a signing URL, go to the page for signing."""
        key = sessions.start(ids.uuid(context.rng), *sessions.find(request.args.get("signerAuthenticationToken", "")))
        to_page = request.args.get("target") == CEREMONY
        answer = jsonify({"sessionToken": key})
        answer.set_cookie(SESSION_COOKIE, key, httponly=True)
        if to_page:
            answer.status_code, answer.headers["Location"] = 302, CEREMONY
        return answer

    return blueprint


class Seat(NamedTuple):
    """The position of a role in its package and, if the role is a group's, the position of the member who acts."""

    position: int
    member: int = 0


def seats_of(package: Package, id_: str) -> list[Seat]:
    """Return the seats of a role's id, a signer's id or a group member's id, those with signatures first.

    A member of a group may have a seat of their own, too. Raises `NotFound` if the package has no such seat.
    """
    seats = [seat for position, role in enumerate(package.roles) for seat in _seats(position, role, id_)]
    if not seats:
        raise NotFound
    return sorted(seats, key=lambda seat: not package.approvals(seat.position))


def _seats(position: int, role: Role, id_: str) -> list[Seat]:
    members = [member.id for member in role.group.members] if role.group else []
    if id_ in members:
        return [Seat(position, members.index(id_))]
    return [Seat(position)] if id_ in (role.id, role.person.id if role.person else None) else []
