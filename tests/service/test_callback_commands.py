"""`flask callback`: what is registered in OneSpan is shown, replaced only knowingly, and compared with what we want."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import SecretStr
from werkzeug.wrappers import Request, Response

from app import EXTENSION, create_app
from app.errors import UnreadableAnswer
from app.handling import Handlers
from app.onespan.catalogue import CATALOGUE
from app.onespan.registration import differences, read_registration, safe_url
from app.simulator.account import Account, Registration
from app.simulator.server import api
from config import Settings
from tests.conftest import on_sqlite
from tests.support.simulated import ADDRESS, API_KEY, connect

OURS, OTHER = "https://sign.example.com/onespan/callback", "https://crm.example.com/onespan"
NEWEST, OLDER, FOREIGN = "canary-newest-key", "canary-older-key", "canary-foreign-key"
UNPUBLISHED = {"DOCUMENT_VIEWED", "COBROWSE_REQUEST"}
PUBLISHED = frozenset(CATALOGUE) - UNPUBLISHED
RIGHT = Registration(OURS, NEWEST, PUBLISHED)


pytestmark = on_sqlite  # these commands hardly need a database


@pytest.fixture
def handlers(handlers, account, clock) -> Handlers:
    """One handler for the end of a package, and a OneSpan to ask."""
    connect(handlers.onespan, api(account, api_key=API_KEY, clock=clock))

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETE")
    def file_documents(event: Any, package: Any) -> None: ...

    return handlers


@pytest.fixture
def account() -> Account:
    """Nothing is registered in it yet."""
    return Account(1, packages=0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The service knows its address, OneSpan's, and two callback keys."""
    keys = Settings(onespan_callback_keys=f"summer={NEWEST},spring={OLDER}").onespan_callback_keys
    onespan = {"onespan_url": ADDRESS, "onespan_api_key": SecretStr(API_KEY)}
    return settings.model_copy(update={"callback_url": OURS, "onespan_callback_keys": keys, **onespan})


@pytest.fixture
def answers(handlers: Handlers) -> Callable[..., list[Request]]:
    """Let OneSpan give these answers to whoever asks, in turn, the last for ever; returns what was asked."""

    def answers(*responses: Response) -> list[Request]:
        asked: list[Request] = []

        @Request.application
        def scripted(request: Request) -> Response:
            request.get_data()
            asked.append(request)
            return responses[min(len(asked), len(responses)) - 1]

        connect(handlers.onespan, scripted)
        return asked

    return answers


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits at the terminal."""
    monkeypatch.setattr("app.cli.callback.can_ask", lambda: True)


def as_json(told: object, status: int = 200) -> Response:
    """An answer of OneSpan's."""
    return Response(json.dumps(told), status, content_type="application/json")


NOTHING = [
    as_json({}),
    as_json(None),
    as_json({"url": None, "key": None, "events": None}),
    as_json({"url": "", "key": "", "events": []}),
    as_json({"code": 404, "messageKey": "error.notFound", "message": "Not found"}, 404),
    Response("", 204),
    Response("", 200),
]


@pytest.mark.parametrize("body", ["", "<html>Not found</html>", '{"detail": "Not Found"}', "[]"])
@pytest.mark.parametrize("command", ["show", "check"])
def test_a_404_that_is_not_onespans_is_no_registration(flask, answers, command, body):
    """Something else answers at this address; to register there would be no help."""
    answers(Response(body, 404))

    result = flask("callback", command)

    assert result.exit_code == 2, result.output
    assert "is not OneSpan's API" in result.output
    assert "Nothing is registered" not in result.output


@pytest.mark.parametrize("answer", NOTHING, ids=lambda answer: f"{answer.status_code} {answer.get_data(as_text=True)}")
def test_however_onespan_says_that_nothing_is_registered_it_is_understood(flask, answers, answer):
    """Nobody says how it does."""
    answers(answer)

    shown, checked = flask("callback", "show"), flask("callback", "check")

    assert (shown.exit_code, checked.exit_code) == (0, 1)
    assert "Nothing is registered" in shown.output
    assert "flask callback register" in shown.output
    assert "Nothing is registered" in checked.output


def test_what_is_registered_is_shown_without_the_key(flask, account):
    """Each event with what it means; one that OneSpan has added since, too."""
    account.registration = Registration(OTHER, FOREIGN, frozenset({"PACKAGE_COMPLETE", "PACKAGE_HATCHED"}))

    shown = flask("callback", "show")

    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[:2] == [f"URL     {OTHER}", "Key     set"]
    assert "PACKAGE_COMPLETE" in lines[2]
    assert "the package is complete" in lines[2]
    assert "PACKAGE_HATCHED" in lines[3]
    assert set(lines[-1].removeprefix("Not registered: ").split(", ")) == CATALOGUE.keys() - {"PACKAGE_COMPLETE"}
    assert FOREIGN not in shown.output


def test_a_registration_without_a_key_says_none(flask, account):
    """So that one sees why every callback is refused."""
    account.registration = Registration(OTHER, "", frozenset())

    assert "Key     none" in flask("callback", "show").output


def test_law_11_secrets_in_a_registered_address_are_not_shown(flask, account):
    """Somebody may have put a password or a token into it; and no text of OneSpan's moves the cursor."""
    url = "https://cleo:canary-word@crm.example.com/hook\x07?code=canary-code#canary-part"
    account.registration = Registration(url, FOREIGN, frozenset({"PACKAGE_\x07\x1b[2J"}))

    outputs = [flask("callback", *words, color=True).output for words in (["show"], ["check"], ["register"])]

    assert all("https://crm.example.com/hook" in output for output in outputs)
    assert not [output for output in outputs if "canary" in output or "\x07" in output or "\x1b[2J" in output]


def test_registering_tells_onespan_the_address_the_newest_key_and_all_its_events(flask, account):
    """Those that its OpenAPI document names."""
    done = flask("callback", "register")

    assert done.exit_code == 0, done.output
    assert account.registration == RIGHT
    assert f"OneSpan calls {OURS} and tells 20 events" in done.output
    assert flask("callback", "check").exit_code == 0


def test_an_address_and_events_may_be_given(flask, account):
    """In both spellings, each once."""
    events = ("PACKAGE_READY_FOR_COMPLETION", "PACKAGE_READY_FOR_COMPLETE", "DOCUMENT_VIEWED")

    done = flask("callback", "register", "--url", OTHER, *[word for name in events for word in ("--event", name)])

    assert done.exit_code == 0, done.output
    assert account.registration == Registration(
        OTHER, NEWEST, frozenset({"PACKAGE_READY_FOR_COMPLETE", "DOCUMENT_VIEWED"})
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--event", "PACKAGE_COMPLETED"], "PACKAGE_COMPLETE meant?"),
        (["--event", "package_complete"], "PACKAGE_COMPLETE meant?"),
        (["--event", "*"], "no event's name"),
        (["--url", "sign.example.com/onespan/callback"], "must look like https://"),
        (["--url", "https://sign.example.com"], "must look like https://"),
        (["--url", "https://cleo:word@sign.example.com/onespan/callback"], "must look like https://"),
        (["--url", "https://sign.example.com/onespan/callback#part"], "must look like https://"),
    ],
    ids=str,
)
def test_what_cannot_be_registered_is_refused_with_a_hint(flask, account, words, said):
    """Before OneSpan is told."""
    refused = flask("callback", "register", *words)

    assert refused.exit_code == 2
    assert said in refused.output
    assert account.registration is None


@pytest.mark.parametrize(
    ("missing", "said"), [({"callback_url": None}, "CALLBACK_URL"), ({"onespan_callback_keys": ()}, "CALLBACK_KEYS")]
)
def test_registering_wants_an_address_and_a_key(settings, handlers, account, missing, said):
    """And says which setting there should be."""
    app = create_app(settings.model_copy(update=missing), handlers=handlers)

    refused = app.test_cli_runner().invoke(args=["callback", "register"])

    assert (refused.exit_code, account.registration) == (2, None)
    assert said in refused.output
    app.extensions[EXTENSION].database.close()


@pytest.mark.parametrize(
    ("before", "lost"),
    [
        (replace(RIGHT, url=OTHER), OTHER),
        (replace(RIGHT, events=PUBLISHED | {"DOCUMENT_VIEWED", "PACKAGE_HATCHED"}), "DOCUMENT_VIEWED, PACKAGE_HATCHED"),
    ],
)
def test_nothing_else_is_replaced_unasked(flask, account, before, lost):
    """What would be lost is shown; where nobody can answer it is left, unless --yes says so."""
    account.registration = before

    refused = flask("callback", "register", input="y\n")
    unchanged = account.registration
    done = flask("callback", "register", "--yes")

    assert (refused.exit_code, unchanged) == (2, before)
    assert lost in refused.output
    assert "--yes" in refused.output
    assert (done.exit_code, account.registration) == (0, RIGHT)
    assert lost in done.output


@pytest.mark.parametrize(("answer", "code", "url"), [("y", 0, OURS), ("n", 1, OTHER), ("", 1, OTHER)])
@pytest.mark.usefixtures("somebody")
def test_somebody_at_the_terminal_is_asked(flask, account, answer, code, url):
    """And what they say is done; who says nothing wants nothing."""
    account.registration = replace(RIGHT, url=OTHER)

    done = flask("callback", "register", input=f"{answer}\n")

    assert (done.exit_code, account.registration.url) == (code, url)
    assert f"Register {OURS} with 20 events instead?" in done.output


@pytest.mark.parametrize(
    "before",
    [RIGHT, replace(RIGHT, key=OLDER), replace(RIGHT, key=FOREIGN), replace(RIGHT, events=frozenset({"KBA_FAILURE"}))],
)
def test_registering_again_asks_nothing_where_nothing_is_lost(flask, account, before):
    """A new key and more events replace nothing that anybody misses."""
    account.registration = before

    done = flask("callback", "register")

    assert (done.exit_code, account.registration) == (0, RIGHT)
    assert "No longer" not in done.output


def test_adding_keeps_the_events_that_are_registered(flask, account):
    """Unknown ones too."""
    account.registration = replace(RIGHT, events=frozenset({"PACKAGE_HATCHED", "DOCUMENT_VIEWED"}))

    one = flask("callback", "register", "--add", "--event", "PACKAGE_COMPLETE")
    after_one = account.registration.events
    rest = flask("callback", "register", "--add")

    assert (one.exit_code, after_one) == (0, {"PACKAGE_HATCHED", "DOCUMENT_VIEWED", "PACKAGE_COMPLETE"})
    assert (rest.exit_code, account.registration.events) == (0, PUBLISHED | {"PACKAGE_HATCHED", "DOCUMENT_VIEWED"})


def registered(**other: Any) -> Response:
    """What OneSpan shows."""
    return as_json({"url": OURS, "key": NEWEST, "events": sorted(PUBLISHED), **other})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"url": OTHER}, f"shows {OTHER} as the URL"),
        ({"url": None}, "shows no URL"),
        ({"key": FOREIGN}, "a different key"),
        ({"key": None}, "no key"),
        ({"events": sorted(PUBLISHED - {"KBA_FAILURE"})}, "does not show KBA_FAILURE"),
        ({"events": [*PUBLISHED, "PACKAGE_HATCHED"]}, "also shows PACKAGE_HATCHED"),
    ],
)
def test_what_onespan_did_not_take_is_said(flask, answers, other, said):
    """It is asked again afterwards, and believed more than its 200."""
    answers(as_json({}), as_json({}), registered(**other))

    done = flask("callback", "register")

    assert done.exit_code == 1
    assert said in done.output
    assert "canary" not in done.output


def test_what_onespan_takes_but_does_not_show_again_is_said(flask, answers):
    """Whoever sees the error knows that the registration was changed."""
    asked = answers(as_json({}), as_json({}), as_json({}, 403))

    done = flask("callback", "register")

    assert done.exit_code == 2
    assert "OneSpan took it, but does not show it" in done.output
    assert [request.method for request in asked] == ["GET", "POST", "GET"]


def test_nothing_is_registered_where_one_cannot_see_what_would_be_lost(flask, answers):
    """Even with --yes: who may not see it may hardly change it."""
    asked = answers(as_json({}, 403))

    done = flask("callback", "register", "--yes")

    assert done.exit_code == 2
    assert [request.method for request in asked] == ["GET"]


WELL, OTHERWISE = "ok    registration   as it should be", "ok    registration   otherwise as it should be"
DIFFERENCES = [
    (RIGHT, [WELL], []),
    (replace(RIGHT, url="HTTPS://SIGN.example.com/onespan/callback"), [WELL], []),
    (replace(RIGHT, events=frozenset({"PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETE"})), [WELL], []),
    (replace(RIGHT, events=PUBLISHED | {"PACKAGE_HATCHED"}), [WELL], []),
    (replace(RIGHT, key=OLDER), ["warn  key", OTHERWISE], ["spring", "summer"]),
    (replace(RIGHT, url=OTHER), ["FAIL  URL"], [OTHER, OURS]),
    (replace(RIGHT, url=f"{OURS}/"), ["FAIL  URL"], []),
    (replace(RIGHT, url=OURS.replace("https", "http")), ["FAIL  URL"], []),
    (replace(RIGHT, url=OURS.replace("callback", "Callback")), ["FAIL  URL"], []),
    (replace(RIGHT, key=FOREIGN), ["FAIL  key"], ["401"]),
    (replace(RIGHT, key=NEWEST[:-1]), ["FAIL  key"], ["401"]),
    (replace(RIGHT, key=""), ["FAIL  key"], ["401"]),
    (replace(RIGHT, events=frozenset()), ["FAIL  events"], ["No event"]),
    (replace(RIGHT, events=PUBLISHED - {"PACKAGE_COMPLETE"}), ["FAIL  events"], [": PACKAGE_COMPLETE. ", "--add"]),
    (Registration(OTHER, OLDER, frozenset({"KBA_FAILURE"})), ["FAIL  URL", "warn  key", "FAIL  events"], []),
]


@pytest.mark.parametrize(("found", "lines", "said"), DIFFERENCES)
def test_each_difference_is_a_line_that_says_what_to_do(flask, account, found, lines, said):
    """1 when there is any; a change of keys that is under way is none."""
    account.registration = found

    checked = flask("callback", "check")

    assert checked.exit_code == any("FAIL" in line for line in lines), checked.output
    told = checked.output.splitlines()
    assert [line[: len(head)] for line, head in zip(told, lines, strict=True)] == lines
    assert [words for words in said if words not in checked.output] == []
    assert not [key for key in (NEWEST, OLDER, FOREIGN) if key in checked.output]


def test_an_event_may_be_registered_in_either_spelling(flask, answers):
    """OneSpan may show the SDKs'."""
    answers(as_json({"url": OURS, "key": NEWEST, "events": ["PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETION"]}))

    assert flask("callback", "check").exit_code == 0


def test_a_handler_of_all_wants_all_that_can_be_registered(flask, account, handlers):
    """But not what OneSpan's API may have no name for."""

    @handlers.on("*")
    def archive(event: Any, package: Any) -> None: ...

    account.registration = replace(RIGHT, events=PUBLISHED - {"KBA_FAILURE"})
    missing = flask("callback", "check")
    account.registration = RIGHT
    right = flask("callback", "check")

    assert (missing.exit_code, ": KBA_FAILURE. " in missing.output) == (1, True)
    assert (right.exit_code, right.output.count("\n")) == (0, 1)


def test_a_handler_of_what_the_api_may_not_take_is_a_note(flask, account, handlers):
    """It says where to switch it on."""

    @handlers.on("DOCUMENT_VIEWED")
    def count_views(event: Any, package: Any) -> None: ...

    account.registration = RIGHT

    checked = flask("callback", "check")

    assert checked.exit_code == 0
    assert "warn  events" in checked.output
    assert "DOCUMENT_VIEWED" in checked.output
    assert "its pages" in checked.output


def test_without_an_address_of_ours_the_registered_one_is_shown(settings, handlers, account):
    """A person can compare it."""
    account.registration = RIGHT
    app = create_app(settings.model_copy(update={"callback_url": None}), handlers=handlers)

    checked = app.test_cli_runner().invoke(args=["callback", "check"])

    assert checked.exit_code == 0
    assert f"CALLBACK_URL is not set; is {OURS} right?" in checked.output
    app.extensions[EXTENSION].database.close()


def test_without_a_key_of_ours_the_check_fails(settings, handlers, account):
    """An empty setting authenticates nobody, and fits no empty key."""
    for key in (FOREIGN, ""):
        account.registration = replace(RIGHT, key=key)
        app = create_app(settings.model_copy(update={"onespan_callback_keys": ()}), handlers=handlers)

        checked = app.test_cli_runner().invoke(args=["callback", "check"])

        assert checked.exit_code == 1
        assert "ONESPAN_CALLBACK_KEYS is not set" in checked.output
        app.extensions[EXTENSION].database.close()


@pytest.mark.parametrize("command", ["show", "register", "check"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (as_json({}, 401), "rejected the credentials"),
        (as_json({}, 403), "do not permit this"),
        (as_json({}, 500), "is unavailable"),
        (as_json({}, 302), "ONESPAN_URL"),
        (Response("<html>", content_type="text/html"), "ONESPAN_URL"),
        (as_json([]), "cannot be read"),
        (as_json("canary"), "cannot be read"),
    ],
)
def test_a_onespan_that_cannot_be_asked_is_a_sentence(flask, answers, command, answer, said):
    """With an exit code of its own."""
    answers(answer)

    done = flask("callback", command)

    assert done.exit_code == 2
    assert done.output.startswith("Error: ")
    assert said in done.output
    assert done.output.count("\n") == 1
    assert "canary" not in done.output


def test_without_a_onespan_the_settings_are_named(tmp_path):
    """And no database is needed to look."""
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing", callback_url=OURS, onespan_callback_keys=NEWEST
    )
    app = create_app(settings.model_copy(update={"spool_dir": tmp_path}), handlers=Handlers())
    for command in ("show", "register", "check"):
        done = app.test_cli_runner().invoke(args=["callback", command])

        assert done.exit_code == 2
        assert "ONESPAN_URL" in done.output
    app.extensions[EXTENSION].database.close()


def test_law_11_no_command_prints_a_key(flask, account):
    """Neither ours nor the one that was registered before."""
    account.registration = Registration(OTHER, FOREIGN, frozenset({"PACKAGE_COMPLETE"}))

    said = [flask("callback", *words).output for words in (["show"], ["check"], ["register"], ["register", "--yes"])]
    said += [flask("callback", "show").output, flask("callback", "check").output]

    assert all(said)
    assert not [key for key in (NEWEST, OLDER, FOREIGN, API_KEY) for output in said if key in output]
    assert FOREIGN not in repr(read_registration({"key": FOREIGN}))


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(some.characters(codec=None)),
    lambda inner: some.lists(inner) | some.dictionaries(some.sampled_from(["url", "key", "events", "x"]), inner),
    max_leaves=8,
)


@given(shown=JSON)
def test_law_10_any_json_is_a_registration_or_is_refused(shown):
    """Whatever it is, it can be compared and printed."""
    try:
        registration = read_registration(shown)
    except UnreadableAnswer:
        assert shown is not None
        assert not isinstance(shown, dict)
        return
    found = differences(registration, url=OURS, keys=[("summer", NEWEST)], events=PUBLISHED)

    assert (registration.url is None) == ("registration" in [one.about for one in found])
    assert all(one.says.isprintable() for one in found)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (OURS, OURS),
        ("https://cleo:canary@x.example.com/a/b", "https://x.example.com/a/b"),
        ("https://cleo:can?ary@x.example.com/a", "https://x.example.com/a"),
        ("cleo:canary@x.example.com", "x.example.com"),
        ("https://x.example.com/a?canary", "https://x.example.com/a?***"),
        ("https://x.example.com/a#canary", "https://x.example.com/a"),
    ],
)
def test_law_11_an_address_is_shown_without_what_may_be_secret(url, shown):
    """User, password, query and fragment."""
    assert safe_url(url) == shown
