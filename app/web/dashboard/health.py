"""The health page: callback rates, backlog, syncs with OneSpan, missed callbacks and processes."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, flash, redirect, url_for
from flask.typing import ResponseReturnValue

from app.store import queries
from app.store.queries import CallbackRates, Delivery, MissedFilter
from app.web.api.answers import HealthReport
from app.web.api.health import health_report
from app.web.api.parameters import ReconcileRequest
from app.web.dashboard import labels
from app.web.dashboard.charts import Bar, bar_chart
from app.web.dashboard.layout import Layout, format_count
from app.web.dashboard.user import requires_full_access, user_name

DAYS = 30
RUN_ROWS, MISSED_ROWS = 10, 20
SLOW_SECONDS = 60  # the page marks a callback that waits longer for processing


def add_views(blueprint: Blueprint, layout: Layout) -> None:
    """Add the page `/health` and its action to the blueprint."""

    @blueprint.get("/health")
    def health() -> Response:
        """Show the health report, with charts."""
        now = layout.clock()
        looked = layout.health.run_checks()
        with layout.database.read() as connection:
            report = health_report(connection, layout.health, looked, now=now)
            delivery = queries.delivery(connection, now=now, days=DAYS, silence=report.silence)
            missed = queries.missed_page(connection, MissedFilter(), limit=MISSED_ROWS, before=None).items
            return layout.page(
                connection,
                "health.html",
                here="health",
                report=report,
                silence=report.silence,
                figures=list(_figures(report)),
                runs=queries.run_page(connection, limit=RUN_ROWS, before=None),
                delivery=delivery,
                missed=missed,
                titles=layout.titles(connection, {event.package_id for event in missed}),
                **_charts(queries.callback_rates(connection, now=now), delivery),
            )

    @blueprint.post("/reconciles")
    @requires_full_access
    def reconcile() -> ResponseReturnValue:
        """Start a sync with OneSpan now."""
        layout.actions.reconcile(ReconcileRequest(), by=user_name() or "")
        flash("Sync started. See progress below.")
        return redirect(url_for("pages.health"), 303)


def _figures(report: HealthReport) -> Iterator[dict[str, str]]:
    dwell, backlog = report.dwell, report.backlog
    runs = f"to handler, last {dwell.runs:,} run{'s' * (dwell.runs != 1)}" if dwell.runs else "to handler, no runs yet"
    yield _figure("Median time", labels.duration(dwell.p50), runs)
    yield _figure("95th percentile", labels.duration(dwell.p95), "to handler")
    queued, oldest = backlog.undigested + backlog.spooled, backlog.oldest_undigested
    age = f"oldest waiting {labels.duration(oldest)}" if backlog.undigested else "waiting for processing"
    yield _figure("Callbacks queued", f"{queued:,}", age, "warn" if oldest > SLOW_SECONDS else "")
    yield _figure("Handler runs queued", format_count(backlog.due), f"{format_count(backlog.running)} running")
    yield _figure(
        "Handler runs failed", format_count(backlog.parked), "no more retries", "stop" if backlog.parked else ""
    )
    if report.onespan.is_asked and report.access:
        refused = report.access.refused_since
        since = f"since {refused:%d %b, %H:%M} UTC" if refused else "credentials accepted"
        yield _figure("Access to OneSpan", "refused" if refused else "yes", since, "stop" if refused else "")
    missed = sum(report.missed.values())
    yield _figure("Missed callbacks", f"{missed:,}", f"last {DAYS} days", "warn" if missed else "")
    if report.unverified:
        yield _figure(
            "Not verified",
            f"{report.unverified:,}",
            "transactions that OneSpan does not show",
            "warn",
            href=url_for("pages.transactions", unverified="true"),
        )


def _figure(name: str, value: str, detail: str, tone: str = "", *, href: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "detail": detail, "tone": tone, "href": href}


def _charts(flow: CallbackRates, delivery: Delivery) -> dict[str, Any]:
    minutes = [Bar([tick.callbacks], f"{tick.at:%H:%M} UTC: {tick.callbacks:,}") for tick in flow.minutes]
    hours = [Bar([tick.callbacks], f"{tick.at:%d %b, %H:00} UTC: {tick.callbacks:,}") for tick in flow.hours]
    days = [
        Bar([day.reported, day.missed], f"{day.of}: {day.reported:,} received, {day.missed:,} missed")
        for day in delivery.by_day
    ]
    return {
        "minutes": bar_chart(minutes, title="Callbacks per minute", first="1 hour ago", last="now"),
        "hours": bar_chart(hours, title="Callbacks per hour", first="2 days ago", last="now"),
        "days": bar_chart(days, title="Events per day, received and missed", first=f"{DAYS} days ago", last="today"),
    }
