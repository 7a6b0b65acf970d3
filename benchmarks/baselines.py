"""The implementations that the receiver is compared with: a view that does nothing, and a view as in a tutorial."""

import os
from datetime import datetime

from flask import Flask, request
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from benchmarks.callbacks import KEY


class Base(DeclarativeBase):
    """The base class of the tutorial's tables."""


class Package(Base):
    """A package and its status."""

    __tablename__ = "packages"

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    updated_at: Mapped[datetime]


class Event(Base):
    """A callback that the tutorial's app received."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    package_id: Mapped[str] = mapped_column(ForeignKey("packages.id"), index=True)
    name: Mapped[str]
    session_user: Mapped[str | None]
    document_id: Mapped[str | None]
    message: Mapped[str | None]
    created_at: Mapped[datetime]
    package: Mapped[Package] = relationship()


def no_op() -> Flask:
    """Create an app whose view does nothing, to measure the least that Flask, gunicorn and a POST cost."""
    app = Flask(__name__)

    @app.post("/callback")
    def receive():
        return {"callback": 1}

    return app


def tutorial() -> Flask:
    """Create an app that does everything in the request: parse the JSON, store the package and the event, commit."""
    app = Flask(__name__)
    sessions = sessionmaker(_engine(os.environ["DATABASE_URL"]))

    @app.post("/callback")
    def receive():
        if request.headers.get("Authorization") != f"Basic {KEY}":
            return {"error": "unauthorized"}, 401
        callback = request.get_json()
        with sessions() as session:
            return {"event": _store(session, callback)}

    return app


def create_tables(url: str) -> None:
    """Create the tutorial's tables, as its `db.create_all()` would."""
    engine = _engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()


def _store(session: Session, callback: dict[str, str]) -> int:
    created_at = datetime.fromisoformat(callback["createdDate"]).replace(tzinfo=None)
    package = session.execute(select(Package).filter_by(id=callback["packageId"])).scalar_one_or_none()
    if package is None:
        package = Package(id=callback["packageId"], status=callback["name"], updated_at=created_at)
        session.add(package)
    else:
        package.status = callback["name"]
        package.updated_at = created_at
    row = Event(
        package=package,
        name=callback["name"],
        session_user=callback["sessionUser"],
        document_id=callback["documentId"],
        message=callback["message"],
        created_at=created_at,
    )
    session.add(row)
    session.commit()
    return row.id


def _engine(url: str):
    """Create an engine as durable as the service's: the benchmark compares implementations, not settings."""
    engine = create_engine(url, pool_size=10, max_overflow=30)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def settings(connection, _):
            for pragma in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")

    else:

        @event.listens_for(engine, "connect")
        def settings(connection, _):
            connection.execute("SET synchronous_commit = 'on'")
            connection.commit()

    return engine
