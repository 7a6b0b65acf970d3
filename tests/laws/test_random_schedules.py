"""The theorem: whatever is lost, repeated, late or out of order, and whoever dies, one clean reconcile mends it.

Random schedules (`tests/support/schedules.py`) let an account live, lose its callbacks or deliver them in any order,
let two processes take turns and die at their commits, and let OneSpan behave in every way that its sources leave open,
on good days and bad. Then nobody disturbs any more, a run of the reconciler goes from its beginning to its end, and

- the picture equals OneSpan's truth, field by field (law 5);
- what the handlers were told has happened, nothing of it twice; whatever a callback told they were told, and whatever
  can be seen in a package as it stands now (law 6). Without a crash each ran exactly once (law 7);
- a second run straight after adds no event, no dispatch, no change, no journal row, and asks for no single package;
- once all callbacks that were withheld have come after all, exactly what happened was told, and the picture stands;
- `rebuild --check` finds no difference (law 8);
- all the time the watermark only rises, and all that OneSpan dates before it was seen.

What is excepted, because OneSpan shows too little to do better:

- A step that was overwritten between two readings (sent, taken back and sent again) and whose callback is lost stays
  unknown until that comes; so do bounces, failures of KBA, views and requests to co-browse, which no reading shows.
- A package that was deleted before these credentials saw it is never known to be deleted (law 10), nor is a layout,
  which no list shows, known at all. Where OneSpan answers 403 for what is deleted, it is only forbidden.
- A deletion that no callback told of is found by the next run if the package had changed within its window (a day
  before the last run), and otherwise by the next sweep, which comes once a week.
- A package that went from out for signature to draft, and has another due date, was taken back or has expired and
  been extended; nothing is found of either (law 10).
- Not drawn: callbacks without a date or with one of their sending, lists that lag longer than `witness.SETTLE`, false
  404s, and well-formed lies (a row without its id, members of other types).
"""

from collections import Counter

import pytest

from app.simulator.quirks import Quirks
from tests.conftest import HOUR, in_all, on_both
from tests.support import prove, scenario
from tests.support.playground import Bench
from tests.support.prove import play
from tests.support.schedules import Schedule

pytestmark = on_both
SEEDS = [0, 1, *in_all(2, 3, 4, 5)]
# With each seed, and a few more that hypothesis begins: about 40 and 15 in `make test`, 240 and 60 in `make test-all`.
SCHEDULES = {"quick": {"sqlite": 18, "postgresql": 6}, "all": {"sqlite": 40, "postgresql": 10}}
STEPS = 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seeded", SEEDS)
def test_after_one_clean_reconcile_all_is_as_if_nothing_had_been_lost(bench, record_property, tier, seeded):
    """Laws 5 to 9 at once; a failure prints the smallest schedule that contradicts them."""
    wanted = SCHEDULES[tier][bench.database.engine.dialect.name]

    count = play(bench, seeded=seeded, schedules=wanted, steps=STEPS)

    record_property("schedules", dict(count))
    assert count["schedules"] >= wanted


@pytest.mark.all
@pytest.mark.timeout(1200)
def test_schedules_that_failed_once_hold_now(bench, record_property):
    """Those that `make prove` has kept, each on the database where it failed."""
    for file in sorted(prove.SEEDS.glob(f"{bench.database.engine.dialect.name}-*.json")):
        record_property("schedules", dict(prove.replay(bench, file)))


def test_what_happens_in_the_second_after_a_reading_is_a_fact_of_its_own(bench, monkeypatch):
    """Sent, declined, both lost and found by reading; and sent again in the very next second, which is told.

    Were that taken for what the reading had found, the next reading would find it once more.
    """
    monkeypatch.setattr(scenario, "note", lambda _: None)
    monkeypatch.setattr(Schedule, "bench", bench, raising=False)
    monkeypatch.setattr(Schedule, "count", Counter(), raising=False)
    schedule = Schedule()
    schedule.there_is_an_account(
        seed=5301,
        quirks=Quirks(),
        imported=True,
        odd=True,
        skew=0,
        drift=0,
        budget=1000,
        packages=1,
        fates=["told", "lost", "told", "lost", "told"],
        pause=HOUR,
        fault=None,
        commits=None,
    )
    schedule.a_reconcile_goes_on(process=0, steps=1)
    schedule.somebody_acts(fate="told", what=0, which=0)
    schedule.teardown()

    (package,) = schedule.history.account.packages()
    assert schedule.history.happened[package.id]["PACKAGE_ACTIVATE", None] == 2


@pytest.fixture
def bench(database_url):
    """A fresh one."""
    bench = Bench(database_url)
    yield bench
    bench.close()


def test_a_seed_that_fails_is_kept_and_can_be_played_again(bench, monkeypatch, tmp_path):
    """As it was, by the file alone."""
    played = []

    def play(_, **how):
        played.append(how)
        raise AssertionError("the truth did not win")

    monkeypatch.setattr(prove, "play", play)

    assert prove.play_on([bench], prove.asked(["--folder", str(tmp_path)])) == 1
    (file,) = tmp_path.iterdir()
    with pytest.raises(AssertionError):
        prove.replay(bench, file)

    first, second = played
    assert first == second
    assert "the truth did not win" in file.read_text()
