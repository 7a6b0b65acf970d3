"""Lists in the order of their ids, the newest first, narrowed in several ways at once, that never take long.

Each way to narrow a list has an index that tells its ids in order. The way whose next `REACH` ids lead furthest back
is gone, and the others are asked of each id. Where that fills no page it is a short one, and the next goes on from
there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, select
from sqlalchemy.engine import Connection

REACH = 500
COUNTED = 500  # where counting ends


@dataclass(frozen=True, slots=True)
class Way:
    """A way to narrow a list: where an index has the ids, in order, of all that fit; and the condition on one row.

    Where there is no such index, `where` is None, and all ids are gone through.
    """

    ids: ColumnElement[int]
    where: ColumnElement[bool] | None = None
    fits: ColumnElement[bool] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether an index has those that fit, and no others."""
        return self.where is not None or self.fits is None

    def next(self, *, before: int | None) -> Select[int]:
        """Its ids before this one, the newest first."""
        found = select(self.ids.label("id")).distinct().order_by(self.ids.desc())
        if self.where is not None:
            found = found.where(self.where)
        return found if before is None else found.where(self.ids < before)


def newest(
    connection: Connection, of: ColumnElement[int], ways: Sequence[Way], *, limit: int, before: int | None
) -> tuple[list[int], int | None]:
    """The next ids that fit all these ways, up to `limit`; and from which on there may be more, None at the end."""
    if all(way.is_exact for way in ways) and len(ways) < 2:  # noqa: PLR2004  (there is nothing to judge)
        (way,) = ways or [Way(of)]
        ids, end = list(connection.execute(way.next(before=before).limit(limit + 1)).scalars()), None
    else:
        end, lead = min(((_reached(connection, way, before), way) for way in ways), key=lambda one: one[0] or 0)
        others = [way for way in ways if way is not lead or way.where is None]
        ids = list(connection.execute(_judged(of, lead, others, before=before).limit(limit + 1)).scalars())
    return ids[:limit], ids[limit - 1] if len(ids) > limit else end


def _judged(of: ColumnElement[int], lead: Way, ways: Sequence[Way], *, before: int | None) -> Select[int]:
    """Those of the next ids of one way that fit these as well."""
    led = lead.next(before=before).limit(REACH).subquery("led")
    conditions = [way.fits for way in ways if way.fits is not None]
    return select(led.c.id).join_from(led, of.table, of == led.c.id).where(*conditions).order_by(led.c.id.desc())


def counts(*found: Select[*tuple[Any, ...]]) -> Select[*tuple[int, ...]]:
    """What `counted` executes to count the rows of each of these."""
    rows = (one.limit(bindparam("cap", type_=Integer)).subquery() for one in found)
    return select(*(select(func.count()).select_from(some).scalar_subquery() for some in rows))


def counted(connection: Connection, statement: Select[*tuple[int, ...]], **parameters: object) -> Sequence[int]:
    """How many rows there are of each of `counts`, up to `COUNTED`."""
    return connection.execute(statement, {"cap": COUNTED, **parameters}).one()


def _reached(connection: Connection, way: Way, before: int | None) -> int | None:
    """How far back the next ids of a way reach; None: to its end."""
    return connection.scalar(way.next(before=before).offset(REACH - 1).limit(1))
