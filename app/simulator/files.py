"""Files as OneSpan gives them out: small PDFs of our own making, and zips of them; large ones where asked for.

Everything comes in parts, so that a file of any size needs little memory.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

PART = b"%" * 65_535 + b"\n"  # what large files are filled with
MEGABYTE = 1 << 20


class Paper(NamedTuple):
    """A file: its name, its length in bytes, its bytes in parts."""

    name: str
    length: int
    parts: Iterable[bytes]


def pdf(name: str, lines: Sequence[str], *, megabytes: int = 0) -> Paper:
    """A PDF of one page that says these lines, and is so large at least."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 4 0 R>>>>/Contents 5 0 R>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        _stream(_text(lines)),
    ]
    filling = megabytes * MEGABYTE // len(PART)
    head, tail = _around(objects, filling * len(PART))
    return Paper(name, len(head) + filling * len(PART) + len(tail), _parts(head, filling, tail))


def zipped(papers: Iterable[Paper]) -> Iterator[bytes]:
    """A zip of these, uncompressed; the same papers make the same bytes."""
    pipe = _Pipe()
    with ZipFile(pipe, "w", ZIP_STORED) as archive:
        for paper in papers:
            with archive.open(ZipInfo(paper.name), "w", force_zip64=True) as file:
                for part in paper.parts:
                    file.write(part)
                    yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """Takes what is written, until it is taken away."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: object) -> int:
        """Keep it."""
        self._written.append(bytes(data))  # type: ignore[call-overload]
        return len(self._written[-1])

    def take(self) -> bytes:
        """All that was written since."""
        data, self._written = b"".join(self._written), []
        return data


def _text(lines: Sequence[str]) -> bytes:
    shown = b"".join(b"(" + _escaped(line) + b")'\n" for line in lines)
    return b"BT /F1 11 Tf 14 TL 50 790 Td\n" + shown + b"ET"


def _escaped(line: str) -> bytes:
    raw = line.encode("cp1252", "replace")
    return raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _stream(data: bytes) -> bytes:
    return b"<</Length %d>>stream\n%s\nendstream" % (len(data), data)


def _around(objects: Sequence[bytes], filled: int) -> tuple[bytes, bytes]:
    """What stands before the filling, which is a comment, and after it: the table of where each object begins."""
    head, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, one in enumerate(objects, 1):
        offsets.append(len(head))
        head += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    tail = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return head, tail % (size, table, size, len(head) + filled)


def _parts(head: bytes, filling: int, tail: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(filling):
        yield PART
    yield tail
