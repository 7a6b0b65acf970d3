"""The spool: local files for callbacks while the database is down, one file per callback."""

import base64
import json
import os
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.errors import EntryRejected
from app.store.journal import Entry
from app.store.states import JournalKind

log = structlog.get_logger()


class Spool:
    """A folder of journal entries. Each file is complete and durable, because it is synced before its final rename."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, entry: Entry) -> str:
        """Write one journal entry to a file and return its spool id. Raises `OSError` if the write fails."""
        self._make_folder()
        spool_id = f"{entry.received_at:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:18]}"  # file names sort by arrival
        unfinished = self._folder / f"{spool_id}.part"
        try:
            with open(unfinished, "xb", opener=_open_private) as file:
                file.write(_write(entry))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._folder / f"{spool_id}.json")
        finally:
            unfinished.unlink(missing_ok=True)
        _sync(self._folder)
        return spool_id

    def probe(self) -> None:
        """Raise `OSError` if the spool cannot store an entry now."""
        self._make_folder()
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(b"?")

    def _make_folder(self) -> None:
        _make_durably(self._folder)

    def waiting(self) -> list[Path]:
        """Return the spool files to be journaled, oldest first."""
        return sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []

    def damaged(self) -> list[Path]:
        """Return the spool files that could not be read and need manual repair."""
        return sorted(self._folder.glob("*.damaged")) if self._folder.is_dir() else []

    def drain(self, journal: Callable[[Entry], None]) -> int:
        """Pass every spooled entry to `journal` and delete its file. Returns the number of journaled entries.

        If the process dies before the deletion, the entry is passed again later, with the same `spool_id`. A file that
        cannot be read is renamed to `.damaged`. A file for which `journal` raises `EntryRejected` stays. Such files do
        not delay others.
        """
        return sum(self._drain_file(file, journal) for file in self.waiting())

    def _drain_file(self, file: Path, journal: Callable[[Entry], None]) -> bool:
        try:
            journal(_read(file.stem, file.read_bytes()))
        except FileNotFoundError:
            return False  # another process has drained the file
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as problem:
            file.rename(file.with_suffix(".damaged"))
            log.error("spool.damaged", file=file.stem, error=type(problem).__name__)
            return False
        except (EntryRejected, OSError) as problem:
            log.error("spool.refused", file=file.stem, error=type(problem).__name__)
            return False
        file.unlink(missing_ok=True)
        return True


def _make_durably(folder: Path) -> None:
    """Create a folder and its missing parents, and make their names durable."""
    if not folder.is_dir():
        _make_durably(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make the file names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open_private(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def _write(entry: Entry) -> bytes:
    return json.dumps(
        {
            "received_at": entry.received_at.isoformat(),
            "key": entry.key,
            "package_id": entry.package_id,
            "unreadable": entry.error,
            "body": base64.b64encode(entry.body).decode(),
        }
    ).encode()


def _read(spool_id: str, text: bytes) -> Entry:
    members = json.loads(text)
    received_at = datetime.fromisoformat(members["received_at"])
    if received_at.tzinfo is None:
        raise ValueError("received_at has no zone")
    if any(not isinstance(members[name], str | None) for name in ("key", "package_id", "unreadable")):
        raise ValueError("not a string")
    return Entry(
        kind=JournalKind.CALLBACK,
        received_at=received_at.astimezone(UTC),
        body=base64.b64decode(members["body"]),
        key=members["key"],
        package_id=members["package_id"],
        error=members["unreadable"],
        spool_id=spool_id,
    )
