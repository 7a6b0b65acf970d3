"""The simulated OneSpan in its own process, so that its memory does not count as the service's.

`python -m benchmarks.account '{"packages": 1000, "items": "whole"}'` prints `{"address": ...}` when it is ready. For
each JSON line on standard input, the process prints how many list requests and fetches came since the line before.
The line `{"change": 10}` also changes 10 packages, without a callback.
"""

import gc
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from random import Random

from flask import request

from app.simulator.account import Account
from app.simulator.actions import Action
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.simulator.server import api, serve_in_thread
from benchmarks.child_process import write_message

API_KEY = "the-api-key-of-the-benchmarks"
SEED = 7


def main() -> None:
    """Serve the API of the simulated OneSpan until standard input ends."""
    options, rng, requests = json.loads(sys.argv[1]), Random(SEED), Counter()
    account = populated(SEED, options["packages"], now=_now(), quirks=Quirks(list_items=options["items"]))
    gc.freeze()  # exclude the many packages, which stay in memory, from garbage collection
    app = api(account, api_key=API_KEY, clock=_now)

    @app.before_request
    def count_request() -> None:
        requests["lists" if request.path == "/api/packages" else "fetches"] += 1

    with serve_in_thread(app, port=0) as address:
        write_message(address=address)
        for line in sys.stdin:
            _change_packages(account, rng, json.loads(line).get("change", 0))
            write_message(lists=requests["lists"], fetches=requests["fetches"])
            requests.clear()


def _change_packages(account: Account, rng: Random, count: int) -> None:
    """Change `count` packages: archive those that are completed and trash the rest."""
    changeable = [
        package
        for package in account.packages()
        if not (package.trashed or package.deleted) and package.status != "ARCHIVED"
    ]
    for package in rng.sample(changeable, count):
        account.act(package.id, Action("archive" if package.status == "COMPLETED" else "trash"), now=_now())


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
