"""A package that OneSpan does not show to the configured credentials says so, since when and why."""

import csv
import io
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import func, select

from app.onespan.values import Unverified
from app.simulator.account import Account
from app.store.models import Fetch
from app.store.states import UnverifiedReason
from app.work.rebuild import rebuild
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, NOON, TOKEN, on_both, onespan_time
from tests.service.test_reconcile import import_account
from tests.support.logins import log_in, with_passwords
from tests.support.simulation import MINUTE, Simulation, with_onespan

REFUSED, NOT_FOUND, NOT_SHOWN, UNUSABLE_ID = UnverifiedReason
HIDDEN = "of-another-sender"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def settings(settings):
    """Settings with the address of OneSpan."""
    return with_passwords(with_onespan(settings))


@pytest.fixture
def simulation(service, post, handlers, clock):
    """The service and an imported account with some packages."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    import_account(simulation, 5)
    return simulation


@pytest.fixture
def report(send_callback, clock, simulation):
    """Post a callback about a package that is not in the account, and let the service try to fetch it."""

    def report(name: str = "PACKAGE_ACTIVATE") -> None:
        send_callback(name, package=HIDDEN, happened_at=clock.now)
        settle(simulation)

    return report


def settle(simulation: Simulation) -> None:
    """Do all work, including the fetches that are retried within some minutes."""
    for _ in range(4):
        simulation.settle()
        simulation.clock.forward(MINUTE)


def unverified(simulation: Simulation, package_id: str = HIDDEN) -> Unverified | None:
    stored = simulation.stored_package(package_id)
    assert stored
    return stored.unverified


def changes(read: Any, package_id: str) -> list[tuple[Any, Any, str]]:
    """Return the old value, the new value and the kind of cause of each change of `unverified`."""
    items = read(f"/api/packages/{package_id}/history")["items"]
    found = [change for change in items if change["attribute"] == "unverified"]
    assert all(change["subject"] == "package" for change in found)
    return [(change["old"], change["new"], change["cause"]["kind"]) for change in found]


@on_both
@pytest.mark.parametrize(("status", "reason"), [("403 Forbidden", REFUSED), ("404 Not Found", NOT_FOUND)])
def test_package_that_only_callbacks_know_is_unverified(simulation, report, read, status, reason):
    """A package that OneSpan refuses, or that it does not find for credentials that never read it, is unverified."""
    simulation.refuse(f"/api/packages/{HIDDEN}", status=status, body=b'{"messageKey": "error"}')
    report()

    shown = read(f"/api/packages/{HIDDEN}")
    assert shown["status"] == "SENT"
    assert shown["unverified"]["reason"] == reason
    assert onespan_time(NOON) <= shown["unverified"]["since"] <= onespan_time(simulation.clock.now)
    assert changes(read, HIDDEN) == [(None, reason, "fetch")]
    assert not shown["deleted"]


@on_both
def test_package_that_is_refused_after_it_was_read_is_unverified_until_it_is_shown(
    simulation, read, clock, api_post, client
):
    """A package that was read and is refused now is unverified from the first refusal until OneSpan shows it again."""
    package_id = simulation.account.packages()[0].id
    refuses = [True]

    def change(environ: Any, answer: Any) -> None:
        if refuses and environ["PATH_INFO"].endswith(package_id):
            answer.status, answer.body = "403 Forbidden", b'{"messageKey": "error.forbidden"}'

    simulation.change_answers(change)
    assert unverified(simulation, package_id) is None
    clock.forward(HOUR)
    api_post(f"/api/packages/{package_id}/read")
    settle(simulation)
    since = unverified(simulation, package_id)
    assert since == Unverified(since.since, REFUSED)
    assert NOON + HOUR <= since.since < NOON + HOUR + MINUTE
    clock.forward(HOUR)
    settle(simulation)
    assert unverified(simulation, package_id) == since

    refuses.clear()
    api_post(f"/api/packages/{package_id}/read")
    settle(simulation)
    assert unverified(simulation, package_id) is None
    assert changes(read, package_id) == [(None, "refused", "fetch"), ("refused", None, "snapshot")]

    refuses.append(True)
    clock.forward(HOUR)
    api_post(f"/api/packages/{package_id}/read")
    settle(simulation)
    log_in(client)
    assert client.get(f"/transactions/{package_id}").text.count("Could not be read from OneSpan") == 2


@on_both
def test_list_that_shows_a_package_verifies_it(simulation, read, clock, api_post):
    """A package that the list of a reconcile run shows as stored is verified, although it cannot be read alone."""
    package = simulation.account.packages()[0]
    simulation.refuse(package.id, status="403 Forbidden")
    api_post(f"/api/packages/{package.id}/read")
    for _ in range(4):  # the next attempt is a day later
        settle(simulation)
        clock.forward(10 * MINUTE)
    assert unverified(simulation, package.id)

    clock.forward(HOUR)
    simulation.reconcile(RunRequest(backfill=True))
    assert unverified(simulation, package.id) is None
    assert changes(read, package.id)[-1] == ("refused", None, "reconcile")


@on_both
def test_package_that_is_back_after_a_refusal_is_read(simulation, clock, api_post):
    """A callback that brings back a deleted package makes the service fetch it, even right after a refusal.

    Once OneSpan has answered, the refusal is forgotten, so that a run finds the next deletion.
    """
    account, package_id = simulation.account, simulation.account.packages()[0].id
    simulation.act(package_id, "delete")
    api_post(f"/api/packages/{package_id}/read")
    settle(simulation)
    assert simulation.stored_package(package_id).deleted
    back = simulation.act(package_id, "undelete")
    simulation.refuse(package_id, status="403 Forbidden")
    api_post(f"/api/packages/{package_id}/read")
    settle(simulation)

    simulation.connect(account)
    answers_from = clock.now
    simulation.post(*back)
    settle(simulation)
    assert not simulation.stored_package(package_id).deleted
    assert simulation.stored_package(package_id).read_at >= answers_from

    simulation.act(package_id, "delete")
    clock.forward(HOUR)
    simulation.reconcile(RunRequest(backfill=True))
    assert simulation.stored_package(package_id).deleted


@on_both
def test_law_10_not_found_before_the_list_shows_a_package_is_no_deletion(simulation):
    """OneSpan answers 404 for a package that is too new. Meanwhile a run sees the package in the list."""
    account, old = simulation.account, {package.id for package in simulation.account.packages()}
    account._to_create += 1
    while not (created := {package.id for package in account.packages()} - old):
        simulation.clock.forward(MINUTE)
        bodies = simulation.step()
    (package_id,) = created
    listed = []

    def change(environ: Any, answer: Any) -> None:
        if environ["PATH_INFO"].endswith(package_id) and not listed:
            simulation.service.reconcile.begin(RunRequest())
            listed.append(simulation.service.reconcile.turn())
            answer.status, answer.body = "404 Not Found", b"{}"

    simulation.change_answers(change)
    simulation.post(*bodies)
    settle(simulation)

    assert listed == [True]
    assert not simulation.stored_package(package_id).deleted
    assert "PACKAGE_DELETE" not in simulation.handled[package_id]


def test_package_that_becomes_visible_is_verified(simulation, report, clock):
    """If the account later shows a package that was not found, a run verifies it."""
    report()
    assert unverified(simulation)
    account = Account(9, packages=1)
    while not account.packages():
        account.step(clock.now)
    simulation.account.load([*simulation.account.packages(), replace(account.packages()[0], id=HIDDEN)])
    clock.forward(HOUR)
    simulation.reconcile(RunRequest(backfill=True))

    assert unverified(simulation) is None
    assert simulation.differences() == []


def test_package_that_no_run_could_read_is_unverified(simulation, report, read):
    """A package that callbacks report and whose fetch always fails is unverified once a run has ended."""
    simulation.refuse(f"/api/packages/{HIDDEN}", status="200 OK", body=b"[]")
    report()
    assert unverified(simulation) is None
    simulation.reconcile(RunRequest())

    assert unverified(simulation).reason == NOT_SHOWN
    assert changes(read, HIDDEN) == [(None, "not_shown", "reconcile")]


DOTTED = ["..", ".", "a/../b", "%2e%2E", "%252e%252e", "a%2F..%2Fb", "..\\b", "..;/b"]


@on_both
@pytest.mark.parametrize("package_id", DOTTED)
def test_id_with_dots_is_kept_but_never_requested(simulation, send_callback, read, client, package_id):
    """A callback whose package id has a part `.` or `..` is kept, never requested from OneSpan, and marked."""
    requested = []
    simulation.change_answers(lambda environ, _: requested.append(environ["PATH_INFO"]))
    for number in range(3):
        send_callback("PACKAGE_ACTIVATE", package=package_id, happened_at=NOON + number * MINUTE)
        settle(simulation)
        simulation.clock.forward(2 * HOUR)

    assert requested == []
    assert [event["name"] for event in read("/api/events", limit=3)["items"]] == ["PACKAGE_ACTIVATE"] * 3
    (shown,) = read("/api/packages", unverified="true")["items"]
    assert shown["unverified"]["reason"] == UNUSABLE_ID
    assert shown["status"] == "SENT"
    log_in(client)
    with simulation.service.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(Fetch)) == 0
    assert "Unusable ID" in client.get("/?unverified=true").text


@pytest.mark.parametrize("package_id", DOTTED)
def test_id_with_dots_has_no_address(send_callback, work, client, package_id):
    """The API and the pages answer 404 for an id with a part `.` or `..`, however it is encoded."""
    send_callback("PACKAGE_ACTIVATE", package=package_id)
    work()
    log_in(client)
    statuses = set()
    for encoded in (package_id, quote(package_id, safe=""), quote(quote(package_id, safe=""), safe="")):
        for path in (f"/api/packages/{encoded}", f"/api/packages/{encoded}/history", f"/transactions/{encoded}"):
            statuses.add((path, client.get(path, headers=BEARER).status_code))
        statuses.add((f"/api/{encoded}/read", client.post(f"/api/packages/{encoded}/read", headers=BEARER).status_code))

    assert {status for _, status in statuses} == {404}, statuses


def test_deleted_package_is_not_unverified(simulation, report, read):
    """A package that is known to be deleted is not unverified, whatever OneSpan answers."""
    report()
    assert unverified(simulation)
    report("PACKAGE_DELETE")

    shown = read(f"/api/packages/{HIDDEN}")
    assert shown["deleted"]
    assert shown["unverified"] is None


def test_package_refused_before_its_first_callback_is_unverified(simulation, api_post, report):
    """A package that was refused before any callback named it is fetched again at the first callback."""
    api_post(f"/api/packages/{HIDDEN}/read")
    settle(simulation)
    report()

    assert unverified(simulation).reason == NOT_FOUND


def test_faults_of_onespan_make_nothing_unverified(simulation, report):
    """Rejected credentials, throttling, server errors and firewalls say nothing about one package."""
    for status in ("401 Unauthorized", "429 Too Many Requests", "503 Service Unavailable"):
        simulation.refuse(f"/api/packages/{HIDDEN}", status=status)
        report()
        assert unverified(simulation) is None
    page = {"status": "403 Forbidden", "body": b"<html>Blocked</html>", "Content_Type": "text/html"}
    simulation.refuse(f"/api/packages/{HIDDEN}", **page)
    report()
    assert unverified(simulation) is None


def test_without_credentials_nothing_is_unverified(send_callback, stored_package):
    """Without a connection to OneSpan there is nothing to verify with, so `unverified` is null."""
    send_callback("PACKAGE_ACTIVATE")

    assert stored_package("pkg-1").unverified is None


@on_both
def test_rebuild_leaves_unverified_packages_as_they_are(simulation, report, service, clock):
    """The journal does not contain refusals, so neither a check nor a rebuild changes `unverified`."""
    report()
    before = unverified(simulation)

    assert list(rebuild(service.database, clock=clock, write=False)) == []
    assert list(rebuild(service.database, clock=clock, write=True)) == []
    assert unverified(simulation) == before


@on_both
def test_list_filters_unverified_packages(simulation, report, api_get, client):
    """The list, the page, the CSV file and the search find the unverified packages, or the others."""
    report()

    def ids(**query: str) -> set[str]:
        return {item["id"] for item in api_get("/api/packages", **query).json["items"]}

    everything = ids()
    assert ids(unverified="true") == {HIDDEN}
    assert ids(unverified="false") == everything - {HIDDEN}
    assert ids(unverified="true", status="SENT", sort="-created_at") == {HIDDEN}
    assert ids(unverified="true", q=HIDDEN) == {HIDDEN}
    assert ids(unverified="true", attention="any") == set()


def test_pages_and_csv_show_and_filter_unverified_packages(simulation, report, client):
    """The list has a filter and a tag, the page of a transaction says what to do, and the CSV file has the reason."""
    report()
    log_in(client)

    listed = client.get("/?unverified=true").text
    assert HIDDEN in listed
    assert listed.count('<tr data-key="') == 1
    assert "Not verified" in listed
    assert client.get("/?unverified=").text.count('<tr data-key="') > 1
    shown = client.get(f"/transactions/{HIDDEN}").text
    assert "Not verified with OneSpan" in shown
    assert "OneSpan shows no such transaction to these credentials" in shown
    assert "other credentials" in shown or "credentials that see it" in shown
    (row,) = csv.DictReader(io.StringIO(client.get("/transactions.csv?unverified=true").text.removeprefix("\ufeff")))
    assert "transactions that OneSpan does not show" in client.get("/health").text
    assert row["unverified_reason"] == "not_found"
    assert row["unverified_since"].endswith("Z")


@on_both
def test_health_counts_unverified_packages(simulation, report, api_get, client, flask):
    """The health report, the metrics, the readiness notes and doctor say how many packages cannot be verified."""
    assert api_get("/api/health").json["unverified"] == 0
    assert "does not show" not in flask("doctor").output
    report()

    assert api_get("/api/health").json["unverified"] == 1
    assert "packages_unverified 1.0" in client.get("/metrics").text
    assert "OneSpan does not show 1 package to these credentials" in flask("doctor").output
    assert "OneSpan does not show 1 package to these credentials" in client.get("/readyz").text
