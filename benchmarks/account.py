"""OneSpan in a process of its own, so that what it holds is not counted as the service's.

`python -m benchmarks.account '{"packages": 1000, "items": "whole"}'` says `{"address"}`; told `{"change": 10}` so many
packages change without a callback, and told `{"count": true}` it says how many requests there were since it was asked.
"""

import gc
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from random import Random

from flask import request

from app.simulator.account import Account
from app.simulator.actions import Act
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.simulator.server import answering, api

API_KEY = "the-api-key-of-the-benchmarks"
SEED = 7


def main() -> None:
    """Answer until there is nothing more to be told."""
    given, dice, asked = json.loads(sys.argv[1]), Random(SEED), Counter()
    account = populated(SEED, given["packages"], now=_now(), quirks=Quirks(list_items=given["items"]))
    gc.freeze()  # they stay, and are many
    app = api(account, api_key=API_KEY, clock=_now)

    @app.before_request
    def count() -> None:
        asked["lists" if request.path == "/api/packages" else "reads"] += 1

    with answering(app, port=0) as address:
        _say(address=address)
        for line in sys.stdin:
            wanted = json.loads(line)
            _change(account, dice, wanted.get("change", 0))
            _say(lists=asked["lists"], reads=asked["reads"])
            asked.clear()


def _change(account: Account, dice: Random, many: int) -> None:
    """What is complete is archived, all else is trashed."""
    there = [one for one in account.packages() if not (one.trashed or one.deleted) and one.status != "ARCHIVED"]
    for one in dice.sample(there, many):
        account.act(one.id, Act("archive" if one.status == "COMPLETED" else "trash"), now=_now())


def _now() -> datetime:
    return datetime.now(UTC)


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
