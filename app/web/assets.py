"""Style and script: kept by browsers for a year, under an address that changes with what is in the file."""

import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"  # a module that another one imports has no version in its address


def version_assets(app: Flask) -> None:
    """Let `url_for("static", filename=...)` name the file's version, as it is when the service starts."""
    assert app.static_folder
    folder = Path(app.static_folder)
    versions = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in folder.rglob("*")
        if file.is_file()
    }

    @app.url_defaults
    def name_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and values["filename"] in versions:
            values["v"] = versions[values["filename"]]

    @app.after_request
    def keep(response: Response) -> Response:
        if request.endpoint == "static" and response.status_code < 400:  # noqa: PLR2004  (of errors nothing is kept)
            known = versions.get((request.view_args or {}).get("filename", ""))
            response.headers["Cache-Control"] = FOR_EVER if known and request.args.get("v") == known else ASK_AGAIN
        return response
