"""Gunicorn's configuration, which it loads by itself. Command-line options override these values."""

import gc
import os
import sys
from typing import Any

import structlog

from app import EXTENSION
from app.captured_logs import ServiceLogger
from app.logs import configure
from app.web.reload import MainProcess
from app.web.server import ReceiverWorker
from app.web.work_process import WorkProcess
from config import SettingsError, load_settings, require_settings_file

log = structlog.get_logger()

try:
    require_settings_file()
    _settings = load_settings()
except SettingsError as error:
    sys.exit(str(error))

configure(_settings.log_format)
logger_class = ServiceLogger
preload_app = True  # a worker that dies is replaced from memory, whatever lies on disk
bind = _settings.bind
workers = _settings.web_concurrency
worker_class = ReceiverWorker
threads = _settings.web_threads
keepalive = 75  # longer than a proxy in front keeps a connection that it does not use, usually 60 s
# In memory where possible: a full or slow disk must not keep workers from starting.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108
# No header may change the path: by default gunicorn lets clients on this machine send SCRIPT_NAME and PATH_INFO.
forwarder_headers = ""
header_map = "drop"  # headers with an underscore, which could pass for others
control_socket_disable = True  # the service is not managed at run time
graceful_timeout = 55  # the changes feed holds a request up to 25 s; after that, handlers get 25 s to finish
timeout = 60


def _service_of(app: Any) -> Any:
    return app.extensions[EXTENSION]


def on_starting(server: Any) -> None:
    """Log what is not safe in the settings, once and not in each worker process. Reload as `app.web.reload` does."""
    for warning in _settings.warnings:
        log.warning("settings.unsafe", warning=warning)
    server.__class__ = MainProcess
    server.take_over(has_work=_settings.worker == "embedded")


def post_worker_init(worker: Any) -> None:
    """Start the worker's threads in a `WorkProcess`, and only the scheduler in a process that serves."""
    gc.freeze()  # loaded modules stay in memory; exclude them from garbage collection
    service = _service_of(worker.app.wsgi())
    service.database.after_fork()
    if isinstance(worker, WorkProcess):
        service.worker.start()
    else:
        service.heartbeat.mark_as_receiver()
        service.worker.start_scheduler()


def worker_exit(
    server: Any,  # noqa: ARG001  (gunicorn passes it)
    worker: Any,
) -> None:
    """Wait up to 25 s for running handlers, then hand back their runs to other processes."""
    _service_of(worker.app.wsgi()).worker.stop(grace=25)
