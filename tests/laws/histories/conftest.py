"""Fixtures for histories of one package."""

import pytest

from tests.support.histories import History
from tests.support.simulation import with_onespan


@pytest.fixture
def settings(settings):
    """Settings with the address of OneSpan."""
    return with_onespan(settings)


@pytest.fixture
def history(service, client, post, handlers, clock) -> History:
    """The history of one package, at noon."""
    return History(service, client, post, handlers=handlers, clock=clock)
