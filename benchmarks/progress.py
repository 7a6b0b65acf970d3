"""A progress line on the terminal. It prints nothing when standard error is not a terminal."""

import sys
import time

UPDATE_SECONDS = 0.5


class Progress:
    """A progress line. Call `show` as often as you like, and `end` before anything else is printed."""

    def __init__(self) -> None:
        self._next_update = 0.0 if sys.stderr.isatty() else float("inf")

    def show(self, line: str) -> None:
        """Replace the progress line, at most once every `UPDATE_SECONDS`."""
        if time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + UPDATE_SECONDS
            self._write(f"\r\033[K  {line}")

    def end(self) -> None:
        """Clear the progress line."""
        if sys.stderr.isatty():
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
