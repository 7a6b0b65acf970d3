"""Every setting of the service: its name, its default, its check.

A setting has one name: `DATABASE_URL` in the environment and in the settings file is `database_url` here.
The environment wins over the settings file (`SETTINGS_FILE`, by default `instance/settings.env`).
"""

import difflib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent


class SettingsError(Exception):
    """The settings cannot be used; the message lists every problem and what to do about it."""


class Key(NamedTuple):
    """One secret that opens a door, and the name it is known by in logs and rows."""

    label: str
    secret: SecretStr


# A label is a short word before the first "="; a base64 key that merely ends in "=" has none.
LABELLED = re.compile(r"([A-Za-z0-9_.-]{1,40})=(.*[^=].*)", re.DOTALL)
LABEL_ONLY = re.compile(r"[A-Za-z0-9_.-]{1,40}=+")
BASE64_AT_LEAST = 20  # characters from which on `abc...=` is taken for a padded key
PASSWORD_AT_LEAST = 8  # characters
GENERATED = (  # the secrets of a fresh installation, and what stands before each
    ("ONESPAN_CALLBACK_KEYS", "first="),
    ("API_TOKENS", "first="),
    ("DASHBOARD_PASSWORD", ""),
    ("DASHBOARD_READONLY_PASSWORD", ""),
)
CALLBACK_URL = re.compile(r"https?://[^\s/?#@]+/[^\s?#]+(\?[^\s#]*)?")


def read_keys(text: object) -> object:
    """Read `new=s3cret,older` as keys, in order; blank entries are nobody's key."""
    if not isinstance(text, str):
        return text
    entries = [entry.strip() for entry in text.split(",")]
    keys: list[Key] = []
    for entry in filter(None, entries):
        labelled = LABELLED.fullmatch(entry)
        if not labelled and LABEL_ONLY.fullmatch(entry) and (len(entry) % 4 or len(entry) < BASE64_AT_LEAST):
            raise ValueError("has a label without a key; say label=key")
        label, secret = labelled.groups() if labelled else (f"key-{len(keys) + 1}", entry)
        if not secret.isprintable():  # half of a surrogate pair, too: bytes of the environment that are no text
            raise ValueError("has a key with characters that no header can carry")
        keys.append(Key(label.strip(), SecretStr(secret.strip())))
    return tuple(keys)


Keys = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(read_keys)]


# As browsers write it: scheme, host, and a port only where it is not the scheme's own.
ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def read_origins(text: object) -> object:
    """Read `https://one.example, http://localhost:3000` as origins."""
    if not isinstance(text, str):
        return text
    origins = tuple(filter(None, (entry.strip() for entry in text.split(","))))
    if "*" in origins:
        raise ValueError("takes no *, for then any page could read with a token that it got hold of; name each origin")
    if not all(ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be origins such as https://portal.example.com: no path, no slash at the end")
    return origins


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_origins)]


def read_callback_url(text: str) -> str:
    """The same, if OneSpan can call it. Raises `ValueError` where it has no path, or a user, password or fragment."""
    if not CALLBACK_URL.fullmatch(text) or not text.isprintable():
        raise ValueError("must look like https://sign.example.com/onespan/callback, without a user or password")
    return text


class Settings(BaseSettings):
    """What the operator decided; immutable, and safe to print: secrets hide in `repr`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file_encoding="utf-8", env_ignore_empty=True)

    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///instance/status.db"),
        description="Where everything is kept: SQLite for one machine, PostgreSQL for any number.",
    )
    onespan_callback_keys: Keys = Field(
        default=(),
        description="Callback keys we believe, comma-separated, newest first; an entry may be label=key.",
    )
    callback_url: str | None = Field(
        default=None,
        description="The public address OneSpan shall call, e.g. https://sign.example.com/onespan/callback.",
    )
    onespan_url: str | None = Field(
        default=None,
        description="OneSpan Sign's address, e.g. https://sandbox.esignlive.com; without it nothing is asked.",
    )
    onespan_api_key: SecretStr | None = Field(default=None, description="API key for OneSpan's REST API.")
    onespan_client_id: str | None = Field(default=None, description="Client id, instead of an API key.")
    onespan_client_secret: SecretStr | None = Field(
        default=None, validate_default=True, description="Secret of that client id."
    )
    onespan_auth: Literal["client-app", "oauth2"] = Field(
        default="client-app",
        description="Where a client id gets its tokens: client-app, or oauth2 for client credentials.",
    )
    reconcile_hours: Literal[6, 12, 24] = Field(
        default=6, description="Hours between two times of asking OneSpan what was missed: 6, 12 or 24."
    )
    onespan_requests_per_minute: int = Field(
        default=300,
        ge=5,
        le=100_000,
        description="Requests of OneSpan a minute, by all processes; reconciles leave a fifth to single reads.",
    )
    missed_grace_minutes: int = Field(
        default=60,
        ge=1,
        le=10_000,
        description="How long a callback may still come for a fact that a reading found, before it counts as missed.",
    )
    api_tokens: Keys = Field(
        default=(), description="Bearer tokens of the JSON API, comma-separated; an entry may be label=token."
    )
    cors_origins: Origins = Field(
        default=(),
        description="Whose pages may read the JSON API in a browser: origins, comma-separated.",
    )
    dashboard_password: SecretStr | None = Field(
        default=None, description="The dashboard's login for those who may act; 8 characters or more."
    )
    dashboard_readonly_password: SecretStr | None = Field(
        default=None, description="The dashboard's login for those who may only look; another one than the first."
    )
    proxies: int = Field(
        default=0,
        ge=0,
        le=10,
        description="Proxies before the service, each of which adds to X-Forwarded-For; with 0 that is not believed.",
    )
    worker: Literal["embedded", "external"] = Field(
        default="embedded",
        description="embedded: every gunicorn worker also works; external: only `flask worker` does.",
    )
    handler_threads: int = Field(
        default=4, ge=1, le=64, description="How many events one handler may work on at once, per process."
    )
    handler_lease_seconds: float = Field(
        default=60,
        ge=1,
        le=3600,
        description="How long after a process dies its unfinished handler runs are taken over.",
    )
    spool_dir: Path = Field(
        default=Path("instance/spool"),
        description="Where callbacks are kept while the database is away; a durable local disk.",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="json, or text for people.")
    bind: str = Field(
        default="127.0.0.1:8000", description="Where gunicorn listens: address:port, or unix:/path/of/a/socket."
    )
    web_concurrency: int = Field(default=2, ge=1, le=64, description="Processes of gunicorn.")
    web_threads: int = Field(
        default=16, ge=4, le=256, description="Requests that each process answers at once; some are kept for callbacks."
    )

    @property
    def address(self) -> str:
        """Where a person on this machine reaches the service."""
        host, _, port = self.bind.rpartition(":")
        if self.bind.startswith("unix:"):
            return "http://localhost"
        return f"http://{host if host not in ('', '0.0.0.0', '[::]') else '127.0.0.1'}:{port}"  # noqa: S104

    @field_validator("reconcile_hours", mode="before")
    @classmethod
    def _hours_are_a_number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.strip().isdigit() else value

    @field_validator("database_url")
    @classmethod
    def _database_is_one_we_know(cls, value: SecretStr) -> SecretStr:
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            raise ValueError("is not a database URL; try sqlite:///instance/status.db") from None
        if url.drivername.partition("+")[0] in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError("must be a sqlite:/// or a postgresql:// URL; other databases do not work")
        if url.get_backend_name() == "sqlite" and (not url.database or url.database.startswith((":", "file:"))):
            raise ValueError("must name a file, such as sqlite:///instance/status.db; one in memory forgets all")
        if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("/"):
            url = url.set(database=str(ROOT / url.database))
        return SecretStr(url.render_as_string(hide_password=False))

    @field_validator("bind")
    @classmethod
    def _bind_is_a_place(cls, value: str) -> str:
        if not re.fullmatch(r"unix:.+|(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]*):[0-9]{1,5}", value):
            raise ValueError("must look like 127.0.0.1:8000, [::1]:8000 or unix:/run/onespan.sock")
        return value

    @field_validator("onespan_url")
    @classmethod
    def _onespan_is_an_address(cls, value: str | None) -> str | None:
        value = value.strip() if value is not None else None
        if value and not (value.isprintable() and re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value)):
            raise ValueError("must look like https://sandbox.esignlive.com, without a user or password")
        return value.rstrip("/") if value else None

    @field_validator("onespan_api_key", "onespan_client_id", "onespan_client_secret", mode="before")
    @classmethod
    def _header_can_carry_it(cls, value: object) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str):
            return value
        text = text.strip()  # a file that holds a key ends in a newline
        if not (text.isascii() and text.isprintable()):
            raise ValueError("has characters that no header can carry")
        return text or None

    @field_validator("callback_url")
    @classmethod
    def _callback_url_can_be_called(cls, value: str | None) -> str | None:
        return read_callback_url(value.strip()) if value is not None else None

    @field_validator("onespan_callback_keys", "api_tokens")
    @classmethod
    def _labels_are_told_apart(cls, value: tuple[Key, ...]) -> tuple[Key, ...]:
        labels = [key.label for key in value]
        if len(set(labels)) < len(labels):
            raise ValueError("two entries have the same label; give each its own")
        return value

    @field_validator("dashboard_password", "dashboard_readonly_password")
    @classmethod
    def _password_is_no_word(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (value.get_secret_value().isprintable() and len(value) >= PASSWORD_AT_LEAST):
            raise ValueError(f"must have {PASSWORD_AT_LEAST} characters or more, all of which can be typed")
        return value

    @field_validator("dashboard_readonly_password")
    @classmethod
    def _passwords_are_told_apart(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and value == info.data.get("dashboard_password"):
            raise ValueError("must not be DASHBOARD_PASSWORD: whoever has it may act")
        return value

    @field_validator("spool_dir")
    @classmethod
    def _spool_is_below_us(cls, value: Path) -> Path:
        return ROOT / value

    @field_validator("onespan_client_secret")
    @classmethod
    def _client_is_whole(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if bool(value) != bool(info.data.get("onespan_client_id")):
            raise ValueError("goes together with ONESPAN_CLIENT_ID; set both or neither")
        return value


def settings_file() -> Path:
    """Where settings are read from, beside the environment."""
    return ROOT / os.environ.get("SETTINGS_FILE", "instance/settings.env")


def generate_settings(file: Path) -> bool:
    """Write a settings file with fresh secrets, readable only for us. Returns False where there is one already."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as text:
        text.write("# Secrets of this installation. README.md says what each setting means.\n")
        for name, label in GENERATED:
            text.write(f"{name}={label}{secrets.token_urlsafe(24)}\n")
        text.write("LOG_FORMAT=text\n")
    return True


def load_settings() -> Settings:
    """Read the environment and the settings file.

    Raises `SettingsError` with every problem at once. No value is repeated in the message: it may be a secret.
    """
    file = settings_file()
    problems = []
    try:
        if file.is_file():
            problems += [*_unreadable(file), *_misspelt(dotenv_values(file))]
        settings = Settings(_env_file=file if file.is_file() else None)
    except ValidationError as error:
        problems += _problems(error)
    except OSError as error:
        problems += [f"  SETTINGS_FILE: {file} cannot be read: {error.strerror}"]
    if problems:
        raise SettingsError("\n".join(["These settings need a hand before the service can start:", *problems]))
    return settings


def require_settings_file() -> None:
    """Raise `SettingsError` where `SETTINGS_FILE` names a file that is not there: its settings would be missed."""
    file = settings_file()
    if "SETTINGS_FILE" in os.environ and (not file.exists() or file.is_dir()):
        raise SettingsError(f"SETTINGS_FILE: there is no file {file}. `flask setup` writes one with fresh secrets.")


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        field = Settings.model_fields.get(name.lower())
        what = problem["msg"].removeprefix("Value error, ")
        lines.append(f"  {name or 'settings'}: {what}" + (f"\n    {field.description}" if field else ""))
    return lines


def _unreadable(file: Path) -> list[str]:
    """Lines that the library would pass over."""
    with file.open(encoding="utf-8") as text:
        wrong = [part.original.line for part in parse_stream(text) if part.error]
    return [f"  {file}: line {line} is no NAME=value; is a quote not closed?" for line in wrong]


def _misspelt(names: Iterable[str]) -> list[str]:
    """The file may have other programs' variables in it, but a name that is nearly one of ours is a mistake."""
    ours = [name.upper() for name in Settings.model_fields]
    close = {name: difflib.get_close_matches(name.upper(), ours, n=1, cutoff=0.85) for name in names}
    return [
        f"  {name}: is no setting; is {near[0]} meant?"
        for name, near in close.items()
        if near and near[0] != name.upper()
    ]
