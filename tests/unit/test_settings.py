"""The settings: every problem at once, each with what to do, and no secret in any of it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app import create_app
from config import ROOT, Settings, SettingsError, generate_settings, load_settings, require_settings_file, settings_file
from tests.conftest import in_all


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Read settings from an environment, and where `file` is given from a settings file too."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def load(file: str | None = None, **environment: str) -> Settings:
        place = tmp_path / "settings.env"
        if file is not None:
            place.write_text(file)
        monkeypatch.setenv("SETTINGS_FILE", str(place))
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return load


def problems(load: Callable[..., Settings], **environment: str) -> str:
    """What is said of settings that cannot be used."""
    with pytest.raises(SettingsError) as refused:
        load(**environment)
    return str(refused.value)


def test_without_anything_set_there_are_defaults(load):
    """A service that starts, believes nobody and asks nothing."""
    settings = load()

    url = make_url(settings.database_url.get_secret_value())
    assert (url.get_backend_name(), url.database) == ("sqlite", str(ROOT / "instance" / "status.db"))
    assert (settings.onespan_callback_keys, settings.api_tokens) == ((), ())
    assert (settings.onespan_url, settings.dashboard_password) == (None, None)
    assert (settings.reconcile_hours, settings.worker) == (6, "embedded")


@pytest.mark.parametrize("name", ["DASHBOARD_PASSWORD", "DASHBOARD_READONLY_PASSWORD"])
@pytest.mark.parametrize("password", ["canary!", "       ", "canary-\t-canary", "canary-k\udce9y"])
def test_a_password_that_can_be_guessed_or_not_be_typed_is_refused(load, name, password):
    """Eight characters at least; an empty one is none."""
    said = problems(load, **{name: password})

    assert f"{name}: must have 8 characters or more" in said
    assert "canary" not in said
    assert load(**{name: ""}).dashboard_password is None


def test_who_may_look_has_another_password_than_who_may_act(load):
    """Otherwise nobody would know which of the two it is."""
    said = problems(load, DASHBOARD_PASSWORD="canary-password", DASHBOARD_READONLY_PASSWORD="canary-password")

    assert "DASHBOARD_READONLY_PASSWORD: must not be DASHBOARD_PASSWORD" in said
    assert "canary" not in said


@pytest.mark.parametrize("proxies", ["-1", "11", "x", "1.5"])
def test_a_number_of_proxies_that_cannot_be_is_refused(load, proxies):
    """None is believed unless it is said how many there are."""
    assert "PROXIES" in problems(load, PROXIES=proxies)
    assert load().proxies == 0


@pytest.mark.parametrize("hours", ["6", "12", "24", " 12 "])
def test_reconcile_hours_are_6_12_or_24(load, hours):
    """What OneSpan recommends."""
    assert load(RECONCILE_HOURS=hours).reconcile_hours == int(hours)


@pytest.mark.parametrize("hours", ["0", "1", "7", "48", "-6", "6.5", "06h", "six", "x6"])
def test_any_other_number_of_hours_is_refused(load, hours):
    """And the message says which are right."""
    said = problems(load, RECONCILE_HOURS=hours)

    assert "RECONCILE_HOURS" in said
    assert "6, 12 or 24" in said


def test_every_problem_is_told_at_once_with_what_to_do(load):
    """Nobody should start a service five times to find five mistakes."""
    said = problems(
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
        assert name in said
        assert hint in said
    assert "canary" not in said


def test_half_a_client_is_told_together_with_the_rest(load):
    """A problem of two settings is one of the problems told at once."""
    said = problems(load, RECONCILE_HOURS="7", ONESPAN_CLIENT_ID="canary-id")

    assert "RECONCILE_HOURS" in said
    assert "ONESPAN_CLIENT_SECRET" in said


@pytest.mark.parametrize("alone", ["ONESPAN_CLIENT_ID", "ONESPAN_CLIENT_SECRET"])
def test_a_client_has_an_id_and_a_secret(load, alone):
    """One without the other is a mistake."""
    said = problems(load, **{alone: "canary"})

    assert "ONESPAN_CLIENT_ID" in said
    assert "ONESPAN_CLIENT_SECRET" in said
    assert "canary" not in said
    assert load(ONESPAN_CLIENT_ID="id", ONESPAN_CLIENT_SECRET="secret").onespan_client_id == "id"


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://cleo:pa%40ss@db.example/status", "postgresql+psycopg"),
        ("postgresql://cleo:pa%40ss@db.example/status", "postgresql+psycopg"),
        ("postgresql+psycopg://cleo:pa%40ss@db.example/status", "postgresql+psycopg"),
    ],
)
def test_every_spelling_of_a_postgresql_url_is_taken(load, given, driver):
    """Whatever a hosting company hands out; the password stays what it was."""
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
def test_a_relative_sqlite_path_begins_at_the_project(load, given, database):
    """Wherever the service was started from."""
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
def test_law_11_a_database_url_that_cannot_be_read_is_not_repeated(load, url):
    """There may be a password in it, above all when it was not escaped."""
    said = problems(load, DATABASE_URL=url)

    assert "DATABASE_URL" in said
    assert "not a database URL" in said
    assert "canary" not in said


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://sandbox.esignlive.com", "https://sandbox.esignlive.com"),
        ("https://sandbox.esignlive.com/", "https://sandbox.esignlive.com"),
        ("http://127.0.0.1:9000/onespan/", "http://127.0.0.1:9000/onespan"),
    ],
)
def test_onespans_address_is_kept_without_its_last_slash(load, given, kept):
    """So that paths can be joined to it."""
    assert load(ONESPAN_URL=given).onespan_url == kept


@pytest.mark.parametrize(
    "url", ["sandbox.esignlive.com", "ftp://x", "https://", "https://x?y=1", "https://x#y", "a b", "https://x\x07y"]
)
def test_what_is_no_address_is_refused(load, url):
    """At start, not at the first reconcile."""
    assert "https://sandbox.esignlive.com" in problems(load, ONESPAN_URL=url)


def test_law_11_an_address_with_a_password_in_it_is_refused_or_hidden(load):
    """Keys have settings of their own; an address is shown and logged."""
    try:
        settings = load(ONESPAN_URL="https://cleo:canary@sandbox.esignlive.com")
    except SettingsError as refused:
        assert "canary" not in str(refused)  # noqa: PT017  (both ways are right)
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
def test_the_address_to_be_called_is_taken_as_it_is(load, url):
    """A proxy may give it any path."""
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
def test_an_address_that_onespan_could_not_call_is_refused(load, url):
    """One without a path is a forgotten path; a password in it would be shown in OneSpan's pages."""
    said = problems(load, CALLBACK_URL=url)

    assert "CALLBACK_URL" in said
    assert "https://sign.example.com/onespan/callback" in said
    assert "canary" not in said


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
    """A base64 key that ends in equals signs is a key, not a label."""
    for name in ("ONESPAN_CALLBACK_KEYS", "API_TOKENS"):
        found = getattr(load(**{name: text}), name.lower())
        assert [(key.label, key.secret.get_secret_value()) for key in found] == keys


@pytest.mark.parametrize("text", ["first=", "first= ", "good=key,second=", "first=,second="])
def test_law_2_a_label_without_a_key_is_nobodys_key(load, text):
    """`first=$KEY` with an empty KEY must not let in whoever sends the label."""
    try:
        keys = load(ONESPAN_CALLBACK_KEYS=text).onespan_callback_keys
    except SettingsError:
        return
    assert not {key.secret.get_secret_value() for key in keys} - {"key"}


@pytest.mark.parametrize("text", ["a=one,a=two", "one,key-1=two", "a=one,b=two,a=three"])
def test_two_keys_with_one_label_are_refused(load, text):
    """The journal could not tell them apart."""
    assert "same label" in problems(load, ONESPAN_CALLBACK_KEYS=text)
    assert "same label" in problems(load, API_TOKENS=text)


def test_the_environment_wins_over_the_file(load):
    """And an empty variable is as good as none."""
    file = "RECONCILE_HOURS=24\nONESPAN_CALLBACK_KEYS='from=file'\nWORKER=external\n"

    settings = load(file, RECONCILE_HOURS="12", WORKER="")

    assert (settings.reconcile_hours, settings.worker) == (12, "external")
    assert [key.label for key in settings.onespan_callback_keys] == ["from"]


def test_law_11_settings_hide_their_secrets(load):
    """Whoever prints them shows nothing."""
    settings = load(
        DATABASE_URL="postgresql://cleo:canary@db/status",
        ONESPAN_CALLBACK_KEYS="label=canary",
        ONESPAN_API_KEY="canary",
        ONESPAN_CLIENT_ID="client",
        ONESPAN_CLIENT_SECRET="canary",
        API_TOKENS="canary",
        DASHBOARD_PASSWORD="canary-to-act",
        DASHBOARD_READONLY_PASSWORD="canary-to-look",
    )

    for shown in (repr(settings), str(settings), f"{settings.onespan_callback_keys}", settings.model_dump_json()):
        assert "canary" not in shown


def test_settings_are_immutable(load):
    """What was read at the start holds until the end."""
    with pytest.raises(ValueError, match="frozen"):
        load().worker = "external"


def test_a_fresh_settings_file_has_secrets_of_its_own_for_us_alone(load, tmp_path, monkeypatch):
    """Made once; a second time it is left alone."""
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


def test_the_service_does_not_start_with_settings_it_cannot_use(load, capsys):
    """It says why in a few lines, without a traceback."""
    with pytest.raises(SettingsError):
        load(RECONCILE_HOURS="7")

    with pytest.raises(SystemExit) as end:
        create_app()

    assert end.value.code not in (0, None)
    said = capsys.readouterr().err
    assert "RECONCILE_HOURS" in said
    assert "Traceback" not in said


def test_every_setting_is_described():
    """The description is what an operator reads when it is wrong."""
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
def test_only_databases_that_keep_what_they_are_told_are_taken(load, url, hint):
    """Others would start and fail later."""
    said = problems(load, DATABASE_URL=url)

    assert hint in said
    assert "canary" not in said


@pytest.mark.parametrize("keys", ["production1=", "prod=", "a=b,test=", "customer-one="])
def test_a_label_whose_key_is_missing_opens_nothing(load, keys):
    """A variable that was not set where the file was made must not make a key of the label."""
    assert "label" in problems(load, ONESPAN_CALLBACK_KEYS=keys)


def test_a_key_is_text_that_a_header_can_carry(load):
    """Bytes that are none would fail at every callback."""
    assert "header" in problems(load, ONESPAN_CALLBACK_KEYS="test=k\udce9y")


@pytest.mark.parametrize("name", ["ONESPAN_API_KEY", "ONESPAN_CLIENT_ID", "ONESPAN_CLIENT_SECRET"])
def test_law_11_credentials_are_text_that_a_header_can_carry(load, name):
    """What would fail at every request is told at start, and not repeated."""
    for value in ("cana\u200bry", "cana\nry", "k\udce9y", "canary-\u20ac"):
        said = problems(load, **{name: value})
        assert f"{name}: has characters that no header can carry" in said
        assert value not in said


def test_credentials_lose_the_white_space_around_them(load):
    """A file that holds a key ends in a newline."""
    settings = load(ONESPAN_URL=" https://sandbox.esignlive.com\n", ONESPAN_API_KEY=" key \n")

    assert settings.onespan_api_key.get_secret_value() == "key"
    assert settings.onespan_url == "https://sandbox.esignlive.com"
    assert load(ONESPAN_API_KEY=" \n").onespan_api_key is None


def test_a_line_that_is_no_setting_is_told(load):
    """It would be passed over in silence, and its value may be a secret."""
    with pytest.raises(SettingsError) as refused:
        load(file="# fine\n\nexport LOG_FORMAT=text\nAPI_TOKENS='canary\n=canary\n")

    said = str(refused.value)
    assert "line 4" in said
    assert "canary" not in said


def test_a_misspelt_name_in_the_file_is_told(load):
    """What others keep in the same file is theirs."""
    with pytest.raises(SettingsError) as refused:
        load(file="ONESPAN_CALLBACK_KEY=canary\nDATABSE_URL=canary\nCRM_URL=canary\nLOG_FORMAT=text\n")

    said = str(refused.value)
    assert "ONESPAN_CALLBACK_KEY: is no setting; is ONESPAN_CALLBACK_KEYS meant?" in said
    assert "is DATABASE_URL meant?" in said
    assert "CRM_URL" not in said
    assert "canary" not in said


def test_a_settings_file_that_is_named_must_be_there(monkeypatch, tmp_path):
    """Its settings would be missed without a word."""
    monkeypatch.delenv("SETTINGS_FILE", raising=False)
    require_settings_file()
    for place in (tmp_path / "none.env", tmp_path):
        monkeypatch.setenv("SETTINGS_FILE", str(place))
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
def test_where_it_listens_can_be_reached(load, bind, address):
    """What `flask setup` prints is what one can call."""
    assert load(BIND=bind).address == address


@pytest.mark.parametrize("name", ["BIND=8125", "BIND=a b:1", "WEB_THREADS=0", "WEB_THREADS=x", "WEB_CONCURRENCY=0"])
def test_a_server_that_could_not_answer_is_refused(load, name):
    """Before it listens."""
    setting, value = name.split("=")

    assert setting in problems(load, **{setting: value})


LINES = len((ROOT / "app" / "handlers.py").read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ('@handlers.on("PACKAGE_COMPLET")\ndef f(event, package): ...\n', ["did you mean PACKAGE_COMPLETE?"]),
        *in_all(
            ("import nowhere_to_be_found\n", ["No module named 'nowhere_to_be_found'", f"see line {LINES + 2}:"]),
            ("def f(:\n", ["SyntaxError", f"see line {LINES + 2}:"]),
            ("handlers = None\n", ["must have `handlers = Handlers()`"]),
        ),
    ],
)
def test_a_mistake_in_the_developers_file_is_told_without_a_traceback(mistake, said, tmp_path):
    """The line, and what is wrong with it."""
    for name in ("app", "migrations", "config.py", "wsgi.py"):
        place = ROOT / name
        (shutil.copytree if place.is_dir() else shutil.copy)(place, tmp_path / name)
    with (tmp_path / "app" / "handlers.py").open("a") as file:
        file.write(f"\n{mistake}")

    done = subprocess.run(
        [sys.executable, "-c", "import wsgi"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 4
    assert [one for one in said if one not in done.stderr] == []
    assert "Traceback" not in done.stderr
