"""Tests of the settings: every problem is reported at once, with a hint and without secrets."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app import create_app
from config import ROOT, Settings, SettingsError, generate_settings, load_settings, require_settings_file, settings_file
from tests.conftest import in_all


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Load settings from environment variables and, if `file` is given, from a settings file."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def load(file: str | None = None, **environment: str) -> Settings:
        path = tmp_path / "settings.env"
        if file is not None:
            path.write_text(file)
        monkeypatch.setenv("SETTINGS_FILE", str(path))
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return load


def problems(load: Callable[..., Settings], **environment: str) -> str:
    """Return the error message for invalid settings."""
    with pytest.raises(SettingsError) as caught:
        load(**environment)
    return str(caught.value)


def test_all_settings_have_defaults(load):
    """Without any setting, the service starts, accepts no callback and sends no request to OneSpan."""
    settings = load()

    url = make_url(settings.database_url.get_secret_value())
    assert (url.get_backend_name(), url.database) == ("sqlite", str(ROOT / "instance" / "status.db"))
    assert (settings.onespan_callback_keys, settings.api_tokens) == ((), ())
    assert (settings.onespan_url, settings.dashboard_password) == (None, None)
    assert (settings.reconcile_hours, settings.worker) == (6, "embedded")


@pytest.mark.parametrize("name", ["DASHBOARD_PASSWORD", "DASHBOARD_READONLY_PASSWORD"])
@pytest.mark.parametrize("password", ["canary!", "       ", "canary-\t-canary", "canary-k\udce9y"])
def test_short_or_unprintable_password_is_rejected(load, name, password):
    """A dashboard password has at least eight printable characters; an empty password counts as not set."""
    message = problems(load, **{name: password})

    assert f"{name}: must have 8 characters or more" in message
    assert "canary" not in message
    assert load(**{name: ""}).dashboard_password is None


def test_readonly_password_must_differ(load):
    """The two dashboard passwords must differ, so that the login can tell the two roles apart."""
    message = problems(load, DASHBOARD_PASSWORD="canary-password", DASHBOARD_READONLY_PASSWORD="canary-password")

    assert "DASHBOARD_READONLY_PASSWORD: must differ from DASHBOARD_PASSWORD" in message
    assert "canary" not in message


@pytest.mark.parametrize("proxies", ["-1", "11", "x", "1.5"])
def test_invalid_number_of_proxies_is_rejected(load, proxies):
    """An invalid number of proxies is rejected; by default no proxy is trusted."""
    assert "PROXIES" in problems(load, PROXIES=proxies)
    assert load().proxies == 0


@pytest.mark.parametrize("hours", ["6", "12", "24", " 12 "])
def test_reconcile_hours_are_6_12_or_24(load, hours):
    """RECONCILE_HOURS may be 6, 12 or 24, the intervals that OneSpan recommends."""
    assert load(RECONCILE_HOURS=hours).reconcile_hours == int(hours)


@pytest.mark.parametrize("hours", ["0", "1", "7", "48", "-6", "6.5", "06h", "six", "x6"])
def test_other_reconcile_hours_are_rejected(load, hours):
    """The error for an invalid RECONCILE_HOURS lists the allowed values."""
    message = problems(load, RECONCILE_HOURS=hours)

    assert "RECONCILE_HOURS" in message
    assert "6, 12 or 24" in message


def test_all_problems_are_reported_at_once_with_hints(load):
    """A single start of the service reports all mistakes in the settings, each with a hint."""
    message = problems(
        load,
        DATABASE_URL="canary-database",
        RECONCILE_HOURS="7",
        WORKER="canary-worker",
        ONESPAN_URL="canary-address",
        ONESPAN_CALLBACK_KEYS="a=canary-one,a=canary-two",
        API_TOKENS="b=canary-three,b=canary-four",
        HANDLER_THREADS="canary-threads",
        LOG_FORMAT="canary-format",
    )

    for name, hint in (
        ("DATABASE_URL", "sqlite:///instance/status.db"),
        ("RECONCILE_HOURS", "6, 12 or 24"),
        ("WORKER", "external"),
        ("ONESPAN_URL", "https://sandbox.esignlive.com"),
        ("ONESPAN_CALLBACK_KEYS", "label"),
        ("API_TOKENS", "label"),
        ("HANDLER_THREADS", "handler"),
        ("LOG_FORMAT", "json"),
    ):
        assert name in message
        assert hint in message
    assert "canary" not in message


def test_incomplete_client_is_reported_with_other_problems(load):
    """An incomplete pair of client settings does not hide other problems."""
    message = problems(load, RECONCILE_HOURS="7", ONESPAN_CLIENT_ID="canary-id")

    assert "RECONCILE_HOURS" in message
    assert "ONESPAN_CLIENT_SECRET" in message


@pytest.mark.parametrize("alone", ["ONESPAN_CLIENT_ID", "ONESPAN_CLIENT_SECRET"])
def test_client_needs_id_and_secret(load, alone):
    """A client id without a client secret, or a secret without an id, is an error."""
    message = problems(load, **{alone: "canary"})

    assert "ONESPAN_CLIENT_ID" in message
    assert "ONESPAN_CLIENT_SECRET" in message
    assert "canary" not in message
    assert load(ONESPAN_CLIENT_ID="id", ONESPAN_CLIENT_SECRET="secret").onespan_client_id == "id"


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://cleo:pa%40ss@db.example/status", "postgresql+psycopg"),
        ("postgresql://cleo:pa%40ss@db.example/status", "postgresql+psycopg"),
        ("postgresql+psycopg://cleo:pa%40ss@db.example/status", "postgresql+psycopg"),
    ],
)
def test_every_form_of_postgresql_url_is_accepted(load, given, driver):
    """Every URL scheme that hosting providers use for PostgreSQL is accepted; the password is kept unchanged."""
    url = make_url(load(DATABASE_URL=given).database_url.get_secret_value())

    assert (url.drivername, url.username, url.password) == (driver, "cleo", "pa@ss")
    assert (url.host, url.database) == ("db.example", "status")


@pytest.mark.parametrize(
    ("given", "database"),
    [
        ("sqlite:///instance/other.db", str(ROOT / "instance" / "other.db")),
        ("sqlite:///other.db", str(ROOT / "other.db")),
        ("sqlite:////var/lib/status.db", "/var/lib/status.db"),
    ],
)
def test_relative_sqlite_path_starts_at_project_folder(load, given, database):
    """A relative SQLite path starts at the project folder, not at the current folder."""
    assert make_url(load(DATABASE_URL=given).database_url.get_secret_value()).database == database


@pytest.mark.parametrize(
    "url",
    [
        "canary",
        "://canary",
        "postgresql://cleo:canary@db:canary/status",
        "postgresql://cleo:a@b:canary@db/status",
    ],
)
def test_law_11_invalid_database_url_is_not_repeated(load, url):
    """The error for an invalid database URL does not repeat the URL, which may contain a password."""
    message = problems(load, DATABASE_URL=url)

    assert "DATABASE_URL" in message
    assert "not a database URL" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://sandbox.esignlive.com", "https://sandbox.esignlive.com"),
        ("https://sandbox.esignlive.com/", "https://sandbox.esignlive.com"),
        ("https://sandbox.esignlive.com/api", "https://sandbox.esignlive.com"),
        ("https://sandbox.esignlive.com/api/", "https://sandbox.esignlive.com"),
        ("https://sandbox.esignlive.com//API//", "https://sandbox.esignlive.com"),
        (" HTTPS://Sandbox.ESignLive.com/Api\n", "https://sandbox.esignlive.com"),
        ("http://127.0.0.1:9000/api", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/", "http://[::1]:9000"),
    ],
)
def test_onespan_url_is_normalized(load, given, kept):
    """ONESPAN_URL loses `/api` and trailing slashes, because request paths are appended to the URL."""
    assert load(ONESPAN_URL=given).onespan_url == kept


@pytest.mark.parametrize(
    "rest",
    [
        "/onespan",
        "/api/packages",
        "/aws/rest/services",
        "/apitoken",
        "/a/",
        "/api?x=1",
        "?x=1",
        "/#x",
        "/apis",
        "/api/api",
    ],
)
def test_onespan_url_with_a_path_is_refused_with_what_to_write(load, rest):
    """The error for an ONESPAN_URL with a path or query says which address to write."""
    assert "write only https://sandbox.esignlive.com\n" in problems(
        load, ONESPAN_URL=f"https://Sandbox.esignlive.com{rest}"
    )


@pytest.mark.parametrize("secret", ["Basic c2VjcmV0", "basic  c2VjcmV0", "BASIC c2VjcmV0"])
def test_a_pasted_scheme_is_not_part_of_a_key(load, secret):
    """A callback key that was pasted with `Basic ` counts with and without it, whatever was entered in OneSpan."""
    settings = load(ONESPAN_CALLBACK_KEYS=f"new={secret},old", ONESPAN_API_KEY=secret)

    keys = [(key.label, key.secret.get_secret_value()) for key in settings.callback_keys]
    assert keys == [("new", "c2VjcmV0"), ("new", secret), ("key-2", "old")]
    assert settings.pasted_schemes == ["the callback key new", "ONESPAN_API_KEY"]
    assert load(ONESPAN_CALLBACK_KEYS="basic,x=Basic", ONESPAN_API_KEY="Basically").pasted_schemes == []


@pytest.mark.parametrize(
    "url",
    [
        *("sandbox.esignlive.com", "ftp://x", "https://", "https://x?y=1", "https://x#y", "a b", "https://x\x07y"),
        *(
            "https://x:0",
            "https://x:99999",
            "https://x:y",
            "https://x y",
            "https://:80",
            "https://c:x@y/api",
            "https:/x",
        ),
    ],
)
def test_invalid_onespan_url_is_rejected(load, url):
    """An invalid ONESPAN_URL fails at start, not at the first reconcile run."""
    assert "https://sandbox.esignlive.com" in problems(load, ONESPAN_URL=url)


def test_law_11_onespan_url_with_password_is_rejected_or_hidden(load):
    """A password in ONESPAN_URL is rejected or hidden, because the address is shown and logged."""
    try:
        settings = load(ONESPAN_URL="https://cleo:canary@sandbox.esignlive.com")
    except SettingsError as error:
        assert "canary" not in str(error)  # noqa: PT017  (both outcomes are correct)
    else:
        assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "https://sign.example.com/onespan/callback",
        "https://gateway.example.com/eu/onespan?tenant=7",
        "http://127.0.0.1:8000/onespan/callback",
        "https://[2001:db8::1]/callback",
    ],
)
def test_callback_url_is_kept_unchanged(load, url):
    """CALLBACK_URL is kept unchanged, because a proxy may use any path."""
    assert load(CALLBACK_URL=f" {url} ").callback_url == url


@pytest.mark.parametrize(
    "url",
    [
        "canary.example.com/onespan/callback",
        "ftp://canary.example.com/onespan/callback",
        "https://canary.example.com",
        "https://canary.example.com/",
        "https://cleo:canary@sign.example.com/onespan/callback",
        "https://canary@sign.example.com/onespan/callback",
        "https://sign.example.com/onespan/callback#canary",
        "https://sign.example.com/onespan canary",
        "https://sign.example.com/canary\x1b[2J",
    ],
)
def test_callback_url_that_onespan_cannot_call_is_rejected(load, url):
    """A callback URL is rejected if its path is missing, or if OneSpan's pages would show its password."""
    message = problems(load, CALLBACK_URL=url)

    assert "CALLBACK_URL" in message
    assert "https://sign.example.com/onespan/callback" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("one", [("key-1", "one")]),
        ("one,two", [("key-1", "one"), ("key-2", "two")]),
        (" new=one , two ", [("new", "one"), ("key-2", "two")]),
        ("new=one, old=two", [("new", "one"), ("old", "two")]),
        ("new= one", [("new", "one")]),
        ("c2VjcmV0LXNlY3JldA==", [("key-1", "c2VjcmV0LXNlY3JldA==")]),
        ("prod=c2VjcmV0LXNlY3JldA==", [("prod", "c2VjcmV0LXNlY3JldA==")]),
        ("prod=a=b=c", [("prod", "a=b=c")]),
        ("a label=with blank", [("key-1", "a label=with blank")]),
        ("clé=é", [("key-1", "clé=é")]),
        ("", []),
        (" , ,", []),
    ],
)
def test_keys_may_have_labels(load, text, keys):
    """A key may have a label before `=`; an `=` at the end of a base64 key is part of the key."""
    for name in ("ONESPAN_CALLBACK_KEYS", "API_TOKENS"):
        parsed = getattr(load(**{name: text}), name.lower())
        assert [(key.label, key.secret.get_secret_value()) for key in parsed] == keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("crm=one", [("crm", "one", True, None)]),
        ("crm:read=one", [("crm", "one", False, None)]),
        ("crm:act=a=b:c==", [("crm", "a=b:c==", True, None)]),
        ("crm:2027-01-31=one", [("crm", "one", True, date(2027, 1, 31))]),
        ("crm:read:2027-01-31=one, two", [("crm", "one", False, date(2027, 1, 31)), ("key-2", "two", True, None)]),
        ("crm=a:read=b", [("crm", "a:read=b", True, None)]),
        ("a:b", [("key-1", "a:b", True, None)]),
        ("user:Name=one", [("key-1", "user:Name=one", True, None)]),
    ],
)
def test_token_may_have_a_scope_and_a_last_day(load, text, keys):
    """A token may have a scope and a last day after its label; a token without them may do all, as before."""
    parsed = load(API_TOKENS=text).api_tokens
    assert [(key.label, key.secret.get_secret_value(), key.may_act, key.last_day) for key in parsed] == keys


@pytest.mark.parametrize(
    "scope", ["raed", "read:act", "2027-02-30", "2027", "read:2027-1-1", "2027-01-31:read", "read:2027-01-31:act"]
)
def test_unknown_scope_is_refused(load, scope):
    """A scope or date that cannot be read is refused, so that a typing error gives no token more rights."""
    message = problems(load, API_TOKENS=f"crm:{scope}=canary")

    assert "API_TOKENS: has an entry with an unknown scope or date; write label:read=token" in message
    assert "canary" not in message


@pytest.mark.parametrize("entry", ["crm:read=", "crm:read= ", "crm:act:2027-01-31==", "crm:2027-01-31="])
def test_law_2_scope_without_a_token_is_refused(load, entry):
    """A label and scope without a token, as of an empty variable, never become a token."""
    assert "has a label without a token" in problems(load, API_TOKENS=entry)


HASH = "scrypt:32768:8:1$salt$" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "users"),
    [
        (f"ada:{HASH}", [("ada", True)]),
        (f" ada:{HASH} , Ben of Sales:view:{HASH}\n", [("ada", True), ("Ben of Sales", False)]),
        (f"ada:{HASH}\ncléo:pbkdf2:sha256:1000$s$" + "0a" * 16, [("ada", True), ("cléo", True)]),
        ("", []),
    ],
)
def test_users_have_names_and_hashes(load, text, users):
    """Users are separated by commas or line breaks; `view:` before the hash gives view-only access."""
    settings = load(DASHBOARD_USERS=text)

    assert [(user.name, user.has_full_access) for user in settings.dashboard_users] == users
    assert "0a0a" not in repr(settings)


@pytest.mark.parametrize(
    "entry",
    ["ada", "ada:canary-password", f":{HASH}", f"a=b:{HASH}", f"{'a' * 61}:{HASH}", "ada:scrypt:1:1:1$$00", f"{HASH}"],
)
def test_user_without_a_name_or_hash_is_refused(load, entry):
    """A user needs a name and a hash, not a password; the message names the command that prints an entry."""
    message = problems(load, DASHBOARD_USERS=entry)

    assert "`flask hash-password` prints one" in message
    assert "canary" not in message


def test_two_users_with_one_name_are_refused(load):
    """Two users whose names differ only in case are refused."""
    assert "has a name twice" in problems(load, DASHBOARD_USERS=f"ada:{HASH},Ada:{HASH}")


SAFE = "sixteen-letters!"


@pytest.mark.parametrize(
    ("name", "secret", "shown"),
    [
        ("ONESPAN_CALLBACK_KEYS", f"new={SAFE[1:]},old={SAFE}", "the callback key new"),
        ("API_TOKENS", f"crm:read={SAFE[1:]}", "the API token crm"),
        ("ONESPAN_API_KEY", f"Basic {SAFE[1:]}", "ONESPAN_API_KEY"),
        ("DASHBOARD_PASSWORD", SAFE[1:], "DASHBOARD_PASSWORD"),
        ("DASHBOARD_READONLY_PASSWORD", SAFE[1:], "DASHBOARD_READONLY_PASSWORD"),
    ],
)
def test_short_secret_is_accepted_with_a_warning(load, name, secret, shown):
    """A secret with fewer than 16 characters is accepted with a warning that does not contain it."""
    (warning,) = load(**{name: secret}).warnings

    assert warning.startswith(f"{shown} has fewer than 16 characters")
    assert SAFE[1:] not in warning
    assert load(**{name: secret.replace(SAFE[1:], SAFE) if SAFE not in secret else SAFE}).warnings == []


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://sandbox.esignlive.com", True),
        ("http://sandbox.esignlive.com", False),
        ("http://127.0.0.1:8090", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8090", True),
        ("http://localhost:8090", True),
        ("http://localhost.example.com", False),
        ("http://10.0.0.1", False),
    ],
)
def test_plain_http_is_accepted_with_a_warning(load, url, is_safe):
    """An http:// address that is not of this machine is accepted with a warning."""
    named = {"ONESPAN_URL": url, "CALLBACK_URL": f"{url}/onespan/callback", "CORS_ORIGINS": url}
    for name, value in named.items():
        warnings = load(**{name: value}).warnings
        assert (warnings == []) == is_safe
        assert all(f"{name}" in warning and "use https://" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("bind", "is_public"),
    [
        ("127.0.0.1:8000", False),
        ("[::1]:8000", False),
        ("localhost:8000", False),
        ("unix:/run/onespan.sock", False),
        ("0.0.0.0:8000", True),
        ("[::]:8000", True),
        (":8000", True),
        ("10.0.0.1:8000", True),
    ],
)
def test_public_address_without_a_proxy_is_accepted_with_a_warning(load, bind, is_public):
    """An address that other machines reach needs a proxy, which `PROXIES` counts."""
    warnings = load(BIND=bind).warnings
    assert [warning.startswith("Other machines reach BIND") for warning in warnings] == [True] * is_public
    assert all("PROXIES=1" in warning for warning in warnings)
    assert load(BIND=bind, PROXIES="1").warnings == []


@pytest.mark.parametrize("text", ["first=", "first= ", "good=key,second=", "first=,second="])
def test_law_2_label_without_key_authenticates_no_one(load, text):
    """A label without a key never becomes a valid key, as in `first=$KEY` with an empty KEY."""
    try:
        keys = load(ONESPAN_CALLBACK_KEYS=text).onespan_callback_keys
    except SettingsError:
        return
    assert not {key.secret.get_secret_value() for key in keys} - {"key"}


@pytest.mark.parametrize("text", ["a=one,a=two", "one,key-1=two", "a=one,b=two,a=three"])
def test_two_keys_with_one_label_are_rejected(load, text):
    """Two keys with the same label are rejected, because the journal identifies a key by its label."""
    assert "same label" in problems(load, ONESPAN_CALLBACK_KEYS=text)
    assert "same label" in problems(load, API_TOKENS=text)


def test_environment_overrides_the_file(load):
    """Environment variables override the settings file; an empty variable counts as not set."""
    file = "RECONCILE_HOURS=24\nONESPAN_CALLBACK_KEYS='from=file'\nWORKER=external\n"

    settings = load(file, RECONCILE_HOURS="12", WORKER="")

    assert (settings.reconcile_hours, settings.worker) == (12, "external")
    assert [key.label for key in settings.onespan_callback_keys] == ["from"]


def test_law_11_settings_hide_their_secrets(load):
    """Settings that are printed show no secret."""
    settings = load(
        DATABASE_URL="postgresql://cleo:canary@db/status",
        ONESPAN_CALLBACK_KEYS="label=canary",
        ONESPAN_API_KEY="canary",
        ONESPAN_CLIENT_ID="client",
        ONESPAN_CLIENT_SECRET="canary",
        API_TOKENS="canary",
        DASHBOARD_PASSWORD="canary-full",
        DASHBOARD_READONLY_PASSWORD="canary-view",
    )

    for shown in (repr(settings), str(settings), f"{settings.onespan_callback_keys}", settings.model_dump_json()):
        assert "canary" not in shown


def test_settings_are_immutable(load):
    """Settings are immutable: the values read at start stay until the process ends."""
    with pytest.raises(ValueError, match="frozen"):
        load().worker = "external"


def test_new_settings_file_has_unique_secrets_and_mode_600(load, tmp_path, monkeypatch):
    """A new settings file has unique secrets and mode 600, and is never overwritten."""
    file = tmp_path / "fresh" / "settings.env"
    other = tmp_path / "other.env"

    assert generate_settings(file)
    assert generate_settings(other)
    before = file.read_text()
    assert not generate_settings(file)

    assert file.read_text() == before
    assert file.stat().st_mode & 0o777 == 0o600
    assert not set(before.splitlines()[1:4]) & set(other.read_text().splitlines()[1:4])
    load()
    monkeypatch.setenv("SETTINGS_FILE", str(file))
    settings = load_settings()
    assert settings_file() == file
    assert [key.label for key in settings.onespan_callback_keys] == ["first"]
    assert len(settings.onespan_callback_keys[0].secret.get_secret_value()) >= 32
    assert len(settings.api_tokens[0].secret.get_secret_value()) >= 32
    assert settings.dashboard_password
    assert len(settings.dashboard_password.get_secret_value()) >= 32


def test_service_does_not_start_with_invalid_settings(load, capsys):
    """With invalid settings the service prints the reasons, without a traceback, and does not start."""
    with pytest.raises(SettingsError):
        load(RECONCILE_HOURS="7")

    with pytest.raises(SystemExit) as end:
        create_app()

    assert end.value.code not in (0, None)
    message = capsys.readouterr().err
    assert "RECONCILE_HOURS" in message
    assert "Traceback" not in message


def test_every_setting_is_described():
    """Every setting has a description, which error messages and the documentation show to operators."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///file:/canary.db?uri=true", "must name a file"),
        ("mysql://cleo:canary@db/status", "sqlite:/// or a postgresql://"),
    ],
)
def test_only_persistent_supported_databases_are_accepted(load, url, hint):
    """A database in memory or of an unsupported kind is rejected, because the service would fail later."""
    message = problems(load, DATABASE_URL=url)

    assert hint in message
    assert "canary" not in message


@pytest.mark.parametrize("keys", ["production1=", "prod=", "a=b,test=", "customer-one="])
def test_label_without_key_is_rejected(load, keys):
    """A label without a key is rejected, because an unset variable must not turn the label into a key."""
    assert "label" in problems(load, ONESPAN_CALLBACK_KEYS=keys)


def test_key_must_be_valid_in_a_header(load):
    """A callback key must be valid in an HTTP header, because invalid bytes would fail at every callback."""
    assert "header" in problems(load, ONESPAN_CALLBACK_KEYS="test=k\udce9y")


@pytest.mark.parametrize("name", ["ONESPAN_API_KEY", "ONESPAN_CLIENT_ID", "ONESPAN_CLIENT_SECRET"])
def test_law_11_credentials_must_be_valid_in_a_header(load, name):
    """Credentials that an HTTP header cannot contain give an error at start that does not repeat the value."""
    for value in ("cana\u200bry", "cana\nry", "k\udce9y", "canary-\u20ac"):
        message = problems(load, **{name: value})
        assert f"{name}: has characters that are not allowed in an HTTP header" in message
        assert value not in message


def test_credentials_are_stripped(load):
    """Blanks and newlines around credentials are removed, because a key from a file ends in a newline."""
    settings = load(ONESPAN_URL=" https://sandbox.esignlive.com\n", ONESPAN_API_KEY=" key \n")

    assert settings.onespan_api_key.get_secret_value() == "key"
    assert settings.onespan_url == "https://sandbox.esignlive.com"
    assert load(ONESPAN_API_KEY=" \n").onespan_api_key is None


def test_invalid_line_in_the_file_is_reported(load):
    """The error for an invalid line in the settings file does not repeat the line, which may contain a secret."""
    with pytest.raises(SettingsError) as caught:
        load(file="# fine\n\nexport LOG_FORMAT=text\nAPI_TOKENS='canary\n=canary\n")

    message = str(caught.value)
    assert "line 4" in message
    assert "canary" not in message


def test_misspelt_name_in_the_file_is_reported(load):
    """A misspelt setting in the settings file is reported; variables of other programs are ignored."""
    with pytest.raises(SettingsError) as caught:
        load(file="ONESPAN_CALLBACK_KEY=canary\nDATABSE_URL=canary\nCRM_URL=canary\nLOG_FORMAT=text\n")

    message = str(caught.value)
    assert "ONESPAN_CALLBACK_KEY: is not a setting; did you mean ONESPAN_CALLBACK_KEYS?" in message
    assert "did you mean DATABASE_URL?" in message
    assert "CRM_URL" not in message
    assert "canary" not in message


def test_named_settings_file_must_exist(monkeypatch, tmp_path):
    """The file that SETTINGS_FILE names must exist; otherwise its settings would be ignored silently."""
    monkeypatch.delenv("SETTINGS_FILE", raising=False)
    require_settings_file()
    for path in (tmp_path / "none.env", tmp_path):
        monkeypatch.setenv("SETTINGS_FILE", str(path))
        with pytest.raises(SettingsError, match="SETTINGS_FILE: there is no file"):
            require_settings_file()


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        (":8125", "http://127.0.0.1:8125"),
        ("[::1]:8125", "http://[::1]:8125"),
        ("sign.example:8125", "http://sign.example:8125"),
        ("unix:/run/onespan.sock", "http://localhost"),
    ],
)
def test_bind_gives_a_reachable_address(load, bind, address):
    """`flask setup` prints an address that leads to the service, whatever BIND is."""
    assert load(BIND=bind).address == address


@pytest.mark.parametrize("name", ["BIND=8125", "BIND=a b:1", "WEB_THREADS=0", "WEB_THREADS=x", "WEB_CONCURRENCY=0"])
def test_unusable_server_settings_are_rejected(load, name):
    """Unusable server settings, such as zero threads, are rejected before the server listens."""
    setting, value = name.split("=")

    assert setting in problems(load, **{setting: value})


HANDLERS_LINES = len((ROOT / "app" / "handlers.py").read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("mistake", "messages"),
    [
        ('@handlers.on("PACKAGE_COMPLET")\ndef f(event, package): ...\n', ["did you mean PACKAGE_COMPLETE?"]),
        *in_all(
            (
                "import nowhere_to_be_found\n",
                ["No module named 'nowhere_to_be_found'", f"see line {HANDLERS_LINES + 2}:"],
            ),
            ("def f(:\n", ["SyntaxError", f"see line {HANDLERS_LINES + 2}:"]),
            ("import app.broken\n", ["SyntaxError", f"see line {HANDLERS_LINES + 2}:"]),
            ("handlers = None\n", ["must have `handlers = Handlers()`"]),
        ),
    ],
)
def test_mistake_in_handlers_file_is_reported_without_traceback(mistake, messages, tmp_path):
    """A mistake in `app/handlers.py` is reported with its line and the error, without a traceback."""
    for name in ("app", "migrations", "config.py", "wsgi.py"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    with (tmp_path / "app" / "handlers.py").open("a") as file:
        file.write(f"\n{mistake}")
    (tmp_path / "app" / "broken.py").write_text("fine = 1\n" * 40 + "def f(:\n")

    done = subprocess.run(
        [sys.executable, "-c", "import wsgi"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 4
    assert [message for message in messages if message not in done.stderr] == []
    assert "Traceback" not in done.stderr
