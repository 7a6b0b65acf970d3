"""The spool: local files for callbacks while the database is down, one file per callback."""

import base64
import errno
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.errors import EntryRejected
from app.store.journal import Entry
from app.store.states import JournalKind

log = structlog.get_logger()

PROBE_BYTES = 2048  # larger than the files of most callbacks
MAX_FILE_BYTES = 1024 * 1024  # a callback of 64 KiB takes a tenth of it
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
CHECKSUM = "sha256"  # the member that files of earlier versions do not have


class SharedFolder(PermissionError):
    """Others may write to the spool's folder."""


class Spool:
    """A folder of journal entries. Each file is complete and durable, because it is synced before its final rename.

    Others must not be able to write to the folder, because they could remove callbacks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reported: set[Path] = set()  # skipped files that are already in the log

    def keep(self, entry: Entry) -> str:
        """Write one journal entry to a file and return its spool id. Raises `OSError` if that is not possible."""
        self._make_folder()
        spool_id = f"{entry.received_at:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:18]}"  # file names sort by arrival
        with self._unfinished(spool_id, _write(entry)) as file:
            file.rename(self._folder / f"{spool_id}.json")
        _sync(self._folder)
        return spool_id

    def probe(self) -> None:
        """Write a file as `keep` does and delete it. Raises `OSError` if the spool cannot store an entry now."""
        self._make_folder()
        with self._unfinished(f"probe-{uuid.uuid4().hex[:18]}", b"?" * PROBE_BYTES):
            pass

    @contextmanager
    def _unfinished(self, name: str, content: bytes) -> Iterator[Path]:
        """Write a file with this content to the disk. At the end the file is deleted, unless it has been renamed."""
        unfinished = self._folder / f"{name}.part"
        try:
            with open(unfinished, "xb", opener=_open_private) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield unfinished
        finally:
            unfinished.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        _make_durably(self._folder)
        if self._folder.stat().st_mode & WRITABLE_BY_OTHERS:
            raise SharedFolder(errno.EPERM, f"others may write to it: `chmod go-w {self._folder}`")

    def waiting(self) -> list[Path]:
        """Return the spool files to be journaled, oldest first."""
        return [file for file in self._files("*.json") if self._is_own(file)]

    def damaged(self) -> list[Path]:
        """Return the spool files that could not be read and need manual repair."""
        return self._files("*.damaged")

    def foreign(self) -> list[Path]:
        """Return what has the name of a spool file but is no regular file of the service, such as a symbolic link."""
        return [file for file in self._files("*.json") if os.path.lexists(file) and not self._is_own(file)]

    def drain(self, journal: Callable[[Entry], None]) -> int:
        """Pass every spooled entry to `journal` and delete its file. Returns the number of journaled entries.

        If the process dies before the deletion, the entry is passed again later, with the same `spool_id`. A file that
        is torn or altered is renamed to `.damaged`. A file that cannot be opened or is not the service's own, and one
        for which `journal` raises `EntryRejected`, stays. Such files do not delay others.
        """
        for file in self.foreign():
            self._report("spool.foreign", file)
        return sum(self._drain_file(file, journal) for file in self.waiting())

    def _drain_file(self, file: Path, journal: Callable[[Entry], None]) -> bool:
        try:
            journal(_parse(file.stem, self._read(file)))
        except FileNotFoundError:
            return False  # another process has drained the file
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as problem:
            self._set_aside(file, problem)
            return False
        except (EntryRejected, OSError) as problem:
            self._report("spool.refused", file, problem)
            return False
        file.unlink(missing_ok=True)
        return True

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self._folder.glob(pattern)) if self._folder.is_dir() else []

    def _is_own(self, file: Path) -> bool:
        """Whether this is a regular file of the service's user, of the folder's owner or of root."""
        try:
            about, owner = file.lstat(), self._folder.stat().st_uid
        except OSError:
            return False  # another process has drained the file
        return stat.S_ISREG(about.st_mode) and about.st_uid in (os.geteuid(), owner, 0)

    def _read(self, file: Path) -> bytes:
        """Read a spool file, without following a symbolic link or waiting for a pipe."""
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError("the file is too large")
        return content

    def _set_aside(self, file: Path, problem: Exception) -> None:
        damaged = file.with_suffix(".damaged")
        if os.path.lexists(damaged):
            damaged = file.with_name(f"{file.stem}-{uuid.uuid4().hex[:8]}.damaged")
        try:
            file.rename(damaged)
        except OSError as refusal:
            self._report("spool.refused", file, refusal)
        else:
            log.error("spool.damaged", file=_shown(file), error=type(problem).__name__)

    def _report(self, what: str, file: Path, problem: Exception | None = None) -> None:
        """Log a file that stays in the spool, once in each process."""
        if file not in self._reported:
            self._reported.add(file)
            log.error(what, file=_shown(file), **({"error": type(problem).__name__} if problem else {}))


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


def _shown(file: Path) -> str:
    """Return the name of a file for the log, which may not be UTF-8."""
    return os.fsencode(file.stem).decode("utf-8", "backslashreplace")


def _write(entry: Entry) -> bytes:
    members = {
        "received_at": entry.received_at.isoformat(),
        "key": entry.key,
        "package_id": entry.package_id,
        "unreadable": entry.error,
        "body": base64.b64encode(entry.body).decode(),
    }
    return json.dumps({**members, CHECKSUM: _checksum(members)}).encode()


def _checksum(members: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()


def _parse(spool_id: str, text: bytes) -> Entry:
    spool_id.encode()  # raises `ValueError` for a name that is not UTF-8
    members = json.loads(text)
    if not isinstance(members, dict):
        raise TypeError("not an object")
    checksum = members.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(members):
        raise ValueError("the checksum differs")
    received_at = datetime.fromisoformat(members["received_at"])
    if received_at.tzinfo is None:
        raise ValueError("received_at has no zone")
    if any(not isinstance(members[name], str | None) for name in ("key", "package_id", "unreadable")):
        raise ValueError("not a string")
    return Entry(
        kind=JournalKind.CALLBACK,
        received_at=received_at.astimezone(UTC),
        body=base64.b64decode(members["body"], validate=True),
        key=members["key"],
        package_id=members["package_id"],
        error=members["unreadable"],
        spool_id=spool_id,
    )
