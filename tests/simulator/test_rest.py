"""Tests of the simulator's REST API, which shows packages as OneSpan's API document requires."""

from dataclasses import replace
from datetime import timedelta

import requests

from app.simulator import rest_json
from app.simulator.account import Account
from app.simulator.packages import CONSENT, STATUSES
from app.simulator.quirks import Quirks
from app.simulator.server import api, serve_in_thread
from tests.conftest import NOON, Clock
from tests.support.onespan_shapes import ERROR_SHAPE, PACKAGE_SHAPE
from tests.support.simulated import (
    API_KEY,
    AUTHORIZED,
    account_of,
    client_of,
    finished_account,
    listed_ids,
    read,
    recorded_steps,
)


def test_packages_have_every_required_member():
    """Packages in every status have the members that OneSpan's OpenAPI document 11.51 requires."""
    recorded = recorded_steps()
    changes = [step for step in recorded if not step.before or step.before.status != step.after.status]
    packages = [rest_json.dump_package(step.after) for step in changes[::6]]

    assert {package["status"] for package in packages} == STATUSES
    for package in packages:
        PACKAGE_SHAPE.validate(package)


def test_the_list_and_the_package_answer_the_same():
    """The REST API shows the same JSON for a package in the list and for the single package."""
    account = finished_account(5)
    page = read(account, "/api/packages", to=99)["results"]

    for package in page:
        PACKAGE_SHAPE.validate(package)
    assert read(account, f"/api/packages/{page[7]['id']}") == page[7]


def test_only_given_signatures_have_a_date():
    """A given signature has a date, and a requested signature has none."""
    for package in [step.after for step in recorded_steps()[::10]]:
        documents = rest_json.dump_package(package)["documents"]
        approvals = [approval for document in documents for approval in document["approvals"]]
        assert [bool(json.get("accepted")) for json in approvals] == [bool(given.at) for given in package.approvals()]
        assert all("signed" in json for json in approvals if "accepted" in json and json["fields"])


def test_the_reason_for_declining_is_a_message():
    """The reason for declining a package is a message from the signer who declined."""
    step = next(step for step in recorded_steps() if step.events and step.events[0].name == "PACKAGE_DECLINE")
    (message,) = read(account_of([step.after]), f"/api/packages/{step.after.id}")["messages"]

    assert (message["content"], message["from"]["id"]) == (step.events[0].message, step.events[0].session_user)


def test_a_deleted_package_answers_404():
    """A deleted package answers 404, like a package that never existed."""
    account = finished_account(5)
    deleted = [package.id for package in account.packages() if package.deleted]
    assert deleted

    for package_id in (*deleted, "never"):
        for path in (f"/api/packages/{package_id}", f"/api/packages/{package_id}/signingStatus"):
            ERROR_SHAPE.validate(read(account, path, status=404))
    assert not {*deleted} & {*listed_ids(account), *listed_ids(account, query="trashed")}


def test_signing_status():
    """The signing status is that of a package, a signer or a document; a trashed package is DELETED."""
    recorded = recorded_steps()
    step = next(step for step in recorded if [event.name for event in step.events][1:] == ["SIGNER_COMPLETE"])
    package, signer = step.after, step.events[0].session_user
    path = f"/api/packages/{package.id}/signingStatus"

    assert read(account_of([package]), path) == {"status": "SIGNING_PENDING"}
    assert read(account_of([package]), path, signer=signer) == {"status": "SIGNING_COMPLETED"}
    assert read(account_of([package]), path, signer=signer, document=CONSENT) == {"status": "SIGNING_COMPLETED"}
    assert read(account_of([replace(package, trashed=True)]), path) == {"status": "DELETED"}
    assert read(account_of([replace(package, status="EXPIRED")]), path) == {"status": "EXPIRED"}
    ERROR_SHAPE.validate(read(account_of([package]), path, status=404, signer="unknown"))


def test_answers_have_the_date_of_the_simulators_clock():
    """The `Date` header shows the simulator's clock; clients use it to measure the offset of OneSpan's clock."""
    with serve_in_thread(api(finished_account(5), api_key=API_KEY, clock=Clock()), port=0) as address:
        answer = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)

    assert answer.headers["Date"] == "Mon, 02 Mar 2026 12:00:00 GMT"
    assert answer.headers["Content-Type"] == "application/json; esl-api-version=11"
    assert len(answer.json()["results"]) == 10


def test_answers_may_lag_behind_the_package():
    """With the quirk `package_lag` all answers show the whole package, `updated` included, as it was some time ago."""
    step = next(step for step in recorded_steps() if step.before and step.before.status == "DRAFT")
    draft = replace(step.before, updated=NOON, type="PACKAGE", trashed=False)
    account, clock = account_of([draft], quirks=Quirks(package_lag=20)), Clock()
    client = client_of(account, clock=clock)
    path, before = f"/api/packages/{draft.id}", rest_json.dump_package(draft)

    def shown() -> list[object]:
        clock.forward(timedelta(seconds=10))
        answers = [client.get(url, headers=AUTHORIZED).json for url in (path, "/api/packages?to=99", f"{path}/roles")]
        return [answers[0], *answers[1]["results"]]

    assert client.put(path, json={"status": "SENT"}, headers=AUTHORIZED).status_code == 200
    assert shown() == [before, before]
    assert {package["status"] for package in shown()} == {"SENT"}

    assert client.delete(path, headers=AUTHORIZED).status_code == 200
    assert [package["status"] for package in shown()] == ["SENT", "SENT"]
    assert shown()[0]["messageKey"] == "error.notFound"


def test_a_new_package_is_missing_until_the_lag_has_passed():
    """With the quirk `package_lag` a new package answers 404 at first, as a package that does not exist."""
    account, clock = Account(3, packages=1, quirks=Quirks(package_lag=5)), Clock()
    account.step(clock.now)
    (package,) = account.packages()
    client = client_of(account, clock=clock)
    codes = []
    for _ in range(3):
        codes.append(client.get(f"/api/packages/{package.id}", headers=AUTHORIZED).status_code)
        clock.forward(timedelta(seconds=3))

    assert codes == [404, 404, 200]
