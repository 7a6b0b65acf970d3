"""The simulator: who may ask it, and what they see."""

import pytest

from tests.onespan_shapes import ERROR_SHAPE
from tests.simulated import API_KEY, account_of, client_of


@pytest.mark.parametrize("authorization", [None, "", "Basic", "Basic wrong", f"Bearer {API_KEY}", API_KEY])
@pytest.mark.parametrize("path", ["/api/packages", "/api/packages/none", "/api/packages/none/signingStatus", "/other"])
def test_rest_answers_nobody_without_the_api_key(authorization, path):
    """Not even that there is nothing."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer = client_of(account_of([])).get(path, headers=headers)

    assert answer.status_code == 401
    ERROR_SHAPE.validate(answer.json)
