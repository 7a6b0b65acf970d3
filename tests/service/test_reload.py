"""A file that cannot be loaded never closes the port, and a reload with new code and settings loses no callback."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import TOKEN, on_sqlite
from tests.support.deployment import BROKEN, Deployment, is_alive
from tests.support.processes import ROOT, Web, callback, until

pytestmark = pytest.mark.own_database

FIRST = '''
import time


@handlers.on("PACKAGE_ACTIVATE")
def file_it(event, package):
    """Record which process ran which version for which package."""
    note("first", package.id, os.getpid())


@handlers.on("PACKAGE_COMPLETE")
def wait(event, package):
    """Run until the test lets it end."""
    note("begins", package.id, os.getpid())
    for _ in range(1000):
        if os.path.exists(os.environ["HANDLER_LOG"] + ".end"):
            break
        time.sleep(0.02)
    note("ends", package.id, os.getpid())


@handlers.on("PACKAGE_DELETE")
def end_process(event, package):
    """End the process with the code with which gunicorn's workers say that they cannot start."""
    os._exit(3)
'''
SECOND = FIRST.replace('"first"', '"second"')


class Callers:
    """Clients that post callbacks on new connections until the end of a `with` block."""

    def __init__(self, web: Web, *, clients: int = 3) -> None:
        self.sent: list[str] = []
        self.errors: list[str] = []
        self._web = web
        self._clients = clients
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(self._clients)
        self._running = [self._threads.submit(self._post, client) for client in range(self._clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._threads.shutdown()
        for client in self._running:
            client.result()

    def go_on(self) -> None:
        """Wait until some more callbacks are acknowledged."""
        enough = len(self.sent) + 10
        until(lambda: len(self.sent) >= enough, what="callbacks are acknowledged")

    def _post(self, client: int) -> None:
        for number in range(100_000):
            if self._over.wait(0.1):
                return
            package = f"pkg-{client}-{number}"
            try:
                status, answer = self._web.post(callback("PACKAGE_ACTIVATE", package=package))
            except OSError as error:
                self.errors.append(f"{package}: {error!r}")
                continue
            if status == 200:
                self.sent.append(package)
            else:
                self.errors.append(f"{package}: {status} {answer!r}")


@pytest.fixture
def deployment(database_url: str, tmp_path: Path) -> Iterator[Deployment]:
    """An installation with its own copy of the code and one handler."""
    with Deployment(tmp_path, database_url, handlers=FIRST, HANDLER_LEASE_SECONDS="3") as deployment:
        yield deployment


def reload(web: Web, line: str = "") -> None:
    """Ask for a reload and wait for a line of the log, or by default until other workers have taken over."""
    old, seen = web.children, len(web.output())
    web.terminate(number=signal.SIGHUP)
    if line:
        until(lambda: line in web.output()[seen:], seconds=60, what=line)
    else:
        until(lambda: not any(map(is_alive, old)), seconds=60, what="the old workers have ended")


def handled(deployment: Deployment, version: str) -> set[str]:
    """The packages for which a version of the handler ran."""
    return {package for name, package, _ in deployment.handler_lines() if name == version}


def test_law_2_worker_that_dies_is_replaced_though_no_file_can_be_loaded(deployment: Deployment):
    """Each worker that dies is replaced from memory and works, whatever lies on disk."""
    web = deployment.serve()
    first = web.children

    deployment.break_all()
    for number, worker in enumerate(first):
        os.kill(worker, signal.SIGKILL)
        assert web.post(callback("PACKAGE_ACTIVATE", package=f"pkg-{number}"))[0] == 200
        until(lambda gone=worker: gone not in web.children and len(web.children) == 3, what="the worker is replaced")
    second = web.children
    for worker in second:
        os.kill(worker, signal.SIGKILL)
    assert web.post(callback("PACKAGE_ACTIVATE", package="pkg-2"))[0] == 200

    until(lambda: handled(deployment, "first") == {"pkg-0", "pkg-1", "pkg-2"}, what="the handler has run for all")
    third = web.children
    assert not {*first, *second} & {*third}
    assert web.post(callback("PACKAGE_DELETE", package="pkg-3"))[0] == 200
    until(lambda: not {*third} <= {*web.children} and len(web.children) == 3, what="the ended worker is replaced")
    seen = until(lambda: [process for process in web.read("/api/health")["processes"] if process["is_alive"]])
    assert len({process["name"] for process in seen}) == len(seen)


@on_sqlite
def test_reload_is_refused_with_the_reason_until_the_file_is_repaired(deployment: Deployment, tier: str):
    """While a file cannot be loaded, a reload changes nothing and the log says why; then it takes the new code."""
    web = deployment.serve()
    workers = web.children
    faults = [
        ("app/handlers.py", BROKEN, "see line 1"),
        ("app/handlers.py", "import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("app/store/journal.py", BROKEN, "SyntaxError"),
        ("config.py", BROKEN, "SyntaxError"),
        ("gunicorn.conf.py", BROKEN, "SyntaxError"),
        ("wsgi.py", "raise SystemExit", "without a message"),
    ]
    for count, (name, text, reason) in enumerate(faults if tier == "all" else faults[:1], 1):
        right = (deployment.code / name).read_text()
        deployment.write(name, text)
        reload(web, "reload.refused")
        assert reason in next(line for line in reversed(web.output().splitlines()) if "reload.refused" in line)
        assert web.post(callback("PACKAGE_ACTIVATE", package=f"pkg-{count}"))[0] == 200
        deployment.write(name, right)
    assert web.children == workers

    deployment.write_handlers(SECOND)
    reload(web)
    assert web.post(callback("PACKAGE_ACTIVATE", package="pkg-new"))[0] == 200
    until(lambda: handled(deployment, "second") == {"pkg-new"}, what="the new handler has run")


@pytest.mark.all
def test_law_1_reload_takes_new_code_and_settings_and_loses_no_callback(deployment: Deployment):
    """While callbacks are posted, reloads take new code and settings; no callback is refused, and each is handled."""
    web = deployment.serve()
    deployment.write_settings(WEB_CONCURRENCY="3", API_TOKENS=f"test={TOKEN},later=the-later-token")

    with Callers(web) as callers:
        callers.go_on()
        deployment.write_handlers(SECOND)
        deployment.replace("app/web/probes.py", '"alive"', '"alive and new"')
        deployment.replace("config.py", "SAFE_SECRET_LENGTH = 16", "SAFE_SECRET_LENGTH = 40")
        reload(web)
        callers.go_on()
        reload(web, "reload.begun")
        reload(web, "reload.loaded")
        reload(web)  # while another reload is under way
        callers.go_on()

    assert callers.errors == []
    until(
        lambda: handled(deployment, "first") | handled(deployment, "second") >= {*callers.sent},
        seconds=60,
        what="the handler has run for all",
    )
    assert len(handled(deployment, "second")) > 10
    assert json.loads(web.request("GET", "/healthz", headers={})[1]) == {"status": "alive and new"}
    assert web.request("GET", "/api/packages", headers={"Authorization": "Bearer the-later-token"})[0] == 200
    assert "has fewer than 40 characters" in web.output()
    until(lambda: len(web.children) == 4, what="three workers and the one with the handlers run")
    replaced = web.children
    reload(web, "reload.loaded")
    web.terminate()
    assert web.wait() == 0
    assert not any(map(is_alive, replaced))


@pytest.mark.all
@on_sqlite
def test_law_7_reload_lets_running_handlers_finish(deployment: Deployment):
    """An old worker that waits for its handlers is left alone until they are done."""
    web = deployment.serve()
    assert web.post(callback("PACKAGE_COMPLETE", package="pkg-1"))[0] == 200
    until(lambda: handled(deployment, "begins"), what="the handler runs")
    ((_, _, worker),) = deployment.handler_lines()

    web.terminate(number=signal.SIGHUP)
    until(lambda: f"Worker exiting (pid: {worker})" in web.output(), seconds=60, what="the worker ends")
    threading.Event().wait(3)  # the main process looks after its workers every second
    deployment.handler_log.with_suffix(".log.end").touch()

    until(lambda: not is_alive(int(worker)), what="the worker has ended")
    assert deployment.handler_lines() == [["begins", "pkg-1", worker], ["ends", "pkg-1", worker]]


@pytest.mark.all
@on_sqlite
def test_reload_ends_a_worker_that_hangs(deployment: Deployment):
    """The main process kills an old worker that does not end, as it does with its own workers."""
    web = deployment.serve("--timeout", "10")

    for worker in web.children[:2]:  # the one with the handlers, and one that serves
        os.kill(worker, signal.SIGSTOP)
    reload(web)

    assert web.post(callback("PACKAGE_ACTIVATE", package="pkg-1"))[0] == 200


@pytest.mark.all
@on_sqlite
def test_law_2_worker_that_cannot_be_started_is_started_later(deployment: Deployment):
    """While no worker can be started, the others serve on, also after a reload; then the number is whole again."""
    folder = deployment.folder / "alive"
    folder.mkdir()
    web = deployment.serve("--worker-tmp-dir", str(folder))
    old = web.children

    folder.rmdir()
    os.kill(old[0], signal.SIGKILL)
    until(lambda: "worker.not_started" in web.output() or web.ended, what="no worker can be started")
    assert web.post(callback("PACKAGE_ACTIVATE", package="pkg-1"))[0] == 200
    folder.mkdir()
    until(lambda: len(web.children) == 3, what="all workers run")
    assert {umask(worker) for worker in web.children} == {umask(old[1])}

    folder.rmdir()
    reload(web, "reload.loaded")
    until(lambda: web.output().rpartition("reload.loaded")[2].count("worker.not_started") or web.ended, seconds=60)
    assert web.post(callback("PACKAGE_ACTIVATE", package="pkg-2"))[0] == 200
    folder.mkdir()
    until(lambda: not is_alive(old[1]) and len(web.children) == 3, what="all new workers run")
    assert web.post(callback("PACKAGE_ACTIVATE", package="pkg-3"))[0] == 200


def umask(pid: int) -> str:
    """The bits that a process removes from the mode of files that it creates."""
    return Path(f"/proc/{pid}/status").read_text().partition("Umask:")[2].split()[0]


@pytest.mark.all
@on_sqlite
def test_law_2_worker_is_replaced_while_an_old_one_waits_for_its_handlers(deployment: Deployment):
    """An old worker that ends slowly does not count: a new one that dies is replaced at once."""
    web = deployment.serve(workers=1)
    assert web.post(callback("PACKAGE_COMPLETE", package="pkg-1"))[0] == 200
    until(lambda: handled(deployment, "begins"), what="the handler runs")
    old = int(deployment.handler_lines()[0][2])
    web.terminate(number=signal.SIGHUP)
    until(
        lambda: f"Worker exiting (pid: {old})" in web.output() and len(web.children) == 3,
        seconds=60,
        what="the old worker ends, and two new ones run",
    )

    for worker in {*web.children} - {old}:
        os.kill(worker, signal.SIGKILL)

    until(web.answers, seconds=8, what="the port answers")
    assert is_alive(old)
    reload(web, "reload.loaded")  # while the worker still ends
    until(lambda: len(web.children) == 3 and web.answers(), what="two workers beside the old one")
    assert is_alive(old)
    deployment.handler_log.with_suffix(".log.end").touch()
    until(lambda: old not in web.children, what="the old worker has ended")
    until(
        lambda: len(web.children) == 2 and web.output().count("Booting worker") == 8,
        what="two workers run, after one start for each of the eight",
    )


@pytest.mark.all
@on_sqlite
def test_reload_loses_no_signal(deployment: Deployment):
    """A signal that arrives together with the end of the check is handled before the process is replaced."""
    web = deployment.serve(workers=1)
    workers = {*web.children}
    web.terminate(number=signal.SIGHUP)
    (check,) = until(lambda: {*web.children} - workers, what="the check runs")

    web.terminate(number=signal.SIGSTOP)
    until(lambda: not is_alive(check), seconds=60, what="the check has ended")
    web.terminate(number=signal.SIGWINCH)
    web.terminate(number=signal.SIGCONT)

    until(lambda: "reload.loaded" in web.output(), what="the process is replaced")
    assert "Handling signal: winch" in web.output()


def test_replaced_process_keeps_the_signals_that_are_queued():
    """Signals that arrive after the last look at the queue wait for the new main process."""
    script = """
import os, queue, signal, sys
from types import SimpleNamespace
from app.web.reload import MainProcess

main = MainProcess.__new__(MainProcess)
main.pid, main.pidfile, main.address, main.SIG_QUEUE = os.getpid(), None, "", queue.SimpleQueue()
main.cfg = SimpleNamespace(env_orig=dict(os.environ))
new = "import signal; print([number.name for number in signal.sigpending()])"
main.START_CTX = {"cwd": os.getcwd(), "args": [sys.executable, "-c", new]}
main.SIG_QUEUE.put(signal.SIGTERM)
main._replace()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.endswith("['SIGTERM']\n")


@pytest.mark.all
@on_sqlite
def test_reload_takes_code_that_prints_or_waits_at_its_end(deployment: Deployment):
    """What the loaded code does when its process ends is no reason to refuse it."""
    web = deployment.serve(workers=1)
    deployment.write_handlers(
        SECOND + "import atexit\nimport threading\n\n\natexit.register(print, 'The end.')\n"
        "threading.Thread(target=threading.Event().wait, args=(100,)).start()\n"
    )

    reload(web)

    assert web.post(callback("PACKAGE_ACTIVATE", package="pkg-1"))[0] == 200
    until(lambda: handled(deployment, "second") == {"pkg-1"}, what="the new handler has run")


@pytest.mark.all
@on_sqlite
def test_second_main_process_starts_after_a_reload(deployment: Deployment):
    """SIGUSR2 starts a second main process, which takes over nothing that belonged to the replaced one."""
    web = deployment.serve(workers=1)
    reload(web)
    others = {*web.children}

    web.terminate(number=signal.SIGUSR2)
    (second,) = until(lambda: {*web.children} - others, what="the second main process runs")
    children = Path(f"/proc/{second}/task/{second}/children")
    until(lambda: children.exists() and children.read_text(), seconds=60, what="its worker runs")
    os.kill(web.pid, signal.SIGTERM)
    assert web.wait() == 0

    until(web.answers, what="the second main process serves")
