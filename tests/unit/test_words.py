"""Tests of the project's language: words that are not used, and terms that the glossary explains."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.unit.test_architecture import APP, MODULES, NAMES, ROOT, parsed

UNIT = Path(__file__).parent
GLOSSARY = ROOT / "docs" / "glossary.md"
MAX_LINE_LENGTH = 120  # characters per line of Python and HTML
MAX_PROSE_LENGTH = 160  # characters per line of Markdown, except tables and links

TEXT_SUFFIXES = (".py", ".md", ".html", ".js", ".css", ".toml", ".service", ".example")
# Generated and recorded files, which the tests do not check.
NOT_CHECKED = ("docs/settings.md", "docs/commands.md", "tests/laws/seeds", "tests/support/fixtures/")
# Exceptions: the beginning of a file's path, and the text that the tests ignore in the file.
EXCUSED = (
    ("", r"ast\.walk|os\.walk"),  # functions of the standard library
    ("", r"make bench|pytest-bench\w+"),  # names of commands
    ("app/simulator/", r"Blue Door|on paper\b"),  # names and messages of invented people
    ("", r"[\"=]somebody|somebody, system|nobody@"),  # the value of an option, and an e-mail address
    ("app/store/schema.py", r"walk_revisions"),  # a function of Alembic
    ("app/web/api/schemas.py", r"\"(?:Telling|Vitals)\""),  # published names of the API's schemas
    ("app/web/static/app.css", r"align-self: stretch"),
    ("tests/support/dataset.py", r"no room left"),  # the error message of a server
    ("tests/unit/test_words.py", r".*"),  # the table of exceptions itself
)
# Names that APScheduler, file system functions or gunicorn use.
EXTERNAL_NAMES = {
    "add_job",
    "add_listener",
    "job_id",
    "job_defaults",
    "EVENT_JOB_ERROR",
    "JobExecutionEvent",
    "_cancel_task_if_pending",
    "_sync",
    "LISTENERS",
}
BAD_LOOP_VARIABLE = re.compile(r"\bfor (?:one|each|it|this|that|thing) in\b|\bone\.(?=\w)|\blambda one:")


@cache
def not_words() -> dict[str, dict[str, str]]:
    """Return the sections of `not_words.txt`: each word or phrase, with what to use instead."""
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in (UNIT / "not_words.txt").read_text().splitlines():
        entry = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if header := re.fullmatch(r"\[(\w+)\]", entry):
            section = sections.setdefault(header[1], {})
        elif entry:
            word, _, instead = entry.partition("->")
            section[word.strip().lower()] = instead.strip()
    return sections


def standard_words() -> set[str]:
    """Return the standard words that `words.txt` lists."""
    lines = (UNIT / "words.txt").read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def split_words(text: str) -> str:
    """Put blanks between the words of identifiers in a text, such as `sync_state` and `syncState`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ")


def texts() -> Iterator[str]:
    """Yield the path of every tracked text file that is checked."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if name.endswith(TEXT_SUFFIXES) and not name.startswith(NOT_CHECKED) and (ROOT / name).is_file():
            yield name


@cache
def not_words_pattern() -> re.Pattern[str]:
    """Return a pattern that matches every word and phrase that the project never uses."""
    words = "|".join(re.escape(word) for word in not_words()["everywhere"])
    return re.compile(rf"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE)


def problems(name: str, line: str) -> Iterator[str]:
    """Yield a message for each problem in a line of a file."""
    text = line
    for start, excused in EXCUSED:
        if name.startswith(start):
            text = re.sub(excused, "", text)
    for match in not_words_pattern().finditer(split_words(text)):
        word = match[0].lower()
        yield f"{word!r} -> {not_words()['everywhere'][word]}"
    if name.endswith(".py") and BAD_LOOP_VARIABLE.search(text):
        yield "name the variable for what it holds"
    if name.endswith((".py", ".html")) and len(line) > MAX_LINE_LENGTH:
        yield f"longer than {MAX_LINE_LENGTH} characters"
    is_prose = name.endswith(".md") and not line.startswith("|") and "](" not in line
    if is_prose and len(line) > MAX_PROSE_LENGTH:
        yield f"longer than {MAX_PROSE_LENGTH} characters"


def test_texts_use_the_words_of_the_project():
    """Code, documentation, pages and configuration use standard terms and short lines."""
    wrong = [
        f"{name}:{number}: {problem}"
        for name in texts()
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        for problem in problems(name, line)
    ]

    assert not wrong, "\n".join(wrong)


def identifiers(module: Path) -> set[str]:
    """Return the names that a file defines: functions, classes, arguments, variables and attributes."""
    names: set[str] = set()
    for node in ast.walk(parsed(module)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.add(name)
            case _:
                pass
    return names


def test_identifiers_use_the_words_of_the_project():
    """Identifiers use the project's words, so that every concept has the same name everywhere in the code."""
    wrong = [
        f"{name}: {identifier}: {word!r} -> {instead}"
        for name, module in NAMES.items()
        for identifier in identifiers(module) - EXTERNAL_NAMES
        for word, instead in not_words()["identifiers"].items()
        if word in split_words(identifier).lower().split()
    ]

    assert not wrong, "\n".join(wrong)


def singular(name: str) -> str:
    """Return a name as separate words, in the singular."""
    words = re.sub(r"ies$", "y", split_words(name).lower().strip())
    return re.sub(r"(?<![su])s$", "", re.sub(r"(?<=ch|sh|ss)es$", "", words))


def glossary_tables() -> Iterator[list[dict[str, str]]]:
    """Yield each table of the glossary as rows, which map the title of a column to the cell."""
    rows: list[list[str]] = []
    for line in [*GLOSSARY.read_text().splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            title, _, *body = rows
            yield [dict(zip(title, row, strict=True)) for row in body]
            rows = []


def terms() -> set[str]:
    """Return the terms that the glossary explains: the bold words in the column `term`."""
    bold = [
        term
        for table in glossary_tables()
        for row in table
        for text in re.findall(r"\*\*(.+?)\*\*", row.get("term", ""))
        for term in text.split(",")
    ]
    return {term.strip(" `").lower() for term in bold}


def code_terms() -> set[str]:
    """Return the terms in the column `code` of the glossary, without remarks in parentheses."""
    cells = [row["code"] for table in glossary_tables() for row in table if "code" in row]
    parts = [part for cell in cells for part in re.sub(r"\(.*?\)", "", cell).split(",")]
    return {split_words(part.strip(" `*")).lower() for part in parts} - {""}


def named_things() -> Iterator[tuple[str, str]]:
    """Yield the name of every table, `StrEnum` and folder under `app`, with a description of its place."""
    for module in MODULES:
        for node in ast.walk(parsed(module)):
            match node:
                case ast.Assign(targets=[ast.Name(id="__tablename__")], value=ast.Constant(value=str(table))):
                    yield singular(table), f"table {table}"
                case ast.ClassDef(name=name, bases=bases) if any(ast.unparse(base) == "StrEnum" for base in bases):
                    yield singular(name), f"enumeration {name}"
    for folder in sorted({module.parent for module in MODULES} - {APP}):
        yield singular(folder.name), f"folder {folder.relative_to(ROOT)}"


def test_glossary_has_every_table_enumeration_and_folder():
    """Every table, enumeration and folder is a term of the glossary or a standard word of `words.txt`."""
    known = {singular(term) for term in terms()} | standard_words()

    unknown = [f"{place}: add {name!r} to the glossary" for name, place in named_things() if name not in known]

    assert not unknown, "\n".join(unknown)


def test_terms_of_the_glossary_occur_in_the_code():
    """Every term of the glossary occurs in the code; a term that the code no longer uses must be removed."""
    code = " ".join(split_words(module.read_text()).lower() for module in MODULES)
    code = re.sub(r"\W+", " ", code)

    unused = [term for term in sorted(code_terms() | terms()) if re.sub(r"\W+", " ", term) not in code]

    assert not unused, f"not in the code: {', '.join(unused)}"
