"""Whether all is well: what flows, what waits, what asking OneSpan found, what callbacks missed, and who is there."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, flash, redirect, url_for
from flask.typing import ResponseReturnValue

from app.store import queries
from app.store.queries import Delivery, Flow, MissedFilter
from app.web.api.answers import Vitals
from app.web.api.health import vitals
from app.web.api.parameters import ReconcileRequest
from app.web.dashboard import labels
from app.web.dashboard.charts import Bar, plot
from app.web.dashboard.layout import Frame, up_to
from app.web.dashboard.user import acts, who

DAYS = 30
RUNS, MISSED = 10, 20  # rows that are shown


def add_views(blueprint: Blueprint, frame: Frame) -> None:
    """Add `/health`, and what one can do there."""

    @blueprint.get("/health")
    def health() -> Response:
        """Whether all is well."""
        now = frame.clock()
        looked = frame.bedside.look()
        with frame.database.read() as connection:
            signs = vitals(connection, frame.bedside, looked, now=now)
            delivery = queries.delivery(connection, now=now, days=DAYS, silence=signs.silence)
            missed = queries.missed_page(connection, MissedFilter(), limit=MISSED, before=None).items
            return frame.page(
                connection,
                "health.html",
                here="health",
                signs=signs,
                silence=signs.silence,
                figures=list(_figures(signs)),
                runs=queries.run_page(connection, limit=RUNS, before=None),
                missed=missed,
                titles=frame.titles(connection, {one.package_id for one in missed}),
                **_drawn(queries.flow(connection, now=now), delivery),
            )

    @blueprint.post("/reconciles")
    @acts
    def reconcile() -> ResponseReturnValue:
        """Ask OneSpan now."""
        frame.acts.reconcile(ReconcileRequest(), by=who() or "")
        flash("A reconcile was asked for; how far it is stands below.")
        return redirect(url_for("pages.health"), 303)


def _figures(signs: Vitals) -> Iterator[dict[str, str]]:
    dwell, backlog = signs.dwell, signs.backlog
    yield _figure("Callback to handler", labels.span(dwell.p50), f"the middle of {dwell.runs:,} runs")
    yield _figure("The slowest twentieth", labels.span(dwell.p95), "or longer, from callback to handler")
    waits = backlog.undigested + backlog.spooled
    age = f"the oldest for {labels.span(backlog.oldest_undigested)}" if backlog.undigested else "callbacks digested"
    yield _figure("Callbacks waiting", f"{waits:,}", age, "warn" if backlog.oldest_undigested > 60 else "")  # noqa: PLR2004  (a minute)
    yield _figure("Handler runs due", up_to(backlog.due), f"{up_to(backlog.running)} running")
    yield _figure("Parked", up_to(backlog.parked), "runs that gave up", "stop" if backlog.parked else "")
    missed = sum(signs.missed.values())
    yield _figure("Missed callbacks", f"{missed:,}", f"in {DAYS} days", "warn" if missed else "")


def _figure(name: str, value: str, more: str, tone: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "more": more, "tone": tone}


def _drawn(flow: Flow, delivery: Delivery) -> dict[str, Any]:
    minutes = [Bar([one.callbacks], f"{one.at:%H:%M} UTC: {one.callbacks:,}") for one in flow.minutes]
    hours = [Bar([one.callbacks], f"{one.at:%d %b, %H:00} UTC: {one.callbacks:,}") for one in flow.hours]
    days = [
        Bar([one.reported, one.missed], f"{one.of}: {one.reported:,} told, {one.missed:,} missed")
        for one in delivery.by_day
    ]
    return {
        "delivery": delivery,
        "minutes": plot(minutes, title="Callbacks by minute", first="an hour ago", last="now"),
        "hours": plot(hours, title="Callbacks by hour", first="two days ago", last="now"),
        "days": plot(days, title="Facts by day, told and missed", first=f"{DAYS} days ago", last="today"),
    }
