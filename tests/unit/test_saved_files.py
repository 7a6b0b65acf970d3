"""Tests of saved files: complete, durable, private, and never outside their folder."""

import os
import threading
from pathlib import Path

import pytest

from app.onespan.saved_files import durable_file


def save(to: Path, content: bytes = b"new") -> None:
    """Save a file."""
    with durable_file(to) as file:
        file.write(content)


def test_file_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """New folders are synced, then the file, then it is renamed, then its folder is synced."""
    steps: list[str] = []
    sync, replace = os.fsync, os.replace

    def record_sync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        steps.append(f"sync {path.suffix or path.relative_to(tmp_path)}")
        sync(handle)

    def record_rename(*arguments: str, **folders: int) -> None:
        steps.append(f"rename to {arguments[1]}")
        replace(*arguments, **folders)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_rename)
    save(tmp_path / "a" / "b" / "contract.pdf")

    assert steps == ["sync .", "sync a", "sync .part", "rename to contract.pdf", "sync a/b"]


def test_file_and_new_folders_are_private(tmp_path):
    """Other users can read neither a saved document nor the folder that was created for it."""
    old = os.umask(0)
    try:
        save(tmp_path / "new" / "contract.pdf")
    finally:
        os.umask(old)

    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "new", tmp_path / "new" / "contract.pdf")]
    assert modes == [0o700, 0o600]


def test_failed_write_leaves_the_old_file(tmp_path):
    """A file that could not be written to its end leaves the old file, and nothing else."""
    (tmp_path / "contract.pdf").write_bytes(b"old")

    def write_half() -> None:
        with durable_file(tmp_path / "contract.pdf") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"contract.pdf": b"old"}


def test_threads_that_save_one_file_do_not_mix(tmp_path):
    """Two threads that save the same file at once both write a whole file; one of them remains."""
    both = threading.Barrier(2)

    def write(letter: bytes) -> None:
        with durable_file(tmp_path / "contract.pdf") as file:
            both.wait(20)
            file.write(letter * 100_000)
            both.wait(20)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [path.read_bytes() in (b"a" * 100_000, b"b" * 100_000) for path in tmp_path.iterdir()] == [True]


def test_link_in_place_of_the_file_is_replaced(tmp_path):
    """A symbolic link with the file's name is replaced; what it leads to stays as it is."""
    (tmp_path / "secret").write_bytes(b"old")
    (tmp_path / "contract.pdf").symlink_to(tmp_path / "secret")

    save(tmp_path / "contract.pdf")

    assert not (tmp_path / "contract.pdf").is_symlink()
    assert (tmp_path / "secret").read_bytes() == b"old"


@pytest.mark.parametrize("path", ["link/contract.pdf", "link/new/contract.pdf", "dangling/contract.pdf"])
def test_link_in_place_of_a_folder_is_refused(tmp_path, path):
    """A symbolic link among the folders of a file is not followed, and the error says so."""
    outside = tmp_path / "outside"
    outside.mkdir()
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "link").symlink_to(outside)
    (documents / "dangling").symlink_to(outside / "new")

    with pytest.raises(OSError, match="symbolic link is not followed"):
        save(documents / path)

    assert list(outside.iterdir()) == []


def test_link_that_only_the_operator_can_make_is_followed(tmp_path, monkeypatch):
    """A link in a folder that the service cannot write to, such as /var/lib, is the operator's, and is followed."""
    (tmp_path / "mounted").mkdir()
    (tmp_path / "documents").symlink_to(tmp_path / "mounted")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may write anywhere

    save(tmp_path / "documents" / "contract.pdf")

    assert (tmp_path / "mounted" / "contract.pdf").read_bytes() == b"new"


@pytest.mark.parametrize("path", ["documents/../contract.pdf", "documents/a/../../../b", "documents/.."])
def test_path_with_dots_is_refused(tmp_path, path):
    """A path with `..`, as of an id in a file name, is refused."""
    with pytest.raises(OSError, match="`\\.\\.` is refused"):
        save(tmp_path / path)


def test_relative_path_begins_at_the_working_directory(tmp_path, monkeypatch):
    """A relative path is relative to the working directory."""
    monkeypatch.chdir(tmp_path)

    save(Path("contract.pdf"))
    save(Path("signed/contract.pdf"))

    assert (tmp_path / "contract.pdf").exists()
    assert (tmp_path / "signed" / "contract.pdf").exists()
