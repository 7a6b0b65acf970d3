"""The query parameters of a page."""

from urllib.parse import urlencode

from flask import request

from app.web.api.parameters import Cursor, Parameters


class PageQuery(Parameters):
    """The parameters of a page, all of them in the URL, so that people can bookmark, share and reload the page."""

    cursor: Cursor | None = None

    def url(self, **changes: object) -> str:
        """Return the URL of the first page of a list with some parameters changed. Defaults are left out."""
        values = {**self.model_dump(mode="json", exclude={"cursor"}), **changes}
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        given = {name: value for name, value in values.items() if value not in ("", None) and value != defaults[name]}
        return f"?{urlencode(given)}" if given else request.path
