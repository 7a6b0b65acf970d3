"""After one clean reconcile the status store is right, whatever was lost, repeated, late, reordered or crashed before.

Random schedules (`tests/support/schedules.py`) simulate the packages of an account. Callbacks are lost or come in any
order, two processes take turns and die at their commits, and OneSpan behaves in every way that its sources allow, with
faults and without. Then the disturbances end, one reconcile run goes from its beginning to its end, and

- the status store equals OneSpan, field by field (law 5);
- handlers ran only for facts that happened, and for no fact twice. Handlers ran for every fact that a callback
  reported or that a package still shows (law 6). Without a crash each handler ran exactly once per fact (law 7);
- a second run right after the first adds no event, dispatch, change or journal row, and requests no single package;
- after all withheld callbacks have arrived, handlers ran for exactly what happened, and the status store is the same;
- `rebuild --check` finds no difference (law 8);
- the watermark has only risen, and everything that OneSpan dates before the watermark was read.

These cases are excluded, because OneSpan shows too little:

- A step that was overwritten between two snapshots (sent, taken back and sent again) stays unknown until its callback
  arrives. The same holds for bounces, failed identity checks, views and requests to co-browse: no snapshot shows them.
- A package that was deleted before these credentials saw it is never known to be deleted (law 10). A layout is never
  known at all, because no list shows it. Where OneSpan answers 403 for a deleted package, the package counts as
  forbidden.
- A deletion without a callback is found by the next run if the package had changed within that run's window (from a
  day before the last run), and otherwise by the next sweep, which comes once a week.
- A package that went from SENT to DRAFT with another due date was either taken back, or has expired and been extended.
  The service finds neither change (law 10).
- A callback without a date arrives at once or never. Two equal ones within five minutes are one fact.
- Handlers run for a lie of a callback, and for the deletion that a false 404 shows. The next run corrects the status. A
  false 404 outside the run's window is corrected by the next sweep. After a false PACKAGE_COMPLETE, each step of the
  package may be found once more.
- Whether a signer with only optional signatures has finished, and for which of several groups a person acted who is not
  listed, only callbacks may show. In a complete package, a click counts as a signature.
- An API that lags may show the trash and locks as they were: both count at once, so their events may be repeated.
- The schedules contain no callbacks dated at their sending, and no lists that lag longer than `snapshots.LIST_LAG`.
"""

from collections import Counter

import pytest

from app.simulator.quirks import Quirks
from tests.conftest import HOUR, in_all, on_both
from tests.support import prove, scenario
from tests.support.playground import Playground
from tests.support.prove import play
from tests.support.schedules import Schedule

pytestmark = on_both
SEEDS = [0, 1, *in_all(2, 3, 4, 5)]
# The number of schedules per seed, to which hypothesis adds a few.
# `make test` plays about 40 on SQLite and 15 on PostgreSQL in all, `make test-all` about 240 and 60.
SCHEDULES = {"quick": {"sqlite": 18, "postgresql": 6}, "all": {"sqlite": 40, "postgresql": 10}}
STEPS = 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed_value", SEEDS)
def test_one_clean_reconcile_corrects_everything(playground, record_property, tier, seed_value):
    """Random schedules keep laws 5 to 9. A failure prints the smallest failing schedule."""
    schedules = SCHEDULES[tier][playground.database.engine.dialect.name]

    count = play(playground, seed_value=seed_value, schedules=schedules, steps=STEPS)

    record_property("schedules", dict(count))
    assert count["schedules"] >= schedules


@pytest.mark.all
@pytest.mark.timeout(1200)
def test_schedules_that_failed_once_pass_now(playground, record_property):
    """Each seed that `make prove` has stored passes on the database on which it failed."""
    for file in sorted(prove.SEEDS.glob(f"{playground.database.engine.dialect.name}-*.json")):
        record_property("schedules", dict(prove.replay(playground, file)))


def test_what_happens_in_the_second_after_a_snapshot_is_a_fact_of_its_own(playground, monkeypatch):
    """An event in the second after a snapshot is a new event, even if a fetch has just found an equal event.

    A package is sent and declined, both callbacks are lost, and a fetch finds both events. In the next second the
    sender sends the package again, with a callback. If that callback counted as the event that was found, the next
    fetch would find the event once more.
    """
    monkeypatch.setattr(scenario, "note", lambda _: None)
    monkeypatch.setattr(Schedule, "playground", playground, raising=False)
    monkeypatch.setattr(Schedule, "count", Counter(), raising=False)
    schedule = Schedule()
    schedule.create_account(
        seed=5301,
        quirks=Quirks(),
        imported=True,
        anomalies=True,
        skew=0,
        drift=0,
        budget=1000,
        packages=1,
        fates=["delivered", "lost", "delivered", "lost", "delivered"],
        pause=HOUR,
        fault=None,
        commits=None,
    )
    schedule.continue_reconcile(process=0, steps=1)
    schedule.take_action(fate="delivered", what=0, which=0)
    schedule.teardown()

    (package,) = schedule.scenario.account.packages()
    assert schedule.scenario.happened[package.id]["PACKAGE_ACTIVATE", None] == 2


@pytest.fixture
def playground(database_url):
    """A new playground: a database, a simulated OneSpan and a clock for random schedules."""
    playground = Playground(database_url)
    yield playground
    playground.close()


def test_seed_that_fails_is_stored_and_can_be_replayed(playground, monkeypatch, tmp_path):
    """The stored file of a failed seed is enough to replay the same schedules."""
    played = []

    def play(_, **how):
        played.append(how)
        raise AssertionError("the truth did not win")

    monkeypatch.setattr(prove, "play", play)

    assert prove.play_in_turn([playground], prove.parse_arguments(["--folder", str(tmp_path)])) == 1
    (file,) = tmp_path.iterdir()
    with pytest.raises(AssertionError):
        prove.replay(playground, file)

    first, second = played
    assert first == second
    assert "the truth did not win" in file.read_text()
