"""What senders do with a package before and after sending it: send it to its signers, and edit its parts."""

from dataclasses import replace
from datetime import datetime

from app.simulator.packages import Action, Event, ImpossibleAction, Package
from app.simulator.signing import Outcome


def activate(package: Package, _: Action, at: datetime) -> Outcome:
    """Send a package to its signers. A template, or a role without the signer of a signature, cannot be sent."""
    if package.type != "PACKAGE":
        raise ImpossibleAction(f"activate is not possible: this is a {package.type.lower()}")
    for approval in package.approvals():
        package.person(approval.role)
    return replace(package, status="SENT"), [Event("PACKAGE_ACTIVATE", package.id, package.sender.id, at)]


def edit(package: Package, action: Action, _: datetime) -> Outcome:
    """Replace attributes of a package. OneSpan sends no event."""
    return replace(package, **action.values), []  # type: ignore[arg-type]
