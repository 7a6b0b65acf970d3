"""Transactions as CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from app.onespan.values import Package
from app.web.dashboard import labels

BEGINNING = "\ufeff"  # by which spreadsheets take it for UTF-8
# Where a cell may begin, be the separator a comma, a semicolon or a tab, and what makes it a formula there; of full
# width, too, which spreadsheets of East Asia take for the same.
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
    "waiting_for": lambda package: "; ".join(labels.name_of(package, one) for one in package.next_signers),
    "needs_attention": lambda package: "; ".join(one.reason for one in package.attention),
    "created_at": lambda package: package.created_at,
    "updated_at": lambda package: package.updated_at,
    "due_at": lambda package: package.due_at,
    "completed_at": lambda package: package.completed_at,
}


def head() -> str:
    """The first line."""
    return BEGINNING + _lines([COLUMNS])


def lines(packages: Iterable[Package]) -> str:
    """A line for each."""
    return _lines([read(package) for read in COLUMNS.values()] for package in packages)


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(told: object) -> object:
    """What a spreadsheet shows as it is: what looks like a formula in a text gets an apostrophe before it."""
    if isinstance(told, datetime):
        return told.isoformat(timespec="seconds").replace("+00:00", "Z")
    return FORMULA.sub(r"\1\2'", told) if isinstance(told, str) else told
