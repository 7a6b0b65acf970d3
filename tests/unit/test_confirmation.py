"""Which found event a late callback confirms."""

from datetime import timedelta

import pytest

from app.onespan.callbacks import parse_callback
from app.onespan.confirmation import FoundEvent, confirmed_event
from tests.conftest import NOON, in_all, onespan_time


def sent(number, *, at, after, until):
    """A found PACKAGE_ACTIVATE that happened in (`after`, `until`], in seconds after noon."""
    begins = None if after is None else NOON + timedelta(seconds=after)
    at, until = (NOON + timedelta(seconds=seconds) for seconds in (at, until))
    return FoundEvent(number, "pkg-1", "PACKAGE_ACTIVATE", None, None, None, {}, at, begins, until)


@pytest.mark.parametrize(
    ("seconds", "number"), [(20, 1), (22, 1), *in_all((26, 2), (28, 2), (29, 2), (200, 2)), (1200, None)]
)
@pytest.mark.parametrize("is_later_first", [False, True])
def test_the_later_of_two_found_events_is_meant_once_it_is_possible(seconds, number, is_later_first):
    """A package was sent, declined, sent again and taken back; both sendings were found, and their callbacks are late.

    The first snapshot showed it sent at 28 s; the decline at 25 s proves that the later sending came after it.
    """
    found = [sent(1, at=22, after=None, until=28), sent(2, at=208, after=25, until=208)]
    date = NOON + timedelta(seconds=seconds)
    body = f'{{"name": "PACKAGE_ACTIVATE", "packageId": "pkg-1", "createdDate": "{onespan_time(date)}"}}'
    callback = parse_callback(body.encode())

    confirmed = confirmed_event(callback, found[::-1] if is_later_first else found, state=None, happened_at=date)

    assert (confirmed.id if confirmed else None) == number
