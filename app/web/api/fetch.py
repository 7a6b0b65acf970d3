"""The endpoint that requests a fetch of one package."""

from flask import g

from app.web.actions import Actions
from app.web.api.answers import FetchQueued
from app.web.api.endpoints import Endpoints


def add_views(endpoints: Endpoints, actions: Actions) -> None:
    """Register the fetch endpoint."""

    @endpoints.post("/api/packages/<id:package_id>/read", answer=FetchQueued, status=202, errors=(404, 409))
    def read(package_id: str) -> FetchQueued:
        """Queue a fetch of this package from OneSpan and return at once. The fetch updates the package's `read_at`."""
        return actions.request_fetch(package_id, by=f"api:{g.token}")
