"""How far it is: a line on the terminal that renews itself, and nothing elsewhere."""

import sys
import time

SHOWN_EVERY = 0.5  # seconds


class Progress:
    """`show` as often as you like, `end` before anything else is printed."""

    def __init__(self) -> None:
        self._next = 0.0 if sys.stderr.isatty() else float("inf")

    def show(self, line: str) -> None:
        """Renew it."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SHOWN_EVERY
            self._write(f"\r\033[K  {line}")

    def end(self) -> None:
        """Leave the terminal clean."""
        if sys.stderr.isatty():
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
