"""Tests of the event catalogue: all that the service does with an event follows from the event's row."""

import json
import subprocess
import sys

from config import ROOT

# A program that adds a row to the catalogue before any other module reads the catalogue.
PROGRAM = """
import json, sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location

spec = spec_from_file_location("app.onespan.event_catalogue", "app/onespan/event_catalogue.py")
catalogue = sys.modules[spec.name] = module_from_spec(spec)
spec.loader.exec_module(catalogue)
rows = [*catalogue.CATALOGUE.values()]
place = [row.name for row in rows].index("PACKAGE_COMPLETE") + 1
sentence, description = "{who} stapled the pages", "a signer stapled the pages"
row = catalogue.EventType("PACKAGE_STAPLED", sentence, description, by_signer=True)
catalogue.CATALOGUE = {kind.name: kind for kind in [*rows[:place], row, *rows[place:]]}

from app.onespan.callbacks import parse_callback
from app.onespan.event_catalogue import life_rank, nearest_name
from app.onespan.registration import DEFAULT_EVENTS
from app.handling import Handlers, Package
from app.store.queries import EventDetail
from app.store.queries.reconciles import FINDABLE
from app.web.api.examples import ANSWERS
from app.web.dashboard import labels

Handlers().on("PACKAGE_STAPLED")
later = ("PACKAGE_COMPLETE", "PACKAGE_STAPLED", "PACKAGE_DECLINE", "PACKAGE_HATCHED")
print(json.dumps({
    "sentence": labels.sentence(ANSWERS[Package], replace(ANSWERS[EventDetail], name="PACKAGE_STAPLED")),
    "signer": parse_callback(b'{"name": "PACKAGE_STAPLED", "packageId": "p", "sessionUser": "ada"}').signer_id,
    "in_order": sorted(later, key=life_rank) == list(later),
    "suggested": nearest_name("PACKAGE_STAPLE"),
    "registered": "PACKAGE_STAPLED" in DEFAULT_EVENTS,
    "findable": "PACKAGE_STAPLED" in FINDABLE,
}))
"""


def test_all_else_follows_from_a_new_row():
    """A new row is enough for an event's sentence, signer, order, registration, and for what a sync can find."""
    program = [sys.executable, "-c", PROGRAM]

    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "sentence": "Ben Signer stapled the pages",
        "signer": "ada",
        "in_order": True,
        "suggested": "PACKAGE_STAPLED",
        "registered": True,
        "findable": True,
    }
