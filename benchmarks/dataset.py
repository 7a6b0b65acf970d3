"""A dataset for the benchmarks: packages, people, events and dispatches, which depend only on the dataset's size.

PostgreSQL rows are written with COPY, SQLite rows with INSERT. Derived columns come from the service's own functions.
Only one chunk of packages is in memory at a time.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

import psycopg
from sqlalchemy import make_url

from app.onespan.values import Package, Sender, Signer
from app.store import counters
from app.store.db import Database
from app.store.packages import address, list_entry
from benchmarks.progress import Progress

CHUNK_SIZE = 1_000  # packages in memory at once
SIGNERS, EVENTS, CHANGES = 3, 10, 6  # signers, events and changes of each package
NOW = datetime(2026, 11, 1, tzinfo=UTC)
PERIOD = timedelta(days=700)  # time from the first package to the last package
RECONCILE_RUNS = 3_000

# The frequency of each value, as a share of the sum of all frequencies.
STATUSES = {"COMPLETED": 60, "SENT": 15, "ARCHIVED": 10, "DRAFT": 6, "EXPIRED": 4, "DECLINED": 3, "OPTED_OUT": 2}
TYPES = {"PACKAGE": 94, "TEMPLATE": 5, None: 1}
EVENT_NAMES = {"DOCUMENT_VIEWED": 30, "DOCUMENT_SIGNED": 30, "SIGNER_COMPLETE": 20, "PACKAGE_CREATE": 9}
EVENT_NAMES |= {"PACKAGE_ACTIVATE": 5, "PACKAGE_COMPLETE": 4, "EMAIL_BOUNCE": 1, "PACKAGE_TRASH": 1}
STATES = {"done": 9_900, "discarded": 70, "due": 20, "parked": 9, "running": 1}
CAUSES = {"no trace": 90, "down": 7, "never reported": 2, "refused": 1}
REASONS = ("SIGNER_LOCKED", "SIGNER_LOCKED", "EMAIL_BOUNCE", "EMAIL_BOUNCE", "KBA_FAILURE", "READY_FOR_COMPLETION")
STATUS_POOL, TYPE_POOL, EVENT_NAME_POOL, STATE_POOL, CAUSE_POOL = (
    [value for value, share in shares.items() for _ in range(share)]
    for shares in (STATUSES, TYPES, EVENT_NAMES, STATES, CAUSES)
)
NOUNS = ("agreement", "agreement", "contract", "contract", "lease", "offer", "mandate", "waiver", "addendum")
FIRST_NAMES = (
    "Ada",
    "Ben",
    "Cleo",
    "Dora",
    "Emil",
    "Frieda",
    "Georg",
    "Hanna",
    "Igor",
    "Jana",
    "Karl",
    "Lena",
    "Milan",
    "Nora",
)
CHINESE_NAMES = ("王伟", "李娜", "张敏", "刘洋", "陈静", "杨磊", "赵军", "黄丽")
GREEK_NAMES = ("Παπαδόπουλος", "Γεωργίου", "Νικολάου", "Οικονόμου")
SYLLABLES = [a + b + c for a in "bdfghklmnprstvwz" for b in "aeiou" for c in "lnrstk"]
WORDS = 16_000  # number of distinct words in names
BUSY_SIGNER = "legal@contoso.example"  # the email of a signer in one of a hundred packages

CounterKey = tuple[str, tuple[Any, ...]]  # the table of the counter, and the columns it counts by
Row = tuple[str, tuple[Any, ...], CounterKey | None]  # table, values, and the counter that counts the row


def fill(url: str, size: int) -> None:
    """Write `size` packages and all rows that belong to them into an empty database."""
    progress, writer = Progress(), _CopyWriter(url) if "postgresql" in url else _InsertWriter(url)
    counts: Counter[CounterKey] = Counter()
    with writer:
        for start in range(0, size, CHUNK_SIZE):
            rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
            for number in range(start, min(start + CHUNK_SIZE, size)):
                for table, row, counter in _package_rows(number, size, is_copied=isinstance(writer, _CopyWriter)):
                    rows[table].append(row)
                    if counter:
                        counts[counter] += 1
            for table, chunk in rows.items():
                writer.write(table, chunk)
            progress.show(f"{start + CHUNK_SIZE} of {size} packages")
        for (table, columns), count in counts.items():
            writer.write(table, [(*columns, count)])
        writer.write("reconciles", [_run_row(number) for number in range(1, RECONCILE_RUNS + 1)])
    progress.end()


@cache
def word(number: int) -> str:
    """Return one of the `WORDS` words in the names of packages, people and companies."""
    rng = Random(number % WORDS)
    return "".join(rng.choices(SYLLABLES, k=rng.choice((2, 3)))).capitalize()


def package_id(number: int) -> str:
    """Return the id of the package with this number."""
    return hashlib.blake2b(str(number).encode(), digest_size=10).hexdigest()[:19] + f"{number:08d}="


def person(number: int) -> tuple[str, str, str]:
    """Return the id, name and e-mail address of the person with this number."""
    digest = hashlib.blake2b(f"person {number}".encode(), digest_size=16).hexdigest()
    name = f"{FIRST_NAMES[number % len(FIRST_NAMES)]} {word(number * 7919)}"
    id_ = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"
    return id_, name, _email(name, number)


def _email(name: str, number: int) -> str:
    return f"{name.lower().replace(' ', '.')}{number}@{word(number % 500).lower()}.example"


def _pick(rng: Random, pool: Sequence[Any]) -> Any:
    return pool[int(rng.random() * len(pool))]


def _package_name(rng: Random, number: int) -> str:
    noun = rng.choice(NOUNS)
    if number % 50 == 0:
        return f"租赁合同 {rng.choice(CHINESE_NAMES)} {number}"
    if number % 50 == 1:
        return f"Σύμβαση {rng.choice(GREEK_NAMES)} {number}"
    return f"{word(rng.randrange(WORDS))} {noun} {number}"


def _package_rows(number: int, size: int, *, is_copied: bool) -> Iterator[Row]:
    rng = Random(number)
    created = NOW - PERIOD + PERIOD * number / size
    updated = min(created + timedelta(days=rng.expovariate(0.2)), NOW)
    type_ = _pick(rng, TYPE_POOL)
    status = _pick(rng, STATUS_POOL) if type_ == "PACKAGE" else "DRAFT" if type_ else None
    id_, due = package_id(number), created + timedelta(days=30) if rng.random() < 0.7 else None
    people = [person(rng.randrange(max(10, size // 5))) for _ in range(SIGNERS)]
    if number % 100 == 7:
        people[0] = ("busy-who-signs", "Legal Department", BUSY_SIGNER)
    people = list({signer_id: (signer_id, name, email) for signer_id, name, email in people}.values())
    signers = tuple(
        Signer(signer_id, f"role-{order}", name, email, order, "PENDING")
        for order, (signer_id, name, email) in enumerate(people)
    )
    sender = person(size + number % 300)
    package = Package(
        id_,
        name=_package_name(rng, number),
        type=type_,
        status=status,
        trashed=rng.random() < 0.05,
        deleted=rng.random() < 0.02,
        sender=Sender(*sender),
        signers=signers,
    )
    entry = list_entry(package)
    claims = json.dumps({"package": {"status": {"event": [created.isoformat(), status]}}, "filling": "x" * 500})
    facts = (id_, package.name, type_, status, updated, package.trashed, package.deleted, *sender)
    times = (created, updated if number % 200 else None, due, updated if status == "COMPLETED" else None)
    first_signer = people[0][0]
    yield (
        "packages",
        (*facts, *times, len(signers), 1, json.dumps([first_signer]), updated, updated, entry.sort_name, claims),
        ("package_counts", (*entry.kind[:2], type_ or "", status or "")),
    )
    yield "searches", (id_, entry.text), None
    for order, signer in enumerate(signers):
        seat = (id_, signer.id, signer.role_id, signer.name, signer.email, order)
        yield "signers", (*seat, "PENDING", updated, False, None, 0, "[]", address(signer.email)), None
    yield "documents", (id_, "contract", 0, "The contract", "[]", None), None
    if rng.random() < 0.05:
        yield "attention", (id_, 0, rng.choice(REASONS), updated, first_signer, None), None
    yield from _event_rows(rng, number, id_, created, signer=first_signer, is_copied=is_copied)


def _event_rows(
    rng: Random, number: int, package: str, created: datetime, *, signer: str, is_copied: bool
) -> Iterator[Row]:
    for position in range(EVENTS):
        event, happened = number * EVENTS + position + 1, created + timedelta(hours=position * 5 + rng.random())
        name, is_missed = _pick(rng, EVENT_NAME_POOL), rng.random() < 0.01
        source, received = "reconcile" if is_missed else "callback", happened + timedelta(seconds=2)
        day = counters.day_of(happened)
        found = (happened - timedelta(hours=6), happened) if is_missed else (None, None)
        fact = (event, f"fingerprint-{event}", name, package, signer, signer, None, None, "{}", happened, received)
        yield "events", (*fact, source, 0, *found, None), ("event_counts", (day, name, source))
        if is_missed:
            cause = _pick(rng, CAUSE_POOL)
            row = (event, package, name, happened, received, received, cause, None)
            yield "missed", row, ("missed_counts", (day, name, cause))
        text = f'{{"name": "{name}", "packageId": "{package}", "sessionUser": "{signer}", "documentId": null}}'
        body = text if is_copied else text.encode()
        callback = (event, "callback", received, None, None, "first", package, body, "new", None)
        yield (
            "journal",
            (*callback, "digested", None, received, event),
            ("callback_counts", (counters.minute_of(received),)) if received >= NOW - counters.MINUTES_KEPT else None,
        )
        state = _pick(rng, STATE_POOL)
        finished = received + timedelta(seconds=rng.random() * 3) if state not in ("due", "running") else None
        dispatch = (event, event, package, "file_signed_documents", state, 1, 1, received, finished)
        yield "dispatches", (*dispatch, "it does not work" if state == "parked" else None), None
    for position in range(CHANGES):
        change, changed = number * CHANGES + position + 1, created + timedelta(hours=position * 5)
        values = (change, package, "package", "status", '"DRAFT"', '"SENT"', changed, changed)
        yield "changes", (*values, "callback", str(number * EVENTS + position + 1)), None


def _run_row(number: int) -> tuple[Any, ...]:
    began = NOW - timedelta(hours=6 * (RECONCILE_RUNS - number))
    finished = began + timedelta(minutes=5)
    times = (began - timedelta(days=1), began, began, finished, finished)
    return (number, "reconcile", "interval", "done", False, *times, 1, 1, None, None, "{}", 10, 500, 20, 3, 0, 7)


COLUMNS = {
    "packages": (
        "id name type status status_at trashed deleted sender_id sender_name sender_email created_at updated_at due_at"
        " completed_at signers_total signers_completed next_signers last_event_at read_at sort_name claims"
    ),
    "searches": "package_id text",
    "signers": (
        "package_id id role_id name email order status status_at locked email_bounce kba_failures attachments address"
    ),
    "documents": "package_id id position name signed_by signed_at",
    "attention": "package_id position reason since who detail",
    "events": (
        "id fingerprint name package_id session_user signer_id document_id message extra happened_at first_received_at"
        " source repeats found_after found_until confirmation"
    ),
    "missed": "event_id package_id name happened_at found_at noted_at cause reported_at",
    "journal": (
        "id kind received_at read_at answered_at key package_id body emit spool_id state error digested_at event_id"
    ),
    "dispatches": "id event_id package_id handler state attempts fence due_at finished_at error",
    "changes": "id package_id subject attribute old new happened_at recorded_at cause_kind cause_id",
    "package_counts": "trashed deleted type status number",
    "callback_counts": "minute number",
    "event_counts": "day name source number",
    "missed_counts": "day name cause number",
    "reconciles": (
        "id kind reason state fires since until began_at finished_at due_at attempts fence process error progress"
        " requests shown changed asked unreadable found"
    ),
}


class _CopyWriter:
    """A writer of rows to PostgreSQL with COPY. It drops all indexes first and creates them again at the end."""

    def __init__(self, url: str) -> None:
        plain_url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(plain_url, autocommit=True)
        self._indexes: list[tuple[str, str]] = []

    def __enter__(self) -> None:
        self._connection.execute("SET maintenance_work_mem = '1GB'")
        self._connection.execute("SET synchronous_commit = off")
        self._connection.execute("SET session_replication_role = replica")  # skips the checks of foreign keys
        self._indexes = self._connection.execute(_INDEXES).fetchall()
        for name, _ in self._indexes:
            self._connection.execute(f"DROP INDEX {name}")

    def write(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Copy rows into a PostgreSQL table."""
        columns = ", ".join(f'"{column}"' for column in COLUMNS[table].split())
        with self._connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            copy.write("".join(map(_copy_line, rows)))

    def __exit__(self, *_: object) -> None:
        for _name, definition in self._indexes:
            self._connection.execute(definition)
        self._connection.execute("VACUUM ANALYZE")
        self._connection.execute("CHECKPOINT")
        self._connection.close()


def _copy_line(row: tuple[Any, ...]) -> str:
    line = "\t".join([r"\N" if value is None else str(value) for value in row])
    return line.replace("\n", r"\n") + "\n"


class _InsertWriter:
    """A writer of rows to SQLite with INSERT."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def __enter__(self) -> None:
        pass

    def write(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows into a SQLite table."""
        names = COLUMNS[table].split()
        columns, placeholders = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
        with self._database.write() as connection:
            statement = f"INSERT INTO {table} ({columns}) VALUES ({placeholders})"
            if rows:
                connection.exec_driver_sql(statement, [tuple(map(_as_sqlite, row)) for row in rows])

    def __exit__(self, *_: object) -> None:
        self._database.analyze()
        self._database.close()


def _as_sqlite(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    return value.isoformat() if isinstance(value, date) else value


_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname)
"""
