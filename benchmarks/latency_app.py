"""The service with one handler that logs its start time. gunicorn runs `benchmarks.latency_app:create()`."""

import os
import time

from flask import Flask

from app import create_app
from app.handling import Event, Handlers, Package


def create() -> Flask:
    """Create the app. Its handler logs the times `SENT STARTED`, in seconds since 1970, to the file `BENCHMARK_LOG`."""
    handlers = Handlers()
    log = os.open(os.environ["BENCHMARK_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @handlers.on("*")
    def log_start(event: Event, package: Package) -> None:  # noqa: ARG001  (handlers take both)
        os.write(log, f"{event.message} {time.time():.6f}\n".encode())

    return create_app(handlers=handlers)
