"""The API, the list, the page and the CSV file agree on who owes a signature and whose turn it is."""

import csv
import io

import pytest

from tests.conftest import ADA, BEN, TOKEN
from tests.support.histories import PACKAGE, block, group, seat, shown
from tests.support.logins import log_in, with_passwords
from tests.support.simulation import with_onespan

DAN, EVA, REVIEWER = "dan", "eva", "reviewer"
SEATS = [seat(REVIEWER), seat(ADA), group("board", BEN, EVA), seat(DAN), seat(BEN), seat(EVA, index=2)]


@pytest.fixture
def settings(settings):
    """Settings with the address of OneSpan, and with passwords for the pages."""
    return with_onespan(with_passwords(settings))


@pytest.fixture
def read_all(history, client):
    """Return what each edge says: the signers who owe, the number who have signed, and the names who are next."""
    assert log_in(client, name="Mia").status_code == 303

    def read_all():
        package = history.package
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = client.get(f"/api/packages/{PACKAGE}", headers=headers).json
        (listed,) = client.get("/api/packages", headers=headers).json["items"]
        with client.get("/transactions.csv") as file:  # closes it, as only a few exports may run at a time
            (row,) = csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff")))
        page = " ".join(client.get(f"/transactions/{PACKAGE}").text.split())
        names = [signer.name for signer in package.signers if signer.id in package.next_signers]
        return {
            "answer": (answer["signers_total"], answer["signers_completed"], tuple(answer["next_signers"])),
            "listed": (listed["signers_total"], listed["signers_completed"], tuple(listed["next_signers"])),
            "package": (package.signers_total, package.signers_completed, package.next_signers),
            "signers": (
                sum(signer["owes"] for signer in answer["signers"]),
                sum(signer["status"] == "COMPLETED" for signer in answer["signers"]),
                tuple(signer["id"] for signer in answer["signers"] if signer["id"] in answer["next_signers"]),
            ),
            "csv": (int(row["signers_total"]), int(row["signers_signed"]), package.next_signers),
            "csv names": row["waiting_for"] == "; ".join(names),
            "page": f"{package.signers_completed} of {package.signers_total} signed" in page,
        }

    return read_all


@pytest.mark.parametrize(
    ("blocks", "status", "expected"),
    [
        ([block(ADA), block("board"), block(DAN, optional=True), block(EVA)], "SENT", (4, 0, (ADA, "board", DAN))),
        ([block(ADA, disabled=True), block("board"), block(EVA)], "SENT", (2, 0, ("board",))),
        ([block(EVA), block(ADA, field="INPUT")], "SENT", (2, 0, (ADA,))),
        ([block(DAN, optional=True), block(ADA)], "COMPLETED", (2, 2, ())),
        ([block(ADA), block("board")], "DRAFT", (2, 0, ())),
    ],
    ids=["all kinds", "disabled", "accepted only", "complete", "draft"],
)
def test_all_edges_agree(history, read_all, blocks, status, expected):
    """Reviewers and signers whose blocks are all disabled owe nothing, on all edges alike."""
    history.serve(shown(SEATS, *blocks, status=status))
    history.callback("PACKAGE_CREATE", at=history.ago(24 * 3600))
    history.fetch()

    found = read_all()
    assert found.pop("csv names")
    assert found.pop("page")
    assert found == dict.fromkeys(found, expected)
