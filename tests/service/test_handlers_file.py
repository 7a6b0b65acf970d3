"""The developers' file as it comes, and the mistakes in it that are found at start."""

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from app import EXTENSION, create_app
from app import handlers as developers_file
from app.errors import HandlerMistake
from app.handling import Event, Handlers, Package
from app.onespan.catalogue import CATALOGUE
from config import Settings
from tests.conftest import ADA, NOON, Clock, on_sqlite

STUBS = inspect.getsource(developers_file).count("    note(event, package)\n")
AS_IT_CAME = len(list(developers_file.handlers)) == STUBS
of_the_file_as_it_came = pytest.mark.skipif(not AS_IT_CAME, reason="app/handlers.py is yours now, and so are its tests")


@of_the_file_as_it_came
def test_there_is_one_documented_stub_for_every_event_and_one_for_all():
    """What a developer finds: nothing to look up, nothing to invent."""
    stubs = developers_file.handlers

    for name in CATALOGUE:
        own = [one for one in stubs.wanting(name) if stubs.names_wanted_by(one) is not None]
        assert len(own) == 1, name
        assert stubs.names_wanted_by(own[0]) == [name]
    assert [one for one in stubs if stubs.names_wanted_by(one) is None] == stubs.wanting("PACKAGE_HATCHED")
    assert len(stubs.wanting("PACKAGE_HATCHED")) == 1
    for one in stubs:
        assert inspect.getdoc(stubs[one]), one
        assert stubs[one].__module__ == "app.handlers"
        assert list(inspect.signature(stubs[one]).parameters) == ["event", "package"]


@of_the_file_as_it_came
@on_sqlite
def test_law_11_the_stubs_log_no_person_and_fail_on_nothing(settings, capsys):
    """Every event through the file as it is, with a person in every member."""
    app = create_app(settings, clock=Clock())
    service, client = app.extensions[EXTENSION], app.test_client()
    for name in (*CATALOGUE, "PACKAGE_HATCHED"):
        told = {
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
        assert client.post("/onespan/callback", data=json.dumps(told), headers=headers).status_code == 200
    for _ in range(200):
        if not service.digest.turn() | service.dispatcher.turn() and service.dispatcher.idle.is_set():
            break
        service.bells.dispatching.wait(0.2)
    listed = client.get("/api/events", headers={"Authorization": "Bearer the-api-token"}).json["items"]
    service.database.close()

    assert len(listed) == len(CATALOGUE) + 1
    assert {one["state"] for event in listed for one in event["dispatches"]} == {"done"}
    logged = capsys.readouterr()
    assert "canary" not in logged.out + logged.err
    assert "PACKAGE_COMPLETE" in logged.err
    assert "PACKAGE_HATCHED" in logged.err


def mistake(register: Callable[[], object]) -> str:
    """What is said of a mistake."""
    with pytest.raises(HandlerMistake) as said:
        register()
    return str(said.value)


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
def test_a_misspelt_name_is_an_error_that_says_what_is_meant(misspelt, meant):
    """At start, not when the first event is lost."""
    said = mistake(lambda: Handlers().on(misspelt))

    assert misspelt in said
    assert f"{meant} meant" in said


@pytest.mark.parametrize("name", ["", "NONSENSE", "PACKAGE_*", "**", " PACKAGE_COMPLETE"])
def test_any_other_name_is_an_error_too(name):
    """Names are whole and exact."""
    assert repr(name) in mistake(lambda: Handlers().on(name))


def test_one_wrong_name_among_right_ones_registers_nothing():
    """Half of what was meant is not what was meant."""
    handlers = Handlers()

    mistake(lambda: handlers.on("PACKAGE_COMPLETE", "PACKAGE_COMPLETT"))

    assert handlers.wanting("PACKAGE_COMPLETE") == []


def test_a_handler_takes_the_event_and_the_package():
    """Any other number of arguments is found at start."""

    def none() -> None: ...
    def one(event: Event) -> None: ...
    def three(event: Event, package: Package, more: object) -> None: ...
    def keyword(event: Event, *, package: Package) -> None: ...
    def defaulted(event: Event, package: Package, more: object = None) -> None: ...
    def any_number(*args: object) -> None: ...

    for wrong in (none, one, three, keyword):
        assert wrong.__name__ in mistake(lambda wrong=wrong: Handlers().on("*")(wrong))
    handlers = Handlers()
    for right in (defaulted, any_number):
        handlers.on("*")(right)
    assert list(handlers) == ["defaulted", "any_number"]


def test_what_would_not_run_when_called_is_refused():
    """Calling a coroutine or a generator function runs none of it, and would count as done."""

    async def coroutine(event: Event, package: Package) -> None: ...

    def generator(event: Event, package: Package) -> Any:
        yield event

    async def both(event: Event, package: Package) -> Any:
        yield event

    for wrong in (coroutine, generator, both):
        assert wrong.__name__ in mistake(lambda wrong=wrong: Handlers().on("*")(wrong))


def test_two_functions_of_one_name_are_refused():
    """The name is what the database knows a handler by."""
    handlers = Handlers()

    def make() -> Callable[[Event, Package], None]:
        def file_documents(event: Event, package: Package) -> None: ...

        return file_documents

    first = make()
    handlers.on("PACKAGE_COMPLETE")(first)

    assert "file_documents" in mistake(lambda: handlers.on("PACKAGE_EXPIRE")(make()))
    assert handlers["file_documents"] is first
    assert handlers.wanting("PACKAGE_EXPIRE") == []


def test_forgetting_the_name_is_a_mistake_that_is_explained():
    """`@handlers.on` and `@handlers.on()` both lack it."""

    def forgetful(event: Event, package: Package) -> None: ...

    assert "which event" in mistake(lambda: Handlers().on())
    assert mistake(lambda: Handlers().on(forgetful))  # type: ignore[arg-type]


def test_what_has_no_name_is_a_mistake_that_is_explained():
    """A partial has no name to be known by."""

    def bill(rate: int, event: Event, package: Package) -> None: ...

    assert "name" in mistake(lambda: Handlers().on("*")(functools.partial(bill, 7)))


@on_sqlite
def test_every_handler_of_an_event_has_one_dispatch(handlers, tell, work, read):
    """Several per event; whoever asks twice, or for all and for one by name, gets it once."""

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_COMPLETE", "*")
    def everything(event: Event, package: Package) -> None: ...

    @handlers.on("*")
    @handlers.on("PACKAGE_COMPLETE")
    def twice(event: Event, package: Package) -> None: ...

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_EXPIRE")
    def ended(event: Event, package: Package) -> None: ...

    @handlers.on("PACKAGE_CREATE")
    def created(event: Event, package: Package) -> None: ...

    tell("PACKAGE_COMPLETE", sessionUser=ADA)
    work()

    (event,) = read("/api/events")["items"]
    assert sorted(one["handler"] for one in event["dispatches"]) == ["ended", "everything", "twice"]
    assert {one["attempts"] for one in event["dispatches"]} == {1}


def test_both_spellings_of_ready_register_one_event():
    """The SDK's constant and the wire's name."""
    handlers = Handlers()

    @handlers.on("PACKAGE_READY_FOR_COMPLETION", "PACKAGE_READY_FOR_COMPLETE")
    def remind_cleo(event: Event, package: Package) -> None: ...

    assert handlers.wanting("PACKAGE_READY_FOR_COMPLETE") == ["remind_cleo"]
    assert handlers.names_wanted_by("remind_cleo") == ["PACKAGE_READY_FOR_COMPLETE"]


def test_a_registered_function_stays_what_it_was(tmp_path):
    """It can be called and tested like any other; the file is loaded when nothing else is given."""
    handlers = Handlers()

    @handlers.on("PACKAGE_COMPLETE")
    def answer(event: Event, package: Package) -> int:
        return 42

    assert answer(None, None) == 42  # type: ignore[arg-type]
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/status.db", spool_dir=tmp_path))
    assert list(app.extensions[EXTENSION].dispatcher.handlers) == list(developers_file.handlers)
    app.extensions[EXTENSION].database.close()
