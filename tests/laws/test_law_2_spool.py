"""Law 2: the spool keeps callbacks while the database is away, and the receiver refuses a callback if both fail."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import base64
import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, select
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from app import EXTENSION, Service, create_app
from app.handling import Handlers
from app.store import journal
from app.store.journal import Entry
from app.store.models import Journal
from app.store.spool import Spool
from config import Settings
from tests.conftest import NOON, on_both, on_postgresql, on_sqlite, on_sqlite_first
from tests.support.broken_storage import locked, unavailable
from tests.support.processes import Site, callback, until

pytestmark = [on_both, pytest.mark.own_database]

BODY = callback("PACKAGE_COMPLETE", package="pkg-1")


@pytest.fixture
def database_down(database_url: str, service: Service) -> Callable[[], AbstractContextManager[None]]:
    """Make the database unavailable during a `with` block."""
    return lambda: unavailable(database_url, service)


@pytest.fixture
def spooled(settings: Settings) -> Callable[[], list[Path]]:
    """The files in the spool, sorted by name."""
    return lambda: sorted(settings.spool_dir.glob("*"))


@pytest.fixture
def journaled(service: Service) -> Callable[[], list[Any]]:
    """The rows of the journal."""

    def journaled() -> list[Any]:
        with service.database.read() as connection:
            return list(connection.execute(select(*Journal.__table__.c).order_by(Journal.id)))

    return journaled


@pytest.fixture
def other(settings: Settings) -> Iterator[Service]:
    """Another process of the same installation, with the same spool."""
    service = create_app(settings, handlers=Handlers()).extensions[EXTENSION]
    yield service
    service.database.close()


def test_law_2_receiver_spools_without_its_database(database_down, post, client, spooled):
    """While the database is down, a callback is spooled and acknowledged, and `/readyz` says what to do."""
    with database_down():
        answer = post(BODY)
        ready = client.get("/readyz")
        alive = client.get("/healthz")

        assert (answer.status_code, answer.json) == (200, {"callback": None})
        (file,) = spooled()
        assert file.suffix == ".json"
        assert ready.status_code == 200
        assert "check DATABASE_URL" in str(ready.json["notes"])
        assert "Callbacks waiting in the spool for the database: 1." in ready.json["notes"]
        assert alive.status_code == 200


def test_law_11_spooled_callbacks_are_private(database_down, post, spooled, settings: Settings):
    """A spool file contains personal data, so other users of the machine cannot read the file."""
    settings.spool_dir.mkdir(mode=0o755)
    with database_down():
        post(BODY)

    (file,) = spooled()
    assert file.stat().st_mode & 0o077 == 0


def test_law_2_spooled_callback_is_journaled_once(
    database_down, post, spooled, journaled, service, clock, client, work, read
):
    """A spooled callback keeps its bytes and its time of arrival, and a second drain of its file adds no row."""
    with database_down():
        post(BODY)
        copy = shutil.copy(spooled()[0], spooled()[0].with_suffix(".copy"))
    clock.forward(timedelta(hours=3))
    kept = spooled()[1]
    service.intake.drain()
    shutil.move(copy, kept)  # as if the process had died after the commit and before the unlink
    drained = service.intake.drain()

    assert drained == 1
    (row,) = journaled()
    assert (row.body, row.received_at, row.key, row.package_id) == (BODY, NOON, "test", "pkg-1")
    assert spooled() == []
    assert client.get("/readyz").json["status"] == "ready"
    work()
    (event,) = read("/api/events")["items"]
    assert event["first_received_at"] == "2026-03-02T12:00:00Z"


def test_law_2_two_processes_drain_one_spool(database_down, post, spooled, journaled, service, other, clock):
    """Two processes that drain one spool at the same time journal each callback once and lose none."""
    with database_down():
        for number in range(20):
            post(callback("PACKAGE_COMPLETE", package=f"pkg-{number}"))
    start = threading.Barrier(4)

    def drain(intake: Any) -> None:
        start.wait(10)
        intake.drain()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(drain, [service.intake, other.intake] * 2))

    assert sorted(row.package_id for row in journaled()) == sorted(f"pkg-{number}" for number in range(20))
    assert spooled() == []


def test_law_2_concurrent_drains_journal_a_spool_file_once(service, spooled, journaled):
    """Four threads of one process that drain the same spool file at the same time journal exactly one row."""
    start = threading.Barrier(4)

    def drain(_: int) -> None:
        start.wait(10)
        service.intake.drain()

    for number in range(10):
        service.spool.keep(journal.Entry("callback", NOON, BODY, "test", f"pkg-{number}"))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(drain, range(4)))

    assert [row.package_id for row in journaled()] == [f"pkg-{number}" for number in range(10)]
    assert spooled() == []


def test_law_2_spool_keeps_its_files_without_database(database_down, post, spooled, service, journaled):
    """Draining the spool while the database is still down loses no file."""
    with database_down():
        post(BODY)
        with contextlib.suppress(Exception):
            service.intake.drain()
        assert len(spooled()) == 1

    service.intake.drain()
    assert [row.body for row in journaled()] == [BODY]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"received_at": "2026-03-02T12:00:00", "key": "k", "package_id": "p", "unreadable": null, "body": "e30="}',
        b'{"received_at": 5, "key": "k", "package_id": "p", "unreadable": null, "body": "e30="}',
        b'{"received_at": "2026-03-02T12:00:00+00:00", "key": {}, "package_id": "p", "unreadable": null, "body": ""}',
    ],
    ids=["empty", "cut off", "no object", "null", "no text", "no zone", "no time", "no label"],
)
def test_law_2_damaged_file_is_set_aside(text, database_down, post, spooled, service, journaled, settings, client):
    """A damaged spool file is kept and reported for a person to look at, and later files are journaled."""
    settings.spool_dir.mkdir(parents=True)
    (settings.spool_dir / "0.json").write_bytes(text)
    with database_down():
        post(BODY)

    with contextlib.suppress(Exception):
        service.intake.drain()

    assert [row.body for row in journaled()] == [BODY]
    assert [file.read_bytes() for file in spooled()] == [text]
    assert "Damaged" in str(client.get("/readyz").json["notes"])


def test_law_2_callback_that_neither_takes_is_refused(database_url, settings: Settings, handlers, clock, tmp_path):
    """A callback that neither the database nor the spool can store is answered 503 with `Retry-After`."""
    file = tmp_path / "no-folder"
    file.touch()
    app = create_app(settings.model_copy(update={"spool_dir": file / "spool"}), handlers=handlers, clock=clock)
    service = app.extensions[EXTENSION]

    with unavailable(database_url, service):
        answer = app.test_client().post(
            "/onespan/callback", data=BODY, headers={"Authorization": "Basic the-callback-key"}
        )
    service.database.close()

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json["error"]["code"] == "not_kept"


def test_law_2_unreadable_callback_is_spooled_too(database_down, post, spooled, service, journaled):
    """While the database is down, an unreadable callback is refused as usual, and spooled with the reason."""
    with database_down():
        answer = post(b'{"name": 7}')
    service.intake.drain()

    assert answer.status_code == 400
    (row,) = journaled()
    assert (row.body, row.package_id) == (b'{"name": 7}', None)
    assert row.error


@on_sqlite_first
def test_law_2_receiver_gives_up_on_a_locked_database(database_url, service, post, spooled, journaled):
    """While the database is locked, a callback is spooled; its late write and its spool file become one row."""
    with locked(database_url):
        answer = post(BODY)

    assert (answer.status_code, answer.json) == (200, {"callback": None})
    until(journaled, what="the late write")
    service.intake.drain()
    assert [row.body for row in journaled()] == [BODY]
    assert spooled() == []


@on_sqlite_first
def test_law_2_hanging_database_delays_only_one_callback(service, post, spooled, journaled):
    """While one write hangs, the next callbacks go to the spool at once, so that threads do not run out."""
    go_on, write = threading.Event(), service.database.write

    @contextmanager
    def hanging() -> Iterator[Any]:
        go_on.wait(60)
        with write() as connection:
            yield connection

    service.database.write = hanging
    try:
        first = post(BODY)
        began = time.monotonic()
        rest = [post(BODY.replace(b"pkg-1", b"pkg-%d" % number)) for number in range(2, 22)]
        took = time.monotonic() - began
    finally:
        go_on.set()
    service.database.write = write

    assert {(answer.status_code, answer.json["callback"]) for answer in (first, *rest)} == {(200, None)}
    assert took < 1
    until(journaled, what="the late write of the first")
    service.intake.drain()
    assert len(journaled()) == 21
    assert spooled() == []


@pytest.mark.all
@on_sqlite
def test_law_2_stalled_thread_does_not_block_callbacks(database_url, service, post):
    """While a thread stalls inside its database transaction, other callbacks are still kept."""
    go_on = threading.Event()

    def stall() -> None:
        with service.database.write():
            go_on.wait(60)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(stall)
        future = pool.submit(post, BODY)
        try:
            answer = future.result(25)
        finally:
            go_on.set()

    assert (answer.status_code, answer.json) == (200, {"callback": None})


@on_sqlite
def test_law_2_any_database_error_spools_the_callback(database_url, service, post, spooled):
    """If the database fails, here because a folder has the name of the lock file, the callback is spooled."""
    for file in Path(make_url(database_url).database or "").parent.glob("status.db-*"):
        service.database.close()
        file.unlink(missing_ok=True)
    Path(f"{make_url(database_url).database}-turn").mkdir()

    answer = post(BODY)

    assert (answer.status_code, answer.json) == (200, {"callback": None})
    assert len(spooled()) == 1


@pytest.mark.all
@on_postgresql
def test_law_2_receiver_drains_its_own_spool(database_url: str, tmp_path: Path):
    """When PostgreSQL is available again, gunicorn without any worker journals all spooled callbacks."""
    with Site(tmp_path, database_url, WORKER="external") as site:
        web = site.gunicorn(workers=2)
        with unavailable(database_url):
            journal_ids = [web.send_callback("PACKAGE_ACTIVATE", package=f"pkg-{number}") for number in range(10)]
            assert journal_ids == [None] * 10
            assert len(site.spooled()) == 10
            status, answer = web.request("GET", "/readyz", headers={})
            assert status == 200
            assert "Callbacks waiting in the spool for the database: 10." in json.loads(answer)["notes"]

        until(lambda: site.spooled() == [], seconds=15, what="the spool is drained")
        assert web.send_callback("PACKAGE_ACTIVATE", package="pkg-10") is not None


@pytest.mark.all
@on_sqlite
def test_law_2_kill_while_draining_loses_and_doubles_nothing(database_url: str, tmp_path: Path):
    """A worker that is killed while it drains the spool loses no callback and journals none twice."""
    with Site(tmp_path, database_url, WORKER="external") as site:
        web = site.gunicorn(workers=1)
        service = create_app(
            Settings(database_url=database_url, spool_dir=site.folder / "spool"), handlers=Handlers()
        ).extensions[EXTENSION]
        for number in range(120):
            service.spool.keep(
                journal.Entry(
                    "callback", NOON, callback("PACKAGE_ACTIVATE", package=f"pkg-{number}"), "test", f"pkg-{number}"
                )
            )
        for _ in range(2):
            waiting = len(site.spooled())
            worker = site.worker()
            until(lambda before=waiting: len(site.spooled()) < before or not site.spooled(), what="it drains")
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        site.worker()
        until(lambda: site.spooled() == [], what="the spool is drained")

        with service.database.read() as connection:
            package_ids = list(connection.scalars(select(Journal.package_id)))
        service.database.close()
        assert sorted(package_ids) == sorted(f"pkg-{number}" for number in range(120))
        assert web.answers()


def test_law_2_file_that_the_database_refuses_delays_no_other(database_down, post, spooled, service, journaled, clock):
    """A spool file that the database refuses or that cannot be opened is kept, and later files are journaled."""
    with database_down():
        for number in range(3):
            post(callback("PACKAGE_COMPLETE", package=f"pkg-{number}"))
            clock.forward(timedelta(seconds=1))
    first, second, _ = spooled()
    content = json.loads(first.read_bytes())
    del content["sha256"]
    first.write_text(json.dumps({**content, "key": "k" * 300}))  # longer than PostgreSQL's column
    second.unlink()
    second.mkdir()

    service.intake.drain()

    assert "pkg-2" in {json.loads(row.body)["packageId"] for row in journaled()}
    assert second in spooled()
    assert (first in spooled()) == (service.database.engine.dialect.name == "postgresql")


def test_law_3_spooled_callbacks_are_journaled_in_order_of_arrival(database_down, post, service, journaled, clock):
    """Spooled callbacks are journaled in order of arrival, because nothing else distinguishes undated callbacks."""
    undated = b'{"name": "PACKAGE_TRASH", "packageId": "pkg-1"}'
    with database_down():
        for number in range(12):
            post(undated.replace(b"pkg-1", b"pkg-%d" % number))
            clock.forward(timedelta(minutes=4))

    service.intake.drain()

    assert [json.loads(row.body)["packageId"] for row in journaled()] == [f"pkg-{number}" for number in range(12)]


def test_law_1_spooled_callback_is_synced_before_it_is_renamed(database_down, post, spooled, monkeypatch):
    """The spool syncs a new folder's parent, then the file, then renames the file, then syncs the file's folder."""
    calls: list[str] = []
    sync, rename = os.fsync, Path.rename

    def record_sync(handle: int) -> None:
        calls.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().suffix or 'folder'}")
        sync(handle)

    def record_rename(self: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "rename", record_rename)
    with database_down():
        calls.clear()
        post(BODY)
        when_answered = list(calls)

    assert when_answered == ["sync folder", "sync .part", "rename", "sync folder"]
    assert [file.suffix for file in spooled()] == [".json"]


def test_law_1_every_new_folder_of_the_spool_is_synced(tmp_path, monkeypatch):
    """The spool syncs the parent of every folder that it creates, or a power cut may remove the folder's name."""
    synced: list[str] = []
    sync = os.fsync

    def record(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", record)

    Spool(tmp_path / "a" / "b" / "c").probe()

    folders = [path for path in synced if not path.endswith(".part")]
    assert folders == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]


def test_law_2_refused_entry_does_not_affect_the_others_of_its_commit(service, monkeypatch):
    """When several journal entries share a commit, an error in one entry does not affect the other entries."""
    good = [Entry("callback", NOON, b"{}", package_id=f"pkg-{number}") for number in range(5)]
    bad = Entry("callback", NOON, None, package_id="pkg-bad")  # type: ignore[arg-type]  (every row needs a body)
    writer = journal.Writer(service.database)
    futures: list[Any] = []

    gate, write = threading.Event(), service.database.write

    @contextmanager
    def gated() -> Iterator[Any]:
        gate.wait(10)
        with write() as connection:
            yield connection

    monkeypatch.setattr(service.database, "write", gated)
    # The other entries gather while the first entry is being written.
    with ThreadPoolExecutor(6) as pool:
        futures.append(pool.submit(writer.keep, good[0]))
        until(lambda: writer._writing_since is not None, what="the first is being written")
        futures += [pool.submit(writer.keep, entry) for entry in (*good[1:], bad)]
        until(lambda: writer._waiting.qsize() == 5, what="the others have gathered")
        gate.set()

    assert len({future.result(10) for future in futures[:5]}) == 5
    assert isinstance(futures[5].exception(10), IntegrityError)


def spool_files(service: Service, *bodies: bytes) -> list[Path]:
    """Write callbacks to the spool, as while the database is down, and return their files."""
    entries = [Entry("callback", NOON + timedelta(seconds=number), body) for number, body in enumerate(bodies)]
    names = [service.spool.keep(entry) for entry in entries]
    return [service.settings.spool_dir / f"{name}.json" for name in names]


@pytest.mark.parametrize("position", [0, 40, 200, -60, -3])
def test_law_1_altered_spool_file_is_set_aside(service, journaled, spooled, position):
    """A spool file with one altered byte is neither journaled nor lost: it stays under another name."""
    altered, _ = spool_files(service, BODY, b'{"name": "PACKAGE_TRASH", "packageId": "pkg-2"}')
    content = bytearray(altered.read_bytes())
    content[position] ^= 1
    altered.write_bytes(content)

    service.intake.drain()

    assert [row.body for row in journaled()] == [b'{"name": "PACKAGE_TRASH", "packageId": "pkg-2"}']
    assert [(file.suffix, file.read_bytes()) for file in spooled()] == [(".damaged", bytes(content))]


@pytest.mark.parametrize("length", [0, 1, 50, 150, -1])
def test_law_1_torn_spool_file_is_set_aside(service, journaled, spooled, length):
    """A spool file that was cut off is set aside, and a second torn file of that name does not replace it."""
    torn, _ = spool_files(service, BODY, BODY)
    content = torn.read_bytes()[:length]
    for _ in range(2):
        torn.write_bytes(content)
        service.intake.drain()

    assert [row.body for row in journaled()] == [BODY]
    assert [(file.suffix, file.read_bytes()) for file in spooled()] == [(".damaged", content)] * 2


def test_law_1_spool_file_of_the_previous_version_is_journaled(service, journaled, spooled, settings):
    """A spool file without a checksum, from before an upgrade, is journaled."""
    settings.spool_dir.mkdir(mode=0o700)
    members = {
        "received_at": "2026-03-02T12:00:00+00:00",
        "key": "test",
        "package_id": "pkg-1",
        "unreadable": None,
        "body": base64.b64encode(BODY).decode(),
    }
    name = "20260302T120000000000-0123456789abcdef01"
    (settings.spool_dir / f"{name}.json").write_text(json.dumps(members))

    service.intake.drain()

    (row,) = journaled()
    assert (row.body, row.received_at, row.key, row.package_id, row.spool_id) == (BODY, NOON, "test", "pkg-1", name)
    assert spooled() == []


def test_law_1_previous_version_reads_a_spool_file(service):
    """Processes of the previous version, which run until the end of an upgrade, find the members they need."""
    (file,) = spool_files(service, BODY)

    members = json.loads(file.read_bytes())

    assert members.keys() >= {"received_at", "key", "package_id", "unreadable", "body"}
    assert base64.b64decode(members["body"]) == BODY


def _link(file: Path, outside: Path) -> None:
    file.symlink_to(outside)


def _fifo(file: Path, _: Path) -> None:
    os.mkfifo(file)


def _folder(file: Path, _: Path) -> None:
    file.mkdir()


def _of_another_user(file: Path, outside: Path) -> None:
    shutil.copy(outside, file)
    os.chown(file, 65534, 65534)


@pytest.mark.parametrize("make", [_link, _fifo, _folder, _of_another_user])
def test_law_1_only_own_regular_files_are_journaled(make, service, journaled, spooled, tmp_path, client):
    """A link, a pipe, a folder or a file of another user is no callback: it stays, is reported, and delays nothing."""
    if make is _of_another_user and os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    outside = spool_files(service, b'{"name": "PACKAGE_TRASH", "packageId": "forged"}')[0].rename(tmp_path / "outside")
    foreign = service.settings.spool_dir / "0.json"
    make(foreign, outside)
    spool_files(service, BODY)

    with capture_logs() as lines:
        for _ in range(3):
            service.intake.drain()

    assert [row.body for row in journaled()] == [BODY]
    assert spooled() == [foreign]
    assert outside.exists()
    assert service.spool.waiting() == []
    assert "not the service's own: 1" in str(client.get("/readyz").json["notes"])
    assert [line["file"] for line in lines if line["event"] == "spool.foreign"] == ["0"]


def test_law_1_unreadable_spool_file_waits(service, journaled, spooled, monkeypatch):
    """A spool file that cannot be opened is logged once and delays no other; it is journaled once it can be opened."""
    closed, _ = spool_files(service, BODY, b'{"name": "PACKAGE_TRASH", "packageId": "pkg-2"}')
    open_file = os.open

    def refuse(file: Any, *arguments: Any, **more: Any) -> int:
        if Path(file) == closed:
            raise PermissionError(13, "Permission denied")
        return open_file(file, *arguments, **more)

    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr(os, "open", refuse)
        for _ in range(3):
            service.intake.drain()
        assert len(journaled()) == 1
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["spool.refused"]

    service.intake.drain()
    assert len(journaled()) == 2
    assert spooled() == []


def test_law_1_huge_spool_file_is_set_aside(service, journaled, spooled):
    """A huge file is set aside before it is read into memory."""
    huge, _ = spool_files(service, BODY, BODY)
    with huge.open("r+b") as file:
        file.truncate(10 * 1024**3)  # a sparse file

    service.intake.drain()

    assert [row.body for row in journaled()] == [BODY]
    assert [file.suffix for file in spooled()] == [".damaged"]


def test_law_1_name_that_is_not_utf_8_delays_nothing(service, journaled, spooled):
    """A spool file whose name is not UTF-8 is set aside, and the log line shows the name."""
    odd, _ = spool_files(service, BODY, BODY)
    odd.rename(os.fsdecode(os.fsencode(odd.with_name("0")) + b"\xff.json"))

    with capture_logs() as lines:
        service.intake.drain()

    assert [row.body for row in journaled()] == [BODY]
    assert [file.suffix for file in spooled()] == [".damaged"]
    assert [line["file"] for line in lines if line["event"] == "spool.damaged"] == ["0\\xff"]


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777], ids=oct)
def test_law_1_spool_that_others_may_write_is_refused(mode, service, settings, client, database_down, post, journaled):
    """Others could remove callbacks from a folder that they may write, so nothing is acknowledged from there."""
    (earlier,) = spool_files(service, BODY)
    settings.spool_dir.chmod(mode)
    note = str(client.get("/readyz").json["notes"])
    with database_down():
        refused = post(BODY)
    service.intake.drain()

    assert f"`chmod go-w {settings.spool_dir}`" in note
    assert refused.status_code == 503
    assert not earlier.exists()  # what was acknowledged before is still journaled
    assert [row.body for row in journaled()] == [BODY]
    settings.spool_dir.chmod(0o755)
    with database_down():
        assert post(BODY).status_code == 200
