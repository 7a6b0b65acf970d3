"""What else one could have written: a view that does nothing, and a view as a tutorial has it."""

import os
from datetime import datetime

from flask import Flask, request
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from benchmarks.callbacks import KEY


class Base(DeclarativeBase):
    """The tutorial's tables."""


class Package(Base):
    """A package and its status."""

    __tablename__ = "packages"

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    updated_at: Mapped[datetime]


class Event(Base):
    """A callback that came in."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    package_id: Mapped[str] = mapped_column(ForeignKey("packages.id"), index=True)
    name: Mapped[str]
    session_user: Mapped[str | None]
    document_id: Mapped[str | None]
    message: Mapped[str | None]
    created_at: Mapped[datetime]
    package: Mapped[Package] = relationship()


def nothing() -> Flask:
    """The floor: Flask, gunicorn and a POST."""
    app = Flask(__name__)

    @app.post("/callback")
    def receive():
        return {"callback": 1}

    return app


def tutorial() -> Flask:
    """Everything in the request: read the JSON, look the package up, insert or update it, add the event, commit."""
    app = Flask(__name__)
    sessions = sessionmaker(_engine(os.environ["DATABASE_URL"]))

    @app.post("/callback")
    def receive():
        if request.headers.get("Authorization") != f"Basic {KEY}":
            return {"error": "unauthorized"}, 401
        told = request.get_json()
        with sessions() as session:
            return {"event": _take(session, told)}

    return app


def create_tables(url: str) -> None:
    """The tutorial's `db.create_all()`."""
    engine = _engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()


def _take(session: Session, told: dict[str, str]) -> int:
    at = datetime.fromisoformat(told["createdDate"]).replace(tzinfo=None)
    package = session.execute(select(Package).filter_by(id=told["packageId"])).scalar_one_or_none()
    if package is None:
        package = Package(id=told["packageId"], status=told["name"], updated_at=at)
        session.add(package)
    else:
        package.status = told["name"]
        package.updated_at = at
    row = Event(
        package=package,
        name=told["name"],
        session_user=told["sessionUser"],
        document_id=told["documentId"],
        message=told["message"],
        created_at=at,
    )
    session.add(row)
    session.commit()
    return row.id


def _engine(url: str):
    """As durable as the service is: the comparison is of ways, not of settings."""
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
