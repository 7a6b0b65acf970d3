"""The API, its lists and counts, the pages and the CSV file agree on every package of a varied account.

The features are those of `flask simulate`: groups, reviewers, optional and begun signatures, attachments and more.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from app import EXTENSION
from tests.conftest import NOON, TOKEN, on_sqlite
from tests.support import dataset
from tests.support.logins import log_in, with_passwords
from tests.support.shared_apps import new_app

pytestmark = [on_sqlite, pytest.mark.own_database]
STEPS, PACKAGES_AT_ONCE, WEEKS = 400, 60, 2
BEFORE_TURN = {"Waiting for signature", "Has begun to sign", "Not their turn yet", "Not signed"}
# The labels that a signer of each status can have on the page of a transaction.
LABELS = {
    None: {"No signature needed", "Group member"},
    "PENDING": BEFORE_TURN,
    "COMPLETED": {"Signed"},
    "LOCKED": {"Locked out"},
    "DECLINED": {"Declined"},
    "OPTED_OUT": {"Opted out"},
    "REASSIGNED": {"Reassigned"},
}
CELLS = {"OPEN": {"Not signed", "Optional"}, "BEGUN": {"Begun"}, "SIGNED": {"✓ Signed"}}


@pytest.fixture
def settings(settings):
    """Settings with the simulated OneSpan, and with passwords for the pages."""
    return with_passwords(settings).model_copy(
        update={"onespan_api_key": SecretStr(dataset.API_KEY), "onespan_url": "http://here"}
    )


@pytest.fixture
def client(settings, clock) -> Iterator[FlaskClient]:
    """A logged-in client of a service with weeks of data."""
    dataset.generate(settings, steps=STEPS, at_once=PACKAGES_AT_ONCE, weeks=WEEKS, until=NOON)
    clock.now = NOON + timedelta(minutes=1)
    app = new_app(settings, handlers=dataset.functions(), clock=clock)
    client = app.test_client()
    assert log_in(client).status_code == 303
    yield client
    app.extensions[EXTENSION].database.close()


def api(client: FlaskClient, path: str, **query: Any) -> Any:
    """The JSON of an API endpoint."""
    return client.get(path, query_string=query, headers={"Authorization": f"Bearer {TOKEN}"}).json


def whole_list(client: FlaskClient, path: str, **query: Any) -> list[dict[str, Any]]:
    """All items of a list of the API."""
    items, cursor = [], {}
    while True:
        page = api(client, path, limit=100, **query, **cursor)
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = {"cursor": page["next"]}


def csv_rows(client: FlaskClient) -> dict[str, dict[str, str]]:
    """The lines of the CSV files of all views, by package id."""
    rows = {}
    for view in ("current", "trash", "deleted", "templates"):
        with client.get("/transactions.csv", query_string={"view": view}) as file:
            rows |= {row["id"]: row for row in csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff")))}
    return rows


def name_of(package: dict[str, Any], signer_id: str) -> str:
    """The name of a signer, as pages and the CSV file show it."""
    (signer,) = (signer for signer in package["signers"] if signer["id"] == signer_id)
    return signer["name"] or signer["email"] or signer["id"]


def texts(html: str) -> str:
    """The text of a part of a page, without the times, which the page shows relative to now."""
    without_times = re.sub(r"<time.*?</time>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", without_times)).split())


def matches(text: str | None, pattern: str) -> list[str]:
    """The parts of a page that match a pattern."""
    return re.findall(pattern, text or "", flags=re.DOTALL)


def assert_page_agrees(client: FlaskClient, package: dict[str, Any]) -> None:
    """The page of a transaction shows its signers, signatures and issues as the API does."""
    page = client.get(f"/transactions/{package['id']}").text
    seats = matches(page, r'<li class="(\w*)" data-key="s(.*?)">(.*?)</li>')
    assert [unescape(key) for _, key, _ in seats] == [signer["id"] for signer in package["signers"]]
    for (seat, _, content), signer in zip(seats, package["signers"], strict=True):
        assert texts(matches(content, r'<span class="status.*?</span>')[0]) in LABELS[signer["status"]]
        assert (seat == "next") == (signer["id"] in package["next_signers"] and signer["status"] != "LOCKED")
        assert ("Began" in texts(content)) == (bool(signer["begun_at"]) and signer["status"] in ("PENDING", "LOCKED"))
    owing = [signer["id"] for signer in package["signers"] if signer["owes"]]
    table = matches(page, r'<tr data-key="d(.*?)">(.*?)</tr>')
    assert [unescape(key) for key, _ in table] == [document["id"] for document in package["documents"]]
    for (_, line), document in zip(table, package["documents"], strict=True):
        states = {signature["signer_id"]: signature["state"] for signature in document["signatures"]}
        cells = [texts(cell) for cell in matches(line, r"<td.*?</td>")[:-1]]
        for cell, signer_id in zip(cells, owing, strict=True):
            assert cell in CELLS.get(states.get(signer_id, ""), {"\u2013 Not asked to sign"})
    assert len(matches(page, r'data-key="a\d+"')) == len(package["attention"])
    assert ('data-key="unverified"' in page) == (package["unverified"] is not None)
    if package["signers_total"]:
        assert f"{package['signers_completed']} of {package['signers_total']} signed" in texts(page)


def assert_row_agrees(row: dict[str, str], package: dict[str, Any]) -> None:
    """The line of the CSV file shows the package as the API does."""
    for name in ("id", "name", "type", "status"):
        assert row[name] == (package[name] or "")
    for name in ("trashed", "deleted"):
        assert row[name] == str(package[name])
    for name in ("status_at", "created_at", "updated_at", "due_at", "completed_at"):
        assert bool(row[name]) == bool(package[name])
        assert not row[name] or datetime.fromisoformat(row[name]) == datetime.fromisoformat(package[name]).replace(
            microsecond=0
        )
    assert int(row["signers_total"]) == package["signers_total"]
    assert int(row["signers_signed"]) == package["signers_completed"]
    assert row["waiting_for"] == "; ".join(name_of(package, signer_id) for signer_id in package["next_signers"])
    assert row["needs_attention"] == "; ".join(issue["reason"] for issue in package["attention"])
    assert row["unverified_reason"] == (package["unverified"] or {"reason": ""})["reason"]


def assert_consistent(package: dict[str, Any]) -> None:
    """The numbers and lists of a package follow from its signers and documents."""
    signers = {signer["id"]: signer for signer in package["signers"]}
    assert package["signers_total"] == sum(signer["owes"] for signer in signers.values())
    assert package["signers_completed"] == sum(signer["status"] == "COMPLETED" for signer in signers.values())
    assert all(signers[signer_id]["status"] in ("PENDING", "LOCKED") for signer_id in package["next_signers"])
    assert all(signer["owes"] == (signer["status"] not in (None, "REASSIGNED")) for signer in signers.values())
    if package["status"] in ("COMPLETED", "ARCHIVED"):
        assert not {"PENDING", "LOCKED"} & {signer["status"] for signer in signers.values()}
    for document in package["documents"]:
        signed = {item["signer_id"] for item in document["signatures"] if item["state"] == "SIGNED"}
        assert signed == set(document["signed_by"])


def kinds(package: dict[str, Any]) -> Iterator[str]:
    """What is unusual about a package."""
    members = {member for signer in package["signers"] if signer["group"] for member in signer["group"]["members"]}
    for signer in package["signers"]:
        if signer["group"]:
            yield "group"
        if signer["status"] is None:
            yield "member of a group" if signer["id"] in members else "reviewer"
        if signer["begun_at"] and signer["status"] == "PENDING":
            yield "begun"
        if signer["name"] and not signer["email"]:
            yield "SMS only"
    if any(not signature["required"] for document in package["documents"] for signature in document["signatures"]):
        yield "optional"
    yield from (issue["reason"] for issue in package["attention"])
    yield from (kind for kind in ("data", "unverified") if package[kind])


@pytest.mark.all
def test_all_views_agree_on_every_package(client: FlaskClient):
    """For each package, every view shows the same signers, numbers, signatures and issues."""
    packages = whole_list(client, "/api/packages")
    rows = csv_rows(client)
    found = Counter(kind for package in packages for kind in set(kinds(package)))
    for kind in ("group", "member of a group", "reviewer", "begun", "SMS only", "optional", "data"):
        assert found[kind], found

    assert rows.keys() == {package["id"] for package in packages}
    for package in packages:
        assert api(client, f"/api/packages/{package['id']}") == package
        assert_consistent(package)
        assert_row_agrees(rows[package["id"]], package)
        assert_page_agrees(client, package)
    for reason, number in api(client, "/api/attention/counts")["reasons"].items():
        items = Counter(item["package_id"] for item in whole_list(client, "/api/attention", reason=reason))
        shown = Counter(
            package["id"] for package in packages for issue in package["attention"] if issue["reason"] == reason
        )
        assert (items, number) == (shown, shown.total())
    by_status = Counter(
        count["status"] for count in api(client, "/api/counts")["packages"] for _ in range(count["number"])
    )
    assert by_status == Counter(package["status"] for package in packages)
