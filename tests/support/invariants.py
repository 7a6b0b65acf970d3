"""Assertions that must hold after every random scenario."""

from collections import Counter
from datetime import datetime
from urllib.parse import unquote

from sqlalchemy import func, select

from app.onespan.values import Package
from app.simulator.packages import Package as SimulatedPackage
from app.store import models, reconciles
from app.store.states import RunKind
from app.work.rebuild import rebuild
from tests.conftest import NOON
from tests.support.comparison import STEPS_TO, Fact, differences, observable_facts
from tests.support.scenario import Scenario

STATUS_EVENTS = frozenset(step for steps in STEPS_TO.values() for step in steps)
COUNTED_TABLES = (models.Event, models.Dispatch, models.Change, models.Journal)


def status_store_matches_onespan(scenario: Scenario) -> None:
    """Assert that every stored field equals OneSpan's, except deletions outside the last reconcile run's window."""
    stored_packages = scenario.stored_packages()
    with scenario.playground.database.read() as connection:
        last = select(models.Run.kind, models.Run.since).order_by(models.Run.id.desc()).limit(1)
        kind, since = connection.execute(last).one()
    found = [
        difference
        for actual in scenario.account.packages()
        if not (
            kind == RunKind.RECONCILE and _is_left_to_sweep(scenario, actual, stored_packages.get(actual.id), since)
        )
        for difference in differences(actual, stored_packages.get(actual.id))
    ]
    found += [
        f"{actual.id}: not verified, {stored.unverified}"
        for actual in scenario.account.packages()
        if (stored := stored_packages.get(actual.id)) and stored.unverified
        if not actual.deleted and not _is_older(stored, since)
    ]
    assert found == [], "\n".join(found)


def _is_left_to_sweep(
    scenario: Scenario, actual: SimulatedPackage, stored: Package | None, since: datetime | None
) -> bool:
    """Whether the next sweep must correct a package, because the last run's window does not contain it.

    Such are a deletion without callback, a false 404, and an answer that could only be read in part.
    """
    is_false = stored is not None and stored.deleted and scenario.times_met("404") > 0
    may_be_odd = stored is not None and scenario.times_met("wrong-types") > 0
    is_old = bool(since and actual.updated < since)
    return (actual.deleted and _is_older(stored, since)) or ((is_false or may_be_odd) and is_old)


def handlers_ran_only_for_real_facts(scenario: Scenario) -> None:
    """Assert that handlers ran only for facts that happened, and at most once for each fact."""
    for actual in scenario.account.packages():
        # A retention rule may delete a package without a callback, and the deletion is still a fact.
        silent = Counter({("PACKAGE_DELETE", None): scenario.silently_deleted[actual.id]})
        happened = scenario.happened.get(actual.id, Counter()) + silent
        happened += _not_to_be_known(scenario, actual)
        handled = scenario.handled_facts(actual.id)
        assert handled <= happened, f"handled, but did not happen: {handled - happened} of {actual.id}"
    if not scenario.has_crashed:
        often = [key for key, times in scenario.handler_runs().items() if times > 1]
        assert often == [], "the handler ran twice for one event"


def _not_to_be_known(scenario: Scenario, actual: SimulatedPackage) -> Counter[Fact]:
    """Count the events that a service must find although they did not happen, because OneSpan shows no difference."""
    often, quirks = 100, scenario.account.quirks
    facts = Counter[Fact]()
    facts["PACKAGE_DELETE", None] = scenario.times_met("404")  # a false 404 is a deletion
    lies = scenario.lied_about.get(actual.id, Counter())
    facts += Counter({(step, None): lies["PACKAGE_COMPLETE"] for step in STATUS_EVENTS})  # perhaps found once more
    if quirks.package_lag or lies["PACKAGE_TRASH"]:
        facts["PACKAGE_TRASH", None] = facts["PACKAGE_RESTORE", None] = often  # the trash is never held back
    if quirks.package_lag:
        facts["SIGNER_LOCKED", None] = often
    facts["PACKAGE_RESTORE", None] += scenario.brought_back[actual.id]  # it is not in the trash any more
    for number, document in enumerate(actual.documents):  # a click in a complete package counts as a signature
        clicked = [approval for approval in actual.approvals(document=number) if approval.accepted and not approval.at]
        facts["DOCUMENT_SIGNED", document.id] += len({approval.role for approval in clicked})
        facts["SIGNER_COMPLETE", None] += len({approval.role for approval in clicked})
    return facts


def handlers_ran_for_known_facts(scenario: Scenario) -> None:
    """Assert that handlers ran for every delivered fact and every fact that the state at OneSpan proves."""
    stored_packages = scenario.stored_packages()
    for actual in scenario.account.packages():
        handled, delivered = scenario.handled_facts(actual.id), scenario.delivered.get(actual.id, Counter())
        assert delivered <= handled, f"delivered, but not handled: {delivered - handled} of {actual.id}"
        if not scenario.imported or scenario.times_met("wrong-types"):
            continue  # handlers do not run for events that an import finds, nor for those that a lie has hidden
        known = observable_facts(actual)
        if actual.deleted and actual.id in stored_packages and stored_packages[actual.id].deleted:
            known["PACKAGE_DELETE", None] = 1
        assert known <= handled, f"visible, but not handled: {known - handled} of {actual.id}"


def handlers_ran_for_all_facts(scenario: Scenario) -> None:
    """Assert that handlers ran for every fact, after all callbacks were delivered."""
    for actual in scenario.account.packages():
        happened, handled = scenario.happened.get(actual.id, Counter()), scenario.handled_facts(actual.id)
        missing = happened - handled - scenario.unreported.get(actual.id, Counter())
        assert not missing, f"happened, but was not handled: {missing} of {actual.id}"


def second_run_adds_nothing(scenario: Scenario) -> None:
    """Assert that a reconcile run right after another run adds no row and requests no single package.

    The exception is a package that OneSpan did not know: the package may be too new to be shown, so the run requests it
    again. Nor do small pages prove that a list without an order has one: then the run requests what it did not see.
    """
    quirks = scenario.account.quirks
    if quirks.list_sort != "honoured" and 0 < quirks.list_largest < 10:
        return
    before, handled = _rows(scenario), scenario.handler_runs()
    with scenario.playground.database.read() as connection:
        unknown = select(models.Fetch.package_id).where(models.Fetch.error == "OneSpanNotFound")
        may_be_new = {f"/api/packages/{package_id}" for package_id in connection.execute(unknown).scalars()}
    scenario.playground.requested_paths.clear()
    scenario.reconcile()
    assert _rows(scenario) == before
    assert scenario.handler_runs() == handled
    requested = {unquote(path) for path in scenario.playground.requested_paths if path != "/api/packages"} - may_be_new
    assert requested == set(), f"requested, though unchanged: {requested}"


def rebuild_finds_no_difference(scenario: Scenario) -> None:
    """Assert that `rebuild --check` finds no difference."""
    found = list(rebuild(scenario.playground.database, clock=scenario.playground.clock, write=False))
    assert found == [], found


def all_before_watermark_was_read(scenario: Scenario, watermark: datetime) -> None:
    """Assert that every package that OneSpan dates before the watermark was read or is queued to be fetched.

    The exceptions: A package says that it is not verified, or a false 404 says that it is deleted. A folder was refused
    or had a row without an id, which names no package; a later run begins where that run began, and so sees them. A
    snapshot with wrong types may lack the time of its package's update.
    """
    stored_packages = scenario.stored_packages()
    with scenario.playground.database.read() as connection:
        queued = set(connection.execute(select(models.Fetch.package_id)).scalars())
        progress = connection.scalar(select(models.Run.progress).order_by(models.Run.id.desc()).limit(1))
    incomplete, may_lack = reconciles.Progress.of(progress or {}).incomplete, scenario.times_met("wrong-types") > 0
    unread = [
        package.id
        for package in scenario.account.packages()
        if package.updated <= watermark
        and not package.deleted
        and package.id not in queued
        and _folder(package) not in incomplete
        if not _is_read(stored_packages.get(package.id), package.updated, may_lack_time=may_lack)
    ]
    assert unread == [], f"older than the watermark {watermark}, but not read: {unread}"


def _is_read(stored: Package | None, updated: datetime, *, may_lack_time: bool) -> bool:
    """Whether the status store has a package as of its update, or says that OneSpan does not show it."""
    if stored is None:
        return False
    return may_lack_time or bool(stored.unverified) or stored.deleted or (stored.updated_at or NOON) >= updated


def _folder(actual: SimulatedPackage) -> str:
    kind = "templates" if actual.type == "TEMPLATE" else "packages"
    return f"{kind} in the trash" if actual.trashed else kind


def _rows(scenario: Scenario) -> list[int | None]:
    with scenario.playground.database.read() as connection:
        return [connection.scalar(select(func.count()).select_from(model)) for model in COUNTED_TABLES]


def _is_older(package: Package | None, since: datetime | None) -> bool:
    return bool(since and package and package.updated_at and package.updated_at < since)
