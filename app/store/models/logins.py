"""The tables of the login: failed attempts and ended sessions."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.models.base import Base, Serial


class LoginAttempt(Base):
    """A login attempt that failed or is being checked now, with the address from which it came."""

    __tablename__ = "logins"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    address: Mapped[str] = mapped_column(String(64))
    tried_at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (Index("ix_logins_address_tried_at", "address", "tried_at"), {"sqlite_autoincrement": True})


class EndedSession(Base):
    """A session that a user ended. The row is kept until the session would have expired."""

    __tablename__ = "ended_sessions"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    until: Mapped[datetime]
