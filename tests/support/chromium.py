"""The Chromium of this machine, for tests that need a browser."""

import os
import shutil

NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
MUST_BE_THERE = os.environ.get("CHROMIUM") == "required"  # as in CI, where a missing one is a failure
MISSED = "Chromium is missing; install it, for example with apt-get install chromium"
