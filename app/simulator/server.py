"""The REST API of a simulated account, as far as it is read: packages, their list, their signing status."""

import hmac
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from wsgiref.handlers import format_date_time

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from app.simulator import listing, rest
from app.simulator.account import Account
from app.simulator.listing import BadQuery
from app.simulator.packages import Approval, Package

JSON = "application/json; esl-api-version=11"


class NotFound(Exception):
    """There is no such thing in this account, or no more."""


def api(account: Account, *, api_key: str, clock: Callable[[], datetime]) -> Flask:
    """The WSGI app. Answers only who sends `Authorization: Basic <api_key>`."""
    app = Flask("simulated-onespan", static_folder=None)
    _guard(app, api_key, clock)

    @app.get("/api/packages")
    def packages() -> ResponseReturnValue:
        """A page of the packages in a folder."""
        count, page = listing.choose(account.packages(), request.args)
        ids_only = request.args.get("fields") == "id"
        return {"count": count, "results": [{"id": one.id} if ids_only else rest.package(one) for one in page]}

    @app.get("/api/packages/<package_id>")
    def package(package_id: str) -> ResponseReturnValue:
        """One package."""
        return rest.package(_there(account, package_id))

    @app.get("/api/packages/<package_id>/signingStatus")
    def signing_status(package_id: str) -> ResponseReturnValue:
        """Whether a package is signed; only by one signer, or only in one document, where the query names one."""
        one = _there(account, package_id)
        asked = _asked(one, signer=request.args.get("signer"), document=request.args.get("document"))
        return {"status": rest.signing_status(one, asked)}

    return app


def _guard(app: Flask, api_key: str, clock: Callable[[], datetime]) -> None:
    expected = f"Basic {api_key}".encode()

    @app.before_request
    def believe() -> ResponseReturnValue | None:
        if hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected):
            return None
        return _refuse(401, "unauthorized", "The API key is not one of this account.")

    @app.after_request
    def date(response: Response) -> Response:
        response.headers["Date"] = format_date_time(clock().timestamp())
        if response.status_code == 200:  # noqa: PLR2004
            response.headers["Content-Type"] = JSON
        return response

    @app.errorhandler(NotFound)
    def not_found(_: NotFound) -> ResponseReturnValue:
        return _refuse(404, "notFound", "The specified resource was not found.")

    @app.errorhandler(BadQuery)
    def bad_query(problem: BadQuery) -> ResponseReturnValue:
        return _refuse(400, "validation", f"The parameter {problem} has a value it cannot have.")

    @app.errorhandler(HTTPException)
    def other(problem: HTTPException) -> ResponseReturnValue:
        return _refuse(problem.code or 500, "request", problem.name)


def _refuse(code: int, key: str, message: str) -> ResponseReturnValue:
    return rest.error(code, key, message), code


def _there(account: Account, package_id: str) -> Package:
    package = account.package(package_id)
    if package is None or package.deleted:
        raise NotFound
    return package


def _asked(one: Package, *, signer: str | None, document: str | None) -> list[Approval]:
    role = place = None
    if signer is not None:
        role = _place([seat.person.id if seat.person else seat.id for seat in one.roles], signer)
    if document is not None:
        place = _place([paper.id for paper in one.documents], document)
    return one.approvals(role, document=place)


def _place(ids: list[str], wanted: str) -> int:
    if wanted not in ids:
        raise NotFound
    return ids.index(wanted)


class _Quiet(WSGIRequestHandler):
    """Answers over one connection for as long as the caller likes, and writes no line for each request."""

    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        """The status alone; the app says the date by its own clock."""
        self.send_response_only(code, message)


@contextmanager
def answering(app: Flask, *, port: int) -> Iterator[str]:
    """Answer on this machine, from a thread, while the block runs; gives the address. Port 0 takes a free one."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, name="simulated-onespan", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
