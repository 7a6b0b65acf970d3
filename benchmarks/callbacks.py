"""Callbacks for the benchmarks: the events of whole package lifecycles, as OneSpan sends them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

KEY = "the-key-of-the-benchmarks"
LIFECYCLE = (
    ("PACKAGE_CREATE", "cleo", None),
    ("PACKAGE_ACTIVATE", "cleo", None),
    ("DOCUMENT_SIGNED", "ada", "default-consent"),
    ("DOCUMENT_SIGNED", "ada", "contract"),
    ("SIGNER_COMPLETE", "ada", None),
    ("DOCUMENT_SIGNED", "ben", "default-consent"),
    ("DOCUMENT_SIGNED", "ben", "contract"),
    ("SIGNER_COMPLETE", "ben", None),
    ("PACKAGE_COMPLETE", "ben", None),
)
PEOPLE = {
    "cleo": "30ba8506-9819-46aa-a22d-c0114ba34cd0",
    "ada": "8f1f4b1e-52f9-4bd3-9f9d-6d7f2f1f5a11",
    "ben": "c2a1d2b7-0a53-4e0e-8f1b-0f6a7c9d3e22",
}
CONCURRENT_PACKAGES = 50  # packages whose callbacks are interleaved
START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def body(
    name: str, person: str, document: str | None, *, package: str, at: datetime, message: str | None = None
) -> bytes:
    """Encode one callback: about 250 bytes, with OneSpan's members in OneSpan's order."""
    return json.dumps(
        {
            "@class": "com.silanis.esl.packages.event.ESLProcessEvent",
            "name": name,
            "sessionUser": PEOPLE[person],
            "packageId": package,
            "message": message,
            "documentId": document,
            "createdDate": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        },
        separators=(",", ":"),
    ).encode()


def generate(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield (package id, body) of `count` callbacks. Packages alternate; the callbacks of a package are in order."""
    for number in range(count):
        group, offset = divmod(number, CONCURRENT_PACKAGES * len(LIFECYCLE))
        step, member = divmod(offset, CONCURRENT_PACKAGES)
        package = f"{group * CONCURRENT_PACKAGES + member:027d}="
        yield package, body(*LIFECYCLE[step], package=package, at=START + timedelta(milliseconds=number))
