"""Save files durably: each appears under its name only when it is complete, and never outside its folder."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

FOLDER = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)  # flags that open a folder, even one without read access
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


@contextmanager
def durable_file(to: Path) -> Iterator[IO[bytes]]:
    """Open a new private file that replaces `to`, even a symbolic link, once it is complete and synced to disk.

    Missing folders are created. Raises `OSError` if a folder is a symbolic link in a folder that the service may write
    to, or if the path has a `..`: the file could end up outside its folder.
    """
    if ".." in to.parts:
        raise OSError(errno.EINVAL, "a path with `..` is refused: write the whole path", str(to))
    folder = _open_folder(to.parent)
    unfinished = f".{secrets.token_hex(8)}.part"
    try:
        with os.fdopen(os.open(unfinished, NEW_FILE, PRIVATE_FILE, dir_fd=folder), "wb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(unfinished, to.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(unfinished, dir_fd=folder)
                raise
        _sync(folder)
    finally:
        os.close(folder)


def _open_folder(path: Path) -> int:
    folder = os.open(path.anchor or ".", FOLDER)
    for name in path.relative_to(path.anchor).parts:
        try:
            inner = _enter(folder, name, path)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _enter(folder: int, name: str, path: Path) -> int:
    """Open a folder in a folder, and create it if it is missing."""
    own = os.access(".", os.W_OK, dir_fd=folder, effective_ids=True)
    flags = FOLDER | os.O_NOFOLLOW * own
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(name, PRIVATE_FOLDER, dir_fd=folder)
        _sync(folder)
        return os.open(name, flags, dir_fd=folder)
    except NotADirectoryError:
        raise OSError(errno.ENOTDIR, f"{name!r} is not a folder; a symbolic link is not followed", str(path)) from None


def _sync(folder: int) -> None:
    """Make the names in a folder durable."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
