"""The probes of operators and load balancers: `/healthz`, `/readyz` and `/metrics`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import make_url, text

from app import EXTENSION, create_app
from app.work.dispatch import Handlers
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
    """Close its database connections."""
    client.application.extensions[EXTENSION].database.close()


def test_alive_without_a_database(tmp_path):
    """A restart of the process would not bring the database back."""
    client = client_with(tmp_path, database_url="postgresql://user@127.0.0.1:1/nothing")

    answer = client.get("/healthz")

    assert (answer.status_code, answer.json) == (200, {"status": "alive"})
    close(client)


def test_ready_when_callbacks_would_be_kept(client):
    """A note says that OneSpan is not connected."""
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["reasons"]) == ("ready", [])
    assert any("ONESPAN_URL" in note for note in answer.json["notes"])


def test_no_note_about_onespan_when_it_is_configured(database_url, tmp_path):
    """The note disappears with the setting."""
    client = client_with(
        tmp_path, database_url=database_url, onespan_url="https://sandbox.esignlive.com", onespan_api_key="secret"
    )

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert not any("ONESPAN_URL" in note for note in answer.json["notes"])
    close(client)


def test_not_ready_without_a_callback_key(database_url, tmp_path):
    """A receiver that refuses every callback is not ready."""
    client = client_with(tmp_path, database_url=database_url, onespan_callback_keys="")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json["status"] == "not ready"
    (reason,) = answer.json["reasons"]
    assert "ONESPAN_CALLBACK_KEYS" in reason
    close(client)


def test_not_ready_before_the_migration(tmp_path):
    """The reason names the command to run."""
    client = client_with(tmp_path, database_url=f"sqlite:///{tmp_path}/empty.db")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    (reason,) = answer.json["reasons"]
    assert "flask db upgrade" in reason
    close(client)


def test_not_ready_without_a_database(postgresql, tmp_path):
    """Without the server or without the database, all reasons are listed at once."""
    missing = make_url(postgresql).set(database="missing").render_as_string(hide_password=False)
    for url in ("postgresql://user:pass-canary@127.0.0.1:1/nothing", missing):
        client = client_with(tmp_path, database_url=url, onespan_callback_keys="")

        answer = client.get("/readyz")

        assert answer.status_code == 503
        assert len(answer.json["reasons"]) == 2
        assert "DATABASE_URL" in answer.json["reasons"][0]
        assert "pass-canary" not in answer.text
        close(client)


def test_ready_again_with_the_database(service, client, tmp_path):
    """Each request runs the checks again."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE alembic_version RENAME TO hidden"))
    without = client.get("/readyz")
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO alembic_version"))

    assert without.status_code == 503
    assert client.get("/readyz").status_code == 200


def test_not_ready_while_a_migration_is_missing(service, client):
    """Tables of an older version are not enough."""
    with service.database.write() as connection:
        connection.execute(text("DELETE FROM alembic_version"))

    assert client.get("/readyz").status_code == 503


def test_ready_with_a_newer_database(service, client):
    """During an upgrade, the migration runs before the last old process ends."""
    with service.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of-tomorrow'"))

    assert client.get("/readyz").status_code == 200


def test_note_counts_spooled_callbacks(service, client, post):
    """They are kept, but not processed yet."""
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
    """Load balancers have no secrets."""
    assert client.head(path).status_code == 200
    refused = client.post(path)
    assert (refused.status_code, refused.json["error"]["code"]) == (405, "method_not_allowed")


def test_note_on_an_unusable_spool(database_url, tmp_path):
    """The note comes before the spool is needed, for instance with a file in the folder's place."""
    (tmp_path / "spool").write_text("a file")
    client = client_with(tmp_path, database_url=database_url)

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert any("SPOOL_DIR is not writable" in note for note in answer.json["notes"])
    close(client)


@on_postgresql
def test_note_on_a_clock_difference(client, clock):
    """Each machine measures leases with its own clock."""
    clock.now = datetime.now(UTC) + timedelta(seconds=61)
    late = client.get("/readyz").json["notes"]
    clock.now = datetime.now(UTC)

    assert any("clock is +61 s" in note or "clock is +60 s" in note for note in late)
    assert not any("clock" in note for note in client.get("/readyz").json["notes"])


def test_metrics_without_a_database(tmp_path):
    """The spool's metric is there when it matters most."""
    client = client_with(tmp_path, database_url="postgresql://user@127.0.0.1:1/nothing")
    client.post("/onespan/callback", data=BODY, headers={"Authorization": f"Basic {KEY}"})

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert "callbacks_spooled 1.0" in answer.text
    assert "database_up 0.0" in answer.text
    assert "dispatches" not in answer.text
    close(client)


def test_api_before_the_migration(database_url, service, client):
    """Its message names the command to run, as `/readyz` does."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE changes RENAME TO hidden"))
        connection.execute(text("DELETE FROM alembic_version"))

    answer = client.get("/api/changes", headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 503
    assert answer.json["error"]["code"] in ("database_behind", "database_unavailable")
