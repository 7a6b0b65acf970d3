"""The view by which a person has one package read."""

from collections.abc import Callable
from datetime import datetime

from app.errors import NoOneSpan
from app.onespan.callbacks import is_id
from app.store import picture, reads
from app.store.db import Database
from app.web.answers import ReadWanted
from app.web.endpoints import Endpoints, NoSuchThing

ASKED = "asked by a person"  # why it is to be read


def add_views(
    endpoints: Endpoints, database: Database, *, is_connected: Callable[[], bool], clock: Callable[[], datetime]
) -> None:
    """Add it. It needs a OneSpan that `is_connected`."""

    @endpoints.post("/api/packages/<id:package_id>/read", answer=ReadWanted, status=202, errors=(404, 409))
    def read(package_id: str) -> ReadWanted:
        """Ask OneSpan for this package now; the answer does not wait for it. `read_at` of the package will be newer."""
        if not is_connected():
            raise NoOneSpan
        if not is_id(package_id):
            raise NoSuchThing(f"no package {package_id!r}")
        now = clock()
        with database.write() as connection:
            reads.want(connection, {package_id: ASKED}, now=now)
            is_known = package_id in picture.states(connection, [package_id])
        return ReadWanted(package_id, now, is_known)
