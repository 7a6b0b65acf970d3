"""The delivered `app/handlers.py`, and mistakes in handlers that stop the service at start."""

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from app import EXTENSION, create_app, handling
from app import handlers as handlers_file
from app.errors import InvalidHandler
from app.handling import Event, Handlers, Package
from app.onespan.event_catalogue import CATALOGUE
from config import Settings
from tests.conftest import ADA, NOON, Clock, on_sqlite

PUBLIC = {"Discard", "Document", "Event", "GiveUp", "Handlers", "Package", "RetryAfter", "Signer"}
STUBS = inspect.getsource(handlers_file).count("    log_event(event, package)\n")
IS_UNCHANGED = len(list(handlers_file.handlers)) == STUBS
unchanged_file_only = pytest.mark.skipif(not IS_UNCHANGED, reason="app/handlers.py was changed by its integrator")


@unchanged_file_only
def test_there_is_one_documented_stub_for_every_event_and_one_for_all():
    """Each event has a handler stub, so that an integrator need not look up event names."""
    stubs = handlers_file.handlers

    for name in CATALOGUE:
        own = [stub for stub in stubs.handlers_for(name) if stubs.events_of(stub) is not None]
        assert len(own) == 1, name
        assert stubs.events_of(own[0]) == [name]
    assert [stub for stub in stubs if stubs.events_of(stub) is None] == stubs.handlers_for("PACKAGE_HATCHED")
    assert len(stubs.handlers_for("PACKAGE_HATCHED")) == 1
    for stub in stubs:
        assert inspect.getdoc(stubs[stub]), stub
        assert stubs[stub].__module__ == "app.handlers"
        assert list(inspect.signature(stubs[stub]).parameters) == ["event", "package"]


@unchanged_file_only
@on_sqlite
def test_law_11_the_stubs_log_no_person_and_fail_on_nothing(settings, capsys):
    """The handler stubs run without errors for every event and log no personal data of a callback."""
    app = create_app(settings, clock=Clock())
    service, client = app.extensions[EXTENSION], app.test_client()
    for name in (*CATALOGUE, "PACKAGE_HATCHED"):
        body = {
            "name": name,
            "packageId": "pkg-1",
            "sessionUser": "canary@example.com",
            "message": "canary message",
            "documentId": "doc-canary",
            "newRoleId": "role-canary",
            "comment": "canary comment",
            "createdDate": NOON.isoformat(),
        }
        headers = {"Authorization": "Basic the-callback-key"}
        assert client.post("/onespan/callback", data=json.dumps(body), headers=headers).status_code == 200
    for _ in range(200):
        if not service.digest.turn() | service.dispatcher.turn() and service.dispatcher.idle.is_set():
            break
        service.wakeups.dispatching.wait(0.2)
    listed = client.get("/api/events", headers={"Authorization": "Bearer the-bearer-token"}).json["items"]
    service.database.close()

    assert len(listed) == len(CATALOGUE) + 1
    assert {dispatch["state"] for event in listed for dispatch in event["dispatches"]} == {"done"}
    logged = capsys.readouterr()
    assert "canary" not in logged.out + logged.err
    assert "PACKAGE_COMPLETE" in logged.err
    assert "PACKAGE_HATCHED" in logged.err


def test_the_public_module_offers_what_handlers_import():
    """`app.handling` has exactly the public names that the examples in the documentation use."""
    assert set(handling.__all__) == PUBLIC
    assert all(hasattr(handling, name) for name in PUBLIC)


def mistake(register: Callable[[], object]) -> str:
    """Return the message of the error that a wrong registration of a handler raises."""
    with pytest.raises(InvalidHandler) as error:
        register()
    return str(error.value)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("PACKAGE_COMPLET", "PACKAGE_COMPLETE"),
        ("PACKAGE_COMPLETED", "PACKAGE_COMPLETE"),
        ("PACKAGE_READY_FOR_COMPLETIONS", "PACKAGE_READY_FOR_COMPLETE"),
        ("SIGNER_COMPLETED", "SIGNER_COMPLETE"),
        ("DOCUMENT_SIGN", "DOCUMENT_SIGNED"),
        ("package_complete", "PACKAGE_COMPLETE"),
    ],
)
def test_a_misspelt_name_is_an_error_with_a_suggestion(misspelt, meant):
    """A misspelt event name is an error when the service starts, before any event is lost."""
    message = mistake(lambda: Handlers().on(misspelt))

    assert misspelt in message
    assert f"did you mean {meant}?" in message


@pytest.mark.parametrize("name", ["", "NONSENSE", "PACKAGE_*", "**", " PACKAGE_COMPLETE"])
def test_any_other_name_is_an_error_too(name):
    """A handler must name an event exactly; any other name is an error."""
    assert repr(name) in mistake(lambda: Handlers().on(name))


def test_one_wrong_name_among_right_ones_registers_nothing():
    """A call of `on` with one wrong event name registers nothing, not even for the right names."""
    handlers = Handlers()

    mistake(lambda: handlers.on("PACKAGE_COMPLETE", "PACKAGE_COMPLETT"))

    assert handlers.handlers_for("PACKAGE_COMPLETE") == []


def test_a_handler_takes_the_event_and_the_package():
    """A function that cannot be called with an event and a package is an error when the service starts."""

    def none() -> None: ...
    def event_only(event: Event) -> None: ...
    def three(event: Event, package: Package, more: object) -> None: ...
    def keyword(event: Event, *, package: Package) -> None: ...
    def defaulted(event: Event, package: Package, more: object = None) -> None: ...
    def any_number(*args: object) -> None: ...

    for wrong in (none, event_only, three, keyword):
        assert wrong.__name__ in mistake(lambda wrong=wrong: Handlers().on("*")(wrong))
    handlers = Handlers()
    for right in (defaulted, any_number):
        handlers.on("*")(right)
    assert list(handlers) == ["defaulted", "any_number"]


def test_coroutines_and_generators_are_refused():
    """Coroutines and generators cannot be handlers, because a call runs no code and would count as done."""

    async def coroutine(event: Event, package: Package) -> None: ...

    def generator(event: Event, package: Package) -> Any:
        yield event

    async def both(event: Event, package: Package) -> Any:
        yield event

    for wrong in (coroutine, generator, both):
        assert wrong.__name__ in mistake(lambda wrong=wrong: Handlers().on("*")(wrong))


def test_two_functions_of_one_name_are_refused():
    """Two handlers cannot have the same name, because the database identifies a handler by its name."""
    handlers = Handlers()

    def make() -> Callable[[Event, Package], None]:
        def file_documents(event: Event, package: Package) -> None: ...

        return file_documents

    first = make()
    handlers.on("PACKAGE_COMPLETE")(first)

    assert "file_documents" in mistake(lambda: handlers.on("PACKAGE_EXPIRE")(make()))
    assert handlers["file_documents"] is first
    assert handlers.handlers_for("PACKAGE_EXPIRE") == []


def test_a_decorator_without_an_event_name_is_an_error():
    """The decorators `@handlers.on` and `@handlers.on()` are errors, because they name no event."""

    def forgetful(event: Event, package: Package) -> None: ...

    assert "name an event" in mistake(lambda: Handlers().on())
    assert mistake(lambda: Handlers().on(forgetful))  # type: ignore[arg-type]


def test_a_callable_without_a_name_is_an_error():
    """A `functools.partial` object cannot be a handler, because the object has no `__name__`."""

    def bill(rate: int, event: Event, package: Package) -> None: ...

    assert "name" in mistake(lambda: Handlers().on("*")(functools.partial(bill, 7)))


@on_sqlite
def test_every_handler_of_an_event_has_one_dispatch(handlers, send_callback, work, read):
    """Each handler of an event runs once, even a handler that is registered for the event twice."""

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_COMPLETE", "*")
    def everything(event: Event, package: Package) -> None: ...

    @handlers.on("*")
    @handlers.on("PACKAGE_COMPLETE")
    def twice(event: Event, package: Package) -> None: ...

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_EXPIRE")
    def ended(event: Event, package: Package) -> None: ...

    @handlers.on("PACKAGE_CREATE")
    def created(event: Event, package: Package) -> None: ...

    send_callback("PACKAGE_COMPLETE", sessionUser=ADA)
    work()

    (event,) = read("/api/events")["items"]
    assert sorted(dispatch["handler"] for dispatch in event["dispatches"]) == ["ended", "everything", "twice"]
    assert {dispatch["attempts"] for dispatch in event["dispatches"]} == {1}


def test_both_spellings_of_ready_for_complete_are_one_event():
    """The SDK's constant and the name in callbacks are two spellings of one event."""
    handlers = Handlers()

    @handlers.on("PACKAGE_READY_FOR_COMPLETION", "PACKAGE_READY_FOR_COMPLETE")
    def remind_cleo(event: Event, package: Package) -> None: ...

    assert handlers.handlers_for("PACKAGE_READY_FOR_COMPLETE") == ["remind_cleo"]
    assert handlers.events_of("remind_cleo") == ["PACKAGE_READY_FOR_COMPLETE"]


def test_a_registered_function_can_still_be_called(tmp_path):
    """A test can call a handler like any other function; `create_app` loads `app/handlers.py` by default."""
    handlers = Handlers()

    @handlers.on("PACKAGE_COMPLETE")
    def answer(event: Event, package: Package) -> int:
        return 42

    assert answer(None, None) == 42  # type: ignore[arg-type]
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/status.db", spool_dir=tmp_path))
    assert list(app.extensions[EXTENSION].dispatcher.handlers) == list(handlers_file.handlers)
    app.extensions[EXTENSION].database.close()
