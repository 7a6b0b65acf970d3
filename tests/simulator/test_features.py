"""Tests of the simulator's features: each occurs at its rate, with its callbacks, and only if it is asked for."""

from collections import Counter
from typing import Any

import pytest

from app.simulator import rest_json
from app.simulator.account import Account
from app.simulator.features import FEATURES, SOME
from app.simulator.packages import Package
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from tests.conftest import NOON
from tests.support.onespan_shapes import PACKAGE_SHAPE
from tests.support.simulated import Step, steps


def steps_with(features: dict[str, float], *, seeds: int = 4, **more: Any) -> list[Step]:
    """Return the steps of stories with these features."""
    return [step for seed in range(seeds) for step in steps(Account(seed, packages=25, features=features, **more))]


def packages_with(features: dict[str, float], **more: Any) -> list[Package]:
    """Return the packages of stories with these features, after their last steps."""
    return list({step.after.id: step.after for step in steps_with(features, **more)}.values())


def approvals(package: Package) -> list[Any]:
    """Return the approvals of a package as the REST API shows them."""
    return [shown for document in rest_json.dump_package(package)["documents"] for shown in document["approvals"]]


def test_without_features_packages_have_none():
    """By default no package has a feature, and no random number is drawn for one."""
    plain = [step.after for step in steps_with({})]

    assert plain == [step.after for step in steps_with(dict.fromkeys(FEATURES, 0.0))]
    for package in plain:
        assert not any(role.group or package.is_reviewer(n) for n, role in enumerate(package.roles[:-1]))
        assert not any(approval.optional or approval.disabled for approval in package.approvals())


def test_packages_with_features_have_every_required_member():
    """Packages with features and quirks have the members that OneSpan's OpenAPI document 11.51 requires."""
    quirks = Quirks(reviewer_type="VIEWER", document_order="reversed")
    packages = packages_with(dict.fromkeys(FEATURES, 0.7), seeds=2)

    for package in packages:
        PACKAGE_SHAPE.validate(rest_json.dump_package(package, quirks=quirks))


@pytest.mark.parametrize("feature", ["group", "ad-hoc-group"])
def test_groups_sign_through_their_members(feature):
    """Every member's signature names the member, and different members act for a group."""
    users: Counter[str] = Counter()
    for step in steps_with({feature: 1.0}):
        members = {person.id for role in step.after.roles if role.group for person in role.group.members}
        users.update(event.session_user for event in step.events if event.session_user in members)

    assert len(users) > 50


def test_a_group_in_a_signing_order_signs_in_its_turn():
    """A package with a group completes after the group and all other signers have signed."""
    completed = [package for package in packages_with({"group": 1.0}) if package.status == "COMPLETED"]

    assert len(completed) > 20
    assert all(package.is_signed(n) for package in completed for n, role in enumerate(package.roles) if role.group)


def test_members_of_an_ad_hoc_group_are_roles():
    """The members of an ad hoc group are roles of the package, those of another group are not."""
    for feature, are_roles in (("ad-hoc-group", True), ("group", False)):
        for package in packages_with({feature: 1.0}):
            groups = [role.group for role in package.roles if role.group]
            assert {member in package.people for group in groups for member in group.members} <= {are_roles}


def test_a_member_may_also_sign_alone():
    """A person who is a member of an ad hoc group and a signer sends SIGNER_COMPLETE once for each seat."""
    completions = Counter(
        (event.package_id, event.session_user)
        for step in steps_with({"ad-hoc-group": 1.0, "signing-member": 1.0}, seeds=8)
        for event in step.events
        if event.name == "SIGNER_COMPLETE"
    )

    assert {*completions.values()} == {1, 2}


@pytest.mark.parametrize(("quirk", "look"), [("no", False), ("yes", True)])
def test_reviewers_never_complete(quirk, look):
    """Reviewers send no SIGNER_COMPLETE; by a quirk they open a document."""
    names = {
        event.name
        for step in steps_with({"reviewer": 1.0}, quirks=Quirks(reviewer_views=quirk))
        for event in step.events
        for n, role in enumerate(step.after.roles)
        if role.person and role.person.id == event.session_user and step.after.is_reviewer(n)
    }

    assert names == ({"DOCUMENT_VIEWED"} if look else set())


def test_some_signers_leave_out_optional_signatures():
    """Some completed packages have an unsigned optional signature, and some signers finish without any signature."""
    completed = [package for package in packages_with({"optional": 1.0}) if package.completed]
    shown = [approval for package in completed for approval in approvals(package) if approval["optional"]]

    assert {"signed" in approval for approval in shown} == {True, False}
    assert any(role.finished for package in completed for role in package.roles)


def test_disabled_signatures_stay_unsigned():
    """Disabled signatures, from the start or by a condition during signing, stay unsigned in completed packages."""
    all_steps = steps_with({"disabled": 1.0})
    by_condition = [
        step
        for step in all_steps
        if step.before and {True, False} == {"disabled" in asked for asked in approvals(step.after)}
        if approvals(step.before) != approvals(step.after)
    ]
    completed = [step.after for step in all_steps if step.after.completed]
    shown = [approval for package in completed for approval in approvals(package) if approval.get("disabled")]

    assert len(shown) > 20
    assert by_condition
    assert not any("signed" in approval for approval in shown)


def test_acceptances_are_accepted_and_never_signed():
    """A document that is only filled in and accepted has `accepted` and no `signed` in a completed package."""
    completed = [package for package in packages_with({"acceptance": 1.0}) if package.completed]
    shown = [
        approval
        for package in completed
        for approval in approvals(package)
        if [field["type"] for field in approval["fields"]] == ["INPUT"]
    ]

    assert len(shown) > 20
    assert all("accepted" in approval and "signed" not in approval for approval in shown)


def test_begun_signatures_are_confirmed_later_or_never():
    """Clicks have no event; some are confirmed by a later step, and some stay begun at the end of the story."""
    all_steps = steps_with({"begun": 0.5})
    begun = [step for step in all_steps if step.before and _begun(step.before) < _begun(step.after)]
    ends = {step.after.id: _begun(step.after) for step in all_steps}

    assert len(begun) > 50
    assert not any(step.events for step in begun)
    assert {count > 0 for count in ends.values()} == {True, False}


def _begun(package: Package) -> int:
    shown = [approval for approval in approvals(package) if approval["fields"]]
    return sum("accepted" in approval and "signed" not in approval for approval in shown)


def test_rejected_attachments_are_uploaded_again_or_never():
    """Some rejected attachments are uploaded again, with a second callback, and some stay rejected."""
    all_steps = steps_with({"rejected": 1.0})
    ends = {step.after.id: step.after for step in all_steps}
    statuses = Counter(
        asked.status for package in ends.values() for role in package.roles for asked in role.attachments
    )
    uploads = Counter(
        (event.package_id, event.session_user)
        for step in all_steps
        for event in step.events
        if event.name == "PACKAGE_ATTACHMENT"
    )

    assert min(statuses["REJECTED"], statuses["COMPLETE"]) > 3
    assert {1, 2} <= {*uploads.values()}


def test_deleted_packages_are_brought_back():
    """After PACKAGE_DELETE a package that was brought back has an event again, and answers again."""
    back = [step for step in steps_with({"undeleted": 1.0}, seeds=8) if step.before and step.before.deleted]

    assert {event.name for step in back for event in step.events} == {"PACKAGE_ACTIVATE", "PACKAGE_RESTORE"}
    assert not any(step.after.deleted for step in back)


def test_signers_by_sms_have_no_bounces():
    """A signer without an address has no bounced email, and the package is signed like the others."""
    all_steps = steps_with({"sms": 1.0})
    without = {person.id for step in all_steps for person in step.after.people if person.email is None}
    events = {event.name for step in all_steps for event in step.events if event.session_user in without}

    assert "SIGNER_COMPLETE" in events
    assert "EMAIL_BOUNCE" not in events


def test_attributes_are_shown():
    """Packages have a description and attributes of the sender."""
    shown = [rest_json.dump_package(package) for package in packages_with({"attributes": 1.0})]

    assert any(package["description"] and package["data"] for package in shown)


@pytest.mark.parametrize(
    "anomalies", [{}, {"add-signer": 0.4, "lie": 0.4, "readdress": 0.4, "retention": 0.2}], ids=str
)
def test_all_features_together_make_possible_stories(anomalies):
    """With all features at once, stories never try an impossible action, and packages complete."""
    quirks = Quirks(reviewer_views="yes", reassign_role="stays", trash_updated="stays", package_lag=5)
    all_steps = steps_with(dict.fromkeys(FEATURES, 0.6), seeds=6, anomalies=anomalies, quirks=quirks)

    assert {"COMPLETED", "ARCHIVED", "DECLINED", "EXPIRED"} <= {step.after.status for step in all_steps}


def test_a_populated_account_can_have_features():
    """The copies in a populated account have their own groups, whose members agree with the roles."""
    packages = populated(1, 300, now=NOON, features=SOME).packages()
    groups = [(package, role) for package in packages for role in package.roles if role.group]

    assert len({role.person.id for _, role in groups}) == len(groups) > 20
    for package, role in groups:
        assert {member in package.people for member in role.group.members} == {role.group.is_ad_hoc}
