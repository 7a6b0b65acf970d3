"""An installation with its own copy of the service's code, which a test changes while gunicorn runs."""

import shutil
from pathlib import Path
from typing import Any

from tests.support.processes import BIN, BOOT_SECONDS, HANDLER_MODULE, ROOT, Site, Web, free_port, until

CODE = ("app", "migrations", "config.py", "wsgi.py", "gunicorn.conf.py")
BROKEN = "def broken(:\n"


class Deployment(Site):
    """A site whose processes run the code below `code`, read from disk as in production."""

    def __init__(self, folder: Path, database_url: str, *, handlers: str = "", **settings: str) -> None:
        super().__init__(folder, database_url, handlers=handlers, **settings)
        self.code = folder / "code"
        self.code.mkdir()
        for name in CODE:
            source = ROOT / name
            copy: Any = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self.code / name)
        self.settings_file = folder / "settings.env"
        in_file = (*settings, "ONESPAN_CALLBACK_KEYS", "API_TOKENS", "SPOOL_DIR", "DATABASE_URL")
        self.settings = {name: self.env.pop(name) for name in in_file}
        self.write_settings()
        self.write_handlers(handlers)
        self.env |= {"PYTHONPATH": "", "SETTINGS_FILE": str(self.settings_file)}
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled code makes a start faster

    def write_settings(self, **settings: str) -> None:
        """Change settings in the settings file."""
        self.settings |= settings
        self.settings_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def write_handlers(self, text: str) -> None:
        """Replace the integrator's file with these handlers."""
        self.write("app/handlers.py", HANDLER_MODULE + text)

    def write(self, name: str, text: str) -> None:
        """Replace a file of the code."""
        (self.code / name).write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace a text, which must occur, in a file of the code."""
        text = (self.code / name).read_text()
        assert old in text, name
        self.write(name, text.replace(old, new))

    def break_all(self) -> None:
        """Make every file of the code one that cannot be loaded."""
        for file in self.code.rglob("*.py"):
            file.write_text(BROKEN)
        for folder in list(self.code.rglob("__pycache__")):
            shutil.rmtree(folder)

    def serve(self, *arguments: str, workers: int = 2) -> Web:
        """Start gunicorn as systemd does, and wait until it answers. One more process than `workers` runs handlers."""
        port = free_port()
        self.write_settings(WEB_CONCURRENCY=str(workers), BIND=f"127.0.0.1:{port}")
        web = Web(
            [str(BIN / "gunicorn"), *arguments, "wsgi:app"],
            env=self.env,
            folder=self.code,
            log=self.folder / "gunicorn.log",
        )
        web.port = port
        self.processes.append(web)
        until(lambda: web.answers() or web.ended, seconds=BOOT_SECONDS, what="gunicorn answers")
        assert not web.ended, web.output()
        until(lambda: len(web.children) == workers + 1, what="all workers run")
        return web


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
