"""OneSpan's API may lag its own callbacks: nothing is taken back, invented or reported twice, and the status heals."""

from collections import Counter
from datetime import timedelta

import pytest

from tests.conftest import ADA, BEN, CLEO, in_all, onespan_time
from tests.support.fixtures import CONTRACT, person
from tests.support.histories import block, seat, shown

SIGNING = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE")
LAGS = [20, *in_all(5, 60, 120, 200, 300)]
DRAFT = {"status": "DRAFT"}


def begin(history, package) -> None:
    """Let OneSpan show a package that the service reads long before the history begins."""
    history.serve(package)
    history.callback("PACKAGE_CREATE", at=history.ago(24 * 3600))
    history.fetch()
    history.wait(60)
    history.runs.clear()


def change(history, package, *callbacks) -> None:
    """Change a package at OneSpan, which reports the change by these callbacks: each a name and a signer."""
    history.serve({**package, "updated": onespan_time(history.now)})
    for name, who in callbacks:
        history.callback(name, who, documentId=CONTRACT if name == "DOCUMENT_SIGNED" else None)


def signed(history, **members):
    """A package that Ada has signed now."""
    return shown([seat(ADA), seat(BEN)], block(ADA, history.now), block(BEN), **members)


@pytest.mark.parametrize("seconds", LAGS)
@pytest.mark.parametrize("change_name", ["ACTIVATE", "SIGN", "COMPLETE", "DECLINE"])
def test_a_lag_takes_nothing_back(history, seconds, change_name):
    """While the API lags, whatever is fetched changes neither the status nor a signature, and makes no event."""
    seats = [seat(ADA), seat(BEN)]
    begin(history, shown(seats, block(ADA), block(BEN), status="DRAFT" if change_name == "ACTIVATE" else "SENT"))
    before = Counter(history.events)
    history.onespan.set_lags(seconds)
    complete = {"status": "COMPLETED", "completed": onespan_time(history.now)}
    declined = {"created": onespan_time(history.now), "content": "No", "from": person(ADA)}
    package, reported, status, statuses = {
        "ACTIVATE": (shown(seats, block(ADA), block(BEN)), [("PACKAGE_ACTIVATE", CLEO)], "SENT", ["PENDING"] * 2),
        "SIGN": (signed(history), [(name, ADA) for name in SIGNING], "SENT", ["COMPLETED", "PENDING"]),
        "COMPLETE": (
            shown(seats, block(ADA, history.now), block(BEN, history.now), **complete),
            [*((name, who) for who in (ADA, BEN) for name in SIGNING), ("PACKAGE_COMPLETE", BEN)],
            "COMPLETED",
            ["COMPLETED"] * 2,
        ),
        "DECLINE": (
            shown(seats, block(ADA), block(BEN), status="DECLINED", messages=[declined]),
            [("PACKAGE_DECLINE", ADA)],
            "DECLINED",
            ["DECLINED", "PENDING"],
        ),
    }[change_name]
    change(history, package, *reported)

    expected = before + Counter(name for name, _ in reported)
    for pause in (1, 3, 10, 30, 60, 120, 150):
        history.fetch()
        history.wait(pause)
        assert (history.package.status, [*history.statuses.values()]) == (status, statuses)
        assert history.events == expected

    history.wait(400)
    history.reconcile()
    assert (history.package.status, [*history.statuses.values()]) == (status, statuses)
    assert history.events == expected
    assert history.runs == Counter(name for name, _ in reported)


@pytest.mark.parametrize("seconds", LAGS)
def test_a_lag_heals_without_a_reconcile(history, seconds):
    """What the callbacks did not report is known as soon as the API shows it."""
    begin(history, shown([seat(ADA), seat(BEN)], block(ADA), block(BEN)))
    history.onespan.set_lags(seconds)
    change(history, signed(history, due=onespan_time(history.now + timedelta(days=2))), ("SIGNER_COMPLETE", ADA))
    history.fetch()
    history.wait(380)

    assert history.package.due_at is not None
    assert history.package.documents[0].signed_by == (ADA,)
    assert history.runs == Counter(SIGNING)


def test_a_lag_longer_than_the_fetches_heals_at_the_next_reconcile(history):
    """The last of the repeated fetches outranks the callback; the next reconcile shows what has changed since."""
    begin(history, shown([seat(ADA)], block(ADA), status="DRAFT"))
    history.onespan.set_lags(700)
    change(history, shown([seat(ADA)], block(ADA)), ("PACKAGE_ACTIVATE", CLEO))
    history.wait(800)
    history.reconcile()

    assert history.package.status == "SENT"


@pytest.mark.parametrize("seconds", LAGS)
def test_a_lagging_deletion(history, seconds):
    """A deletion is one event, and the package is deleted in the end."""
    begin(history, shown([seat(ADA)], block(ADA)))
    history.onespan.set_lags(seconds)
    history.callback("PACKAGE_DELETE")
    history.serve(None)
    history.fetch()
    history.wait(380)

    assert history.package.deleted
    assert history.runs == {"PACKAGE_DELETE": 1}


def test_a_late_callback_confirms_a_deletion_that_the_api_showed_late(history):
    """The callback may be dated before a snapshot that still shows the package."""
    begin(history, shown([seat(ADA)], block(ADA)))
    deleted_at = history.now
    history.wait(5)
    history.fetch()
    history.serve(None)
    history.wait(700)
    history.fetch()
    assert history.runs == {"PACKAGE_DELETE": 1}
    history.callback("PACKAGE_DELETE", at=deleted_at)
    history.wait(5)

    assert history.runs == {"PACKAGE_DELETE": 1}
    assert history.events["PACKAGE_DELETE"] == 1


def test_a_lag_holds_back_neither_trash_nor_addresses_nor_locks(history):
    """These values of a lagging snapshot hold at once, because `updated` may not move with them."""
    begin(history, shown([seat(ADA), seat(BEN)], block(ADA), block(BEN)))
    history.callbacks(*SIGNING, who=BEN)
    moved = {**person(ADA), "email": "new@example.com"}
    roles = [seat(ADA, signers=[moved], locked=True), seat(BEN)]
    history.serve(shown(roles, block(ADA), block(BEN), trashed=True))
    history.fetch()

    assert history.package.trashed
    assert history.package.signers[0].email == "new@example.com"
    assert history.package.signers[0].locked
    assert history.statuses[BEN] == "COMPLETED"
    assert history.events >= Counter(["PACKAGE_TRASH", "SIGNER_LOCKED"])


@pytest.mark.parametrize(
    "name", ["SIGNER_COMPLETE", *in_all("PACKAGE_COMPLETE", "PACKAGE_DECLINE", "PACKAGE_DEACTIVATE")]
)
@pytest.mark.parametrize("heal", ["fetch", "reconcile"])
def test_a_callback_that_is_not_true_is_outranked(history, name, heal):
    """OneSpan's state wins within seven minutes after it was asked."""
    begin(history, shown([seat(ADA)], block(ADA)))
    history.callback(name, ADA)
    (history.fetch if heal == "fetch" else history.reconcile)()
    history.wait(400)

    assert history.package.status == "SENT"
    assert history.statuses == {ADA: "PENDING"}
    assert history.package.next_signers == (ADA,)


@pytest.mark.parametrize("lags", [(0, 60), *in_all(((0, 0, 300),), ((300, 0),), ((60, 5, 0),))], ids=str)
def test_servers_that_lag_differently_report_nothing_twice(history, lags):
    """Answers of a fresh and of a stale server alternate; the status stays, and each fact is one event."""
    begin(history, shown([seat(ADA), seat(BEN)], block(ADA), block(BEN), status="DRAFT"))
    history.onespan.set_lags(*lags)
    change(history, shown([seat(ADA), seat(BEN)], block(ADA), block(BEN)), ("PACKAGE_ACTIVATE", CLEO))
    for _ in range(4):
        history.fetch()
        assert history.package.status == "SENT"
    change(history, signed(history))
    for pause in (3, 10, 30, 100, 100, 100):
        history.wait(pause)
        history.fetch()
        assert history.package.status == "SENT"
    history.onespan.set_lags(0)
    history.wait(20)
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", BEN: "PENDING"}
    assert history.runs == {"PACKAGE_ACTIVATE": 1, "DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1}


def test_a_lag_ends_when_a_fresh_snapshot_arrives(history):
    """The package is not fetched again after the API has shown the change."""
    begin(history, shown([seat(ADA)], block(ADA), status="DRAFT"))
    history.onespan.set_lags(8)
    change(history, shown([seat(ADA)], block(ADA)), ("PACKAGE_ACTIVATE", CLEO))
    history.wait(30)
    requests = history.onespan.requests
    history.wait(600)

    assert history.onespan.requests == requests == 3


def test_a_late_callback_of_a_deletion_that_a_lag_hid(history):
    """A snapshot that lagged showed the package after its deletion, so the callback asks OneSpan again."""
    begin(history, shown([seat(ADA)], block(ADA)))
    history.onespan.set_lags(40)
    deleted_at = history.now
    history.serve(None)
    history.wait(3)
    history.fetch()
    history.wait(2400)
    assert not history.package.deleted
    history.callback("PACKAGE_DELETE", at=deleted_at)
    history.wait(5)

    assert history.package.deleted
    assert history.runs == {"PACKAGE_DELETE": 1}


def test_a_false_step_back_is_not_followed_by_the_step_again(history):
    """A false callback says that an archived package is complete. OneSpan shows that nothing has changed since."""
    archived = shown([seat(ADA)], block(ADA, history.now), status="ARCHIVED", completed=onespan_time(history.now))
    begin(history, archived)
    history.callback("PACKAGE_COMPLETE", ADA)
    history.wait(700)
    history.fetch()

    assert history.package.status == "ARCHIVED"
    assert "PACKAGE_ARCHIVE" not in history.runs


@pytest.mark.parametrize("is_reported", [True, False], ids=["reported", "lost"])
@pytest.mark.parametrize("milliseconds", [1000, *in_all(500)])
def test_a_signature_within_a_second_of_what_a_lagging_api_showed_is_one_fact(history, milliseconds, is_reported):
    """The API shows the package as updated a second before the signature, whose date then says nothing."""
    seats = [seat(ADA), seat(BEN)]
    begin(history, shown(seats, block(ADA), block(BEN)))
    history.serve_changed(shown(seats, block(ADA), block(BEN), name="Renamed"))
    signed_at = history.now + timedelta(milliseconds=milliseconds)
    history.wait(2)
    history.fetch_now()
    history.wait(3)
    history.serve_changed(shown(seats, block(ADA, signed_at), block(BEN)))
    if is_reported:
        for name in SIGNING:
            history.callback(name, ADA, at=signed_at, documentId=CONTRACT if name == "DOCUMENT_SIGNED" else None)
    history.fetch()
    history.wait(60)

    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1}
