"""However many ask something, a callback finds a thread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Response

from app import EXTENSION, create_app
from app.handling import Handlers
from config import Settings
from tests.conftest import KEY, TOKEN, on_sqlite
from tests.support.processes import callback

THREADS = 8


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A process with few threads."""
    return settings.model_copy(update={"web_threads": THREADS})


@on_sqlite
def test_others_have_most_places_and_callbacks_the_rest(app, service, monkeypatch):
    """A database that hangs holds those who read; who comes after them hears so, and the door is open."""
    hang, reading = threading.Event(), threading.Semaphore(0)
    read = service.database.read

    def hanging(**limits: Any) -> Any:
        reading.release()
        hang.wait(30)
        return read(**limits)

    def ask(path: str) -> Any:
        return app.test_client().get(path, headers={"Authorization": f"Bearer {TOKEN}"})

    monkeypatch.setattr(service.database, "read", hanging)
    with ThreadPoolExecutor(THREADS) as pool:
        held = [pool.submit(ask, "/api/packages") for _ in range(THREADS - 2)]
        try:
            assert all(reading.acquire(timeout=10) for _ in held)
            refused = [ask(path) for path in ("/api/packages", "/readyz", "/metrics")]
            body = callback("PACKAGE_COMPLETE", package="pkg-1")
            taken = app.test_client().post("/onespan/callback", data=body, headers={"Authorization": f"Basic {KEY}"})
            alive = ask("/healthz")
        finally:
            hang.set()
        assert {one.result(10).status_code for one in held} == {200}

    assert {one.status_code for one in refused} == {503}
    assert {one.json["error"]["code"] for one in refused} == {"busy"}
    assert (taken.status_code, taken.json) == (200, {"callback": 1})
    assert alive.status_code == 200, "it is busy, not dead"
    assert [ask("/api/packages").status_code for _ in range(3 * THREADS)] == [200] * 3 * THREADS


@on_sqlite
def test_who_takes_long_to_read_keeps_a_place(settings):
    """What is written as it is read holds its thread until the end; only callbacks may have the last ones."""
    app = create_app(settings, handlers=Handlers())
    app.add_url_rule("/long", view_func=lambda: Response(iter([b"one", b"two"])))
    client = app.test_client()

    held = [client.get("/long") for _ in range(THREADS - 2)]

    assert [one.status_code for one in held] == [200] * (THREADS - 2)
    assert client.get("/long").status_code == 503
    body = callback("PACKAGE_COMPLETE", package="pkg-1")
    assert client.post("/onespan/callback", data=body, headers={"Authorization": f"Basic {KEY}"}).status_code == 200
    for one in held:
        one.close()
    assert client.get("/long").status_code == 200
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_a_place_is_given_back_whatever_becomes_of_the_request(settings):
    """Refused, failed or not found: none of them keeps it."""
    app = create_app(settings, handlers=Handlers())

    @app.get("/fails")
    def fails() -> None:
        raise ZeroDivisionError

    client = app.test_client()
    app.testing = False
    for _ in range(3 * THREADS):
        assert client.get("/fails").status_code == 500
        assert client.get("/nowhere").status_code == 404
        assert client.get("/api/packages").status_code == 401
        with client.get("/static/app.css") as file:
            assert file.status_code == 200
    app.extensions[EXTENSION].database.close()
