"""The faults of the siege. Each is a context manager that begins the fault, and ends it after the hold.

A fault yields what it hit: ids of processes, or names of hosts. `database` means the database as all hosts see it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.siege.callers import OneSpan
from tests.siege.cluster import Cluster
from tests.siege.front import FRONT_PORT
from tests.siege.hosts import wait_for, with_all
from tests.siege.service import PROCESSES, Installation
from tests.support.hostile import HOSTILE, hold


@dataclass
class Siege:
    """What faults can hit."""

    cluster: Cluster
    sites: list[Installation]
    onespan: OneSpan
    rng: Random
    lease: float
    freeze_seconds: float
    skew_seconds: float

    def site(self) -> Installation:
        """Choose a host of the service."""
        return self.rng.choice(self.sites)


Fault = Callable[[Siege], Any]
DATABASE_FAULTS: set[str] = set()  # those of the database, which come one at a time
FAULTS: dict[str, tuple[Fault, float]] = {}  # by name: the fault and its hold in seconds


def fault(name: str, hold_seconds: float) -> Callable[[Callable[[Siege], Iterator[list]]], Fault]:
    """Register a fault."""

    def register(function: Callable[[Siege], Iterator[list]]) -> Fault:
        FAULTS[name] = contextmanager(function), hold_seconds
        if "database" in name or "disk" in name or name == "standby frozen":
            DATABASE_FAULTS.add(name)
        return function

    return register


def ready(siege: Siege) -> None:
    """Wait until all parts run again."""
    siege.cluster.wait()
    for site in siege.sites:
        wait_for(
            lambda site=site: len(site.workers) >= PROCESSES, seconds=180, what=f"gunicorn runs on {site.host.name}"
        )


def worker(siege: Siege) -> int:
    """Choose a process of gunicorn."""
    site = siege.site()
    pids = wait_for(lambda: site.workers, seconds=180, what=f"gunicorn runs on {site.host.name}")
    return siege.rng.choice(pids)


@fault("worker killed", 1)
def worker_killed(siege: Siege) -> Iterator[list]:
    pid = worker(siege)
    with_all(lambda pid: os.kill(pid, signal.SIGKILL), [pid])
    yield [pid]


@fault("host killed", 3)
def host_killed(siege: Siege) -> Iterator[list]:
    site = siege.site()
    with_all(lambda pid: os.kill(pid, signal.SIGKILL), service_pids(site))
    yield [site.host.name]


@fault("worker frozen", 0)
def worker_frozen(siege: Siege) -> Iterator[list]:
    pids = [worker(siege)]
    yield from frozen(siege, pids, pids)


@fault("host frozen", 0)
def host_frozen(siege: Siege) -> Iterator[list]:
    site = siege.site()
    yield from frozen(siege, site.host.pids(), [site.host.name])


def frozen(siege: Siege, pids: list[int], hit: list) -> Iterator[list]:
    """Freeze processes, by default for longer than the lease of a handler."""
    with_all(lambda pid: os.kill(pid, signal.SIGSTOP), pids)
    try:
        yield hit
        time.sleep(siege.freeze_seconds)
    finally:
        with_all(lambda pid: os.kill(pid, signal.SIGCONT), pids)


@fault("host terminated", 2)
def host_terminated(siege: Siege) -> Iterator[list]:
    site = siege.site()
    pids = [unit.pid for unit in site.units if unit.pid]
    with_all(lambda pid: os.kill(pid, signal.SIGTERM), pids)
    yield [site.host.name]


@fault("rolling reload", 5)
def rolling_reload(siege: Siege) -> Iterator[list]:
    first, second = siege.sites
    replaced = reload(first)
    yield [site.host.name for site in siege.sites]
    replaced()
    reload(second)()


def reload(site: Installation) -> Callable[[], Any]:
    """Reload one host. Return a function that waits until the new workers serve and the old ones have ended."""
    old = set(site.workers)
    with_all(lambda pid: os.kill(pid, signal.SIGHUP), [site.main] if site.main else [])

    def is_done() -> bool:
        return len(set(site.workers) - old) >= PROCESSES and not old & set(site.workers)

    return lambda: wait_for(is_done, seconds=240, what=f"{site.host.name} is reloaded")


@fault("host cut off", 8)
def host_cut_off(siege: Siege) -> Iterator[list]:
    host = siege.site().host
    host.cut()
    try:
        yield [host.name]
    finally:
        host.join()


@fault("database cut from one host", 8)
def database_cut(siege: Siege) -> Iterator[list]:
    host, database = siege.site().host, siege.cluster.primary.host
    database.ignore(host.address)
    try:
        yield [host.name]
    finally:
        database.hear_all()


@fault("database stopped", 5)
def database_stopped(siege: Siege) -> Iterator[list]:
    siege.cluster.primary.stop()
    yield ["database"]
    siege.cluster.primary.start()


@fault("database crashed", 4)
def database_crashed(siege: Siege) -> Iterator[list]:
    siege.cluster.primary.crash()
    yield ["database"]
    siege.cluster.primary.start()


@fault("database frozen", 8)
def database_frozen(siege: Siege) -> Iterator[list]:
    primary = siege.cluster.primary.host
    primary.signal(signal.SIGSTOP)
    try:
        yield ["database"]
    finally:
        primary.signal(signal.SIGCONT)


@fault("standby frozen", 8)
def standby_frozen(siege: Siege) -> Iterator[list]:
    standby = siege.cluster.standby.host
    standby.signal(signal.SIGSTOP)
    try:
        yield ["database"]
    finally:
        standby.signal(signal.SIGCONT)


@fault("database failed over", 1)
def database_failed_over(siege: Siege) -> Iterator[list]:
    siege.cluster.primary.crash()
    siege.cluster.fail_over()
    yield ["database"]
    siege.cluster.follow()


@fault("disk of the database full", 6)
def database_full(siege: Siege) -> Iterator[list]:
    disk = siege.cluster.primary.disk
    disk.fill()
    try:
        yield ["database"]
    finally:
        disk.free()


@fault("disk of a spool full", 6)
def spool_full(siege: Siege) -> Iterator[list]:
    site = siege.site()
    site.spool_disk.fill()
    siege.cluster.primary.crash()
    try:
        yield ["database", site.host.name]
    finally:
        site.spool_disk.free()
        siege.cluster.primary.start()


@fault("all disks full", 5)
def all_full(siege: Siege) -> Iterator[list]:
    disks = [site.spool_disk for site in siege.sites] + [siege.cluster.primary.disk]
    for disk in disks:
        disk.fill()
    try:
        yield ["database", *(site.host.name for site in siege.sites)]
    finally:
        for disk in disks:
            disk.free()


@fault("clock ahead", 12)
def clock_ahead(siege: Siege) -> Iterator[list]:
    yield from skewed(siege, siege.skew_seconds)


@fault("clock behind", 12)
def clock_behind(siege: Siege) -> Iterator[list]:
    yield from skewed(siege, -siege.skew_seconds)


def skewed(siege: Siege, seconds: float) -> Iterator[list]:
    """Set the clock of one host wrong. A run of any host may then be taken over early or late."""
    site = siege.site()
    site.set_clock(seconds)
    try:
        yield [any_site.host.name for any_site in siege.sites]
    finally:
        site.set_clock(0)


@fault("PgBouncer killed", 3)
def pooler_killed(siege: Siege) -> Iterator[list]:
    pooler = siege.cluster.pooler
    with_all(lambda pid: os.kill(pid, signal.SIGKILL), [pooler.pid] if pooler.pid else [])
    yield [pooler.host.name]


@fault("hostile connections", 12)
def hostile_connections(siege: Siege) -> Iterator[list]:
    with ExitStack() as stack:
        for kind in siege.rng.sample(sorted(HOSTILE), 6):
            stack.enter_context(hold(kind, FRONT_PORT, 25))
        yield []


@fault("OneSpan misbehaves", 15)
def onespan_misbehaves(siege: Siege) -> Iterator[list]:
    siege.onespan.faults.rates = {"500": 0.2, "slow": 0.2, "cut": 0.1, "truncated": 0.1, "html": 0.1, "429": 0.1}
    try:
        yield []
    finally:
        siege.onespan.faults.rates = {}


@fault("OneSpan down", 8)
def onespan_down(siege: Siege) -> Iterator[list]:
    siege.onespan.faults.outage = "503"
    try:
        yield []
    finally:
        siege.onespan.faults.outage = None


def service_pids(site: Installation) -> list[int]:
    """The ids of the service's processes on a host, without PgBouncer."""
    pooler = [pid for pid in site.host.pids() if _name(pid) == "pgbouncer"]
    return [pid for pid in site.host.pids() if pid not in pooler]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
