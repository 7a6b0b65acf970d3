"""Examples for the OpenAPI document: one example of each answer, all about the same package."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_origin

from app.errors import DispatchRunning, MoreThanExpected, OneSpanNotConfigured, ReconcileRunning, TooManyRuns
from app.onespan.callbacks import Callback
from app.onespan.values import Attention, Document, Package, Sender, Signer
from app.store.packages import Cause
from app.store.queries import (
    AccessDetail,
    AttentionItem,
    CallbackDetail,
    CallbackRates,
    ChangeDetail,
    Delivery,
    DispatchDetail,
    EventCallback,
    EventDetail,
    HandlerDetail,
    MissedDetail,
    OneSpanStatus,
    OutageDetail,
    PackageCount,
    PackagePage,
    Page,
    ProcessDetail,
    RunDetail,
    RunDispatch,
    Tick,
    UpgradeProgress,
)
from app.store.queries.reconciles import Rate
from app.web.api.answers import (
    Backlog,
    Dwell,
    FetchQueued,
    HealthReport,
    OneSpanConnection,
    PackageCounts,
    ReasonCounts,
    ReconcileStatus,
    ReplayCount,
)
from app.web.api.parameters import ReconcileRequest, ReplayRequest
from app.web.api.schemas import adapter_of

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEN, NOON = NINE + timedelta(hours=1), NINE + timedelta(hours=3)
DELAY = timedelta(milliseconds=80)
PACKAGE_ID = "GY2f0mB1xT7pWkQd8uJcVh3sLr4="
BODY = (
    '{"name":"EMAIL_BOUNCE","sessionUser":"ben","packageId":"GY2f0mB1xT7pWkQd8uJcVh3sLr4=",'
    '"message":"BOUNCE","createdDate":"2026-03-02T10:00:00.000Z"}'
)
CLEO = Sender("cleo", "Cleo Sender", "cleo@example.com")
DISPATCH = (7, "tell_the_sender", "parked", 1, TEN + DELAY, TEN + DELAY, "the mail server refuses the address")
RUN = RunDetail(
    id=2,
    kind="reconcile",
    reason="interval",
    by=None,
    state="done",
    fires=False,
    since=NINE - timedelta(days=1),
    until=NOON - timedelta(minutes=10),
    began_at=NOON,
    finished_at=NOON + timedelta(seconds=2),
    due_at=NOON + timedelta(seconds=2),
    error=None,
    requests=7,
    shown=25,
    changed=3,
    asked=0,
    unreadable=0,
    found=1,
)
OUTAGE = OutageDetail(1, "unreachable", NINE, TEN)
RATE = Rate("2026-03-02", 340, 4, 0.9884)

ANSWERS: Mapping[type, Any] = {
    Package: Package(
        id=PACKAGE_ID,
        name="Lease of Ada and Ben",
        type="PACKAGE",
        status="SENT",
        status_at=NINE,
        sender=CLEO,
        created_at=NINE,
        updated_at=TEN,
        due_at=NOON + timedelta(days=7),
        signers_total=2,
        signers_completed=1,
        attention=(Attention("EMAIL_BOUNCE", TEN, "ben", "BOUNCE"),),
        documents=(Document("lease", "Lease", ("ada",), NINE + timedelta(minutes=30)),),
        signers=(
            Signer("ada", "role-1", "Ada Signer", "ada@example.com", 1, "COMPLETED", NINE + timedelta(minutes=30)),
            Signer("ben", "role-2", "Ben Signer", "ben@example.com", 2, email_bounce="BOUNCE"),
        ),
        next_signers=("ben",),
        last_event_at=TEN,
        read_at=NINE + timedelta(seconds=5),
    ),
    ChangeDetail: ChangeDetail(
        3, PACKAGE_ID, "package", "status", "DRAFT", "SENT", NINE, NINE + DELAY, Cause("callback", 1)
    ),
    EventDetail: EventDetail(
        id=5,
        name="EMAIL_BOUNCE",
        package_id=PACKAGE_ID,
        signer_id="ben",
        document_id=None,
        message="BOUNCE",
        happened_at=TEN,
        first_received_at=TEN + DELAY,
        source="callback",
        repeats=0,
        found_after=None,
        found_until=None,
        session_user="ben",
        extra={},
        callbacks=[EventCallback(6, TEN + DELAY, "first", BODY)],
        dispatches=[DispatchDetail(*DISPATCH)],
    ),
    CallbackDetail: CallbackDetail(
        id=6,
        kind="callback",
        received_at=TEN + DELAY,
        key="first",
        package_id=PACKAGE_ID,
        event_id=5,
        event_name="EMAIL_BOUNCE",
        repeat=False,
        digested_at=TEN + 2 * DELAY,
        unreadable=None,
        body=BODY,
        understood=Callback("EMAIL_BOUNCE", PACKAGE_ID, "ben", None, "BOUNCE", TEN, {}),
    ),
    DispatchDetail: DispatchDetail(7, "tell_the_sender", "due", 0, NOON, None, None),
    RunDispatch: RunDispatch(*DISPATCH, 5, "EMAIL_BOUNCE", PACKAGE_ID, TEN),
    HandlerDetail: HandlerDetail("tell_the_sender", ["EMAIL_BOUNCE"], 0, 0, 1, 500, NINE),
    AttentionItem: AttentionItem(
        package_id=PACKAGE_ID,
        package_name="Lease of Ada and Ben",
        status="SENT",
        sender=CLEO,
        due_at=NOON + timedelta(days=7),
        reason="EMAIL_BOUNCE",
        since=TEN,
        who="ben",
        who_name="Ben Signer",
        detail="BOUNCE",
        dispatch_id=None,
    ),
    PackageCounts: PackageCounts(
        [
            PackageCount("PACKAGE", "SENT", trashed=False, deleted=False, number=212),
            PackageCount("PACKAGE", "DRAFT", trashed=True, deleted=False, number=3),
        ]
    ),
    CallbackRates: CallbackRates([Tick(NOON, 12), Tick(NOON + timedelta(minutes=1), 7)], [Tick(NOON, 19)]),
    ReasonCounts: ReasonCounts({"EMAIL_BOUNCE": 1, "DECLINED": 12, "PARKED_HANDLER": 1}, 500),
    ReplayCount: ReplayCount(12, more=False),
    FetchQueued: FetchQueued(PACKAGE_ID, NOON, is_known=True),
    RunDetail: RUN,
    MissedDetail: MissedDetail(438, "PACKAGE_ARCHIVE", PACKAGE_ID, TEN, NOON, 7200.0, "down", None),
    Delivery: Delivery(
        1, 340, 4, 0.9884, [RATE], [Rate("PACKAGE_ARCHIVE", 8, 3, 0.7273)], {"down": 3, "no trace": 1}, None
    ),
    HealthReport: HealthReport(
        is_ready=True,
        reasons=[],
        notes=["Callbacks waiting in the spool for the database: 1."],
        dwell=Dwell(500, 0.08, 0.21, 0.4),
        backlog=Backlog(undigested=2, oldest_undigested=0.1, spooled=1, due=3, running=1, parked=1),
        reconciles=ReconcileStatus(None, RUN, 6.0, NOON + timedelta(hours=6)),
        missed={"down": 3, "no trace": 1},
        silence=None,
        onespan=OneSpanConnection(
            is_asked=True,
            why_not=None,
            reach=OneSpanStatus(answers=True, error=None, answered_at=NOON, unreachable=OUTAGE),
        ),
        access=AccessDetail(checked_at=NOON, refused_since=None, error=None),
        processes=[
            ProcessDetail(
                name="receiver-1:4711:9f3c2a1b",
                takes_callbacks=True,
                started_at=NINE,
                seen_at=NOON,
                stopped_at=None,
                is_alive=True,
            )
        ],
        outages=[OUTAGE],
        upgrade=UpgradeProgress(12_300, 100_000, None),
        unverified=0,
        clock_offset=-0.4,
    ),
}
BODIES: Mapping[type, Any] = {
    ReconcileRequest: ReconcileRequest(since=NINE),
    ReplayRequest: ReplayRequest(handler="tell_the_sender", expect=12),
}
# The error codes of each HTTP status, with an example message for each code.
CODES: Mapping[int, Mapping[str, str]] = {
    400: {"bad_parameter": "stauts: unknown parameter"},
    401: {
        "no_token": "Missing or invalid token. Send one of API_TOKENS as `Authorization: Bearer <token>`.",
        "token_ended": "The token portal ended on 2027-01-31. Ask the operator for a new one.",
    },
    403: {"read_only_token": "The token portal can only read. Actions need a token with the scope `act`."},
    404: {"not_found": "no event 4711"},
    409: {
        "still_running": str(DispatchRunning()),
        "under_way": str(ReconcileRunning()),
        "no_onespan": str(OneSpanNotConfigured()),
        "more_than_expected": str(MoreThanExpected("15, not 12; count again")),
        "too_many": str(TooManyRuns("more than 10000; narrow it with `since` and `until`, or use `flask replay`")),
    },
    413: {"request_entity_too_large": "The data value transmitted exceeds the capacity limit."},
    500: {"our_fault": "Something went wrong. The error is logged. Nothing was changed."},
    503: {
        "database_unavailable": "The database does not respond. Try again.",
        "database_behind": "The database schema is not up to date: run `flask db upgrade`.",
        "busy": "Too many concurrent requests. Try again.",
    },
}


def example_of(kind: Any) -> Any:
    """Return the JSON example of an answer type or a request body type, or None without an example."""
    if kind is PackagePage:
        return _json(kind, PackagePage([ANSWERS[Package]], None))
    if get_origin(kind) is Page:
        (item,) = get_args(kind)
        return _json(kind, Page([ANSWERS[item]], None))
    if kind in BODIES:
        return BODIES[kind].model_dump(mode="json", exclude_unset=True)
    return _json(kind, ANSWERS[kind]) if kind in ANSWERS else None


def _json(kind: Any, value: Any) -> Any:
    return adapter_of(kind).dump_python(value, mode="json")
