"""How gunicorn runs the service; it reads this file by itself. Every setting can be given on its command line."""

import gc
import sys
from typing import Any

from config import SettingsError, load_settings, require_settings_file

try:
    require_settings_file()
    _settings = load_settings()
except SettingsError as problem:
    sys.exit(str(problem))

bind = _settings.bind
workers = _settings.web_concurrency
worker_class = "gthread"
threads = _settings.web_threads
keepalive = 5
control_socket_disable = True  # nothing here is managed at run time
graceful_timeout = 55  # a held request of the changes feed may take 25 s, then handlers get 25 s to end
timeout = 60


def _service_of(app: Any) -> Any:
    from app import EXTENSION  # noqa: PLC0415  (gunicorn reads this file before it may load the app)

    return app.extensions[EXTENSION]


def post_worker_init(worker: Any) -> None:
    """Begin to work, in the process that was just forked; with WORKER=external only what each process must."""
    gc.freeze()  # what is loaded by now stays: spare the collector from looking through it again and again
    service = _service_of(worker.wsgi)
    service.presence.open_door()
    if service.settings.worker == "embedded":
        service.worker.start()
    else:
        service.worker.start_upkeep()


def worker_exit(
    server: Any,  # noqa: ARG001  (gunicorn passes it)
    worker: Any,
) -> None:
    """Finish what was taken, or hand it back."""
    if app := getattr(worker, "wsgi", None):  # there is none when it could not be loaded
        _service_of(app).worker.stop(grace=25)
