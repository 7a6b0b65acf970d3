"""A view: what an address asks a page to show."""

from urllib.parse import urlencode

from flask import request

from app.web.api.parameters import Cursor, Parameters


class View(Parameters):
    """The whole view, as the address has it: to be kept, shared and loaded again."""

    cursor: Cursor | None = None

    def address(self, **other: object) -> str:
        """Where this view begins, but for what is `other` there. What is as usual is not said."""
        told = {**self.model_dump(mode="json", exclude={"cursor"}), **other}
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        asked = {name: value for name, value in told.items() if value not in ("", None) and value != usual[name]}
        return f"?{urlencode(asked)}" if asked else request.path
