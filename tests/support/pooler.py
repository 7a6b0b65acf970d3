"""A real PgBouncer in transaction mode, in front of the PostgreSQL of the tests."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.support.processes import free_port, until

PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"  # where Debian has it
PGBOUNCER = shutil.which("pgbouncer", path=PATH)
REQUIRED = os.environ.get("SIEGE") == "required"  # as in CI: a missing program is a failure
SETTINGS = """
[databases]
pooled = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
query_wait_timeout = 10
"""


@contextlib.contextmanager
def pooled(database_url: str, folder: Path, *, sessions: int) -> Iterator[str]:
    """Run PgBouncer with this number of sessions of a database, and yield the database's URL through it."""
    url, port = make_url(database_url), free_port()
    members = {"host": url.host or url.query["host"], "port": url.port or 5432, "user": url.username}
    members |= {"dbname": url.database, "password": url.password or "none"}
    server = " ".join(f"{name}={value}" for name, value in members.items())
    (folder / "pgbouncer.ini").write_text(SETTINGS.format(server=server, port=port, sessions=sessions))
    folder.chmod(0o755)
    user = ["-u", Path(members["host"]).owner()] if os.geteuid() == 0 else []  # PgBouncer refuses to run as root
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([str(PGBOUNCER), *user, folder / "pgbouncer.ini"], stdout=log, stderr=log)
    through = f"postgresql://127.0.0.1:{port}/pooled"
    try:
        until(lambda: process.poll() is not None or _answers(through), what="PgBouncer answers")
        assert process.poll() is None, (folder / "pgbouncer.log").read_text()
        yield through.replace("postgresql:", "postgresql+psycopg:")
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
        return True
    return False
