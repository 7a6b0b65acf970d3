"""Generated PDFs and zips in place of OneSpan's files: small by default, large on request.

Every file is produced in chunks, so a file of any size needs little memory.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

CHUNK = b"%" * 65_535 + b"\n"  # a PDF comment that fills large files
MEGABYTE = 1 << 20


class File(NamedTuple):
    """A file: its name, its length in bytes, its content in chunks."""

    name: str
    length: int
    chunks: Iterable[bytes]


def pdf(name: str, lines: Sequence[str], *, megabytes: int = 0) -> File:
    """Return a PDF of one page with these lines, filled up to about `megabytes`."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 4 0 R>>>>/Contents 5 0 R>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        _stream(_text(lines)),
    ]
    filling = megabytes * MEGABYTE // len(CHUNK)
    head, tail = _around(objects, filling * len(CHUNK))
    return File(name, len(head) + filling * len(CHUNK) + len(tail), _chunks(head, filling, tail))


def zipped(files: Iterable[File]) -> Iterator[bytes]:
    """Yield an uncompressed zip of these files. The same files give the same bytes."""
    buffer = _Buffer()
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        for file in files:
            with archive.open(ZipInfo(file.name), "w", force_zip64=True) as member:
                for chunk in file.chunks:
                    member.write(chunk)
                    yield buffer.take()
    yield buffer.take()


class _Buffer(io.RawIOBase):
    """A writable stream that keeps the written bytes until `take` returns them."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        """Return True, because the stream is always writable."""
        return True

    def write(self, data: object) -> int:
        """Keep the data until the next call of `take`."""
        self._written.append(bytes(data))  # type: ignore[call-overload]
        return len(self._written[-1])

    def take(self) -> bytes:
        """Return the bytes written since the last call of `take`."""
        data, self._written = b"".join(self._written), []
        return data


def _text(lines: Sequence[str]) -> bytes:
    drawn = b"".join(b"(" + _escaped(line) + b")'\n" for line in lines)
    return b"BT /F1 11 Tf 14 TL 50 790 Td\n" + drawn + b"ET"


def _escaped(line: str) -> bytes:
    raw = line.encode("cp1252", "replace")
    return raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _stream(data: bytes) -> bytes:
    return b"<</Length %d>>stream\n%s\nendstream" % (len(data), data)


def _around(objects: Sequence[bytes], filled: int) -> tuple[bytes, bytes]:
    """Return the parts of a PDF before and after the filling: the objects, and the table of the objects' offsets."""
    head, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(head))
        head += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    tail = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return head, tail % (size, table, size, len(head) + filled)


def _chunks(head: bytes, filling: int, tail: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(filling):
        yield CHUNK
    yield tail
