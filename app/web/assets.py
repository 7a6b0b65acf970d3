"""Static files: browsers cache them for a year, under a URL that changes with the file's content."""

import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

CACHE_ONE_YEAR = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"  # for a script that another script imports: its URL has no version


def version_assets(app: Flask) -> None:
    """Let `url_for("static", filename=...)` add the file's version. The service computes versions when it starts."""
    assert app.static_folder
    folder = Path(app.static_folder)
    versions = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in folder.rglob("*")
        if file.is_file()
    }

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and values["filename"] in versions:
            values["v"] = versions[values["filename"]]

    @app.after_request
    def set_cache_control(response: Response) -> Response:
        if request.endpoint == "static" and response.status_code < 400:  # noqa: PLR2004  (errors are not cached)
            version = versions.get((request.view_args or {}).get("filename", ""))
            is_current = version and request.args.get("v") == version
            response.headers["Cache-Control"] = CACHE_ONE_YEAR if is_current else REVALIDATE
        return response
