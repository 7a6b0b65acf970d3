"""Every setting of the service, with its default and its validation.

`DATABASE_URL` in the environment and in the settings file is `database_url` in this module.
The environment overrides the settings file (`SETTINGS_FILE`, by default `instance/settings.env`).
"""

import difflib
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent


class SettingsError(Exception):
    """The settings are not valid; the message lists every problem and how to fix it."""


class Key(NamedTuple):
    """A secret key or token, and the label that names it in logs and rows.

    An API token without `may_act` can only read. It works until the end of its `last_day` (UTC), if it has one.
    """

    label: str
    secret: SecretStr
    may_act: bool = True
    last_day: date | None = None


class DashboardUser(NamedTuple):
    """A user of the dashboard with an own password, of which only the hash is known."""

    name: str
    password_hash: SecretStr
    has_full_access: bool = True


# A label is a short word before the first "="; a base64 key that merely ends in "=" has no label.
LABELLED = re.compile(r"([A-Za-z0-9_.-]{1,40})=(.*[^=].*)", re.DOTALL)
LABEL_ONLY = re.compile(r"[A-Za-z0-9_.-]{1,40}=+")
MIN_BASE64_KEY_LENGTH = 20  # characters; a longer `abc...=` is read as a padded key, not as a label
MIN_PASSWORD_LENGTH = 8  # characters of a dashboard password
SAFE_SECRET_LENGTH = 16  # characters; a shorter secret is accepted with a warning
# A label with a scope or a last day, as in `crm:read:2027-01-31=token`.
SCOPED = re.compile(r"(?P<label>[A-Za-z0-9_.-]{1,40})(?P<scope>(:[a-z]{2,8}|:[0-9][0-9-]+)+)=(?P<secret>.*)", re.DOTALL)
USER_NAME = re.compile(r"[\w.-]+( [\w.-]+)*")
MAX_USER_NAME_LENGTH = 60
PASSWORD_HASH = re.compile(
    r"(scrypt:(4096|8192|16384|32768|65536|131072):[0-9]{1,2}:[0-9]{1,2}|pbkdf2:sha(1|256|512)(:[0-9]{1,8})?)"
    r"\$[^$\s]+\$[0-9a-f]{32,}"
)
GENERATED_SECRETS = (  # setting and label of each secret of a new installation
    ("ONESPAN_CALLBACK_KEYS", "first="),
    ("API_TOKENS", "first="),
    ("DASHBOARD_PASSWORD", ""),
    ("DASHBOARD_READONLY_PASSWORD", ""),
)
ONESPAN_URL = re.compile(
    r"(?P<origin>https?://([^\s/?#@\\:\[\]]+|\[[0-9a-f:.]+\])(:[0-9]+)?)(?P<rest>[^\s@]*)", re.IGNORECASE
)
PASTED_SCHEME = re.compile(r"basic\s+(?=\S)", re.IGNORECASE | re.ASCII)
CALLBACK_URL = re.compile(r"https?://[^\s/?#@]+/[^\s?#]+(\?[^\s#]*)?")


def parse_keys(text: object) -> object:
    """Parse `new=s3cret,older` into keys, in order; blank entries are dropped."""
    if not isinstance(text, str):
        return text
    entries = [entry.strip() for entry in text.split(",")]
    keys: list[Key] = []
    for entry in filter(None, entries):
        labelled = LABELLED.fullmatch(entry)
        if not labelled and LABEL_ONLY.fullmatch(entry) and (len(entry) % 4 or len(entry) < MIN_BASE64_KEY_LENGTH):
            raise ValueError("has a label without a key; write label=key")
        label, secret = labelled.groups() if labelled else (f"key-{len(keys) + 1}", entry)
        if not secret.isprintable():  # also rejects lone surrogates, from environment bytes that are not UTF-8
            raise ValueError("has a key with characters that are not allowed in an HTTP header")
        keys.append(Key(label.strip(), SecretStr(secret.strip())))
    return tuple(keys)


Keys = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(parse_keys)]


def parse_tokens(text: object) -> object:
    """Parse `crm=token, portal:read=token, job:act:2027-01-31=token` into keys; without a scope a token may do all."""
    if not isinstance(text, str):
        return text
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    scoped = [SCOPED.fullmatch(entry) for entry in entries]
    plain = (_unscoped(match) if match else entry for match, entry in zip(scoped, entries, strict=True))
    keys = parse_keys(",".join(plain))
    assert isinstance(keys, tuple)
    return tuple(_with_scope(key, match["scope"]) if match else key for key, match in zip(keys, scoped, strict=True))


def _unscoped(entry: re.Match[str]) -> str:
    if not entry["secret"].strip(" ="):
        raise ValueError("has a label without a token; write label:read=token")
    return f"{entry['label']}={entry['secret']}"


def _with_scope(key: Key, scope: str) -> Key:
    """Return a token with its scope, such as `:read` or `:act:2027-01-31`. Raises `ValueError` for any other scope."""
    word, _, day = scope.removeprefix(":").partition(":")
    if word not in ("read", "act"):
        word, day = "act", scope.removeprefix(":")
    try:
        return key._replace(may_act=word == "act", last_day=date.fromisoformat(day) if day else None)
    except ValueError:
        raise ValueError(
            "has an entry with an unknown scope or date; write label:read=token, label:act=token or "
            "label:read:2027-01-31=token. A token that itself begins so needs a label: label=token"
        ) from None


Tokens = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(parse_tokens)]


def parse_users(text: object) -> object:
    """Parse `ada:scrypt:..., ben:view:scrypt:...`, separated by commas or line breaks, into users."""
    if not isinstance(text, str):
        return text
    users = []
    for entry in filter(None, (entry.strip() for entry in re.split(r"[,\n]", text))):
        name, _, secret = entry.partition(":")
        password_hash = secret.removeprefix("view:")
        if (
            len(name) > MAX_USER_NAME_LENGTH
            or not USER_NAME.fullmatch(name)
            or not PASSWORD_HASH.fullmatch(password_hash)
        ):
            raise ValueError("must have entries such as ada:scrypt:...; `flask hash-password` prints one")
        users.append(DashboardUser(name, SecretStr(password_hash), password_hash == secret))
    if len({user.name.casefold() for user in users}) < len(users):
        raise ValueError("has a name twice; upper and lower case do not count")
    return tuple(users)


Users = Annotated[tuple[DashboardUser, ...], NoDecode, BeforeValidator(parse_users)]


# An origin as browsers send it: scheme, host, and the port unless it is the default port.
ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def parse_origins(text: object) -> object:
    """Parse `https://portal.example, http://localhost:3000` into origins."""
    if not isinstance(text, str):
        return text
    origins = tuple(filter(None, (entry.strip() for entry in text.split(","))))
    if "*" in origins:
        raise ValueError("cannot be *, because any page could then read with a leaked token; list each origin")
    if not all(ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be origins such as https://portal.example.com, without a path or trailing slash")
    return origins


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_origins)]


def validate_callback_url(text: str) -> str:
    """Return the URL if OneSpan can call it.

    Raises `ValueError` if the URL has no path, or has a user, password or fragment.
    """
    if not CALLBACK_URL.fullmatch(text) or not text.isprintable():
        raise ValueError("must look like https://sign.example.com/onespan/callback, without a user or password")
    return text


def normalize_onespan_url(text: str) -> str:
    """Return scheme and host of OneSpan's address in lower case, without `/api`, which request paths begin with.

    Raises `ValueError` that says what to write if the address has another path, a query, a user or a password.
    """
    address = ONESPAN_URL.fullmatch(text)
    if address is None or not text.isprintable() or not _has_valid_port(text):
        raise ValueError("must look like https://sandbox.esignlive.com, without a user or password")
    origin = address["origin"].lower()
    if not re.fullmatch(r"/*(api)?/*", address["rest"], re.IGNORECASE):
        raise ValueError(f"has a path or query after the host; write only {origin}")
    return origin


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def without_scheme(key: str) -> str:
    """Return a key without the `Basic ` that precedes it in an Authorization header and is often pasted with it."""
    return PASTED_SCHEME.sub("", key)


PUBLIC_WITHOUT_PROXY = (
    "Other machines reach BIND without a proxy, so secrets travel in plain text: put a proxy in front, such as that of "
    "deploy/nginx.conf.example, and set PROXIES=1."
)


class Settings(BaseSettings):
    """The operator's settings: immutable, and safe to print because `repr` hides secrets."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file_encoding="utf-8", env_ignore_empty=True)

    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///instance/status.db"),
        description="The database URL. SQLite serves one machine, PostgreSQL any number. "
        "A relative SQLite path starts at the project folder.",
    )
    onespan_callback_keys: Keys = Field(
        default=(),
        description="The callback keys that are accepted, comma-separated, newest first. An entry may be label=key. "
        "By default there are none, and every callback is rejected.",
    )
    callback_url: str | None = Field(
        default=None,
        description="The public URL that OneSpan calls, such as https://sign.example.com/onespan/callback. "
        "By default it is not set.",
    )
    onespan_url: str | None = Field(
        default=None,
        description="The address of OneSpan Sign without a path, such as https://sandbox.esignlive.com. "
        "By default it is not set, and no request is made to OneSpan.",
    )
    onespan_api_key: SecretStr | None = Field(
        default=None,
        description="The API key for OneSpan's REST API, without `Basic `. OneSpan recommends OAuth 2.0 instead. "
        "By default it is not set.",
    )
    onespan_client_id: str | None = Field(
        default=None, description="The client id, used instead of an API key. By default it is not set."
    )
    onespan_client_secret: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description="The secret of ONESPAN_CLIENT_ID. Set both or neither; by default neither is set.",
    )
    onespan_auth: Literal["client-app", "oauth2"] = Field(
        default="client-app",
        description="How a client id gets its tokens: client-app (the default), or oauth2 (client credentials of "
        "OAuth 2.0, which OneSpan recommends).",
    )
    reconcile_hours: Literal[6, 12, 24] = Field(
        default=6, description="Hours from one reconcile with OneSpan to the next: 6, 12 or 24."
    )
    onespan_requests_per_minute: int = Field(
        default=300,
        ge=5,
        le=100_000,
        description="The most requests to OneSpan per minute, by all processes together. "
        "A reconcile uses at most 80 % of it; the rest is for fetches of single packages.",
    )
    missed_grace_minutes: int = Field(
        default=60,
        ge=1,
        le=10_000,
        description="Minutes to wait for the callback of an event that reconcile found, before it counts as missed.",
    )
    api_tokens: Tokens = Field(
        default=(),
        description="The bearer tokens of the JSON API, comma-separated. An entry may be label=token, "
        "label:read=token, which can only read, or label:act=token; a date as in label:read:2027-01-31=token is the "
        "last day (UTC) on which it works. By default there are none, and the API rejects every request.",
    )
    cors_origins: Origins = Field(
        default=(),
        description="The origins whose pages may read the JSON API in a browser, comma-separated. "
        "By default there are none.",
    )
    dashboard_password: SecretStr | None = Field(
        default=None,
        description="The dashboard password with full access, 8 characters or more. "
        "By default it is not set, and full access is disabled.",
    )
    dashboard_readonly_password: SecretStr | None = Field(
        default=None,
        description="The dashboard password with view-only access, 8 characters or more. "
        "It must differ from DASHBOARD_PASSWORD. By default it is not set.",
    )
    dashboard_users: Users = Field(
        default=(),
        description="Users with their own passwords, separated by commas or line breaks, each as "
        "`flask hash-password` prints it: name:hash, or name:view:hash for view-only access. "
        "By default there are none.",
    )
    proxies: int = Field(
        default=0,
        ge=0,
        le=10,
        description="The number of proxies in front of the service that append to X-Forwarded-For. "
        "With 0, the default, that header is ignored.",
    )
    worker: Literal["embedded", "external"] = Field(
        default="embedded",
        description="Where handlers run: embedded, in a process of gunicorn that does nothing else, "
        "or external, only in `flask worker`.",
    )
    handler_threads: int = Field(
        default=4,
        ge=1,
        le=64,
        description="The number of events that one handler processes at once, in each process that runs handlers.",
    )
    handler_lease_seconds: float = Field(
        default=60,
        ge=1,
        le=3600,
        description="Seconds after which another process takes over the handler runs of a process that died.",
    )
    spool_dir: Path = Field(
        default=Path("instance/spool"),
        description="The folder that keeps callbacks while the database is unavailable, by default instance/spool. "
        "It must be on a durable local disk.",
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="The format of log lines: json (the default), or text for reading in a terminal."
    )
    bind: str = Field(
        default="127.0.0.1:8000",
        description="Where gunicorn listens: address:port, or unix:/path/of/a/socket.",
    )
    web_concurrency: int = Field(
        default=2, ge=1, le=64, description="The number of gunicorn processes that answer requests."
    )
    web_threads: int = Field(
        default=16,
        ge=4,
        le=256,
        description="The number of requests that each process answers at once. One in four is reserved for callbacks.",
    )

    @property
    def callback_keys(self) -> tuple[Key, ...]:
        """The accepted callback keys. A key that was pasted with `Basic ` counts with and without it."""
        spellings = ((key, without_scheme(key.secret.get_secret_value())) for key in self.onespan_callback_keys)
        return tuple(
            Key(key.label, SecretStr(secret))
            for key, bare in spellings
            for secret in dict.fromkeys((bare, key.secret.get_secret_value()))
        )

    @property
    def pasted_schemes(self) -> list[str]:
        """The names of the settings and callback keys that begin with `Basic `."""
        secrets_by_name = {f"the callback key {key.label}": key.secret for key in self.onespan_callback_keys}
        if self.onespan_api_key:
            secrets_by_name["ONESPAN_API_KEY"] = self.onespan_api_key
        return [name for name, secret in secrets_by_name.items() if PASTED_SCHEME.match(secret.get_secret_value())]

    @property
    def warnings(self) -> list[str]:
        """What is accepted but not safe: short secrets, plain HTTP, and a public address without a proxy."""
        secrets_by_name = {
            **{f"the callback key {key.label}": key.secret for key in self.onespan_callback_keys},
            **{f"the API token {key.label}": key.secret for key in self.api_tokens},
            "ONESPAN_API_KEY": self.onespan_api_key,
            "ONESPAN_CLIENT_SECRET": self.onespan_client_secret,
            "DASHBOARD_PASSWORD": self.dashboard_password,
            "DASHBOARD_READONLY_PASSWORD": self.dashboard_readonly_password,
        }
        urls = {"ONESPAN_URL": self.onespan_url, "CALLBACK_URL": self.callback_url}
        urls |= {f"CORS_ORIGINS: {origin}": origin for origin in self.cors_origins}
        return [
            *(
                f"{name} has fewer than {SAFE_SECRET_LENGTH} characters, so it can be guessed: "
                "set a longer one, such as `openssl rand -hex 24` prints."
                for name, secret in secrets_by_name.items()
                if secret is not None and len(without_scheme(secret.get_secret_value())) < SAFE_SECRET_LENGTH
            ),
            *(
                f"{name} begins with http://, so others on the network can read the secrets sent there: use https://."
                for name, url in urls.items()
                if url and url.lower().startswith("http://") and not _is_loopback(url)
            ),
            *([PUBLIC_WITHOUT_PROXY] if self.proxies == 0 and self._is_public else []),
        ]

    @property
    def _is_public(self) -> bool:
        return not (self.bind.startswith("unix:") or _is_loopback(f"http://{self.bind}"))

    @property
    def address(self) -> str:
        """The URL of the service for a user on this machine."""
        host, _, port = self.bind.rpartition(":")
        if self.bind.startswith("unix:"):
            return "http://localhost"
        return f"http://{host if host not in ('', '0.0.0.0', '[::]') else '127.0.0.1'}:{port}"  # noqa: S104

    @field_validator("reconcile_hours", mode="before")
    @classmethod
    def _parse_hours(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.strip().isdigit() else value

    @field_validator("database_url")
    @classmethod
    def _validate_database_url(cls, value: SecretStr) -> SecretStr:
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            raise ValueError("is not a database URL; try sqlite:///instance/status.db") from None
        if url.drivername.partition("+")[0] in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError("must be a sqlite:/// or a postgresql:// URL; other databases are not supported")
        if url.get_backend_name() == "sqlite" and (not url.database or url.database.startswith((":", "file:"))):
            raise ValueError(
                "must name a file, such as sqlite:///instance/status.db; an in-memory database loses its data"
            )
        if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("/"):
            url = url.set(database=str(ROOT / url.database))
        return SecretStr(url.render_as_string(hide_password=False))

    @field_validator("bind")
    @classmethod
    def _validate_bind(cls, value: str) -> str:
        if not re.fullmatch(r"unix:.+|(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]*):[0-9]{1,5}", value):
            raise ValueError("must look like 127.0.0.1:8000, [::1]:8000 or unix:/run/onespan.sock")
        return value

    @field_validator("onespan_url")
    @classmethod
    def _validate_onespan_url(cls, value: str | None) -> str | None:
        value = value.strip() if value is not None else None
        return normalize_onespan_url(value) if value else None

    @field_validator("onespan_api_key", "onespan_client_id", "onespan_client_secret", mode="before")
    @classmethod
    def _validate_credential(cls, value: object) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str):
            return value
        text = text.strip()  # a key from a file ends in a newline
        if not (text.isascii() and text.isprintable()):
            raise ValueError("has characters that are not allowed in an HTTP header")
        return text or None

    @field_validator("callback_url")
    @classmethod
    def _validate_callback_url(cls, value: str | None) -> str | None:
        return validate_callback_url(value.strip()) if value is not None else None

    @field_validator("onespan_callback_keys", "api_tokens")
    @classmethod
    def _labels_are_unique(cls, value: tuple[Key, ...]) -> tuple[Key, ...]:
        labels = [key.label for key in value]
        if len(set(labels)) < len(labels):
            raise ValueError("two entries have the same label; give each its own")
        return value

    @field_validator("dashboard_password", "dashboard_readonly_password")
    @classmethod
    def _validate_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (value.get_secret_value().isprintable() and len(value) >= MIN_PASSWORD_LENGTH):
            raise ValueError(f"must have {MIN_PASSWORD_LENGTH} characters or more, all printable")
        return value

    @field_validator("dashboard_readonly_password")
    @classmethod
    def _passwords_differ(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and value == info.data.get("dashboard_password"):
            raise ValueError("must differ from DASHBOARD_PASSWORD, which gives full access")
        return value

    @field_validator("spool_dir")
    @classmethod
    def _resolve_spool_dir(cls, value: Path) -> Path:
        return ROOT / value

    @field_validator("onespan_client_secret")
    @classmethod
    def _client_has_id_and_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if bool(value) != bool(info.data.get("onespan_client_id")):
            raise ValueError("must be set together with ONESPAN_CLIENT_ID; set both or neither")
        return value


def settings_file() -> Path:
    """The path of the settings file."""
    return ROOT / os.environ.get("SETTINGS_FILE", "instance/settings.env")


def generate_settings(file: Path) -> bool:
    """Write a settings file with new secrets, readable only by its owner. Returns False if the file exists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as text:
        text.write("# Secrets of this installation. docs/settings.md describes every setting.\n")
        for name, label in GENERATED_SECRETS:
            text.write(f"{name}={label}{secrets.token_urlsafe(24)}\n")
        text.write("LOG_FORMAT=text\n")
    return True


def load_settings() -> Settings:
    """Read the environment and the settings file.

    Raises `SettingsError` that lists every problem at once. The message repeats no value, which may be a secret.
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
        raise SettingsError("\n".join(["Fix these settings before the service can start:", *problems]))
    return settings


def require_settings_file() -> None:
    """Raise `SettingsError` if `SETTINGS_FILE` names a file that does not exist."""
    file = settings_file()
    if "SETTINGS_FILE" in os.environ and (not file.exists() or file.is_dir()):
        raise SettingsError(f"SETTINGS_FILE: there is no file {file}. `flask setup` creates one with new secrets.")


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        field = Settings.model_fields.get(name.lower())
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"  {name or 'settings'}: {message}" + (f"\n    {field.description}" if field else ""))
    return lines


def _unreadable(file: Path) -> list[str]:
    """Report the lines of the settings file that python-dotenv would skip."""
    with file.open(encoding="utf-8") as text:
        bad_lines = [part.original.line for part in parse_stream(text) if part.error]
    return [f"  {file}: line {line} is not NAME=value; is a quote not closed?" for line in bad_lines]


def _misspelt(names: Iterable[str]) -> list[str]:
    """Report names that are close to the name of a setting. The file may also hold variables of other programs."""
    known = [name.upper() for name in Settings.model_fields]
    close = {name: difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85) for name in names}
    return [
        f"  {name}: is not a setting; did you mean {near[0]}?"
        for name, near in close.items()
        if near and near[0] != name.upper()
    ]
