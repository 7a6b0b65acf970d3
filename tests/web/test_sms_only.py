"""Signers that OneSpan notifies by SMS only have no email address."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from werkzeug.wrappers import Request, Response

from config import Settings
from tests.conftest import NOON, on_both, onespan_time
from tests.support.logins import PASSWORD, log_in
from tests.support.simulated import ADDRESS, API_KEY, connect

pytestmark = on_both
LIN, CREATED = "lin-by-sms", onespan_time(NOON - timedelta(hours=1))


def package(**contact: Any) -> dict[str, Any]:
    """Return OneSpan's JSON of a sent package whose signer has this contact."""
    signer = {"id": LIN, "firstName": "Lin", "lastName": "Sims", "phone": "+15145550100", **contact}
    role = {"id": "role-1", "type": "SIGNER", "index": 1, "signers": [signer], "attachmentRequirements": []}
    approval = {"id": "approval-1", "role": "role-1", "optional": False, "accepted": None, "signed": None}
    document = {"id": "contract", "name": "Contract", "index": 0, "approvals": [approval]}
    about = {"id": "pkg-1", "name": "Lease", "type": "PACKAGE", "status": "SENT", "trashed": False}
    return {**about, "created": CREATED, "updated": CREATED, "roles": [role], "documents": [document], "sender": {}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a OneSpan and a dashboard password."""
    onespan = {"onespan_url": ADDRESS, "onespan_api_key": SecretStr(API_KEY)}
    return settings.model_copy(update={**onespan, "dashboard_password": SecretStr(PASSWORD)})


@pytest.fixture
def requests(handlers) -> list[Request]:
    """The requests that OneSpan received."""
    return []


@pytest.fixture
def serve(handlers, requests) -> Callable[..., None]:
    """Let OneSpan show the package with a signer who has this contact."""

    def serve(**contact: Any) -> None:
        def app(environ: Any, start_response: Any) -> Any:
            requests.append(request := Request(environ))
            row = package(**contact)
            body = {"count": 1, "results": [row]} if request.path == "/api/packages" else row
            return Response(json.dumps(body), content_type="application/json")(environ, start_response)

        connect(handlers.onespan, app)

    return serve


@pytest.mark.parametrize("contact", [{"email": None}, {"email": ""}, {}], ids=repr)
def test_signer_without_email_is_shown_everywhere(  # noqa: PLR0917  (pytest passes fixtures by name)
    serve, requests, send_callback, service, work, client, read, handlers, runner, clock, contact
):
    """A signer without an email address is shown, found, exported, reminded, and reconciled without a difference."""
    serve(**contact)
    send_callback("PACKAGE_ACTIVATE", happened_at=NOON - timedelta(hours=1))
    work()
    clock.forward(timedelta(minutes=1))
    while service.fetcher.turn() or service.reconcile.turn():
        work()
    work()

    (signer,) = read("/api/packages/pkg-1")["signers"]
    assert (signer["name"], signer["email"], signer["status"]) == ("Lin Sims", None, "PENDING")
    assert read("/api/packages/pkg-1")["next_signers"] == [LIN]
    assert [item["id"] for item in read("/api/packages", q="lin sims")["items"]] == ["pkg-1"]
    assert read("/api/packages", signer=LIN)["items"][0]["id"] == "pkg-1"
    assert log_in(client).status_code == 303
    page, csv = client.get("/transactions/pkg-1").text, client.get("/transactions.csv", buffered=True).text
    assert "Lin Sims" in page
    assert "mailto:" not in page
    assert "None" not in page
    assert "Lin Sims" in csv
    assert "None" not in csv
    assert "1 difference" not in runner.invoke(args=["rebuild", "--check"]).output

    handlers.onespan.remind("pkg-1", "role-1")
    assert requests[-1].path == "/api/packages/pkg-1/roles/role-1/notifications"
    assert "Lin" not in runner.invoke(args=["doctor"]).output


def test_bounce_of_a_signer_without_email_is_an_issue(  # noqa: PLR0917  (pytest passes fixtures by name)
    serve, send_callback, work, service, read, client, clock
):
    """A bounce that names a signer without an email address is an issue like any other."""
    serve(email=None)
    send_callback("EMAIL_BOUNCE", sessionUser=LIN, message="BOUNCE", happened_at=NOON)
    work()
    clock.forward(timedelta(minutes=1))
    while service.fetcher.turn() or service.reconcile.turn():
        work()

    (issue,) = read("/api/packages/pkg-1")["attention"]
    assert (issue["reason"], issue["who"]) == ("EMAIL_BOUNCE", LIN)
    assert log_in(client).status_code == 303
    assert "Lin Sims" in client.get("/attention").text
