"""Tests of the architecture: each layer imports only the layers that it may import."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
APP = ROOT / "app"
MODULES = sorted(APP.rglob("*.py"))

# Each layer with the project's modules that it may import. A module belongs to the layer with the longest name that is
# a prefix of the module's name. Every module may import `app.errors`.
MAY_IMPORT = {
    "config": (),
    "app.errors": (),
    "app.logs": (),
    "app.captured_logs": ("app.logs",),
    "app.types": (),
    "app.onespan": ("app.onespan", "app.types"),
    "app.registry": ("app.onespan",),
    "app.handling": ("app.registry", "app.onespan.values"),
    "app.store": ("app.store", "app.onespan", "app.types"),
    "app.work": ("app.work", "app.store", "app.registry", "app.onespan", "app.types", "app.logs"),
    "app.checks": ("app.store",),
    "app.readiness": ("app.checks", "app.store"),
    "app.web": ("app.web", "app.checks", "app.readiness", "app.store", "app.onespan", "app.logs"),
    "app.cli": (
        *("app.cli", "app.checks", "app.work", "app.store", "app.registry", "app.onespan", "app.types"),
        *("app.captured_logs", "app.simulator.command", "config"),
    ),
    "app.simulator": ("app.simulator", "app.onespan.event_catalogue"),
    "app.handlers": ("app.handling", "app.onespan.event_catalogue"),
    "app": ("app", "config"),
}
# Modules that may import inside a function. `app` may do so, because `create_app` loads the integrators' handlers last.
MAY_IMPORT_LATE = {"app"}


def name_of(module: Path) -> str:
    """Return the dotted module name of a Python file."""
    parts = module.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(module): module for module in [*MODULES, ROOT / "config.py"]}


@cache
def parsed(module: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(module.read_text())


def imports(module: Path) -> Iterator[tuple[str, bool]]:
    """Yield each project module that a file imports, and whether the import is at the top level of the file."""
    tree = parsed(module)
    top_level = set(map(id, tree.body))
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(level=0, module=str(origin)):
                names = [
                    f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in NAMES else origin for alias in node.names
                ]
            case ast.ImportFrom():
                raise AssertionError(f"{module}: imports must be absolute")
            case _:
                continue
        for name in names:
            if name in NAMES or name.split(".")[0] in ("app", "config", "tests", "migrations", "benchmarks"):
                yield name, id(node) in top_level


def within(name: str, package: str) -> bool:
    """Whether a module is in a package, or is the package itself."""
    return name == package or name.startswith(f"{package}.")


def layer_of(name: str) -> str:
    """Return the layer of a module."""
    return max((layer for layer in MAY_IMPORT if layer == name or (layer != "app" and within(name, layer))), key=len)


def test_modules_import_only_what_their_layer_allows():
    """Inner layers do not import outer layers, so pages and commands can change without the core."""
    wrong = []
    for name, module in NAMES.items():
        allowed = (*MAY_IMPORT[layer_of(name)], *(() if name in ("config", "app.errors") else ("app.errors",)))
        imported = [target for target, _ in imports(module)]
        forbidden = [target for target in imported if not any(within(target, package) for package in allowed)]
        wrong += [f"{name} must not import {target}" for target in forbidden]

    assert not wrong, "\n".join(wrong)


def test_web_does_not_import_work():
    """The web layer does not import `app.work`; pages get the functions that they call as arguments."""
    web = {name: module for name, module in NAMES.items() if within(name, "app.web")}

    imported = [(name, target) for name, module in web.items() for target, _ in imports(module)]
    wrong = [f"{name} imports {target}" for name, target in imported if within(target, "app.work")]

    assert not wrong, "\n".join(wrong)


def test_only_the_edges_import_flask():
    """The packages `app.onespan`, `app.store` and `app.work` do not import Flask, so they need no web application."""
    wrong = []
    for name, module in NAMES.items():
        if any(within(name, layer) for layer in ("app.onespan", "app.store", "app.work", "app.errors", "config")):
            for node in ast.walk(parsed(module)):
                origin = node.module if isinstance(node, ast.ImportFrom) else None
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [origin or ""]
                flask = [imported for imported in names if imported.split(".")[0] in ("flask", "werkzeug")]
                wrong += [f"{name} imports {imported}" for imported in flask]

    assert not wrong, "\n".join(wrong)


def test_there_are_no_import_cycles():
    """Modules do not import each other in cycles, so a reader can understand each module after its imports."""
    imported = {
        name: {target for target, is_top_level in imports(module) if is_top_level and target in NAMES}
        for name, module in NAMES.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(imported[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in sorted(imported):
        visit(name, ())


def test_nothing_is_imported_inside_a_function():
    """No function except `create_app` imports a module of the project."""
    late = [
        (name, target) for name, module in NAMES.items() for target, is_top_level in imports(module) if not is_top_level
    ]

    wrong = [f"{name} imports {target} in a function" for name, target in late if name not in MAY_IMPORT_LATE]

    assert not wrong, "\n".join(wrong)


def test_only_create_app_and_the_commands_read_the_settings():
    """Only `create_app` and the commands import `config`; other modules get setting values as arguments."""
    others = {name: module for name, module in NAMES.items() if name not in ("app", "config")}

    readers = [name for name, module in others.items() if "config" in {target for target, _ in imports(module)}]

    wrong = [name for name in readers if not within(name, "app.cli")]

    assert not wrong, "\n".join(wrong)


def test_every_module_has_a_docstring():
    """Every module has a docstring, whose first line says what the module is for."""
    trees = {name: parsed(module) for name, module in NAMES.items()}

    wrong = [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)]

    assert not wrong, "\n".join(wrong)
