"""The `flask callback` commands show, check and, after confirmation, replace the callback registration at OneSpan."""

import json
from collections.abc import Callable, Collection
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
from app.onespan.event_catalogue import CATALOGUE
from app.onespan.registration import differences, parse_registration, safe_url
from app.simulator.account import Account, Registration
from app.simulator.server import api
from config import Settings
from tests.conftest import on_sqlite
from tests.support.simulated import ADDRESS, API_KEY, connect

URL, OTHER = "https://sign.example.com/onespan/callback", "https://crm.example.com/onespan"
NEWEST, OLDER, FOREIGN = "canary-newest-key", "canary-older-key", "canary-foreign-key"
UNPUBLISHED = {"PACKAGE_OPT_OUT", "COBROWSE_REQUEST"}  # not registered by default
PUBLISHED = frozenset(CATALOGUE) - UNPUBLISHED
RIGHT = Registration(URL, NEWEST, PUBLISHED)


pytestmark = on_sqlite  # the commands of `flask callback` need no database


@pytest.fixture
def handlers(handlers, account, clock) -> Handlers:
    """One handler for completed packages, and a simulated OneSpan."""
    connect(handlers.onespan, api(account, api_key=API_KEY, clock=clock))

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETE")
    def file_documents(event: Any, package: Any) -> None: ...

    return handlers


@pytest.fixture
def account() -> Account:
    """A simulated OneSpan account without a callback registration."""
    return Account(1, packages=0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with the callback URL, OneSpan's URL, and two callback keys."""
    keys = Settings(onespan_callback_keys=f"summer={NEWEST},spring={OLDER}").onespan_callback_keys
    onespan = {"onespan_url": ADDRESS, "onespan_api_key": SecretStr(API_KEY)}
    return settings.model_copy(update={"callback_url": URL, "onespan_callback_keys": keys, **onespan})


@pytest.fixture
def answers(handlers: Handlers) -> Callable[..., list[Request]]:
    """Let OneSpan give scripted answers, the last answer repeatedly, and return the list of received requests."""

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
def interactive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands assume that a person uses the terminal."""
    monkeypatch.setattr("app.cli.callback.is_interactive", lambda: True)


def as_json(value: object, status: int = 200) -> Response:
    """Return an answer of OneSpan with a JSON body."""
    return Response(json.dumps(value), status, content_type="application/json")


NOT_REGISTERED = [
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
def test_a_404_of_another_server_is_an_error(flask, answers, command, body):
    """A 404 without OneSpan's error body comes from another server and does not mean that nothing is registered."""
    answers(Response(body, 404))

    result = flask("callback", command)

    assert result.exit_code == 2, result.output
    assert "is not OneSpan's API" in result.output
    assert "Nothing is registered" not in result.output


@pytest.mark.parametrize(
    "answer", NOT_REGISTERED, ids=lambda answer: f"{answer.status_code} {answer.get_data(as_text=True)}"
)
def test_every_form_of_an_empty_registration_is_understood(flask, answers, answer):
    """Every likely form of an empty registration is accepted, because OneSpan does not document the form."""
    answers(answer)

    shown, checked = flask("callback", "show"), flask("callback", "check")

    assert (shown.exit_code, checked.exit_code) == (0, 1)
    assert "Nothing is registered" in shown.output
    assert "flask callback register" in shown.output
    assert "Nothing is registered" in checked.output


def test_show_prints_the_registration_without_the_key(flask, account):
    """`flask callback show` explains each registered event, prints unknown events too, and hides the key."""
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
    """`flask callback show` prints that a registration has no key, which explains why callbacks are refused."""
    account.registration = Registration(OTHER, "", frozenset())

    assert "Key     none" in flask("callback", "show").output


def test_law_11_secrets_in_a_registered_address_are_not_shown(flask, account):
    """The `flask callback` commands print no password, token or control character of a registered URL."""
    url = "https://cleo:canary-word@crm.example.com/hook\x07?code=canary-code#canary-part"
    account.registration = Registration(url, FOREIGN, frozenset({"PACKAGE_\x07\x1b[2J"}))

    outputs = [flask("callback", *words, color=True).output for words in (["show"], ["check"], ["register"])]

    assert all("https://crm.example.com/hook" in output for output in outputs)
    assert not [output for output in outputs if "canary" in output or "\x07" in output or "\x1b[2J" in output]


def test_register_sets_the_url_the_newest_key_and_all_published_events(flask, account):
    """By default all events are registered, but those that OneSpan's API may refuse."""
    done = flask("callback", "register")

    assert done.exit_code == 0, done.output
    assert account.registration == RIGHT
    assert f"OneSpan sends 20 events to {URL}" in done.output
    assert flask("callback", "check").exit_code == 0


def test_the_url_and_events_can_be_options(flask, account):
    """`flask callback register` registers an event once, even if its options name both spellings."""
    events = ("PACKAGE_READY_FOR_COMPLETION", "PACKAGE_READY_FOR_COMPLETE", "COBROWSE_REQUEST")

    done = flask("callback", "register", "--url", OTHER, *[word for name in events for word in ("--event", name)])

    assert done.exit_code == 0, done.output
    assert account.registration == Registration(
        OTHER, NEWEST, frozenset({"PACKAGE_READY_FOR_COMPLETE", "COBROWSE_REQUEST"})
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--event", "PACKAGE_COMPLETED"], "did you mean PACKAGE_COMPLETE?"),
        (["--event", "package_complete"], "did you mean PACKAGE_COMPLETE?"),
        (["--event", "*"], "is not an event"),
        (["--url", "sign.example.com/onespan/callback"], "must look like https://"),
        (["--url", "https://sign.example.com"], "must look like https://"),
        (["--url", "https://cleo:word@sign.example.com/onespan/callback"], "must look like https://"),
        (["--url", "https://sign.example.com/onespan/callback#part"], "must look like https://"),
    ],
    ids=str,
)
def test_invalid_options_are_refused_with_a_hint(flask, account, options, message):
    """`flask callback register` sends nothing to OneSpan if an option is invalid."""
    refused = flask("callback", "register", *options)

    assert refused.exit_code == 2
    assert message in refused.output
    assert account.registration is None


@pytest.mark.parametrize(
    ("missing", "message"), [({"callback_url": None}, "CALLBACK_URL"), ({"onespan_callback_keys": ()}, "CALLBACK_KEYS")]
)
def test_register_needs_a_url_and_a_key(settings, handlers, account, missing, message):
    """`flask callback register` fails without a URL or a key, and the error names the missing setting."""
    app = create_app(settings.model_copy(update=missing), handlers=handlers)

    refused = app.test_cli_runner().invoke(args=["callback", "register"])

    assert (refused.exit_code, account.registration) == (2, None)
    assert message in refused.output
    app.extensions[EXTENSION].database.close()


@pytest.mark.parametrize(
    ("before", "lost"),
    [
        (replace(RIGHT, url=OTHER), OTHER),
        (
            replace(RIGHT, events=PUBLISHED | {"COBROWSE_REQUEST", "PACKAGE_HATCHED"}),
            "COBROWSE_REQUEST, PACKAGE_HATCHED",
        ),
    ],
)
def test_without_a_terminal_only_yes_replaces_a_registration(flask, account, before, lost):
    """Without a terminal, `flask callback register` needs `--yes` to replace a registration, and shows what is lost."""
    account.registration = before

    refused = flask("callback", "register", input="y\n")
    unchanged = account.registration
    done = flask("callback", "register", "--yes")

    assert (refused.exit_code, unchanged) == (2, before)
    assert lost in refused.output
    assert "--yes" in refused.output
    assert (done.exit_code, account.registration) == (0, RIGHT)
    assert lost in done.output


@pytest.mark.parametrize(("answer", "code", "url"), [("y", 0, URL), ("n", 1, OTHER), ("", 1, OTHER)])
@pytest.mark.usefixtures("interactive")
def test_register_asks_for_confirmation_at_a_terminal(flask, account, answer, code, url):
    """At a terminal, only the answer "y" lets `flask callback register` replace a registration."""
    account.registration = replace(RIGHT, url=OTHER)

    done = flask("callback", "register", input=f"{answer}\n")

    assert (done.exit_code, account.registration.url) == (code, url)
    assert f"Register {URL} with 20 events instead?" in done.output


@pytest.mark.parametrize(
    "before",
    [RIGHT, replace(RIGHT, key=OLDER), replace(RIGHT, key=FOREIGN), replace(RIGHT, events=frozenset({"KBA_FAILURE"}))],
)
def test_register_needs_no_confirmation_if_nothing_is_lost(flask, account, before):
    """`flask callback register` asks for no confirmation if it only changes the key or adds events."""
    account.registration = before

    done = flask("callback", "register")

    assert (done.exit_code, account.registration) == (0, RIGHT)
    assert "No longer" not in done.output


def test_add_keeps_the_registered_events(flask, account):
    """`flask callback register --add` keeps all registered events, unknown events included."""
    account.registration = replace(RIGHT, events=frozenset({"PACKAGE_HATCHED", "COBROWSE_REQUEST"}))

    single = flask("callback", "register", "--add", "--event", "PACKAGE_COMPLETE")
    after_single = account.registration.events
    rest = flask("callback", "register", "--add")

    assert (single.exit_code, after_single) == (0, {"PACKAGE_HATCHED", "COBROWSE_REQUEST", "PACKAGE_COMPLETE"})
    assert (rest.exit_code, account.registration.events) == (0, PUBLISHED | {"PACKAGE_HATCHED", "COBROWSE_REQUEST"})


def registered(**other: Any) -> Response:
    """Return OneSpan's answer with the configured registration, in which `other` replaces members."""
    return as_json({"url": URL, "key": NEWEST, "events": sorted(PUBLISHED), **other})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"url": OTHER}, f"shows {OTHER} as the URL"),
        ({"url": None}, "shows no URL"),
        ({"key": FOREIGN}, "a different key"),
        ({"key": None}, "no key"),
        ({"events": sorted(PUBLISHED - {"KBA_FAILURE"})}, "does not show KBA_FAILURE"),
        ({"events": [*PUBLISHED, "PACKAGE_HATCHED"]}, "also shows PACKAGE_HATCHED"),
    ],
)
def test_register_reports_what_onespan_did_not_store(flask, answers, other, message):
    """`flask callback register` reads the registration again, because status 200 does not prove the change."""
    answers(as_json({}), as_json({}), registered(**other))

    done = flask("callback", "register")

    assert done.exit_code == 1
    assert message in done.output
    assert "canary" not in done.output


def test_register_reports_if_the_registration_cannot_be_read_afterwards(flask, answers):
    """If the new registration cannot be read, the error says that OneSpan accepted the change."""
    requests = answers(as_json({}), as_json({}), as_json({}, 403))

    done = flask("callback", "register")

    assert done.exit_code == 2
    assert "OneSpan accepted it, but does not show it" in done.output
    assert [request.method for request in requests] == ["GET", "POST", "GET"]


def test_register_does_nothing_if_it_cannot_read_what_would_be_lost(flask, answers):
    """`flask callback register --yes` changes nothing if it cannot read the present registration."""
    requests = answers(as_json({}, 403))

    done = flask("callback", "register", "--yes")

    assert done.exit_code == 2
    assert [request.method for request in requests] == ["GET"]


class RefusingServer:
    """A OneSpan that refuses a registration with certain events, and records the sent and accepted registrations."""

    def __init__(self, handlers: Handlers, *, refused: Collection[str], stored: Any = None, limit: int = 100) -> None:
        self.refused, self.stored, self.limit = set(refused), stored, limit
        self.sent: list[Any] = []
        self.accepted: list[Any] = []
        connect(handlers.onespan, Request.application(self.answer))

    def answer(self, request: Request) -> Response:
        """Answer with the registration, or store a new one."""
        if request.method == "GET":
            return as_json(self.stored or {})
        self.sent.append(body := request.get_json())
        if len(self.sent) > self.limit:
            return as_json({}, 503)
        if self.refused & {body["url"], *body["events"], *body}:
            return as_json({"messageKey": "error.validation.invalidEvent", "message": "canary"}, 400)
        self.accepted.append(body)
        self.stored = body
        return as_json({})


@pytest.mark.parametrize(
    ("refused", "before"),
    [
        (["DOCUMENT_VIEWED"], []),
        (["DOCUMENT_VIEWED"], ["PACKAGE_COMPLETE", "KBA_FAILURE"]),
        (["PACKAGE_CREATE"], []),
        (["PACKAGE_CREATE", "TEMPLATE_CREATE"], []),
        (["PACKAGE_CREATE", "ROLE_REASSIGN", "EMAIL_BOUNCE"], ["DOCUMENT_SIGNED"]),
        (["EMAIL_BOUNCE"], sorted(PUBLISHED - {"EMAIL_BOUNCE"})),
        (sorted(PUBLISHED - {"PACKAGE_COMPLETE"}), ["PACKAGE_COMPLETE"]),
    ],
)
def test_the_refused_event_is_found(flask, handlers, refused, before):
    """`flask callback register` finds refused events, registers the others, and never registers less than before."""
    stored = {"url": URL, "key": NEWEST, "events": before} if before else None
    onespan = RefusingServer(handlers, refused=refused, stored=stored)

    done = flask("callback", "register")

    assert done.exit_code == 1, done.output
    assert f"OneSpan refuses {', '.join(name for name in CATALOGUE if name in refused)}. The other" in done.output
    assert "400 error.validation.invalidEvent. Sent: PACKAGE_CREATE, TEMPLATE_CREATE, " in done.output
    assert set(onespan.stored["events"]) == PUBLISHED - set(refused)
    assert all(set(before) <= set(accepted["events"]) for accepted in onespan.accepted)
    assert len(onespan.sent) <= 2 * len(PUBLISHED)
    assert "canary" not in done.output


@pytest.mark.parametrize(
    ("refused", "stored", "options"),
    [
        ([URL], None, []),
        ([URL], {"url": OTHER, "key": FOREIGN, "events": ["PACKAGE_COMPLETE"]}, ["--yes"]),
        (["PACKAGE_OPT_OUT"], None, ["--event", "PACKAGE_OPT_OUT"]),
        (["headers"], {"url": URL, "key": NEWEST, "events": ["KBA_FAILURE"], "headers": [{"a": "canary"}]}, []),
    ],
)
def test_a_refusal_of_everything_changes_nothing(flask, handlers, refused, stored, options):
    """If the events are not the cause, the registration stays as it was."""
    onespan = RefusingServer(handlers, refused=refused, stored=stored)

    done = flask("callback", "register", *options)

    assert done.exit_code == 2, done.output
    assert "Nothing was changed" in done.output
    assert ("--drop-unknown" in done.output) == ("headers" in refused)
    assert (onespan.stored, onespan.accepted) == (stored, [])
    assert len(onespan.sent) <= 6
    assert "canary" not in done.output


@pytest.mark.parametrize(
    ("refused", "before"),
    [
        (["PACKAGE_OPT_OUT"], ["PACKAGE_OPT_OUT"]),
        (["PACKAGE_OPT_OUT"], [*sorted(PUBLISHED), "PACKAGE_OPT_OUT"]),
        (["KBA_FAILURE"], sorted(PUBLISHED)),
        (["KBA_FAILURE", "EMAIL_BOUNCE", "PACKAGE_CREATE"], sorted(PUBLISHED)),
        (["KBA_FAILURE", "PACKAGE_OPT_OUT"], ["KBA_FAILURE", "PACKAGE_OPT_OUT"]),
    ],
)
def test_an_event_that_is_registered_but_now_refused_is_found(flask, handlers, refused, before):
    """If OneSpan refuses events that it accepted in the past, all other events are registered."""
    onespan = RefusingServer(handlers, refused=refused, stored={"url": URL, "key": NEWEST, "events": before})

    done = flask("callback", "register", "--add")

    assert done.exit_code == 1, done.output
    assert "OneSpan refuses " in done.output
    assert all(name in done.output.partition("OneSpan refuses ")[2].partition(".")[0] for name in refused)
    assert set(onespan.stored["events"]) == (PUBLISHED | set(before)) - set(refused)
    assert len(onespan.sent) <= 3 * len(PUBLISHED | set(before))
    assert len(refused) > 1 or all(set(before) - set(refused) <= set(sent["events"]) for sent in onespan.accepted)


def test_an_interrupted_search_keeps_what_was_registered(flask, handlers):
    """If OneSpan stops answering during the search, the account has at least the events from before."""
    before = ["PACKAGE_COMPLETE", "KBA_FAILURE"]
    stored = {"url": URL, "key": NEWEST, "events": before}
    onespan = RefusingServer(handlers, refused=["DOCUMENT_VIEWED"], stored=stored, limit=3)

    done = flask("callback", "register")

    assert done.exit_code == 2
    assert "OneSpan is unavailable" in done.output
    assert set(before) <= set(onespan.stored["events"])


def test_a_refusal_of_the_right_to_register_names_the_events(flask, handlers, answers):
    """A 403 is not searched for a cause, but the error says which events were sent."""
    requests = answers(as_json({}), as_json({}, 403))

    done = flask("callback", "register", "--event", "KBA_FAILURE")

    assert done.exit_code == 2
    assert "Sent: KBA_FAILURE." in done.output
    assert [request.method for request in requests] == ["GET", "POST"]


MORE = {"headers": [{"name": "X-Tenant", "value": "canary"}], "oauth": {"secret": "canary"}}


@pytest.mark.parametrize(("options", "kept"), [([], True), (["--drop-unknown", "--yes"], False)])
def test_unknown_members_are_kept_unless_dropped(flask, handlers, options, kept):
    """A registration keeps members that this version does not know, because a POST replaces everything."""
    stored = {"url": URL, "key": OLDER, "events": ["KBA_FAILURE"], **MORE, "@class": "x", "comment": None}
    onespan = RefusingServer(handlers, refused=[], stored=stored)
    checked, shown, refused = (flask("callback", *words) for words in (["check"], ["show"], ["register", *options[:1]]))
    done = flask("callback", "register", *options)

    assert "members that this version does not know: headers, oauth" in checked.output
    assert "Unknown to this version: headers, oauth" in shown.output
    assert refused.exit_code == (0 if kept else 2)
    assert (done.exit_code, "canary" in done.output) == (0, False)
    added = {name: value for name, value in onespan.stored.items() if name not in ("url", "key", "events")}
    assert added == (MORE if kept else {})
    assert kept or "No longer set     headers, oauth" in done.output


def test_members_that_onespan_does_not_keep_are_reported(flask, answers):
    """If the new registration lacks a member that was sent back, the command fails and names the member."""
    before = {"url": URL, "key": NEWEST, "events": [], "headers": ["x"]}
    answers(as_json(before), as_json({}), registered())

    done = flask("callback", "register")

    assert done.exit_code == 1
    assert "no longer has headers" in done.output


@pytest.mark.parametrize(
    ("url", "warnings"),
    [
        (URL, []),
        (f"{URL}?tenant=7", []),
        ("https://sign.example.com//OneSpan/Callback/", []),
        (URL.replace("https", "http"), ["use https://"]),
        (OTHER, ["not the receiver's, /onespan/callback"]),
        ("http://sign.example.com/callback", ["use https://", "not the receiver's"]),
    ],
)
def test_a_doubtful_address_is_a_warning(settings, handlers, account, url, warnings):
    """Every `flask callback` command warns of an address without TLS, and of a path that is not the receiver's."""
    account.registration = replace(RIGHT, url=url)
    app = create_app(settings.model_copy(update={"callback_url": url}), handlers=handlers)
    for command in ("check", "show", "register"):
        done = app.test_cli_runner().invoke(args=["callback", command])

        assert done.exit_code == 0
        lines = [line for line in done.output.splitlines() if line.startswith("warn  URL")]
        assert len(lines) == len(warnings), done.output
        assert all(warning in line for warning, line in zip(warnings, lines, strict=True))
    app.extensions[EXTENSION].database.close()


OK, OTHERWISE_OK = "ok    registration   as configured", "ok    registration   URL and events as configured"
DIFFERENCES = [
    (RIGHT, [OK], []),
    (replace(RIGHT, url="HTTPS://SIGN.example.com/onespan/callback"), [OK], []),
    (replace(RIGHT, events=frozenset({"PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETE"})), [OK], []),
    (replace(RIGHT, events=PUBLISHED | {"PACKAGE_HATCHED"}), [OK], []),
    (replace(RIGHT, key=OLDER), ["warn  key", OTHERWISE_OK], ["spring", "summer"]),
    (replace(RIGHT, url=OTHER), ["FAIL  URL"], [OTHER, URL]),
    (replace(RIGHT, url=f"{URL}/"), ["FAIL  URL"], []),
    (replace(RIGHT, url=URL.replace("https", "http")), ["FAIL  URL"], []),
    (replace(RIGHT, url=URL.replace("callback", "Callback")), ["FAIL  URL"], []),
    (replace(RIGHT, key=FOREIGN), ["FAIL  key"], ["401"]),
    (replace(RIGHT, key=NEWEST[:-1]), ["FAIL  key"], ["401"]),
    (replace(RIGHT, key=""), ["FAIL  key"], ["401"]),
    (replace(RIGHT, events=frozenset()), ["FAIL  events"], ["No event"]),
    (replace(RIGHT, events=PUBLISHED - {"PACKAGE_COMPLETE"}), ["FAIL  events"], [": PACKAGE_COMPLETE. ", "--add"]),
    (Registration(OTHER, OLDER, frozenset({"KBA_FAILURE"})), ["FAIL  URL", "warn  key", "FAIL  events"], []),
]


@pytest.mark.parametrize(("found", "lines", "texts"), DIFFERENCES)
def test_check_prints_a_line_for_each_difference(flask, account, found, lines, texts):
    """`flask callback check` exits with 1 if the registration differs; an older configured key is only a warning."""
    account.registration = found

    checked = flask("callback", "check")

    assert checked.exit_code == any("FAIL" in line for line in lines), checked.output
    printed = checked.output.splitlines()
    assert [line[: len(head)] for line, head in zip(printed, lines, strict=True)] == lines
    assert [text for text in texts if text not in checked.output] == []
    assert not [key for key in (NEWEST, OLDER, FOREIGN) if key in checked.output]


def test_an_event_can_be_registered_in_either_spelling(flask, answers):
    """`flask callback check` accepts an event in the spelling of the SDKs, which OneSpan may show."""
    answers(as_json({"url": URL, "key": NEWEST, "events": ["PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETION"]}))

    assert flask("callback", "check").exit_code == 0


def test_a_handler_of_every_event_needs_all_published_events(flask, account, handlers):
    """For a handler of every event, `flask callback check` requires only the events that OneSpan publishes."""

    @handlers.on("*")
    def archive(event: Any, package: Any) -> None: ...

    account.registration = replace(RIGHT, events=PUBLISHED - {"KBA_FAILURE"})
    missing = flask("callback", "check")
    account.registration = RIGHT
    right = flask("callback", "check")

    assert (missing.exit_code, ": KBA_FAILURE. " in missing.output) == (1, True)
    assert (right.exit_code, right.output.count("\n")) == (0, 1)


def test_a_handler_of_an_unpublished_event_is_a_warning(flask, account, handlers):
    """The warning about a handler of an unpublished event says where to enable the event."""

    @handlers.on("COBROWSE_REQUEST")
    def call_back(event: Any, package: Any) -> None: ...

    account.registration = RIGHT

    checked = flask("callback", "check")

    assert checked.exit_code == 0
    assert "warn  events" in checked.output
    assert "COBROWSE_REQUEST" in checked.output
    assert "its pages" in checked.output


def test_without_callback_url_the_registered_url_is_shown(settings, handlers, account):
    """Without `CALLBACK_URL`, `flask callback check` shows the registered URL, so that a person can check it."""
    account.registration = RIGHT
    app = create_app(settings.model_copy(update={"callback_url": None}), handlers=handlers)

    checked = app.test_cli_runner().invoke(args=["callback", "check"])

    assert checked.exit_code == 0
    assert f"CALLBACK_URL is not set; is {URL} right?" in checked.output
    app.extensions[EXTENSION].database.close()


def test_without_a_callback_key_the_check_fails(settings, handlers, account):
    """Without `ONESPAN_CALLBACK_KEYS`, `flask callback check` fails, even if the registered key is empty too."""
    for key in (FOREIGN, ""):
        account.registration = replace(RIGHT, key=key)
        app = create_app(settings.model_copy(update={"onespan_callback_keys": ()}), handlers=handlers)

        checked = app.test_cli_runner().invoke(args=["callback", "check"])

        assert checked.exit_code == 1
        assert "ONESPAN_CALLBACK_KEYS is not set" in checked.output
        app.extensions[EXTENSION].database.close()


@pytest.mark.parametrize("command", ["show", "register", "check"])
@pytest.mark.parametrize(
    ("answer", "message"),
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
def test_an_error_of_onespan_is_one_sentence(flask, answers, command, answer, message):
    """After an error of OneSpan, a `flask callback` command prints one sentence and exits with 2."""
    answers(answer)

    done = flask("callback", command)

    assert done.exit_code == 2
    assert done.output.startswith("Error: ")
    assert message in done.output
    assert done.output.count("\n") == 1
    assert "canary" not in done.output


def test_without_onespan_the_missing_settings_are_named(tmp_path):
    """The `flask callback` commands name missing OneSpan settings even if the database is unavailable."""
    settings = Settings(
        database_url="postgresql://user@127.0.0.1:1/nothing", callback_url=URL, onespan_callback_keys=NEWEST
    )
    app = create_app(settings.model_copy(update={"spool_dir": tmp_path}), handlers=Handlers())
    for command in ("show", "register", "check"):
        done = app.test_cli_runner().invoke(args=["callback", command])

        assert done.exit_code == 2
        assert "ONESPAN_URL" in done.output
    app.extensions[EXTENSION].database.close()


def test_law_11_no_command_prints_a_key(flask, account):
    """The `flask callback` commands print neither a configured key nor a registered key."""
    account.registration = Registration(OTHER, FOREIGN, frozenset({"PACKAGE_COMPLETE"}))

    outputs = [flask("callback", *words).output for words in (["show"], ["check"], ["register"], ["register", "--yes"])]
    outputs += [flask("callback", "show").output, flask("callback", "check").output]

    assert all(outputs)
    assert not [key for key in (NEWEST, OLDER, FOREIGN, API_KEY) for output in outputs if key in output]
    assert FOREIGN not in repr(parse_registration({"key": FOREIGN}))


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(some.characters(codec=None)),
    lambda inner: some.lists(inner) | some.dictionaries(some.sampled_from(["url", "key", "events", "x"]), inner),
    max_leaves=8,
)


@given(answer=JSON)
def test_law_10_any_json_is_a_registration_or_is_refused(answer):
    """A JSON object or null is always read as a registration, which can be compared and printed."""
    try:
        registration = parse_registration(answer)
    except UnreadableAnswer:
        assert answer is not None
        assert not isinstance(answer, dict)
        return
    found = differences(registration, url=URL, keys=[("summer", NEWEST)], events=PUBLISHED)

    assert (registration.url is None) == ("registration" in [difference.about for difference in found])
    assert all(difference.message.isprintable() for difference in found)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, URL),
        ("https://cleo:canary@x.example.com/a/b", "https://x.example.com/a/b"),
        ("https://cleo:can?ary@x.example.com/a", "https://x.example.com/a"),
        ("cleo:canary@x.example.com", "x.example.com"),
        ("https://x.example.com/a?canary", "https://x.example.com/a?***"),
        ("https://x.example.com/a#canary", "https://x.example.com/a"),
    ],
)
def test_law_11_secrets_in_a_url_are_not_shown(url, shown):
    """A printed URL contains no user, password, query or fragment."""
    assert safe_url(url) == shown
