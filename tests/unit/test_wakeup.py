"""The signals between threads and processes that start a turn."""

import threading

from app.work.wakeup import Wakeup
from tests.service.test_forks import forked


def test_a_signal_from_before_the_wait_counts():
    """A signal that was set before the wait ends it at once, until it is cleared."""
    wakeup = Wakeup()
    assert not wakeup.wait(0)
    wakeup.set()

    assert wakeup.wait(10)
    assert wakeup.wait(10)
    wakeup.clear()
    assert not wakeup.wait(0)


def test_a_signal_of_a_forked_process_arrives():
    """A process that was forked later wakes a thread of its parent, and the other way round."""
    up, down = Wakeup(), Wakeup()

    def work() -> bool:
        up.set()
        return down.wait(10)

    exit_code = forked(work)
    assert up.wait(10)
    down.set()

    assert exit_code() == 0


def test_very_many_signals_are_one():
    """Signals that no thread reads fill a pipe at most: setting one more neither waits nor fails."""
    wakeup = Wakeup()
    for _ in range(100_000):
        wakeup.set()
    assert wakeup.wait(0)
    wakeup.clear()

    assert not wakeup.wait(0)


def test_a_waiting_thread_is_woken():
    """A thread that waits goes on when another one sets the signal."""
    wakeup, woken = Wakeup(), threading.Event()
    thread = threading.Thread(target=lambda: wakeup.wait(30) and woken.set())
    thread.start()
    wakeup.set()

    assert woken.wait(10)
    thread.join(10)
