"""The Chromium of this machine, for tests that need a browser."""

import os
import shutil

NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
CHROMIUM_REQUIRED = os.environ.get("CHROMIUM") == "required"  # as in CI: a missing browser is a failure
CHROMIUM_MISSING = "Chromium is missing; install it, for example with apt-get install chromium"
