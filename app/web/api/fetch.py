"""The view by which a person has one package read."""

from flask import g

from app.web.actions import Acts
from app.web.api.answers import ReadWanted
from app.web.api.endpoints import Endpoints


def add_views(endpoints: Endpoints, acts: Acts) -> None:
    """Add it."""

    @endpoints.post("/api/packages/<id:package_id>/read", answer=ReadWanted, status=202, errors=(404, 409))
    def read(package_id: str) -> ReadWanted:
        """Ask OneSpan for this package now; the answer does not wait for it. `read_at` of the package will be newer."""
        return acts.read(package_id, by=f"api:{g.token}")
