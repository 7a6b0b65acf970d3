"""What must hold of a history, whatever it was."""

from collections import Counter
from datetime import datetime
from urllib.parse import unquote

from sqlalchemy import func, select

from app.onespan.values import Package
from app.simulator.packages import Package as Truth
from app.store import models, reconciles
from app.store.states import RunKind
from app.work.rebuild import rebuild
from tests.conftest import NOON
from tests.support.comparison import differences, must_be_told
from tests.support.scenario import History

COUNTED = (models.Event, models.Dispatch, models.Change, models.Journal)


def the_picture_is_the_truth(history: History) -> None:
    """Field by field; a deletion of what had not changed in the last run's window is for the next sweep to find."""
    believed = history.believed()
    with history.bench.database.read() as connection:
        last = select(models.Run.kind, models.Run.since).order_by(models.Run.id.desc()).limit(1)
        kind, since = connection.execute(last).one()
    wrong = [
        one
        for truth in history.account.packages()
        if not (truth.deleted and kind == RunKind.RECONCILE and _is_older(believed.get(truth.id), since))
        for one in differences(truth, believed.get(truth.id))
    ]
    assert wrong == [], "\n".join(wrong)


def what_was_told_has_happened(history: History) -> None:
    """Nothing else was told, and nothing twice."""
    for truth in history.account.packages():
        # A retention rule may delete without a word, which is a fact all the same.
        happened = history.happened.get(truth.id, Counter()) | Counter({("PACKAGE_DELETE", None): int(truth.deleted)})
        told = history.facts_told(truth.id)
        assert told <= happened, f"told, but did not happen: {told - happened} of {truth.id}"
    if not history.has_crashed:
        often = [key for key, times in history.runs_of_handlers().items() if times > 1]
        assert often == [], "the handler ran twice for one event"


def what_can_be_known_was_told(history: History) -> None:
    """All that was delivered, and all that can be seen."""
    believed = history.believed()
    for truth in history.account.packages():
        told, delivered = history.facts_told(truth.id), history.delivered.get(truth.id, Counter())
        assert delivered <= told, f"delivered, but not told: {delivered - told} of {truth.id}"
        if not history.imported:
            continue  # of what an import finds it tells nothing
        seen = must_be_told(truth)
        if truth.deleted and truth.id in believed and believed[truth.id].deleted:
            seen["PACKAGE_DELETE", None] = 1
        assert seen <= told, f"can be seen, but was not told: {seen - told} of {truth.id}"


def all_that_happened_was_told(history: History) -> None:
    """Once every callback has come."""
    for truth in history.account.packages():
        happened, told = history.happened.get(truth.id, Counter()), history.facts_told(truth.id)
        assert happened <= told, f"happened, but was not told: {happened - told} of {truth.id}"


def nothing_fires_for_what_is_unchanged(history: History) -> None:
    """A run straight after another adds nothing, and asks for no package.

    But for one of which OneSpan knew nothing and we neither: it may be too new to be shown, and is asked for again.
    """
    before, told = _rows(history), history.runs_of_handlers()
    with history.bench.database.read() as connection:
        unknown = select(models.Read.package_id).where(models.Read.error == "NotThere")
        may_be_new = {f"/api/packages/{one}" for one in connection.execute(unknown).scalars()}
    history.bench.asked.clear()
    history.reconcile()
    assert _rows(history) == before
    assert history.runs_of_handlers() == told
    read_singly = {unquote(path) for path in history.bench.asked if path != "/api/packages"} - may_be_new
    assert read_singly == set(), f"read singly, though nothing had changed: {read_singly}"


def the_picture_follows_from_the_journal(history: History) -> None:
    """`rebuild --check`."""
    found = list(rebuild(history.bench.database, clock=history.bench.clock, write=False))
    assert found == [], found


def all_before_the_watermark_was_seen(history: History, watermark: datetime) -> None:
    """Whatever OneSpan dates before it; or it is still to be read, because it could not be so far.

    Or its folder was refused: then a later run sees it, for it begins where that one began.
    """
    believed = history.believed()
    with history.bench.database.read() as connection:
        wanted = set(connection.execute(select(models.Read.package_id)).scalars())
        kept = connection.scalar(select(models.Run.progress).order_by(models.Run.id.desc()).limit(1))
    behind = reconciles.Progress.of(kept or {}).behind
    unseen = [
        one.id
        for one in history.account.packages()
        if one.updated <= watermark and not one.deleted and one.id not in wanted and _folder(one) not in behind
        if one.id not in believed or (believed[one.id].updated_at or NOON) < one.updated
    ]
    assert unseen == [], f"older than the watermark {watermark}, and not seen: {unseen}"


def _folder(truth: Truth) -> str:
    kind = "templates" if truth.type == "TEMPLATE" else "packages"
    return f"{kind} in the trash" if truth.trashed else kind


def _rows(history: History) -> list[int | None]:
    with history.bench.database.read() as connection:
        return [connection.scalar(select(func.count()).select_from(one)) for one in COUNTED]


def _is_older(believed: Package | None, since: datetime | None) -> bool:
    return bool(since and believed and believed.updated_at and believed.updated_at < since)
