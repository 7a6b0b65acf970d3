"""The base class and column types that all tables share."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase

from app.store.db import UTCDateTime

# SQLite generates ids only for primary keys of type INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")
# OneSpan's ids are case-sensitive. SQLite compares bytes by default, PostgreSQL with the collation "C".
Id = String(256).with_variant(String(256, collation="C"), "postgresql")
# `Label` is the type of texts that both databases compare byte by byte.
Label = Text().with_variant(Text(collation="C"), "postgresql")


class Base(DeclarativeBase):
    """Base class of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UTCDateTime,
        float: Double,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        bool: Boolean(create_constraint=False),
    }
