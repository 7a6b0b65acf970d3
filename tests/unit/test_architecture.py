"""The house: who may know whom, read from the imports themselves."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APP = ROOT / "app"
MODULES = sorted(APP.rglob("*.py"))

# Who may know what of ours; the longest name that fits a module counts. Everybody may know `app.errors`.
MAY_KNOW = {
    "config": (),
    "app.errors": (),
    "app.logs": (),
    "app.types": (),
    "app.onespan": ("app.onespan", "app.types"),
    "app.registry": ("app.onespan",),
    "app.handling": ("app.registry", "app.onespan.values"),
    "app.store": ("app.store", "app.onespan", "app.types"),
    "app.work": ("app.work", "app.store", "app.registry", "app.onespan", "app.types", "app.logs"),
    "app.checks": ("app.store",),
    "app.web": ("app.web", "app.checks", "app.store", "app.onespan", "app.logs"),
    "app.cli": (
        *("app.cli", "app.checks", "app.work", "app.store", "app.registry", "app.onespan", "app.types"),
        *("app.simulator.command", "config"),
    ),
    "app.simulator": ("app.simulator", "app.onespan.catalogue"),
    "app.handlers": ("app.handling", "app.onespan.catalogue"),
    "app": ("app", "config"),
}
# The one place that may import inside a function: the developers' file comes last, when all it needs is there.
MAY_IMPORT_LATE = {"app"}


def name_of(module: Path) -> str:
    """The dotted name of a file."""
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(module): module for module in [*MODULES, ROOT / "config.py"]}


@cache
def parsed(module: Path) -> ast.Module:
    """A file's syntax."""
    return ast.parse(module.read_text())


def imports(module: Path) -> Iterator[tuple[str, bool]]:
    """Every module of ours that a file imports, and whether it does so at its top."""
    tree = parsed(module)
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                found = [alias.name for alias in node.names]
            case ast.ImportFrom(level=0, module=str(origin)):
                found = [
                    f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in NAMES else origin for alias in node.names
                ]
            case ast.ImportFrom():
                raise AssertionError(f"{module}: imports say where from in full")
            case _:
                continue
        for name in found:
            if name in NAMES or name.split(".")[0] in ("app", "config", "tests", "migrations", "benchmarks"):
                yield name, id(node) in top


def within(name: str, place: str) -> bool:
    """Whether a module is that one, or below it."""
    return name == place or name.startswith(f"{place}.")


def room_of(name: str) -> str:
    """The line of the table that counts for a module."""
    return max((place for place in MAY_KNOW if place == name or (place != "app" and within(name, place))), key=len)


def test_nobody_knows_more_than_their_room_allows():
    """Arrows point inwards; an edge can be exchanged without touching the core."""
    wrong = []
    for name, module in NAMES.items():
        allowed = (*MAY_KNOW[room_of(name)], *(() if name in ("config", "app.errors") else ("app.errors",)))
        known = [one for one, _ in imports(module)]
        wrong += [f"{name} must not know {one}" for one in known if not any(within(one, place) for place in allowed)]

    assert not wrong, "\n".join(wrong)


def test_no_room_of_the_web_knows_how_work_is_done():
    """What a page wants done it asks of what it was given."""
    web = {name: module for name, module in NAMES.items() if within(name, "app.web")}

    known = [(name, one) for name, module in web.items() for one, _ in imports(module)]
    wrong = [f"{name} knows {one}" for name, one in known if within(one, "app.work")]

    assert not wrong, "\n".join(wrong)


def test_nobody_but_the_edges_knows_flask():
    """The core can be called from anywhere."""
    wrong = []
    for name, module in NAMES.items():
        if any(within(name, room) for room in ("app.onespan", "app.store", "app.work", "app.errors", "config")):
            for node in ast.walk(parsed(module)):
                origin = node.module if isinstance(node, ast.ImportFrom) else None
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [origin or ""]
                wrong += [f"{name} knows {one}" for one in names if one.split(".")[0] in ("flask", "werkzeug")]

    assert not wrong, "\n".join(wrong)


def test_there_are_no_import_cycles():
    """Whoever is imported can be understood first."""
    known = {name: {one for one, top in imports(module) if top and one in NAMES} for name, module in NAMES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for one in sorted(known[name]):
                visit(one, (*path, name))
            done.add(name)

    for name in sorted(known):
        visit(name, ())


def test_nothing_is_imported_inside_a_function():
    """But where `create_app` puts the pieces together."""
    late = [(name, one) for name, module in NAMES.items() for one, top in imports(module) if not top]

    wrong = [f"{name} imports {one} late" for name, one in late if name not in MAY_IMPORT_LATE]

    assert not wrong, "\n".join(wrong)


def test_only_create_app_and_the_commands_read_the_settings():
    """Everybody else is given what they need."""
    others = {name: module for name, module in NAMES.items() if name not in ("app", "config")}

    readers = [name for name, module in others.items() if "config" in {known for known, _ in imports(module)}]

    wrong = [name for name in readers if not within(name, "app.cli")]

    assert not wrong, "\n".join(wrong)


# Words that this project has other words for. Word parts count: `sync_state` has two.
NEVER = ("webhook", "webhooks", "envelope", "envelopes", "recipient", "recipients", "sync", "synced", "resync")
NOT_AS_NAMES = ("job", "jobs", "task", "tasks", "listener", "listeners")
THEIRS = (
    "add_job",
    "add_listener",
    "job_id",
    "job_defaults",
    "EVENT_JOB_ERROR",
    "JobExecutionEvent",
    "_sync",
)  # APScheduler's, and the file system's


def words_of(name: str) -> list[str]:
    """The words in an identifier, however it is written."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def identifiers(module: Path) -> set[str]:
    """What we name in a file: functions, classes, arguments, variables, attributes that are set."""
    found: set[str] = set()
    for node in ast.walk(parsed(module)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
            case _:
                pass
    return found


def test_our_words_are_used_and_no_others():
    """One name for one thing, everywhere."""
    wrong = [
        f"{name} names something {identifier}"
        for name, module in NAMES.items()
        for identifier in identifiers(module) - set(THEIRS)
        if set(words_of(identifier)) & {*NEVER, *NOT_AS_NAMES}
    ]

    assert not wrong, "\n".join(wrong)


def test_our_texts_say_callback_and_package():
    """In the pages too. Addresses and what stands in quotes or code may be others' words."""
    wrong = []
    for text in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *MODULES]:
        prose = re.sub(r"https?://\S+|```.*?```|`[^`]*`|\"[^\"\n]*\"", " ", text.read_text(), flags=re.DOTALL)
        found = set(re.findall(r"[a-z]+", prose.lower())) & {"webhook", "webhooks", "envelope", "envelopes"}
        wrong += [f"{text.relative_to(ROOT)} says {word}" for word in found]

    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is():
    """The first line of a file is its place in the house."""
    trees = {name: parsed(module) for name, module in NAMES.items()}

    wrong = [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)]

    assert not wrong, "\n".join(wrong)
