"""Reconcile on bad days: whatever one package, one header, one list or one clock does, all the rest is kept right."""

# ruff: noqa: F401, F811  (fixtures come by their names)

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any
from urllib.parse import parse_qs

import pytest
from sqlalchemy import delete, select

from app.checks import said_of_run
from app.simulator.account import Account
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import outages, queries
from app.store.models import Outage, Read, Run
from app.store.states import OutageKind
from app.work.reconcile import Asked
from app.work.snapshots import WAITS
from tests.conftest import HOUR, TOKEN, in_all, on_sqlite, onespan_time
from tests.service.test_reconcile import DAY, SIX_HOURS, another, held, ledger, settings, world
from tests.support.simulation import MINUTE, SECOND, Spoilt, World

BEARER = {"Authorization": f"Bearer {TOKEN}"}
HTML = b"<html>Sorry</html>"


def at_rest(world: World) -> list[str]:
    """Packages that can be archived."""
    return [one.id for one in world.account.packages() if one.status == "COMPLETED" and not one.trashed]


def kept(world: World, what: Any) -> list[Any]:
    """A column of all rows."""
    with world.service.database.read() as connection:
        return list(connection.execute(select(what)).scalars())


class TestOneBadPackage:
    """What is about one package alone holds up no other."""

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            ("500 Internal Server Error", b"{}", "application/json"),
            *in_all(("200 OK", HTML, "text/html")),
        ],
    )
    def test_one_that_never_answers_does_not_end_reconciling(self, world, status, body, kind):
        """It is counted, asked for again, and the next interval comes."""
        account = held(world, 40, quirks=Quirks(list_items="summary"))
        bad, other = at_rest(world)[:2]
        world.refuse(bad, status=status, body=body, Content_Type=kind)
        world.act(bad, "archive")
        world.live_on(DAY, every=15 * MINUTE)
        world.act(other, "archive")
        world.live_on(DAY, every=15 * MINUTE)

        done = [(one.state, one.unreadable) for one in ledger(world.service)[2:]]
        assert len(done) == 8
        assert set(done[:-1]) == {("done", 1)}
        assert world.picture(other).status == "ARCHIVED"
        assert account.package(bad).status != world.picture(bad).status
        assert bad in kept(world, Read.package_id)

    def test_it_delays_nobody(self, world, clock):
        """A package that surprises us is read at once, though another one fails."""
        world.connect(Account(1, packages=1))
        world.refuse("/poison")
        world.post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "poison", "createdDate": "2026-03-02T12:00:00.000Z"}')
        world.live_on(2 * HOUR)
        world.post(*world.step())
        world.asked.clear()
        world.live_on(10 * SECOND, every=SECOND)

        (package,) = world.account.packages()
        assert f"/api/packages/{package.id}?" in world.asked

    def test_it_is_no_outage(self, world):
        """Others answer, so nobody has to catch up."""
        world.connect(Account(1, packages=3))
        world.refuse("/poison")
        world.post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "poison", "createdDate": "2026-03-02T12:00:00.000Z"}')
        world.live_on(HOUR)
        world.post(*world.step())
        world.live_on(HOUR)

        assert OutageKind.UNREACHABLE not in kept(world, Outage.kind)

    def test_when_two_in_a_row_fail_nobody_else_is_asked_for(self, world, clock):
        """Then it is OneSpan that is down, and one request after each wait tells whether it still is."""
        world.spoil(lambda _, answer: setattr(answer, "status", "503 Service Unavailable"))
        for number in range(20):
            told = {"name": "PACKAGE_ACTIVATE", "packageId": f"p{number}", "createdDate": onespan_time(clock.now)}
            world.post(json.dumps(told).encode())
        world.settle()
        world.asked.clear()
        clock.forward(WAITS[0])
        world.settle()

        assert len({one for one in world.asked if "/api/packages/" in one}) <= 2

    def test_a_run_waits_for_what_it_asked_for_though_a_callback_asks_too(self, world, clock):
        """The newer reason does not hide that the older one is not answered."""
        held(world, 40, quirks=Quirks(list_items="summary"))
        bad = at_rest(world)[0]
        world.refuse(bad)
        world.act(bad, "archive")
        clock.forward(SIX_HOURS)
        for _ in range(20):
            clock.forward(2 * SECOND)
            world.service.reconcile.turn()
        told = {"name": "PACKAGE_RESTORE", "packageId": bad, "createdDate": onespan_time(clock.now)}
        world.post(json.dumps(told).encode())
        for _ in range(20):
            clock.forward(2 * SECOND)
            world.service.digest.turn()
            world.service.reconcile.turn()

        assert ledger(world.service)[-1].state == "running"

    def test_one_that_is_too_new_to_be_there_is_asked_for_again_soon(self, world, clock):
        """OneSpan tells of it before it can show it."""
        world.connect(Account(1, packages=1))
        late = {"is": True}

        def not_yet(environ: Any, answer: Spoilt) -> None:
            if late["is"] and environ["PATH_INFO"].startswith("/api/packages/"):
                answer.status, answer.body = "404 Not Found", b'{"code": 404, "messageKey": "error.notFound"}'

        world.spoil(not_yet)
        world.post(*world.step())
        world.settle()
        late["is"] = False
        (package,) = world.account.packages()
        assert world.picture(package.id).read_at is None
        clock.forward(MINUTE)
        world.settle()

        assert world.picture(package.id).read_at

    def test_one_that_was_deleted_before_we_saw_it_is_asked_for_once(self, world, clock):
        """A callback said why it is not there, so nobody asks again."""
        world.connect(Account(1, packages=1))
        world.post(*world.step())
        (package,) = world.account.packages()
        world.post(*world.act(package.id, "delete"))
        world.settle()
        clock.forward(MINUTE)
        world.settle()

        assert world.picture(package.id).deleted
        assert len([one for one in world.asked if f"/{package.id}" in one]) == 1


class TestRows:
    """A row of the list that shows less than there is says nothing of what it leaves out."""

    @pytest.mark.parametrize("cut", ["parts", "signers", *in_all("approvals", "no approvals")])
    def test_law_5_a_row_that_is_cut_short_is_read_singly(self, world, clock, cut):
        """Empty is not the same as there is none."""

        def change(environ: Any, answer: Spoilt) -> None:
            if environ["PATH_INFO"] == "/api/packages" and answer.status.startswith("200"):
                shown = json.loads(answer.body)
                for row in shown["results"]:
                    shorten(row, cut)
                answer.body = json.dumps(shown).encode()

        account = Account(1, packages=8)
        world.connect(account)
        world.spoil(change)
        world.live(drop=0.3, dice=Random(1))
        world.settle()
        for _ in range(2):
            clock.forward(SIX_HOURS)
            world.reconcile()

        assert world.differences() == []
        for package_id, names in world.told.items():
            assert package_id == "before" or names <= world.happened[package_id]

    def test_it_costs_a_request_only_where_something_changed(self, world, clock):
        """What it does show is as it was."""
        held(world, 30)

        def change(environ: Any, answer: Spoilt) -> None:
            if environ["PATH_INFO"] == "/api/packages" and answer.status.startswith("200"):
                shown = json.loads(answer.body)
                shown["results"] = [row | {"roles": [], "documents": []} for row in shown["results"]]
                answer.body = json.dumps(shown).encode()

        world.spoil(change)
        world.asked.clear()
        world.reconcile(Asked(backfill=True))

        assert [one for one in world.asked if "/api/packages/" in one] == []


def shorten(row: dict[str, Any], cut: str) -> None:
    """Leave a part of it out, where it has one."""
    if cut == "parts" and "roles" in row:
        row |= {"roles": [], "documents": []}
    for document in row.get("documents", ()):
        if cut == "approvals":
            document.pop("approvals", None)
        elif cut == "no approvals":
            document["approvals"] = []
    for role in row.get("roles", ()) if cut == "signers" else ():
        role["signers"] = []


class TestLists:
    """However the list is arranged, nobody is skipped for good."""

    @pytest.mark.all
    def test_law_5_what_was_changed_in_one_instant_may_come_in_any_order(self, world, clock):
        """Somebody archives all that is completed at one stroke, and no callback comes."""
        packages = populated(1, 400, now=clock.now - 40 * DAY).packages()
        account = Account(1, packages=0, quirks=Quirks(list_largest=0)).hold(packages)
        world.connect(account)
        world.reconcile(Asked(backfill=True))
        clock.forward(SIX_HOURS)
        archived = [replace(account.package(one), status="ARCHIVED", updated=clock.now) for one in at_rest(world)]
        account.hold(archived)
        world.list_as(in_any_order(3))
        clock.forward(SIX_HOURS)
        world.reconcile()

        assert len(archived) > 100
        assert world.differences() == []

    @on_sqlite
    @pytest.mark.all
    def test_an_import_of_what_was_changed_in_one_instant_is_whole(self, service, post, handlers, clock):
        """As after a migration: all dates are alike."""
        world = World(service, post, handlers=handlers, clock=clock)
        at = clock.now - 40 * DAY
        packages = [replace(one, updated=at, due=None) for one in populated(1, 350, now=at).packages()]
        world.connect(Account(1, packages=0, quirks=Quirks(list_largest=0, list_items="summary")).hold(packages))
        world.list_as(in_any_order(3))
        world.reconcile()

        assert all(world.picture(one.id) for one in packages)

    @on_sqlite
    @pytest.mark.all
    def test_a_count_that_is_capped_does_not_end_an_import(self, service, post, handlers, clock):
        """It says 150, and shows more."""
        world = World(service, post, handlers=handlers, clock=clock)
        packages = populated(1, 350, now=clock.now - 40 * DAY).packages()
        world.connect(Account(1, packages=0, quirks=Quirks(list_largest=0, list_items="summary")).hold(packages))
        world.list_as(lambda rows: (rows, min(len(rows), 150)))
        world.reconcile()

        assert all(world.picture(one.id) for one in packages)


def in_any_order(seed: int) -> Callable[[list[Any]], tuple[list[Any], int]]:
    """The newest come first, and among those of one instant whoever comes, but where another order is asked for."""
    dice = Random(seed)

    def arrange(rows: list[Any]) -> tuple[list[Any], int]:
        if any("updated" not in one for one in rows):
            return rows, len(rows)
        is_by_age = [one["created"] for one in rows] == sorted(one["created"] for one in rows)
        if is_by_age and len(rows) > 1:
            return rows, len(rows)
        return sorted(rows, key=lambda one: (one["updated"], dice.random()), reverse=True), len(rows)

    return arrange


class TestClocks:
    """No clock that goes wrong for a while leaves anything behind."""

    def test_law_5_a_date_that_is_ahead_once_hides_nothing(self, world, clock):
        """One answer is dated two months later."""
        held(world, 5)
        first, second = at_rest(world)[:2]
        left = [1]

        def ahead(_: Any, answer: Spoilt) -> None:
            if left and left.pop():
                answer.headers["Date"] = format_datetime(clock.now + 60 * DAY, usegmt=True)

        clock.forward(SIX_HOURS)
        world.spoil(ahead)
        world.act(first, "archive")
        world.reconcile()
        assert ledger(world.service)[-1].until <= clock.now
        clock.forward(SIX_HOURS)
        world.act(second, "archive")
        world.act(first, "unarchive")
        world.reconcile()

        assert world.differences() == []
        assert world.picture(first).read_at <= clock.now

    @pytest.mark.parametrize("date", ["", "garbage", "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"])
    def test_whatever_date_is_said_the_run_comes_to_its_end(self, world, clock, date):
        """And once it is right again, so is the picture."""
        held(world, 5)
        one = at_rest(world)[0]
        wrong = [True]
        world.spoil(lambda _, answer: answer.headers.update(Date=date) if wrong else None)
        clock.forward(SIX_HOURS)
        world.act(one, "archive")
        world.reconcile()
        wrong.clear()
        clock.forward(SIX_HOURS)
        world.reconcile()
        clock.forward(SIX_HOURS)
        world.reconcile()

        assert {run.state for run in ledger(world.service)} == {"done"}
        assert world.differences() == []

    def test_law_9_after_our_clock_was_a_month_ahead_the_interval_goes_on(self, world, clock):
        """It was set right; what began in that month is no reason to wait for it."""
        held(world, 3)
        clock.forward(30 * DAY + SIX_HOURS)
        world.reconcile()
        with world.service.database.write() as connection:
            outages.note(connection, OutageKind.DOWN, began_at=clock.now, ended_at=clock.now + MINUTE)
        clock.now -= 30 * DAY
        before = len(ledger(world.service))
        for _ in range(8):
            clock.forward(SIX_HOURS)
            world.reconcile()
        assert len(ledger(world.service)) - before == 8

    def test_law_9_a_clock_that_is_a_little_ahead_begins_no_second_run(self, world, another, clock):
        """Another machine's is; it began a run, which has ended."""
        clock.forward(SIX_HOURS + 2 * SECOND)
        world.reconcile()
        clock.now -= 2 * SECOND

        assert another().reconcile.turn() is False
        assert len(ledger(world.service)) == 2

    def test_a_run_that_waits_for_a_time_that_was_wrong_goes_on(self, world, clock):
        """Its wait was written down by a clock that was a month ahead."""
        held(world, 3)
        clock.forward(30 * DAY)
        world.service.reconcile.turn()
        with world.service.database.write() as connection:
            connection.exec_driver_sql("UPDATE reconciles SET process = NULL WHERE state = 'running'")
        clock.now -= 30 * DAY
        world.reconcile()

        assert ledger(world.service)[-1].state == "done"


class TestGivenUp:
    """A run that comes no further makes room for the next."""

    def test_one_that_is_refused_for_an_interval_fails_and_the_next_begins(self, world, clock, client):
        """It says why, and makes nothing known."""
        held(world, 3)
        refused = [True]

        def change(environ: Any, answer: Spoilt) -> None:
            if refused and environ["PATH_INFO"] == "/api/packages":
                answer.status, answer.body = "403 Forbidden", b"{}"

        world.spoil(change)
        world.live_on(SIX_HOURS + 7 * HOUR, every=10 * MINUTE)
        failed, next_one = ledger(world.service)[2:]
        assert (failed.state, failed.until, next_one.state) == ("failed", None, "running")
        assert "do not permit this" in failed.error
        assert "waits: The credentials do not permit this" in " ".join(client.get("/readyz").json["notes"])

        refused.clear()
        world.live_on(HOUR)
        assert ledger(world.service)[-1].state == "done"
        assert world.differences() == []

    def test_one_that_comes_further_is_not_given_up(self, world, clock):
        """However long it takes, as with an import that reads each package singly."""
        account = Account(1, packages=0, quirks=Quirks(list_items="summary"))
        world.connect(account.hold(populated(1, 40, now=clock.now - DAY).packages()))
        world.service.reconcile.begin(Asked(backfill=True))
        for _ in range(60):
            world.service.reconcile.turn()
            world.service.digest.turn()
            world.service.refresh.turn()
            clock.forward(HOUR)
        world.reconcile()

        assert [one.state for one in ledger(world.service)][:2] == ["done", "done"]

    @on_sqlite
    @pytest.mark.all
    def test_a_list_that_does_not_fit_together_is_given_up(self, world, clock):
        """It has nothing where a page does not begin at a hundred."""
        packages = populated(1, 130, now=clock.now - 40 * DAY).packages()
        world.connect(Account(1, packages=0, quirks=Quirks(list_largest=0, list_items="summary")).hold(packages))

        def change(environ: Any, answer: Spoilt) -> None:
            asked = parse_qs(environ["QUERY_STRING"])
            if environ["PATH_INFO"] == "/api/packages":
                rows = [] if int(asked["from"][0]) % 100 else json.loads(answer.body)["results"]
                answer.body = json.dumps({"count": len(rows), "results": rows}).encode()

        world.spoil(change)
        world.service.reconcile.begin(Asked(backfill=True))
        world.live_on(SIX_HOURS + HOUR, every=30 * MINUTE)

        assert ledger(world.service)[1].state == "failed"
        assert "is inconsistent" in ledger(world.service)[1].error
        assert len(world.asked) < 800

    @pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "1999-12-31T00:00:00Z", "2099-01-01T00:00:00+14:00"])
    def test_since_lies_in_the_time_in_which_there_may_be_packages(self, world, client, runner, since):
        """Neither before OneSpan, nor in the future."""
        answer = client.post("/api/reconciles", json={"since": since}, headers=BEARER)
        assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_parameter")
        assert "since" in answer.json["error"]["message"]

        result = runner.invoke(args=["reconcile", "--since", since])
        assert result.exit_code == 2
        assert "--since" in result.output
        assert len(ledger(world.service)) == 1


class TestAFolderThatIsRefused:
    """It holds up no other, and what changes in it is seen as soon as it is shown again."""

    def test_it_is_said(self, world, client):
        """The run is done without it."""
        held(world, 5)
        world.refuse_trash()
        world.live_on(SIX_HOURS + HOUR)
        run = ledger(world.service)[-1]

        assert run.state == "done"
        assert "packages in the trash" in run.error
        assert any("packages in the trash" in note for note in client.get("/readyz").json["notes"])

    def test_law_5_what_changed_there_meanwhile_is_found_however_long_it_was(self, world, clock):
        """By the first run that is shown it, though others went on for days; the next goes back no further again."""
        account = held(world, 5)
        hides = world.refuse_trash()
        like = account.package(at_rest(world)[0])
        trashed = replace(like, id="new", trashed=True, created=clock.now, updated=clock.now + HOUR)
        clock.forward(2 * HOUR)
        account.hold([*account.packages(), trashed])
        world.live_on(5 * DAY, every=30 * MINUTE)
        assert [one.state for one in ledger(world.service)[-3:-1]] == ["done", "done"]
        assert [one for one in world.differences() if "new" in one]

        hides.clear()
        world.live_on(SIX_HOURS)
        assert world.differences() == []
        assert world.told["new"]["PACKAGE_TRASH"] == 1

        world.asked.clear()
        world.live_on(SIX_HOURS)
        starts = {parse_qs(one).get("lastUpdatedStartDate", [""])[0] for one in world.asked if "trashed" in one}
        assert starts
        assert min(starts) > (clock.now - 3 * DAY).isoformat()[:10]

    def test_law_6_a_folder_that_was_never_shown_is_imported_in_silence(self, world, clock):
        """As all else was by the first import."""
        hides, packages = world.refuse_trash(), populated(1, 12, now=clock.now - 40 * DAY).packages()
        account = world.account.hold([replace(one, trashed=number < 4) for number, one in enumerate(packages)])
        with world.service.database.write() as connection:
            connection.execute(delete(Run))  # so that the first import is still to come
        world.told.clear()
        world.live_on(DAY, every=30 * MINUTE)
        assert len([one for one in ledger(world.service) if one.state == "done"]) > 1

        hides.clear()
        world.live_on(SIX_HOURS)
        assert world.differences() == []
        assert [one.trashed for one in account.packages()].count(True) == 4
        assert world.told == {}


class TestSomebodyAsks:
    """Who asks does not wait because of what failed before."""

    def down(self, world: World) -> list[bool]:
        """OneSpan fails for as long as there is something in the list."""
        fails = [True]
        world.spoil(lambda _, answer: setattr(answer, "status", "503 Service Unavailable") if fails else None)
        return fails

    @pytest.mark.parametrize("how", ["request", "restart"])
    def test_a_run_that_waits_goes_on_at_once(self, world, clock, client, another, how):
        """The operator has repaired what was wrong, and says so, or starts the service anew."""
        held(world, 3)
        fails = self.down(world)
        clock.forward(SIX_HOURS)
        for _ in range(4):
            world.service.reconcile.turn()
            clock.forward(31 * MINUTE)
        world.service.reconcile.turn()
        fails.clear()
        assert world.service.reconcile.turn() is False, "it waits"

        if how == "request":
            assert client.post("/api/reconciles", headers=BEARER).status_code == 200
            assert world.service.reconcile.turn()
        else:
            restarted = another()
            restarted.worker._retry_now()
            assert restarted.reconcile.turn()

    def test_who_asks_for_another_one_hears_what_this_one_waits_for(self, world, clock, client, runner):
        """And when it goes on."""
        held(world, 3)
        self.down(world)
        clock.forward(SIX_HOURS)
        world.service.reconcile.turn()

        refused = client.post("/api/reconciles", headers=BEARER, json={"backfill": True})
        assert refused.status_code == 409
        says = runner.invoke(args=["reconcile", "--backfill"])
        assert says.exit_code == 2
        for text in (refused.json["error"]["message"], says.output):
            assert "reconcile 3 waits: OneSpan is unavailable" in text
            assert "goes on at 18:0" in text

    def test_once_it_is_over_nothing_is_noted_any_more(self, world, clock):
        """The run that waited is done."""
        held(world, 3)
        fails = self.down(world)
        clock.forward(SIX_HOURS)
        world.service.reconcile.turn()
        with world.service.database.read() as connection:
            assert "Reconcile 3 (reconcile, " in said_of_run(queries.newest_run(connection))
        fails.clear()
        clock.forward(MINUTE)
        world.reconcile()

        with world.service.database.read() as connection:
            assert said_of_run(queries.newest_run(connection)) is None
