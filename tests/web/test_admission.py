"""Admission control: a callback gets a thread, however many other requests arrive."""

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
    """Settings of a service with eight web threads."""
    return settings.model_copy(update={"web_threads": THREADS})


@on_sqlite
def test_callbacks_are_accepted_while_readers_hang(app, service, monkeypatch):
    """If reads hang in the database, further reads get 503, but callbacks are still accepted."""
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
            refused = [ask(path) for path in ("/api/packages", "/metrics")]
            body = callback("PACKAGE_COMPLETE", package="pkg-1")
            accepted = app.test_client().post("/onespan/callback", data=body, headers={"Authorization": f"Basic {KEY}"})
            alive = ask("/healthz")
        finally:
            hang.set()
        assert {answer.result(10).status_code for answer in held} == {200}

    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json["error"]["code"] for answer in refused} == {"busy"}
    assert (accepted.status_code, accepted.json) == (200, {"callback": 1})
    assert alive.status_code == 200, "the process is busy, not dead"
    assert [ask("/api/packages").status_code for _ in range(3 * THREADS)] == [200] * 3 * THREADS


@on_sqlite
def test_streamed_response_keeps_its_slot_until_its_end(settings):
    """A client that reads a response slowly holds a thread, but the threads reserved for callbacks stay free."""
    app = create_app(settings, handlers=Handlers())
    app.add_url_rule("/long", view_func=lambda: Response(iter([b"first", b"second"])))
    client = app.test_client()

    held = [client.get("/long") for _ in range(THREADS - 2)]

    assert [answer.status_code for answer in held] == [200] * (THREADS - 2)
    assert client.get("/long").status_code == 503
    body = callback("PACKAGE_COMPLETE", package="pkg-1")
    assert client.post("/onespan/callback", data=body, headers={"Authorization": f"Basic {KEY}"}).status_code == 200
    for answer in held:
        answer.close()
    assert client.get("/long").status_code == 200
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_every_request_releases_its_slot(settings):
    """Every request frees its thread slot, even if the request fails, is refused or has an unknown path."""
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
