"""What callers can do by hand: change a package's status, its trash flag, its due date; unlock, remind, delete."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.simulator import rest_json
from app.simulator.packages import Act, Impossible, Package
from app.simulator.routes import BadRequest, Desk, members, place

# What brings a package from one status to another.
STEPS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("DRAFT", "SENT"): "activate",
        ("DECLINED", "SENT"): "activate",
        ("SENT", "DRAFT"): "deactivate",
        ("SENT", "COMPLETED"): "complete",
        ("EXPIRED", "DRAFT"): "extend",
        ("COMPLETED", "ARCHIVED"): "archive",
        ("ARCHIVED", "COMPLETED"): "unarchive",
    }
)
TRASHED = {True: "trash", False: "restore"}
DONE = ("", 200)


def routes(desk: Desk) -> Blueprint:
    """All that can be done."""
    pages = Blueprint("acting", __name__, url_prefix="/api/packages/<package_id>")

    @pages.route("", methods=["PUT", "POST"])
    def change(package_id: str) -> ResponseReturnValue:
        """Take what the body says: `status`, `trashed`, `due`, `name`; other members do nothing."""
        for act in _acts(desk.package(package_id), members(), unarchive=desk.account.quirks.unarchive_event):
            desk.act(package_id, act)
        return DONE

    @pages.delete("")
    def delete(package_id: str) -> ResponseReturnValue:
        """For good."""
        desk.act(package_id, Act("delete"))
        return DONE

    @pages.post("/roles/<role_id>/unlock")
    def unlock(package_id: str, role_id: str) -> ResponseReturnValue:
        """Let a signer in again who was locked out."""
        seat = place([role.id for role in desk.package(package_id).roles], role_id)
        return rest_json.roles(desk.act(package_id, Act("unlock", seat)))[seat]

    @pages.post("/notifications")
    def remind(package_id: str) -> ResponseReturnValue:
        """Mail a signer, or all that have yet to sign."""
        desk.account.reminders.append((desk.package(package_id).id, None))
        return DONE

    @pages.post("/roles/<role_id>/notifications")
    def remind_one(package_id: str, role_id: str) -> ResponseReturnValue:
        """Mail one signer."""
        one = desk.package(package_id)
        seat = place([role.id for role in one.roles], role_id)
        desk.account.reminders.append((one.id, one.roles[seat].id))
        return DONE

    return pages


def _acts(one: Package, wanted: Mapping[str, object], *, unarchive: str) -> Iterator[Act]:
    """One after another; what is so already is no act."""
    due = _due(wanted.get("due"))
    status = wanted.get("status", one.status)
    if status != one.status:
        verb = STEPS.get((one.status, str(status)))
        if verb is None:
            raise Impossible(f"there is no way from {one.status} to {status}")
        yield Act(verb, text="" if unarchive == "none" else unarchive, due=due if verb == "extend" else None)
    if due and (one.status, status) != ("EXPIRED", "DRAFT"):
        yield Act("redate", due=due)
    if "name" in wanted and wanted["name"] != one.name:
        yield Act("rename", text=str(wanted["name"]))
    if wanted.get("trashed", one.trashed) is not one.trashed:
        yield Act(TRASHED[wanted["trashed"] is True])


def _due(text: object) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise BadRequest("due") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
