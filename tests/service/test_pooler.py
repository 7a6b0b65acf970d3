"""PgBouncer in transaction mode, which gives each transaction any session."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from app.store.db import Database
from tests.conftest import on_postgresql
from tests.support.pooler import PGBOUNCER, REQUIRED, pooled

pytestmark = [
    on_postgresql,
    pytest.mark.own_database,
    pytest.mark.skipif(not (PGBOUNCER or REQUIRED), reason="missing program: pgbouncer (apt-get install pgbouncer)"),
]
SETTINGS = ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout", "jit", "TimeZone")
WANTED = ("on", "10s", "1min", "off", "UTC")


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """A database behind PgBouncer, whose server loses commits in a power cut unless a client sets otherwise."""
    direct = Database(database_url)
    with direct.write() as connection:
        name = direct.engine.url.database
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
        connection.execute(text(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'"))
    direct.close()
    with pooled(database_url, tmp_path, sessions=3) as url:
        database = Database(url)
        yield database
        database.close()


def _settings(database: Database, mode: str) -> tuple[str, ...]:
    with getattr(database, mode)() as connection:
        return tuple(connection.execute(select(*(func.current_setting(name) for name in SETTINGS))).one())


@pytest.mark.parametrize("mode", ["read", "write"])
def test_every_transaction_has_the_settings(database: Database, mode: str):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: _settings(database, mode), range(100)))

    assert found == {WANTED}


def test_other_users_of_a_session_keep_their_settings(database: Database):
    _settings(database, "write")

    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        values = [
            connection.exec_driver_sql(f"SELECT reset_val = setting, name FROM pg_settings WHERE name = '{name}'").one()
            for name in SETTINGS
            if name != "TimeZone"
        ]
    assert all(is_default for is_default, _ in values), values


def test_statements_repeat_in_any_session(database: Database):
    def repeat(number: int) -> int:
        with database.write() as connection:
            return connection.execute(select(func.abs(-number))).scalar_one()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(repeat, range(200))) == list(range(200))
