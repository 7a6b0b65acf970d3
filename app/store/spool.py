"""Where callbacks go while the database is away: one file each, on this machine's disk."""

import base64
import json
import os
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from app.store.journal import Entry


class Spool:
    """A folder of entries. A file that is there is whole and durable: it is synced before it gets its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, entry: Entry) -> str:
        """Write one entry and return the id it is spooled under. Raises `OSError` when the disk does not take it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        spool_id = uuid.uuid4().hex
        unfinished = self._folder / f"{spool_id}.part"
        with unfinished.open("xb") as file:
            file.write(_write(entry))
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._folder / f"{spool_id}.json")
        self._sync()
        return spool_id

    def waiting(self) -> list[Path]:
        """The files that wait to be journaled."""
        return sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []

    def drain(self, journal: Callable[[Entry], None]) -> int:
        """Hand every waiting entry to `journal`, and forget those it took. Returns how many.

        If we die between the two the entry is handed over again, with the same `spool_id`.
        """
        taken = 0
        for file in self.waiting():
            try:
                entry = _read(file.stem, file.read_bytes())
            except FileNotFoundError:
                continue  # another process was quicker
            except (ValueError, KeyError, TypeError):
                file.rename(file.with_suffix(".damaged"))
                continue
            journal(entry)
            file.unlink(missing_ok=True)
            taken += 1
        return taken

    def _sync(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(entry: Entry) -> bytes:
    return json.dumps(
        {
            "received_at": entry.received_at.isoformat(),
            "key": entry.key,
            "package_id": entry.package_id,
            "unreadable": entry.unreadable,
            "body": base64.b64encode(entry.body).decode(),
        }
    ).encode()


def _read(spool_id: str, text: bytes) -> Entry:
    kept = json.loads(text)
    return Entry(
        kind="callback",
        received_at=datetime.fromisoformat(kept["received_at"]),
        body=base64.b64decode(kept["body"]),
        key=kept["key"],
        package_id=kept["package_id"],
        unreadable=kept["unreadable"],
        spool_id=spool_id,
    )
