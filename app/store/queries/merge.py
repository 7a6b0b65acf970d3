"""The statements of a walk: shelves merged in an order, rows of them judged, candidates sorted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from sqlalchemy import Boolean, Integer, String, bindparam, text
from sqlalchemy.sql.selectable import TextualSelect

from app.store.models import Package
from app.store.queries.narrowing import Narrowing

LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
KNOWN, UNKNOWN = "known", "unknown"  # the stretches of a list: rows that have what it is sorted by, rows that do not
MOMENTS = (
    "long_ago",
    "from_value",
    "updated_at_since",
    "updated_at_until",
    "created_at_since",
    "created_at_until",
)


@dataclass(frozen=True, slots=True)
class Way:
    """Along which column, up or down, through how many shelves; in which stretch, and whether from a place in it on.

    `within` are the limits of a range of that column, `then` is the stretch that comes next.
    """

    dialect: str
    column: str
    falling: bool
    shelves: int
    within: tuple[str, ...] = ()
    stretch: str = KNOWN
    then: str | None = None
    from_place: bool = False

    @property
    def is_of_time(self) -> bool:
        """Whether rows may lack what it goes by."""
        return self.column.endswith("_at")

    @property
    def order(self) -> str:
        """How rows stand along it."""
        return f"ORDER BY place {self.turn}, id {self.turn}"

    @property
    def turn(self) -> str:
        """Up or down."""
        return "DESC" if self.falling else "ASC"

    @property
    def ahead(self) -> str:
        """The condition on a row: it is in this stretch, beyond the place."""
        compare, conditions = "<" if self.falling else ">", [*self.within]
        if self.stretch == UNKNOWN:
            conditions.append(f"{self.column} IS NULL")
        elif self.is_of_time:
            conditions.append(f"{self.column} >= :long_ago")
        if self.from_place and (self.stretch == UNKNOWN or self.column == "id"):
            conditions.append(f"id {compare} :from_id")
        elif self.from_place:
            conditions.append(f"({self.column}, id) {compare} (:from_value, :from_id)")
        return " AND ".join(conditions) or "1 = 1"

    @property
    def ahead_to_the_end(self) -> str:
        """The same, for this stretch and the next."""
        next_ = f" OR ({replace(self, stretch=self.then, from_place=False).ahead})" if self.then else ""
        return f"(({self.ahead}){next_})"

    @property
    def order_to_the_end(self) -> str:
        """How rows of both stand."""
        lacking = f"place IS NULL {'DESC' if self.stretch == UNKNOWN else 'ASC'}, " if self.then else ""
        return f"ORDER BY {lacking}place {self.turn}, id {self.turn}"

    @property
    def on_shelves(self) -> str:
        """The condition on a row: it stands on one of the shelves."""
        return f"shelf IN ({', '.join(f':shelf{place}' for place in range(self.shelves))})"


@lru_cache(maxsize=1000)
def judged(way: Way, many: int, fits: Sequence[str]) -> TextualSelect:
    """Of the next so many rows those that fit all of these, and the last one whether it does or not.

    After `fits` each row has how many of them all fit the first of these, how many the second, and so on.
    """
    parts = "".join(f", ({one}) AS fits{at}" for at, one in enumerate(fits))
    seen = "".join(f", sum(CASE WHEN fits{at} THEN 1 ELSE 0 END) OVER () AS seen{at}" for at in range(len(fits)))
    all_ = " AND ".join(f"fits{at}" for at in range(len(fits))) or "1 = 1"
    return _typed(
        way,
        f"""SELECT * FROM (SELECT id, place, number, ({all_}) AS fits{seen} FROM (
            SELECT walked.id, walked.place, row_number() OVER ({way.order}) AS number{parts}
            FROM ({_merged(way, many)}) AS walked
        ) AS apart) AS judged WHERE fits OR number = {many} {way.order}""",  # noqa: S608  (names of ours)
    )


@lru_cache(maxsize=1000)
def candidates(way: Way, narrowing: Narrowing, fits: str, *, few: int) -> TextualSelect:
    """How many candidates there are, `few` and one at most; where they are few, the first `limit` that fit, too.

    There is no index for what stands in a CASE: so SQLite looks up the candidates, and goes through no shelf.
    """
    some = " UNION ALL ".join(
        f"SELECT id FROM ({one} LIMIT {few + 1}) AS some{at}"  # noqa: S608  (names of ours)
        for at, one in enumerate(narrowing.candidates)
    )
    among = narrowing.within or "id IN (SELECT id FROM candidates)"
    statement = f"""WITH candidates AS MATERIALIZED ({some})
        SELECT many, found.id, found.place
        FROM (SELECT count(*) AS many FROM candidates) AS counted LEFT JOIN (
            SELECT id, place FROM (SELECT id, {way.column} AS place FROM packages AS walked
            WHERE (SELECT count(*) FROM candidates) <= {few} AND {among}
            AND CASE WHEN {{on_shelves}} AND {way.ahead_to_the_end} THEN 1 END = 1 AND {fits or "1 = 1"}) AS fitting
            {way.order_to_the_end} LIMIT :limit
        ) AS found ON 1 = 1 {way.order_to_the_end}"""  # noqa: S608
    return _typed(way, statement.replace("{on_shelves}", way.on_shelves))


def _merged(way: Way, many: int) -> str:
    """The next so many rows of all shelves.

    Each shelf is sorted by its index, and none is read further than needed: so SQLite merges what stands in a UNION
    by itself, and PostgreSQL does where each part says that it is sorted.
    """
    sorted_, is_told = f" ORDER BY {way.column} {way.turn}, id {way.turn}", way.dialect == "postgresql"
    branch = f"SELECT id, {way.column} AS place FROM packages WHERE shelf = :shelf{{}} AND {way.ahead}"  # noqa: S608
    branches = (branch.format(place) for place in range(way.shelves))
    every = " UNION ALL ".join(f"({one}{sorted_})" if is_told else one for one in branches)
    return f"SELECT id, place FROM ({every}) AS every {way.order} LIMIT {many}"  # noqa: S608


def _typed(way: Way, statement: str) -> TextualSelect:
    moment = Package.updated_at.type
    place = Package.__table__.c[way.column].type
    found = text(statement)
    found = found.bindparams(
        *(bindparam(one, type_=place if one == "from_value" else moment) for one in MOMENTS if f":{one}" in statement)
    )
    if ":long_ago" in statement:
        found = found.bindparams(long_ago=LONG_AGO)
    return found.columns(id=String(), place=place, number=Integer(), fits=Boolean(create_constraint=False))
