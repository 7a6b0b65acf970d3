"""After an upgrade that changes the projection, the worker derives all packages again, and nothing else happens."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.cli import FlaskGroup
from pydantic import SecretStr
from sqlalchemy import insert, make_url, select, text, update

from app import EXTENSION, Service, create_app
from app.handling import Event, Handlers, Package
from app.onespan.projection import PROJECTION_VERSION
from app.simulator.account import Account
from app.simulator.population import populated
from app.store import queries, versions
from app.store.models import Change, Dispatch, Fetch, Journal, Process
from app.store.models import Event as EventRow
from app.store.models import Package as PackageRow
from app.work.reconcile import RunRequest
from app.work.upgrade import Upgrader
from config import Settings
from tests.conftest import ADA, HOUR, KEY, NOON, on_both
from tests.support import old_database
from tests.support.processes import until
from tests.support.simulation import ADDRESS, API_KEY, MINUTE, Simulation

pytestmark = on_both

CHUNK = 4  # packages that one turn derives again in these tests
DAY = timedelta(days=1)
OLD_PROCESS = "old-host:17:0a0b0c0d"


@pytest.fixture
def make_old(service: Service) -> Callable[..., None]:
    """Set all packages, or those given, to what version 1 might have derived."""

    def make_old(*package_ids: str) -> None:
        with service.database.write() as connection:
            old_database.make_old(connection, package_ids)

    return make_old


@pytest.fixture
def old_packages(handlers: Handlers, send_callback, work, make_old, monkeypatch) -> list[str]:
    """Packages that version 1 has derived, one more than two turns derive again. A handler has run for each event."""
    monkeypatch.setattr("app.work.upgrade.CHUNK", CHUNK)
    handlers.on("*")(_do_nothing)
    ids = [f"pkg-{number:03}" for number in range(2 * CHUNK + 1)]
    for package_id in ids:
        send_callback("PACKAGE_CREATE", package=package_id)
        send_callback("PACKAGE_ACTIVATE", package=package_id, happened_at=NOON + MINUTE)
    work()
    make_old()
    return ids


def _do_nothing(event: Event, package: Package) -> None:
    """Return at once."""


def rows(service: Service) -> dict[str, list[Any]]:
    """Return all rows that handlers, events and fetches leave behind."""
    with service.database.read() as connection:
        return {
            table.__tablename__: connection.execute(
                select(*table.__table__.c).order_by(*table.__table__.primary_key)
            ).all()
            for table in (EventRow, Dispatch, Fetch, Journal)
        }


def column(service: Service, name: str) -> dict[str, Any]:
    """Return one column of the table `packages`, by package id."""
    with service.database.read() as connection:
        found = connection.execute(select(PackageRow.id, PackageRow.__table__.c[name]).order_by(PackageRow.id))
        return {row[0]: row[1] for row in found}


def changes(service: Service) -> list[Any]:
    """Return the changes that the upgrade recorded."""
    with service.database.read() as connection:
        found = select(*Change.__table__.c).where(Change.cause_kind == "rebuild", Change.cause_id == "upgrade")
        return list(connection.execute(found))


def upgrade(service: Service) -> int:
    """Run the upgrader until it has nothing to do. Return the number of turns that worked."""
    for turns in range(1000):
        if not service.upgrader.turn():
            return turns
    raise AssertionError("the upgrade never ends")


@contextmanager
def old_process(service: Service, clock) -> Iterator[None]:
    """Another process runs, which does not write a version, as before there were versions."""
    values = {"name": OLD_PROCESS, "takes_callbacks": True, "started_at": clock(), "seen_at": clock()}
    with service.database.write() as connection:
        connection.execute(insert(Process).values(values))
    yield
    with service.database.write() as connection:
        connection.execute(update(Process).where(Process.name == OLD_PROCESS).values(stopped_at=clock()))


def test_the_worker_derives_every_package_again_in_small_steps(service, old_packages, runner):
    """Turns derive all packages from the journal; no event, dispatch, fetch or journal row is added."""
    before = rows(service)

    turns = upgrade(service)

    assert turns == 3
    assert set(column(service, "status").values()) == {"SENT"}
    assert set(column(service, "projection_version").values()) == {PROJECTION_VERSION}
    assert rows(service) == before
    checked = runner.invoke(args=["rebuild", "--check"])
    assert (checked.exit_code, checked.stdout) == (0, f"{len(old_packages)} packages, 0 differences.\n")


def test_what_the_upgrade_changes_is_in_the_feed(service, old_packages, read, clock):
    """Each changed attribute is one change, whose cause says that it was derived again."""
    with service.database.read() as connection:
        last = queries.last_change(connection)
    clock.forward(HOUR)

    upgrade(service)

    feed = read("/api/changes", limit=200, after=last)["items"]
    shown = [(item["package_id"], item["attribute"], item["old"], item["new"], item["recorded_at"]) for item in feed]
    assert sorted(shown) == [
        (package_id, "status", "OLD", "SENT", "2026-03-02T13:00:00Z") for package_id in old_packages
    ]
    assert all(item["cause"] == {"kind": "rebuild", "id": "upgrade"} for item in feed)


def test_a_callback_in_the_middle_is_digested_at_once(service, handlers, old_packages, send_callback, work):
    """A callback about a package that is not derived again yet meets all that the journal says about the package."""
    last, seen = old_packages[-1], []
    handlers.on("DOCUMENT_SIGNED")(lambda event, package: seen.append((event.package_id, package)))
    service.upgrader.turn()

    send_callback(
        "DOCUMENT_SIGNED", package=last, happened_at=NOON + 2 * MINUTE, sessionUser=ADA, documentId="contract"
    )
    work()

    assert [(package_id, package.status, package.created_at) for package_id, package in seen] == [(last, "SENT", NOON)]
    assert column(service, "status")[last] == "SENT"
    assert list(column(service, "status").values()).count("OLD") == CHUNK
    assert [(row.package_id, row.attribute) for row in changes(service)][-1] == (last, "status")
    upgrade(service)
    assert len(changes(service)) == len(old_packages)


@pytest.mark.own_database
def test_a_started_worker_derives_all_packages_while_callbacks_arrive(service, old_packages, send_callback):
    """The worker's threads do the upgrade and digest callbacks meanwhile."""
    service.worker.start()
    try:
        for number in range(10):
            send_callback("PACKAGE_COMPLETE", package=f"new-{number}", happened_at=NOON)
        until(lambda: "OLD" not in column(service, "status").values(), what="all is derived again")
        until(lambda: column(service, "status").get("new-9") == "COMPLETED", what="all is digested")
    finally:
        service.worker.stop(grace=5)

    assert len(changes(service)) == len(old_packages)


def test_a_repeat_in_the_middle_is_a_repeat(service, old_packages, send_callback, work):
    """A repeated callback about an old package only counts, and brings the package up to date."""
    last, before = old_packages[-1], rows(service)

    send_callback("PACKAGE_CREATE", package=last)
    work()

    after = rows(service)
    assert len(after["events"]) == len(before["events"])
    assert after["dispatches"] == before["dispatches"]
    assert column(service, "status")[last] == "SENT"


def test_two_processes_derive_each_package_once(service, old_packages, settings, clock):
    """Two processes share the work: each package is derived again once."""
    other = create_app(settings, handlers=Handlers(), clock=clock).extensions[EXTENSION]
    start = threading.Barrier(2)
    errors: list[Exception] = []

    def work(process: Service) -> None:
        try:
            start.wait(10)
            upgrade(process)
        except Exception as error:  # noqa: BLE001  (the test reports it)
            errors.append(error)

    threads = [threading.Thread(target=work, args=(process,)) for process in (service, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    other.database.close()

    assert errors == []
    assert sorted(row.package_id for row in changes(service)) == old_packages
    assert set(column(service, "projection_version").values()) == {PROJECTION_VERSION}


def test_a_package_digested_meanwhile_is_left_alone(service, old_packages, send_callback, work, monkeypatch):
    """A turn that read the journal before a callback was digested does not undo what the callback reported."""
    first, read_claims = old_packages[0], Upgrader.turn.__globals__["claims_of_journal"]

    def digest_meanwhile(connection, package_ids):
        found = read_claims(connection, package_ids)
        monkeypatch.setattr("app.work.upgrade.claims_of_journal", read_claims)
        connection.rollback()
        send_callback("PACKAGE_COMPLETE", package=first, happened_at=NOON + 2 * MINUTE)
        assert service.digest.turn()
        return found

    monkeypatch.setattr("app.work.upgrade.claims_of_journal", digest_meanwhile)
    service.upgrader.turn()

    assert column(service, "status")[first] == "COMPLETED"
    assert list(column(service, "status").values()).count("SENT") == CHUNK - 1


def test_progress_is_shown_until_the_end(service, old_packages, client, flask, api_get, read):
    """Doctor, `/readyz`, the API and the metrics say how far the upgrade is, and nothing afterwards."""
    service.upgrader.turn()
    progress = f"{CHUNK} of {len(old_packages)} transactions are derived again after the upgrade"

    ready, health = client.get("/readyz"), api_get("/api/health").json

    assert ready.status_code == 200
    assert any(note.startswith(progress) for note in ready.json["notes"])
    assert any(note.startswith(progress) for note in health["notes"])
    assert health["upgrade"] == {"derived": CHUNK, "total": len(old_packages), "waits_for": None}
    assert f"warn upgrade {progress}" in " ".join(flask("doctor").output.split())
    assert f"\npackages_outdated {CHUNK + 1}.0\n" in client.get("/metrics").text

    upgrade(service)

    assert not any("upgrade" in note for note in client.get("/readyz").json["notes"])
    assert api_get("/api/health").json["upgrade"] is None
    assert "upgrade" not in flask("doctor").output
    assert "\npackages_outdated 0.0\n" in client.get("/metrics").text


def test_rebuild_check_leaves_out_what_the_worker_derives_again(service, old_packages, runner):
    """`rebuild --check` does not call old packages different, and says how many it left out."""
    service.upgrader.turn()

    checked = runner.invoke(args=["rebuild", "--check"])

    total = len(old_packages)
    assert checked.exit_code == 0, checked.stdout
    assert checked.stdout.splitlines() == [
        f"{total} packages, 0 differences.",
        f"{CHUNK + 1} packages not checked: the worker derives them again after the upgrade.",
    ]


def test_rebuild_does_the_work_of_the_upgrade(service, old_packages, runner):
    """After `flask rebuild` the worker has nothing left to do."""
    assert runner.invoke(args=["rebuild"]).exit_code == 0

    assert set(column(service, "projection_version").values()) == {PROJECTION_VERSION}
    assert set(column(service, "status").values()) == {"SENT"}
    assert upgrade(service) == 0


def test_unchanged_packages_get_the_new_version_without_a_change(service, send_callback, work):
    """A package that both versions derive alike gets the new version, but no change is recorded."""
    send_callback("PACKAGE_CREATE")
    work()
    with service.database.write() as connection:
        connection.execute(update(PackageRow).values(projection_version=1))

    upgrade(service)

    assert column(service, "projection_version") == {"pkg-1": PROJECTION_VERSION}
    assert changes(service) == []


def test_a_package_that_cannot_be_derived_holds_up_no_other(service, old_packages, client):
    """The worker leaves out a package whose journal row cannot be read, and derives all others."""
    bad = old_packages[3]
    with service.database.write() as connection:
        connection.execute(update(Journal).where(Journal.package_id == bad).values(body=b"damaged"))

    upgrade(service)

    assert [key for key, status in column(service, "status").items() if status == "OLD"] == [bad]
    assert upgrade(service) == 0
    assert any("package.not_derived" in note for note in client.get("/readyz").json["notes"])


def test_a_package_without_journal_rows_ends_the_upgrade(service, old_packages):
    """A package about which the journal has no row stays as it is, and the upgrade ends."""
    with service.database.write() as connection:
        connection.execute(update(Journal).where(Journal.package_id == old_packages[0]).values(package_id="other"))

    upgrade(service)

    assert column(service, "status")[old_packages[0]] == "OLD"
    assert set(column(service, "projection_version").values()) == {PROJECTION_VERSION}


def test_the_upgrade_waits_for_processes_of_another_version(service, old_packages, send_callback, work, clock, client):
    """What is written beside a process of another version is derived again after that process has ended."""
    package_id = old_packages[0]
    with old_process(service, clock):
        send_callback("PACKAGE_COMPLETE", package=package_id, happened_at=NOON + 2 * MINUTE)
        work()
        assert column(service, "status")[package_id] == "COMPLETED"
        assert upgrade(service) == 0
        assert any(f"stop {OLD_PROCESS}" in note for note in client.get("/readyz").json["notes"])
        with service.database.write() as connection:  # the old process digests a callback and writes old claims
            old = update(PackageRow).where(PackageRow.id == package_id)
            connection.execute(old.values(status="OLD", claims={"package": {}}))

    assert upgrade(service) == 3

    assert column(service, "status") == dict.fromkeys(old_packages, "SENT") | {package_id: "COMPLETED"}


@pytest.mark.parametrize("other", [PROJECTION_VERSION + 1, versions.OUTDATED])
def test_packages_of_a_newer_version_are_derived_again_too(service, send_callback, work, other):
    """After a return to this version, packages that a newer version derived are derived again."""
    send_callback("PACKAGE_CREATE")
    work()
    with service.database.write() as connection:
        connection.execute(update(PackageRow).values(projection_version=other, status="NEWER"))

    assert upgrade(service) == 1

    assert column(service, "status") == {"pkg-1": "DRAFT"}


def test_a_killed_process_of_another_version_is_waited_for_a_minute(service, old_packages, clock):
    """A process without heartbeats counts as gone after a minute."""
    with service.database.write() as connection:
        values = {"name": OLD_PROCESS, "takes_callbacks": True, "started_at": clock(), "seen_at": clock()}
        connection.execute(insert(Process).values(values))
    assert upgrade(service) == 0

    clock.forward(timedelta(seconds=61))

    assert upgrade(service) == 3


def test_the_search_for_old_packages_uses_an_index(service, old_packages):
    """The lookup that runs every few seconds does not read all packages."""
    service.database.analyze()
    with service.database.read() as connection:
        compiled = versions._OUTDATED.params(limit=CHUNK).compile(
            service.database.engine, compile_kwargs={"literal_binds": True}
        )
        statement = str(compiled)
        if service.database.engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            plan = str(connection.execute(text(f"EXPLAIN {statement}")).all())
        else:
            plan = str(connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")).all())
    assert "ix_packages_projection_version_id" in plan
    assert "SCAN packages" not in plan


class TestReconcile:
    """Reconcile and the drift check compare OneSpan with what this version derives."""

    @pytest.fixture
    def settings(self, settings):
        """Settings that connect the service to OneSpan."""
        return settings.model_copy(update={"onespan_url": ADDRESS, "onespan_api_key": SecretStr(API_KEY)})

    @pytest.fixture
    def imported(self, service, post, handlers, clock) -> Simulation:
        """A service that has imported an account of 30 packages."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        simulation.connect(Account(1, packages=0).load(populated(1, 30, now=clock() - 40 * DAY).packages()))
        simulation.reconcile(RunRequest(backfill=True))
        return simulation

    def test_reconcile_is_not_misled_by_old_packages(self, service, imported, make_old):
        """A reconcile before the upgrade is done finds no difference in an unchanged account."""
        make_old()
        before = rows(service)

        imported.reconcile(RunRequest(backfill=True))

        assert rows(service) == before
        upgrade(service)
        assert "OLD" not in column(service, "status").values()

    def test_drift_check_is_not_misled_by_old_packages(self, imported, make_old, flask):
        """`flask reconcile --check` reports no drift for packages that wait for the worker."""
        make_old()

        checked = flask("reconcile", "--check")

        assert checked.exit_code == 0, checked.output


class TestRealUpgrade:
    """A database as version 1 left it, with its rows, is upgraded."""

    pytestmark = pytest.mark.own_database

    @pytest.fixture
    def ran(self) -> list[str]:
        """The events for which a handler has run."""
        return []

    @pytest.fixture
    def empty(self, database_url, tmp_path, clock, ran) -> Iterator[Flask]:
        """An app on a database without tables, just after the rows of version 1 were written."""
        url = f"sqlite:///{tmp_path}/old.db" if database_url.startswith("sqlite") else database_url
        settings = Settings(database_url=url, onespan_callback_keys=f"test={KEY}", spool_dir=tmp_path / "spool")
        handlers = Handlers()

        @handlers.on("*")
        def record(event: Event, package: Package) -> None:
            ran.append(event.name)

        clock.now = old_database.MADE_AT
        app = create_app(settings, handlers=handlers, clock=clock)
        database = app.extensions[EXTENSION].database
        if make_url(url).get_backend_name() == "postgresql":
            with database.write() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
        yield app
        database.close()

    @pytest.fixture
    def upgraded(self, empty) -> Flask:
        """An app on a database with the rows of version 1, after `flask db upgrade`."""
        for words in (("db", "upgrade", old_database.SCHEMA), ("db", "upgrade")):
            done = empty.test_cli_runner().invoke(FlaskGroup(create_app=lambda: empty), words)
            assert done.exit_code == 0, done.output
            if old_database.SCHEMA in words:
                with empty.extensions[EXTENSION].database.write() as connection:
                    old_database.fill(connection)
        return empty

    def test_the_rows_of_the_version_before_are_derived_again(self, upgraded, ran):
        """After the worker's turns `rebuild --check` finds no difference; no handler has run and nothing was added."""
        service = upgraded.extensions[EXTENSION]
        before = rows(service)
        assert set(column(service, "projection_version").values()) == {1}

        assert upgrade(service) == 1
        assert (service.digest.turn(), service.dispatcher.turn()) == (False, False)

        assert set(column(service, "projection_version").values()) == {PROJECTION_VERSION}
        assert rows(service) == before
        assert ran == []
        checked = upgraded.test_cli_runner().invoke(args=["rebuild", "--check"])
        assert (checked.exit_code, checked.stdout) == (0, "13 packages, 0 differences.\n"), checked.stdout

    def test_every_stored_callback_is_still_a_repeat(self, upgraded, ran):
        """Callbacks from before the upgrade that come again add no event and run no handler."""
        service = upgraded.extensions[EXTENSION]
        before = rows(service)
        bodies = [row.body for row in before["journal"] if row.kind == "callback" and b"createdDate" in row.body]
        dated = [body for body in bodies if json.loads(body)["createdDate"]]

        for body in dated:
            sent = upgraded.test_client().post(
                "/onespan/callback", data=body, headers={"Authorization": f"Basic {KEY}"}
            )
            assert sent.status_code == 200
        while service.digest.turn() or service.dispatcher.turn():
            pass
        upgrade(service)

        after = rows(service)
        assert len(dated) > 100
        assert len(after["journal"]) == len(before["journal"]) + len(dated)
        assert [row.id for row in after["events"]] == [row.id for row in before["events"]]
        assert after["dispatches"] == before["dispatches"]
        assert ran == []
        checked = upgraded.test_cli_runner().invoke(args=["rebuild", "--check"])
        assert (checked.exit_code, checked.stdout) == (0, "13 packages, 0 differences.\n"), checked.stdout
