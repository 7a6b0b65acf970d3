"""Where callbacks go while the database is away: one file each, on this machine's disk."""

import base64
import json
import os
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.errors import EntryRefused
from app.store.journal import Entry

log = structlog.get_logger()


class Spool:
    """A folder of entries. A file that is there is whole and durable: it is synced before it gets its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, entry: Entry) -> str:
        """Write one entry and return the id it is spooled under. Raises `OSError` when the disk does not take it."""
        self._make_folder()
        spool_id = f"{entry.received_at:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:18]}"  # so names sort as they came in
        unfinished = self._folder / f"{spool_id}.part"
        try:
            with open(unfinished, "xb", opener=_for_us_alone) as file:
                file.write(_write(entry))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._folder / f"{spool_id}.json")
        finally:
            unfinished.unlink(missing_ok=True)
        _sync(self._folder)
        return spool_id

    def probe(self) -> None:
        """Raise `OSError` when the disk would not take an entry."""
        self._make_folder()
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(b"?")

    def _make_folder(self) -> None:
        _make_durably(self._folder)

    def waiting(self) -> list[Path]:
        """The files that wait to be journaled."""
        return sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []

    def damaged(self) -> list[Path]:
        """The files that were set aside: nobody can read them without help."""
        return sorted(self._folder.glob("*.damaged")) if self._folder.is_dir() else []

    def drain(self, journal: Callable[[Entry], None]) -> int:
        """Hand every waiting entry to `journal`, and forget those it took. Returns how many.

        If we die between the two the entry is handed over again, with the same `spool_id`. A file that cannot be
        read is set aside, and one that `journal` raises `EntryRefused` for stays; neither keeps another waiting.
        """
        return sum(self._drain_one(file, journal) for file in self.waiting())

    def _drain_one(self, file: Path, journal: Callable[[Entry], None]) -> bool:
        try:
            journal(_read(file.stem, file.read_bytes()))
        except FileNotFoundError:
            return False  # another process was quicker
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as problem:
            file.rename(file.with_suffix(".damaged"))
            log.error("spool.damaged", file=file.stem, error=type(problem).__name__)
            return False
        except (EntryRefused, OSError) as problem:
            log.error("spool.refused", file=file.stem, error=type(problem).__name__)
            return False
        file.unlink(missing_ok=True)
        return True


def _make_durably(folder: Path) -> None:
    """Make a folder that is not there, and sync its name; and so for those above it."""
    if not folder.is_dir():
        _make_durably(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _for_us_alone(file: str, flags: int) -> int:
    return os.open(file, flags, 0o600)


def _write(entry: Entry) -> bytes:
    return json.dumps(
        {
            "received_at": entry.received_at.isoformat(),
            "key": entry.key,
            "package_id": entry.package_id,
            "error": entry.error,
            "body": base64.b64encode(entry.body).decode(),
        }
    ).encode()


def _read(spool_id: str, text: bytes) -> Entry:
    kept = json.loads(text)
    received_at = datetime.fromisoformat(kept["received_at"])
    if received_at.tzinfo is None:
        raise ValueError("no time")
    if any(not isinstance(kept[name], str | None) for name in ("key", "package_id", "error")):
        raise ValueError("no text")
    return Entry(
        kind="callback",
        received_at=received_at.astimezone(UTC),
        body=base64.b64decode(kept["body"]),
        key=kept["key"],
        package_id=kept["package_id"],
        error=kept["error"],
        spool_id=spool_id,
    )
