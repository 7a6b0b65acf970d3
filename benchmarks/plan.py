"""The plans of the statements that take longest, as the database tells them."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from app.store.db import Database

FOLDER = Path(__file__).parent / "plans"
EXPLAIN = {"postgresql": "EXPLAIN (ANALYZE, BUFFERS) ", "sqlite": "EXPLAIN QUERY PLAN "}


@contextmanager
def kept(database: Database, title: str) -> Iterator[None]:
    """Keep the plan of the statement that takes longest of those that run meanwhile, in a file named for it."""
    ran: list[tuple[float, str, Any]] = []

    def before(*given: Any) -> None:
        given[4]._began = time.perf_counter()

    def after(*given: Any) -> None:
        ran.append((time.perf_counter() - given[4]._began, given[2], given[3]))

    engine = database.engine
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    yield
    event.remove(engine, "before_cursor_execute", before)
    event.remove(engine, "after_cursor_execute", after)
    _, statement, parameters = max(ran, key=lambda one: one[0])
    with database.read() as connection:
        rows = connection.exec_driver_sql(EXPLAIN[engine.dialect.name] + statement, parameters).all()
    plan = "\n".join(str(row[-1]) for row in rows)
    FOLDER.mkdir(exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", f"{engine.dialect.name} {title}".lower()).strip("-")
    said = "\n".join(line.strip() for line in statement.splitlines() if line.strip())
    (FOLDER / f"{name}.txt").write_text(f"{title}, on {engine.dialect.name}\n\n{said}\n\n{plan}\n", "utf-8")
