"""The parameters of API requests and their validation. An error names the invalid parameter."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from werkzeug.datastructures import MultiDict

from app.errors import ReceiverError
from app.onespan.event_catalogue import wire_name
from app.store import queries

MAX_PAGE_ITEMS = 200
MAX_ID = 2**63 - 1
PACKAGE_SORTS = tuple(f"{sign}{key}" for key in queries.SORTS for sign in ("", "-"))
ATTENTION_FILTERS = ("any", "none", *queries.REASONS)


QueryModel = TypeVar("QueryModel", bound=BaseModel)
BodyModel = TypeVar("BodyModel", bound=BaseModel)
AttentionFilter = Literal[ATTENTION_FILTERS]  # type: ignore[valid-type]


class BadParameter(ReceiverError):
    """A parameter is invalid."""


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    return text


def _parse_time(value: object) -> object:
    """Parse an ISO 8601 time. UTC is the default zone. A plus sign that a URL decoded to a blank is restored."""
    if value is None:
        return None
    text = re.sub(r" (\d\d:?\d\d)$", r"+\1", str(value).strip())
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _to_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


ShortText = Annotated[str, Field(max_length=256), AfterValidator(_no_nul)]
Cursor = Annotated[str, Field(max_length=4000)]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_parse_time), AfterValidator(_to_utc)]
EventName = Annotated[ShortText, AfterValidator(wire_name)]
DispatchStateName = Literal["due", "running", "done", "parked", "discarded"]


class Parameters(BaseModel):
    """Query parameters. Unknown parameters are refused: a misspelled filter must not return everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Query(Parameters):
    """Parameters of any list."""

    limit: int = Field(50, ge=1, le=MAX_PAGE_ITEMS, description="Maximum number of items, 1 to 200.")


class CursorQuery(Query):
    """Parameters of a list whose pages have cursors."""

    cursor: Cursor | None = Field(
        None, description="`next` of the preceding page, or `previous` of the following page."
    )


class PackageQuery(CursorQuery):
    """Parameters of the list of packages."""

    status: list[ShortText] = Field(
        [], max_length=50, description="Only packages with this status. Repeat it for several."
    )
    trashed: bool | None = Field(
        None, description="`true`: only packages in the trash. `false`: only packages outside the trash."
    )
    deleted: bool | None = Field(
        None, description="`true`: only packages deleted in OneSpan. `false`: only packages that are not."
    )
    unverified: bool | None = Field(
        None,
        description="`true`: only packages that OneSpan does not show to these credentials. `false`: only others.",
    )
    type: ShortText | None = Field(None, description="Only this type: `PACKAGE`, `TEMPLATE` or `LAYOUT`.")
    q: ShortText | None = Field(
        None,
        description="Search words. Each must occur in the package's name or id, its sender or a signer. "
        "Order, case and accents do not matter.",
    )
    signer: ShortText | None = Field(
        None, description="Only packages with this signer: the id or the complete email address."
    )
    attention: AttentionFilter | None = Field(
        None, description="Only packages with this attention reason, with `any` reason, or with `none`."
    )
    updated_since: Timestamp | None = Field(
        None,
        description="Only packages updated in OneSpan at this time or later. To follow changes, use `/api/changes`.",
    )
    updated_until: Timestamp | None = Field(
        None, description="Only packages updated in OneSpan at this time or earlier."
    )
    created_since: Timestamp | None = Field(None, description="Only packages created at this time or later.")
    created_until: Timestamp | None = Field(None, description="Only packages created at this time or earlier.")
    sort: Literal[PACKAGE_SORTS] = Field(  # type: ignore[valid-type]
        "-updated_at", description="Sort key. A leading minus sorts in descending order. Packages without it come last."
    )


class EventQuery(CursorQuery):
    """Parameters of the list of events, newest first."""

    package: ShortText | None = Field(None, description="Only events of this package.")
    name: EventName | None = Field(None, description="Only events with this name.")
    source: Literal["callback", "reconcile"] | None = Field(
        None, description="Only events that a `callback` reported first, or only events that `reconcile` found first."
    )
    state: DispatchStateName | None = Field(None, description="Only events with a dispatch in this state.")


class CallbackQuery(CursorQuery):
    """Parameters of the list of callbacks, newest first."""

    package: ShortText | None = Field(None, description="Only callbacks for this package.")
    state: Literal["waiting", "digested", "unreadable", "unknown"] | None = Field(
        None,
        description="Only callbacks in this state: `waiting` to be digested, `digested`, `unreadable`, or `unknown` "
        "(the first callback of each event whose name is not in the catalogue).",
    )
    key: ShortText | None = Field(None, description="Only callbacks with the callback key of this label.")


class DispatchQuery(CursorQuery):
    """Parameters of the list of dispatches, those for the newest events first."""

    handler: ShortText | None = Field(None, description="Only dispatches of this handler.")
    state: DispatchStateName | None = Field(None, description="Only dispatches in this state.")
    name: EventName | None = Field(None, description="Only dispatches for events with this name.")
    package: ShortText | None = Field(None, description="Only dispatches for events of this package.")


class AttentionQuery(CursorQuery):
    """Parameters of the attention list, newest first."""

    reason: Literal[queries.REASONS] | None = Field(  # type: ignore[valid-type]
        None, description="Only items with this reason."
    )


class MissedQuery(CursorQuery):
    """Parameters of the list of missed events, newest first."""

    package: ShortText | None = Field(None, description="Only events of this package.")
    name: EventName | None = Field(None, description="Only events with this name.")
    cause: Literal["down", "refused", "never reported", "no trace"] | None = Field(
        None, description="Only events with this likely cause."
    )
    reported: bool | None = Field(
        None,
        description="`true`: only events whose callback came late. `false`: only events without a callback so far.",
    )


class DeliveryQuery(BaseModel):
    """Parameters of the delivery rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: int = Field(30, ge=1, le=366, description="Number of days, including today (UTC), 1 to 366.")


class ReconcileRequest(BaseModel):
    """Options of a reconcile run. Without options, the run does what the next scheduled run would do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Timestamp | None = Field(None, description="Start of the window. Default: the last run.")
    backfill: bool = Field(default=False, description="Read all packages of the account.")
    fire: bool = Field(default=False, description="Run handlers for every event found, however old.")

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.since is not None and self.backfill:
            raise ValueError("since and backfill exclude each other: a backfill has no start time")
        return self


class ReplayRequest(BaseModel):
    """A filter for the dispatches to run again. A dispatch must match every given member."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    handler: ShortText | None = Field(None, description="Dispatches of this handler.")
    state: Literal["due", "done", "parked", "discarded"] = Field("parked", description="Dispatches in this state.")
    name: EventName | None = Field(None, description="Dispatches for events with this name.")
    package: ShortText | None = Field(None, description="Dispatches for events of this package.")
    since: Timestamp | None = Field(None, description="Dispatches for events that happened at this time or later.")
    until: Timestamp | None = Field(None, description="Dispatches for events that happened before this time.")
    dry_run: bool = Field(default=False, description="Only count the matching dispatches.")
    expect: int | None = Field(
        None, ge=0, description="The number you expect. If more match, the answer is 409 and none is run again."
    )


class ChangesQuery(Query):
    """Parameters of the change feed."""

    after: Annotated[int, Field(ge=0, le=MAX_ID)] | Literal["last"] = Field(
        0,
        description="Id of the last change you have. `last` returns no items, and the end of the feed as `next`.",
    )
    wait: float = Field(0, ge=0, le=25, description="Maximum seconds to wait for a change, 0 to 25.")


def parse_body(model: type[BodyModel], body: bytes) -> BodyModel:
    """Parse the JSON body of a request. An empty body means all defaults. Raises `BadParameter` for an invalid body."""
    try:
        return model.model_validate_json(body) if body.strip() else model()
    except ValidationError as error:
        raise BadParameter("; ".join(map(_message, error.errors(include_input=False)))) from None


def parse_query(query: type[QueryModel], given: MultiDict[str, str]) -> QueryModel:
    """Parse the query parameters of a request. Raises `BadParameter`, which names the invalid parameter."""
    list_names = {name for name, field in query.model_fields.items() if get_origin(field.annotation) is list}
    parsed: dict[str, object] = {}
    for name, values in given.lists():
        if name not in list_names and len(values) > 1:
            raise BadParameter(f"{name}: given more than once")
        parsed[name] = values if name in list_names else values[0]
    try:
        return query.model_validate(parsed)
    except ValidationError as error:
        raise BadParameter("; ".join(map(_message, error.errors(include_input=False)))) from None


def _message(problem: Any) -> str:
    what = "unknown parameter" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
    return f"{problem['loc'][0] if problem['loc'] else 'body'}: {what}"


def reject_parameters(given: MultiDict[str, str]) -> dict[str, Any]:
    """Return an empty dictionary. Raises `BadParameter` if the request has parameters."""
    for name in given:
        raise BadParameter(f"{name}: unknown parameter")
    return {}
