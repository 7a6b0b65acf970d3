"""A walk along the packages in one of their orders, that never takes long.

Each shelf has its packages in every order, so a list is a merge of the shelves it is made of. Where something narrows
it, rows are judged as the walk comes by them, in `STRIDES`. Where the next would not fill the page if it went on like
this, an index is asked for all that fit, and they are sorted, if they are no more than `FEW`. Where they are more, or
must be, for so many of the first rows fit, the walk goes on; if the page is not full in the end it is a short one, and
the next goes on from where the walk stopped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.engine import Connection

from app.store.db import in_time
from app.store.queries.cursors import Place
from app.store.queries.merge import KNOWN, UNKNOWN, Way, candidates, judged
from app.store.queries.narrowing import Narrowing, limits, narrowings, parameters, shelves
from app.store.queries.shown import PackageFilter

STRIDES = (250, 500)
FEW = {"postgresql": 1500, "sqlite": 1000}  # what takes each as long
SURELY_MORE = 2  # an index is not asked where more than so many times as many fit, if all rows are like the first ones
PATIENCE = timedelta(milliseconds=16)  # an index that does not know by then knows of many; half where there is some
# What packages can be sorted by, and the column that has it. Whichever way, those that lack it come last.
SORTS = {
    "updated_at": "updated_at",
    "created_at": "created_at",
    "due_at": "due_at",
    "status_at": "status_at",
    "name": "title",
    "id": "id",
}
SEEN = len(("id", "place", "number", "fits"))  # after these a row says how many fit what narrows
Found = tuple[list[Place], Place | None]
AnyRow = Row[*tuple[Any, ...]]


def walk(connection: Connection, wanted: PackageFilter, *, sort: str, limit: int, place: Place | None) -> Found:
    """Where up to `limit` wanted packages stand, beyond this place.

    And how far the walk came, where it stopped before it found as many; None where it came to the end of the list.
    """
    on, dialect = shelves(connection, wanted), connection.dialect.name
    column = SORTS[sort.removeprefix("-")]
    falling = sort.startswith("-") != (place is not None and place.backwards)
    way = Way(dialect, column, falling=falling, shelves=len(on), within=tuple(limits(column, wanted)))
    narrowed = narrowings(wanted, sort=column, dialect=dialect)
    walker = _Walker(connection, narrowed, parameters(wanted, on, dialect=dialect), sum(on.values()), FEW[dialect])
    found: list[Place] = []
    for stretch in _stretches(way, place) if on else ():
        more, stopped = walker.through(stretch, limit=limit - len(found), place=place)
        found += more
        if stopped or len(found) >= limit or walker.is_at_the_end:
            return found, stopped
        place = None
    return found, None


def _stretches(way: Way, place: Place | None) -> Iterator[Way]:
    """The stretches of the list from this place on: what lacks the value that it is sorted by comes last."""
    both = [KNOWN, UNKNOWN] if way.is_of_time and not way.within else [KNOWN]
    both = both[::-1] if place is not None and place.backwards else both
    for stretch, then in zip(both, [*both[1:], None], strict=True):
        if place is None:
            yield replace(way, stretch=stretch, then=then)
        elif stretch == (UNKNOWN if place.value is None else KNOWN):
            yield replace(way, stretch=stretch, then=then, from_place=True)
            place = None


@dataclass(slots=True)
class _Walker:
    connection: Connection
    narrowed: Sequence[Narrowing]
    parameters: Mapping[str, Any]
    rows: int  # on all shelves
    few: int
    is_at_the_end: bool = False  # of the list: an index has told all that is left

    def through(self, way: Way, *, limit: int, place: Place | None) -> Found:
        """Through one stretch."""
        found: list[Place] = []
        walked, promising = 0, self.narrowed
        strides = STRIDES if self.narrowed else (limit,)
        for many, next_ in zip(strides, (*strides[1:], 0), strict=True):
            rows = self._stride(way, many, place, apart=not walked)
            place = Place(rows[-1].place, rows[-1].id) if rows and rows[-1].number == many else None
            found += [Place(row.place, row.id) for row in rows if row.fits]
            if place is None or len(found) >= limit:
                return found[:limit], None if len(found) >= limit else place
            way = replace(way, from_place=True)
            if not walked:
                seen = zip(self.narrowed, rows[-1][SEEN:], strict=True)
                promising = [one for one, number in seen if number * self.rows <= SURELY_MORE * self.few * many]
            walked += many
            would_fill = len(found) * next_ >= (limit - len(found)) * walked
            if not would_fill:
                patience = PATIENCE / 2 if found else PATIENCE
                few = self._few(way, promising, limit=limit - len(found), place=place, patience=patience)
                if few is not None:
                    self.is_at_the_end = True
                    return found + few, None
                promising = ()
        return found, place

    def _stride(self, way: Way, many: int, place: Place | None, *, apart: bool) -> Sequence[AnyRow]:
        """Those of so many rows that fit, and the last one; if `apart`, with how many fit each of what narrows."""
        fits = tuple(one.fits for one in self.narrowed)
        statement = judged(way, many, fits if apart or not fits else (" AND ".join(fits),))
        return self.connection.execute(statement, self._from(place)).all()

    def _few(
        self, way: Way, promising: Sequence[Narrowing], *, limit: int, place: Place | None, patience: timedelta
    ) -> list[Place] | None:
        """All that fit from here to the end, so many at most; None where no index knows of few candidates."""
        for one in promising:
            if one.candidates:
                others = " AND ".join(other.fits for other in self.narrowed if other is not one)
                statement = candidates(way, one, others, few=self.few)
                asked = {**self._from(place), "limit": limit}
                rows = in_time(self.connection, statement, asked, patience=patience)
                if rows and rows[0].many <= self.few:
                    return [Place(row.place, row.id) for row in rows if row.id is not None]
        return None

    def _from(self, place: Place | None) -> dict[str, Any]:
        return {**self.parameters, **({"from_value": place.value, "from_id": place.id} if place else {})}
