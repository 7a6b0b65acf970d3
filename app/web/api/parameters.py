"""What the JSON API's requests may ask for, and how it is checked: a bad parameter is named."""

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
from app.onespan.catalogue import wire_name
from app.store import queries

LIMIT = 200  # items on a page at most
LAST_ID = 2**63 - 1
ATTENTION = ("any", "none", *queries.REASONS)


Given = TypeVar("Given", bound=BaseModel)
Body = TypeVar("Body", bound=BaseModel)
Reason = Literal[ATTENTION]  # type: ignore[valid-type]


class BadParameter(ReceiverError):
    """A parameter is not right."""


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not have NUL characters")
    return text


def _as_utc(moment: object) -> object:
    """A time without a zone is UTC; a plus that a URL turned into a blank is a plus again."""
    if moment is None:
        return None
    text = re.sub(r" (\d\d:?\d\d)$", r"+\1", str(moment).strip())
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _in_range(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside of the calendar") from None


Word = Annotated[str, Field(max_length=256), AfterValidator(_no_nul)]
Cursor = Annotated[str, Field(max_length=4000)]
Moment = Annotated[AwareDatetime, BeforeValidator(_as_utc), AfterValidator(_in_range)]
EventName = Annotated[Word, AfterValidator(wire_name)]
State = Literal["due", "running", "done", "parked", "discarded"]


class Parameters(BaseModel):
    """What an address asks for. Unknown parameters are refused: a misspelt filter must not show everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Query(Parameters):
    """Parameters of a list."""

    limit: int = Field(50, ge=1, le=LIMIT, description="How many items at most, 1 to 200.")


class CursorQuery(Query):
    """Parameters of a list that is read by cursor."""

    cursor: Cursor | None = Field(None, description="`next` of the page before, or `previous` of the one after.")


class PackageQuery(CursorQuery):
    """Parameters of the list of packages."""

    status: list[Word] = Field([], max_length=50, description="Only these statuses; may be repeated.")
    trashed: bool | None = Field(None, description="Only those in the trash, or only those that are not.")
    deleted: bool | None = Field(None, description="Only those deleted in OneSpan, or only those that are not.")
    type: Word | None = Field(None, description="PACKAGE, TEMPLATE or LAYOUT.")
    q: Word | None = Field(
        None,
        description="Words in the name, the id, the sender or a signer: each anywhere, in any order, in any case, with "
        "or without accents.",
    )
    signer: Word | None = Field(None, description="A signer's id, or their e-mail address.")
    attention: Reason | None = Field(None, description="Only with this open reason to act, with `any`, or with `none`.")
    updated_since: Moment | None = Field(
        None, description="Only those whose newest fact in OneSpan is this new. To follow changes read /api/changes."
    )
    updated_until: Moment | None = Field(None, description="Only those whose newest fact is this old.")
    created_since: Moment | None = Field(None, description="Only those created then or later.")
    created_until: Moment | None = Field(None, description="Only those created then or before.")
    sort: Literal[tuple(f"{sign}{key}" for key in queries.SORTS for sign in ("", "-"))] = Field(  # type: ignore[valid-type]
        "-updated_at", description="Order; a minus for descending."
    )


class EventQuery(CursorQuery):
    """Parameters of the list of events, newest first."""

    package: Word | None = Field(None, description="Of this package.")
    name: EventName | None = Field(None, description="Of this name.")
    source: Literal["callback", "reconcile"] | None = Field(None, description="How we know.")
    state: State | None = Field(None, description="With a dispatch in this state.")


class CallbackQuery(CursorQuery):
    """Parameters of the list of callbacks, newest first."""

    package: Word | None = Field(None, description="About this package.")
    state: Literal["waiting", "digested", "unreadable", "unknown"] | None = Field(
        None,
        description="Waiting to be digested, digested, unreadable, or the first to tell a fact of an unknown name.",
    )
    key: Word | None = Field(None, description="Came with the callback key of this label.")


class DispatchQuery(CursorQuery):
    """Parameters of the list of handlers' runs, those for the newest events first."""

    handler: Word | None = Field(None, description="Of this handler.")
    state: State | None = Field(None, description="In this state.")
    name: EventName | None = Field(None, description="For events of this name.")
    package: Word | None = Field(None, description="For events of this package.")


class AttentionQuery(CursorQuery):
    """Parameters of the list of what needs a hand, newest first."""

    reason: Literal[queries.REASONS] | None = Field(None, description="Only for this reason.")  # type: ignore[valid-type]


class MissedQuery(CursorQuery):
    """Parameters of the list of missed facts, newest first."""

    package: Word | None = Field(None, description="Of this package.")
    name: EventName | None = Field(None, description="Of this name.")
    cause: Literal["down", "refused", "never reported", "no trace"] | None = Field(None, description="Likely cause.")
    reported: bool | None = Field(None, description="Only those that a callback told in the end, or only the others.")


class DeliveryQuery(BaseModel):
    """Parameters of the delivery rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: int = Field(30, ge=1, le=366, description="Of so many days, today included (UTC).")


class ReconcileRequest(BaseModel):
    """What a run is to do: without anything, what is due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Moment | None = Field(None, description="Go back to this time rather than to the last run.")
    backfill: bool = Field(default=False, description="Walk through the whole account.")
    fire: bool = Field(default=False, description="Tell handlers all there ever was to tell, and nobody told.")

    @model_validator(mode="after")
    def _goes_back_to_one_time(self) -> Self:
        if self.since is not None and self.backfill:
            raise ValueError("since and backfill exclude each other: the backfill goes back to the beginning")
        return self


class ReplayRequest(BaseModel):
    """Which runs are to be made due again; everything given must fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    handler: Word | None = Field(None, description="Of this handler.")
    state: Literal["due", "done", "parked", "discarded"] = Field("parked", description="In this state.")
    name: EventName | None = Field(None, description="For events of this name.")
    package: Word | None = Field(None, description="For events of this package.")
    since: Moment | None = Field(None, description="For events that happened at this time or later.")
    until: Moment | None = Field(None, description="For events that happened before this time.")
    dry_run: bool = Field(default=False, description="Only count.")
    expect: int | None = Field(
        None, ge=0, description="How many were counted: where there are more by now, none is made due (409)."
    )


class ChangesQuery(Query):
    """Parameters of the feed of changes."""

    after: Annotated[int, Field(ge=0, le=LAST_ID)] | Literal["last"] = Field(
        0, description="Id of the last change that is known already; `last` to begin with those still to come."
    )
    wait: float = Field(0, ge=0, le=25, description="Seconds to hold the request until there is a change.")


def read_body(shape: type[Body], body: bytes) -> Body:
    """The JSON of a request, all of which may be left out. Raises `BadParameter`."""
    try:
        return shape.model_validate_json(body) if body.strip() else shape()
    except ValidationError as error:
        raise BadParameter("; ".join(map(_explain, error.errors(include_input=False)))) from None


def read_parameters(query: type[Given], given: MultiDict[str, str]) -> Given:
    """The query parameters of a request. Raises `BadParameter`, which names the one that is not right."""
    lists = {name for name, field in query.model_fields.items() if get_origin(field.annotation) is list}
    values: dict[str, object] = {}
    for name, told in given.lists():
        if name not in lists and len(told) > 1:
            raise BadParameter(f"{name}: is given more than once")
        values[name] = told if name in lists else told[0]
    try:
        return query.model_validate(values)
    except ValidationError as error:
        raise BadParameter("; ".join(map(_explain, error.errors(include_input=False)))) from None


def _explain(problem: Any) -> str:
    if not problem["loc"]:
        return f"the body: {problem['msg'].removeprefix('Value error, ')}"
    what = "is no parameter here" if problem["type"] == "extra_forbidden" else problem["msg"]
    return f"{problem['loc'][0]}: {what.removeprefix('Value error, ')}"


def no_parameters(given: MultiDict[str, str]) -> dict[str, Any]:
    """Nothing. Raises `BadParameter` when there is one all the same."""
    for name in given:
        raise BadParameter(f"{name}: is no parameter here")
    return {}
