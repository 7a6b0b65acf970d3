"""The CSV export of transactions."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from app.onespan.values import Package
from app.web.dashboard import labels

BOM = "\ufeff"  # a byte order mark, so that spreadsheets read the file as UTF-8
# The pattern matches the place where a formula begins a cell. A spreadsheet that separates cells by semicolons or tabs
# can see such a cell within a text. Spreadsheets in East Asia also accept full-width characters in formulas.
FORMULA = re.compile(r'(^|[;\t\r\n])([\s"]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])')
COLUMNS: Mapping[str, Callable[[Package], object]] = {
    "id": lambda package: package.id,
    "name": lambda package: package.name,
    "type": lambda package: package.type,
    "status": lambda package: package.status,
    "status_at": lambda package: package.status_at,
    "trashed": lambda package: package.trashed,
    "deleted": lambda package: package.deleted,
    "sender": lambda package: package.sender.name,
    "sender_email": lambda package: package.sender.email,
    "signers_signed": lambda package: package.signers_completed,
    "signers_total": lambda package: package.signers_total,
    "waiting_for": lambda package: "; ".join(labels.name_of(package, signer) for signer in package.next_signers),
    "needs_attention": lambda package: "; ".join(issue.reason for issue in package.attention),
    "unverified_since": lambda package: package.unverified.since if package.unverified else None,
    "unverified_reason": lambda package: package.unverified.reason if package.unverified else None,
    "created_at": lambda package: package.created_at,
    "updated_at": lambda package: package.updated_at,
    "due_at": lambda package: package.due_at,
    "completed_at": lambda package: package.completed_at,
}


def header() -> str:
    """Return the header line of the CSV file."""
    return BOM + _csv([COLUMNS])


def rows(packages: Iterable[Package]) -> str:
    """Return one CSV line per package."""
    return _csv([read(package) for read in COLUMNS.values()] for package in packages)


def _csv(lines: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(map(_cell, line) for line in lines)
    return text.getvalue()


def _cell(value: object) -> object:
    """Return the value of a CSV cell. A text that looks like a formula gets an apostrophe before the formula."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return FORMULA.sub(r"\1\2'", value) if isinstance(value, str) else value
