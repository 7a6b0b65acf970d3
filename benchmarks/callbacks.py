"""Callbacks to measure with: the lives of packages, as OneSpan tells them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

KEY = "the-key-of-the-benchmarks"
LIFE = (
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
SIDE_BY_SIDE = 50  # packages whose lives are told at the same time
START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def body(name: str, who: str, document: str | None, *, package: str, at: datetime, message: str | None = None) -> bytes:
    """One callback's body, some 250 bytes, with the members and the order OneSpan has."""
    return json.dumps(
        {
            "@class": "com.silanis.esl.packages.event.ESLProcessEvent",
            "name": name,
            "sessionUser": PEOPLE[who],
            "packageId": package,
            "message": message,
            "documentId": document,
            "createdDate": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        },
        separators=(",", ":"),
    ).encode()


def lives(many: int) -> Iterator[tuple[str, bytes]]:
    """(package id, body) of `many` distinct callbacks: packages live side by side, each in order."""
    for number in range(many):
        crowd, place = divmod(number, SIDE_BY_SIDE * len(LIFE))
        step, one = divmod(place, SIDE_BY_SIDE)
        package = f"{crowd * SIDE_BY_SIDE + one:027d}="
        yield package, body(*LIFE[step], package=package, at=START + timedelta(milliseconds=number))
