"""The query parameters of a page."""

from urllib.parse import urlencode

from flask import request

from app.web.api.parameters import Cursor, Parameters


class PageQuery(Parameters):
    """What a page shows, all of it in its URL, so that people can bookmark, share and reload it."""

    cursor: Cursor | None = None

    def url(self, **changes: object) -> str:
        """The URL of the first page of this list with some parameters changed. Defaults are left out."""
        values = {**self.model_dump(mode="json", exclude={"cursor"}), **changes}
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        given = {name: value for name, value in values.items() if value not in ("", None) and value != defaults[name]}
        return f"?{urlencode(given)}" if given else request.path
