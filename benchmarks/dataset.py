"""A database with a crowd in it: packages, people, facts and what came of them, the same at each time.

All goes in with COPY, or with many rows in one statement; what is computed of a package is computed by the service's
own functions. Nothing is kept in memory but one chunk.
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

CHUNK = 1_000  # packages
SIGNERS, EVENTS, CHANGES = 3, 10, 6  # of each package
NOW = datetime(2026, 11, 1, tzinfo=UTC)
LASTED = timedelta(days=700)  # from the first package to the last
RUNS = 3_000  # of the reconciler

STATUSES = {"COMPLETED": 60, "SENT": 15, "ARCHIVED": 10, "DRAFT": 6, "EXPIRED": 4, "DECLINED": 3, "OPTED_OUT": 2}
TYPES = {"PACKAGE": 94, "TEMPLATE": 5, None: 1}
NAMES = {"DOCUMENT_VIEWED": 30, "DOCUMENT_SIGNED": 30, "SIGNER_COMPLETE": 20, "PACKAGE_CREATE": 9}
NAMES |= {"PACKAGE_ACTIVATE": 5, "PACKAGE_COMPLETE": 4, "EMAIL_BOUNCE": 1, "PACKAGE_TRASH": 1}
STATES = {"done": 9_900, "discarded": 70, "due": 20, "parked": 9, "running": 1}
CAUSES = {"no trace": 90, "down": 7, "never reported": 2, "refused": 1}
REASONS = ("SIGNER_LOCKED", "SIGNER_LOCKED", "EMAIL_BOUNCE", "EMAIL_BOUNCE", "KBA_FAILURE", "READY_FOR_COMPLETION")
STATUS_POOL, TYPE_POOL, NAME_POOL, STATE_POOL, CAUSE_POOL = (
    [one for one, share in shares.items() for _ in range(share)] for shares in (STATUSES, TYPES, NAMES, STATES, CAUSES)
)
KINDS = ("agreement", "agreement", "contract", "contract", "lease", "offer", "mandate", "waiver", "addendum")
FIRST = (
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
ASIAN = ("王伟", "李娜", "张敏", "刘洋", "陈静", "杨磊", "赵军", "黄丽")
GREEK = ("Παπαδόπουλος", "Γεωργίου", "Νικολάου", "Οικονόμου")
SYLLABLES = [a + b + c for a in "bdfghklmnprstvwz" for b in "aeiou" for c in "lnrstk"]
BUSY = "legal@contoso.example"  # signs one package in a hundred


def fill(url: str, many: int) -> None:
    """Let so many packages, and all that belongs to them, be there."""
    progress, filler = Progress(), _Copies(url) if "postgresql" in url else _Rows(url)
    counted: Counter[Counted] = Counter()
    with filler:
        for start in range(0, many, CHUNK):
            rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
            for number in range(start, min(start + CHUNK, many)):
                for table, row, counter in _package(number, many, is_copied=isinstance(filler, _Copies)):
                    rows[table].append(row)
                    if counter:
                        counted[counter] += 1
            for table, some in rows.items():
                filler.add(table, some)
            progress.show(f"{start + CHUNK} of {many} packages")
        for (table, kind), number in counted.items():
            filler.add(table, [(*kind, number)])
        filler.add("reconciles", [_run(number) for number in range(1, RUNS + 1)])
    progress.end()


@cache
def word(number: int) -> str:
    """One of the 16,000 words that packages, people and their companies are named with."""
    dice = Random(number % 16_000)
    return "".join(dice.choices(SYLLABLES, k=dice.choice((2, 3)))).capitalize()


def package_id(number: int) -> str:
    """The id of a package."""
    return hashlib.blake2b(str(number).encode(), digest_size=10).hexdigest()[:19] + f"{number:08d}="


def person(number: int) -> tuple[str, str, str]:
    """Id, name and e-mail address of somebody."""
    digest = hashlib.blake2b(f"person {number}".encode(), digest_size=16).hexdigest()
    family = word(number * 7919)
    name = f"{FIRST[number % len(FIRST)]} {family}"
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}", name, _mail(name, number)


def _mail(name: str, number: int) -> str:
    return f"{name.lower().replace(' ', '.')}{number}@{word(number % 500).lower()}.example"


def _pick(dice: Random, pool: Sequence[Any]) -> Any:
    return pool[int(dice.random() * len(pool))]


def _name(dice: Random, number: int) -> str:
    kind = dice.choice(KINDS)
    if number % 50 == 0:
        return f"租赁合同 {dice.choice(ASIAN)} {number}"
    if number % 50 == 1:
        return f"Σύμβαση {dice.choice(GREEK)} {number}"
    return f"{word(dice.randrange(16_000))} {kind} {number}"


Counted = tuple[str, tuple[Any, ...]]  # the table of the counter, and what it counts by
Row = tuple[str, tuple[Any, ...], Counted | None]


def _package(number: int, many: int, *, is_copied: bool) -> Iterator[Row]:
    dice = Random(number)
    created = NOW - LASTED + LASTED * number / many
    updated = min(created + timedelta(days=dice.expovariate(0.2)), NOW)
    type_ = _pick(dice, TYPE_POOL)
    status = _pick(dice, STATUS_POOL) if type_ == "PACKAGE" else "DRAFT" if type_ else None
    one, due = package_id(number), created + timedelta(days=30) if dice.random() < 0.7 else None
    people = [person(dice.randrange(max(10, many // 5))) for _ in range(SIGNERS)]
    if number % 100 == 7:
        people[0] = ("busy-who-signs", "Legal Department", BUSY)
    people = list({id_: (id_, name, mail) for id_, name, mail in people}.values())
    signers = tuple(Signer(id_, f"role-{at}", name, mail, at, "PENDING") for at, (id_, name, mail) in enumerate(people))
    sender = person(many + number % 300)
    package = Package(
        one,
        name=_name(dice, number),
        type=type_,
        status=status,
        trashed=dice.random() < 0.05,
        deleted=dice.random() < 0.02,
        sender=Sender(*sender),
        signers=signers,
    )
    entry = list_entry(package)
    state = json.dumps({"package": {"status": {"event": [created.isoformat(), status]}}, "filling": "x" * 500})
    plain = (one, package.name, type_, status, updated, package.trashed, package.deleted, *sender)
    times = (created, updated if number % 200 else None, due, updated if status == "COMPLETED" else None)
    yield (
        "packages",
        (*plain, *times, len(signers), 1, json.dumps([people[0][0]]), updated, updated, entry.sort_name, state),
        ("package_counts", (*entry.kind[:2], type_ or "", status or "")),
    )
    yield "searches", (one, entry.text), None
    for at, signer in enumerate(signers):
        seat = (one, signer.id, signer.role_id, signer.name, signer.email, at, "PENDING", updated, False, None, 0, "[]")
        yield "signers", (*seat, address(signer.email)), None
    yield "documents", (one, "contract", 0, "The contract", "[]", None), None
    if dice.random() < 0.05:
        yield "attention", (one, 0, dice.choice(REASONS), updated, people[0][0], None), None
    yield from _facts(dice, number, one, created, who=people[0][0], is_copied=is_copied)


def _facts(dice: Random, number: int, package: str, created: datetime, *, who: str, is_copied: bool) -> Iterator[Row]:
    for place in range(EVENTS):
        event, at = number * EVENTS + place + 1, created + timedelta(hours=place * 5 + dice.random())
        name, is_found = _pick(dice, NAME_POOL), dice.random() < 0.01
        source, received = "reconcile" if is_found else "callback", at + timedelta(seconds=2)
        day = counters.day_of(at)
        found = (at - timedelta(hours=6), at) if is_found else (None, None)
        fact = (event, f"fingerprint-{event}", name, package, who, who, None, None, "{}", at, received, source, 0)
        yield "events", (*fact, *found, None), ("event_counts", (day, name, source))
        if is_found:
            cause = _pick(dice, CAUSE_POOL)
            row = (event, package, name, at, received, received, cause, None)
            yield "missed", row, ("missed_counts", (day, name, cause))
        body = f'{{"name": "{name}", "packageId": "{package}", "sessionUser": "{who}", "documentId": null}}'
        told = body if is_copied else body.encode()
        journal = (event, "callback", received, None, None, "first", package, told, None, None)
        is_lately = received >= NOW - counters.MINUTES_KEPT
        yield (
            "journal",
            (*journal, "digested", None, received, event),
            ("callback_counts", (counters.minute_of(received),)) if is_lately else None,
        )
        run = _pick(dice, STATE_POOL)
        ended = received + timedelta(seconds=dice.random() * 3) if run not in ("due", "running") else None
        dispatch = (event, event, package, "file_signed_documents", run, 1, 1, received, ended)
        yield "dispatches", (*dispatch, "it does not work" if run == "parked" else None), None
    for place in range(CHANGES):
        change, at = number * CHANGES + place + 1, created + timedelta(hours=place * 5)
        cause = str(number * EVENTS + place + 1)
        yield "changes", (change, package, "package", "status", '"DRAFT"', '"SENT"', at, at, "callback", cause), None


def _run(number: int) -> tuple[Any, ...]:
    began = NOW - timedelta(hours=6 * (RUNS - number))
    when = (began - timedelta(days=1), began, began, began + timedelta(minutes=5), began + timedelta(minutes=5))
    return (number, "reconcile", "interval", "done", False, *when, 1, 1, None, None, "{}", 10, 500, 20, 3, 0, 7)


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
    "missed": "event_id package_id name happened_at found_at noted_at cause told_at",
    "journal": (
        "id kind received_at read_at answered_at key package_id body tells spool_id state error digested_at event_id"
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


class _Copies:
    """Into PostgreSQL: without indexes, which are made again when all is there."""

    def __init__(self, url: str) -> None:
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(plain, autocommit=True)
        self._indexes: list[tuple[str, str]] = []

    def __enter__(self) -> None:
        self._connection.execute("SET maintenance_work_mem = '1GB'")
        self._connection.execute("SET synchronous_commit = off")
        self._connection.execute("SET session_replication_role = replica")  # foreign keys are kept by who fills
        self._indexes = self._connection.execute(_INDEXES).fetchall()
        for name, _ in self._indexes:
            self._connection.execute(f"DROP INDEX {name}")

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Copy rows."""
        columns = ", ".join(f'"{one}"' for one in COLUMNS[table].split())
        with self._connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            copy.write("".join(map(_line, rows)))

    def __exit__(self, *_: object) -> None:
        for _name, definition in self._indexes:
            self._connection.execute(definition)
        self._connection.execute("VACUUM ANALYZE")
        self._connection.execute("CHECKPOINT")
        self._connection.close()


def _line(row: tuple[Any, ...]) -> str:
    line = "\t".join([r"\N" if value is None else str(value) for value in row])
    return line.replace("\n", r"\n") + "\n"


class _Rows:
    """Into SQLite."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def __enter__(self) -> None:
        pass

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows."""
        names = COLUMNS[table].split()
        columns, places = ", ".join(f'"{one}"' for one in names), ", ".join("?" * len(names))
        with self._database.write() as connection:
            statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"
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
