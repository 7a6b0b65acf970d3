"""The probes of operators and load balancers: `/healthz`, `/readyz` and `/metrics`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import make_url, text

from app import EXTENSION, create_app
from app.handling import Handlers
from config import Settings
from tests.conftest import KEY, TOKEN, on_both, on_postgresql
from tests.support.processes import callback

pytestmark = on_both

BODY = callback("PACKAGE_COMPLETE", package="pkg-1")


def client_with(tmp_path: Path, **given: object) -> FlaskClient:
    """Return a client of a service with these settings."""
    settings = Settings(**{"spool_dir": tmp_path / "spool", "onespan_callback_keys": KEY, **given})
    return create_app(settings, handlers=Handlers()).test_client()


def close(client: FlaskClient) -> None:
    """Close the database connections of the client's app."""
    client.application.extensions[EXTENSION].database.close()


def test_alive_without_a_database(tmp_path):
    """A process without a database is alive, because a restart would not bring the database back."""
    client = client_with(tmp_path, database_url="postgresql://user@127.0.0.1:1/nothing")

    answer = client.get("/healthz")

    assert (answer.status_code, answer.json) == (200, {"status": "alive"})
    close(client)


def test_ready_when_callbacks_would_be_kept(client):
    """A service that can keep callbacks is ready, and a note says that OneSpan is not connected."""
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["reasons"]) == ("ready", [])
    assert any("ONESPAN_URL" in note for note in answer.json["notes"])


def test_no_note_about_onespan_when_it_is_configured(database_url, tmp_path):
    """The note that OneSpan is not connected disappears when `ONESPAN_URL` is set."""
    client = client_with(
        tmp_path, database_url=database_url, onespan_url="https://sandbox.esignlive.com", onespan_api_key="secret"
    )

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert not any("ONESPAN_URL" in note for note in answer.json["notes"])
    close(client)


def test_not_ready_without_a_callback_key(database_url, tmp_path):
    """A receiver without a callback key is not ready, because it refuses every callback."""
    client = client_with(tmp_path, database_url=database_url, onespan_callback_keys="")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json["status"] == "not ready"
    (reason,) = answer.json["reasons"]
    assert "ONESPAN_CALLBACK_KEYS" in reason
    close(client)


def test_not_ready_without_a_database(postgresql, tmp_path):
    """If the database or its server is missing, and the spool too, `/readyz` lists all reasons at once."""
    (tmp_path / "spool").write_text("a file")
    missing = make_url(postgresql).set(database="missing").render_as_string(hide_password=False)
    for url in ("postgresql://user:pass-canary@127.0.0.1:1/nothing", missing):
        client = client_with(tmp_path, database_url=url, onespan_callback_keys="")

        answer = client.get("/readyz")

        assert answer.status_code == 503
        assert len(answer.json["reasons"]) == 3
        assert "DATABASE_URL" in answer.json["reasons"][1]
        assert "pass-canary" not in answer.text
        close(client)


def test_no_note_with_a_newer_database(service, client):
    """A newer database is no problem, because an upgrade migrates before the last old process ends."""
    with service.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of-tomorrow'"))

    assert "flask db upgrade" not in client.get("/readyz").text


def test_note_counts_spooled_callbacks(service, client, post):
    """A note counts the callbacks in the spool, which are kept but not processed yet."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME TO hidden"))
    post({"name": "PACKAGE_CREATE", "packageId": "pkg-1"})
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO journal"))

    waiting = client.get("/readyz").json["notes"]
    service.intake.drain()

    assert "Callbacks waiting in the spool for the database: 1." in waiting
    assert not any("spool" in note for note in client.get("/readyz").json["notes"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_key_and_accept_get_and_head_only(client, path):
    """The probes need no key, because load balancers have no secrets, and accept GET and HEAD only."""
    assert client.head(path).status_code == 200
    refused = client.post(path)
    assert (refused.status_code, refused.json["error"]["code"]) == (405, "method_not_allowed")


def test_note_on_an_unusable_spool(database_url, tmp_path):
    """A note reports an unusable spool before it is needed, for instance if a file is in the folder's place."""
    (tmp_path / "spool").write_text("a file")
    client = client_with(tmp_path, database_url=database_url)

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert any("SPOOL_DIR is not writable" in note for note in answer.json["notes"])
    close(client)


@on_postgresql
def test_note_on_a_clock_difference(client, clock):
    """A note reports a wrong clock, because each machine measures leases with its own clock."""
    clock.now = datetime.now(UTC) + timedelta(seconds=61)
    late = client.get("/readyz").json["notes"]
    clock.now = datetime.now(UTC)

    assert any("clock is +61 s" in note or "clock is +60 s" in note for note in late)
    assert not any("clock" in note for note in client.get("/readyz").json["notes"])


def test_metrics_without_a_database(tmp_path):
    """Without a database, `/metrics` still gives the number of callbacks in the spool."""
    client = client_with(tmp_path, database_url="postgresql://user@127.0.0.1:1/nothing")
    client.post("/onespan/callback", data=BODY, headers={"Authorization": f"Basic {KEY}"})

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert "callbacks_spooled 1.0" in answer.text
    assert "database_up 0.0" in answer.text
    assert "dispatches" not in answer.text
    close(client)


def test_api_before_the_migration(database_url, service, client):
    """An API error before the migration names the command to run, as `/readyz` does."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE changes RENAME TO hidden"))
        connection.execute(text("DELETE FROM alembic_version"))

    answer = client.get("/api/changes", headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 503
    assert answer.json["error"]["code"] in ("database_behind", "database_unavailable")
