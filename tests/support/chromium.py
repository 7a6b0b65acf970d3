"""The browser of this machine, for tests that need a real one."""

import os
import shutil

NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
MUST_BE_THERE = os.environ.get("CHROMIUM") == "required"  # CI says so: there a missing one is a failure
MISSED = "there is no Chromium here; install one, such as by apt-get install chromium"
