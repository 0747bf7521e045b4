"""The layers, the state diagram and the names in `docs/inside/` are those of the code.

A change that adds a folder, or a transition, changes the pages with it: these tests print what they
have to say.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from penstock._rules.transitions import TRANSITIONS, Event
from penstock.states import FINAL_TYPES, TYPES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "penstock"
INSIDE = ROOT / "docs" / "inside"

Layers: TypeAlias = Sequence[Sequence[str]]

LAYERS: Layers = (
    ("mypy", "__init__", "_worker", "testing"),
    ("flows", "tasks", "tagging", "cache_policies", "caching"),
    (
        "concurrency",
        "context",
        "futures",
        "history",
        "logging",
        "runtime",
        "settings",
        "streams",
        "waiting",
    ),
    ("_calls",),
    ("_drivers",),
    ("_engine",),
    ("_stores", "_logs"),
    ("_rules",),
    ("task_runners", "_remote"),
    ("_waiting",),
    ("_caching",),
    ("hooks", "retries", "serializers", "_model"),
    ("pictures", "_drawing", "states", "exceptions"),
)
"""Folders, and modules that are in none; each imports from the rows below its own alone.

In its own row it imports from its right.
"""

OTHER_NAMES = {"assert_never", "assert_type", "double", "executemany", "nox", "start_soon"}
"""What the pages name and the code does not: an example, and what other projects have."""


# What the modules import


def modules() -> dict[str, Path]:
    """The files of the package by the names that the layers give them."""
    found: dict[str, Path] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = path
    return found


def imports_of(source: str, *, for_types: bool = False) -> Iterator[tuple[str, bool]]:
    """What a module imports, dotted down to the names; and whether on import.

    `for_types`: what type checkers alone see; else what it imports when it runs.
    """
    pending: list[tuple[ast.AST, bool, bool]] = [(ast.parse(source), True, False)]
    while pending:
        node, at_once, unseen = pending.pop()
        if unseen is for_types:
            yield from ((name, at_once) for name in imported_by(node))
        is_guard = isinstance(node, ast.If) and is_type_checking(node.test)
        guarded = set(map(id, node.body)) if isinstance(node, ast.If) and is_guard else set[int]()
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        pending.extend(
            (child, at_once and not inside_function, unseen or id(child) in guarded)
            for child in ast.iter_child_nodes(node)
        )


def imported_by(node: ast.AST) -> Iterator[str]:
    """What a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_type_checking(test: ast.expr) -> bool:
    """Whether a condition is that of the imports which only type checkers see."""
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


class Import(NamedTuple):
    """One module of the package imports another one."""

    module: str
    other: str
    for_types: bool


def own_imports() -> list[Import]:
    """All that modules of the package import of it."""
    found = modules()
    return [
        Import(name, module_of(imported, found), for_types)
        for name, path in found.items()
        for for_types in (False, True)
        for imported, _ in imports_of(path.read_text(encoding="utf-8"), for_types=for_types)
        if imported.split(".")[0] == "penstock"
    ]


def module_of(imported: str, found: Mapping[str, Path]) -> str:
    """The module that a dotted name is, or is in."""
    name = imported.removeprefix("penstock").removeprefix(".")
    while name and name not in found:
        name = name.rpartition(".")[0]
    return name or "__init__"


def folder_of(module: str) -> str:
    """The folder of a module; of one that is in none, its name."""
    return module.split(".", maxsplit=1)[0]


def upward_imports(imports: Sequence[Import], layers: Layers) -> list[str]:
    """The imports between folders that do not point down, as text."""
    place = {name: number for number, name in enumerate(chain.from_iterable(layers))}
    wrong = {
        f"{one.module} imports {one.other}"
        for one in imports
        if folder_of(one.module) != folder_of(one.other)
        and place[folder_of(one.other)] <= place[folder_of(one.module)]
    }
    return sorted(wrong)


def test_every_folder_stands_in_one_layer() -> None:
    placed = list(chain.from_iterable(LAYERS))
    assert len(placed) == len(set(placed))
    assert set(placed) == set(map(folder_of, modules()))


def test_imports_point_down() -> None:
    imports = [one for one in own_imports() if not one.for_types]
    assert len(imports) > 100
    assert upward_imports(imports, LAYERS) == []


def test_imports_of_types_point_down_but_for_those_that_say_why() -> None:
    found = modules()
    explained = {
        f"{name} imports {module_of(imported, found)}"
        for name, path in found.items()
        for imported in explained_imports(path.read_text(encoding="utf-8"))
    }
    imports = [one for one in own_imports() if one.for_types]
    assert upward_imports(imports, LAYERS) == sorted(explained)


EXPLANATION = re.compile(r"TYPE_CHECKING:  # up: .*\w+ \w+")


def explained_imports(source: str) -> Iterator[str]:
    """What a module imports for type checkers, below a line that says why it points up."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and EXPLANATION.search(lines[node.lineno - 1]):
            yield from chain.from_iterable(map(imported_by, node.body))


def test_explanations_of_imports_are_found() -> None:
    source = """
if TYPE_CHECKING:  # up: a context has the flow
    from penstock.flows import AsyncFlow, Flow
if TYPE_CHECKING:
    from penstock.tasks import Task
if TYPE_CHECKING:  # up:
    from penstock.context import TaskRunContext
"""
    assert list(explained_imports(source)) == ["penstock.flows.AsyncFlow", "penstock.flows.Flow"]


def test_a_private_folder_says_its_law() -> None:
    for name in (name for name in chain.from_iterable(LAYERS) if name.startswith("_")):
        if (PACKAGE / name).is_dir():
            body = ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8")).body
            assert len(body) == 1, f"{name} holds a docstring and nothing else"
            assert isinstance(body[0], ast.Expr)


def test_an_import_that_points_up_or_to_the_left_is_found() -> None:
    layers = (("top",), ("left", "right"), ("bottom",))
    fine = [
        Import("top", "left.part", for_types=False),
        Import("left.part", "left.other", for_types=False),
        Import("left.other", "left.part", for_types=False),
        Import("left.part", "right", for_types=False),
        Import("right", "bottom", for_types=False),
    ]
    assert upward_imports(fine, layers) == []
    wrong = [
        Import("bottom", "right", for_types=False),
        Import("right", "left.part", for_types=False),
    ]
    assert upward_imports(wrong, layers) == ["bottom imports right", "right imports left.part"]


def test_imports_are_found_wherever_they_stand_but_for_those_of_type_checkers() -> None:
    source = """
import typing
import a.b, c as d
from e.f import g, h as i
if typing.TYPE_CHECKING:
    import unseen
else:
    import seen
if TYPE_CHECKING:
    from un import seen
def function():
    if True:
        import late
class Class:
    from early import thing
"""
    assert sorted(imports_of(source)) == [
        ("a.b", True),
        ("c", True),
        ("e.f.g", True),
        ("e.f.h", True),
        ("early.thing", True),
        ("late", False),
        ("seen", True),
        ("typing", True),
    ]


RULES = ("lifecycle", "attempts", "cache", "endings", "hooks", "sketches", "submission", "verdicts")


@pytest.mark.parametrize(
    "name",
    [
        "states",
        "_model.retry_policy",
        "_rules.transitions",
        "_rules.effects",
        *(f"_rules.{rule}" for rule in RULES),
    ],
)
def test_the_rules_import_no_clock_no_thread_and_no_loop(name: str) -> None:
    roots = {i.split(".")[0] for i, _ in imports_of(modules()[name].read_text(encoding="utf-8"))}
    assert "penstock" in roots
    assert roots.isdisjoint({"time", "threading", "asyncio", "anyio", "trio", "sqlite3", "os"})


def test_what_is_imported_is_declared_and_the_optional_is_imported_late() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = set(map(distribution, project["dependencies"]))
    optional = set(
        map(distribution, chain.from_iterable(project["optional-dependencies"].values()))
    )
    at_once: set[str] = set()
    later: set[str] = set()
    for path in (path for name, path in modules().items() if folder_of(name) != "mypy"):
        for imported, on_import in imports_of(path.read_text(encoding="utf-8")):
            root = imported.split(".")[0]
            if root not in sys.stdlib_module_names | {"penstock"}:
                (at_once if on_import else later).add(root)
    assert at_once == needed
    assert later <= needed | optional


def test_the_plugin_imports_mypy_and_the_protocols_that_it_names_are_imported_by_nobody() -> None:
    for name in (name for name in modules() if folder_of(name) == "mypy"):
        imported = imports_of(modules()[name].read_text(encoding="utf-8"))
        roots = {i.split(".")[0] for i, _ in imported}
        assert roots - sys.stdlib_module_names <= {"mypy", "penstock"}
    assert not any(one.other == "_calls.plugin_types" for one in own_imports())


def distribution(requirement: str) -> str:
    """What a requirement is imported as."""
    match = re.match(r"[\w-]+", requirement)
    assert match is not None
    return match[0].replace("-", "_")


# Sizes

LONGEST_FILE = 500
LONGEST_FUNCTION = 40


def test_files_are_short() -> None:
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()
    }
    assert {name for name, length in lengths.items() if length > LONGEST_FILE} == set()


def test_functions_are_short() -> None:
    lengths = {
        f"{name}: {function}": length
        for name, path in modules().items()
        for function, length in function_lengths(path.read_text(encoding="utf-8"))
    }
    assert len(lengths) > 1000
    assert {name for name, length in lengths.items() if length > LONGEST_FUNCTION} == set()


def function_lengths(source: str) -> Iterator[tuple[str, int]]:
    """The lines of each function and method, without those of its docstring and decorators."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) is not None else None
            yield node.name, lines_of(node) - (0 if docstring is None else lines_of(docstring))


def lines_of(node: ast.stmt) -> int:
    """How many lines a statement takes."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_the_lines_of_a_docstring_are_not_counted() -> None:
    source = """
@decorator
def function(
    x,
):
    '''What it does.

    More of it.
    '''
    return x
class Class:
    async def method(self): ...
"""
    assert list(function_lengths(source)) == [("function", 4), ("method", 1)]


# The pages about the inside

PAGES = sorted(INSIDE.glob("*.md"))
POINTER = re.compile(r"docs/inside/([\w-]+\.md)(?:, \"([^\"]+)\")?")
"""How a comment points to a decision: by its page and its heading."""


def block(page: str, language: str, heading: str) -> str:
    """The first fenced block in that language below a heading of a page."""
    _, _, below = (INSIDE / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")
    match = re.search(rf"^```{language}\n(.*?)^```$", below, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no {language} block below {heading!r}"
    return match[1]


def headings(page: Path) -> list[str]:
    """The headings of a page, without that of the page itself."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    return re.findall(r"^#{2,} (.+)$", text, re.MULTILINE)


def drawn_layers(drawing: str) -> Layers:
    """The layers of a drawing: boxes of names, and after three spaces what they are."""
    return tuple(
        tuple(re.split(r"\s{3,}", line.strip("│ "))[0].split())
        for line in drawing.splitlines()
        if line.startswith("│")
    )


def test_the_drawing_shows_these_layers() -> None:
    drawing = block("index.md", "text", "## Layers")
    assert drawn_layers(drawing) == LAYERS
    assert max(map(len, drawing.splitlines())) <= 100


def test_the_state_diagram_is_the_table() -> None:
    assert block("rules.md", "mermaid", "## States") == diagram(TRANSITIONS)


def diagram(transitions: Mapping[str | None, Mapping[Event, str]]) -> str:
    """The table of transitions in Mermaid's notation.

    Where an ended run can only be submitted again, the diagram shows its end.
    """
    again = transitions["Completed"]
    lines = ["stateDiagram-v2"]
    for phase, steps in transitions.items():
        if phase is not None and steps == again:
            lines.append(f"    {phase} --> [*]")
        else:
            lines.extend(f"    {phase or '[*]'} --> {to}: {event}" for event, to in steps.items())
    return "\n".join(lines) + "\n"


def test_the_diagram_ends_where_runs_end() -> None:
    ended = {name for name, kind in TYPES.items() if kind in FINAL_TYPES} | {"NotReady"}
    lines = diagram(TRANSITIONS).splitlines()
    assert {line.split()[0] for line in lines if line.endswith("--> [*]")} == ended
    assert TRANSITIONS["Completed"] == {Event.SUBMIT: "Pending"}


def test_the_names_that_the_pages_use_are_in_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in modules().values())
    known = set(re.findall(r"\w+", code)) | {path.stem for path in modules().values()}
    known |= {path.name for path in ROOT.iterdir()}
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    names = {name for page in pages for name in names_in(page.read_text(encoding="utf-8"))}
    assert len(names) > 50
    assert names - known - OTHER_NAMES == set()


def names_in(text: str) -> Iterator[str]:
    """The names of code in a page, but for those in its blocks."""
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    for span in re.findall(r"`([A-Za-z_][\w.]*)`", text):
        yield from [span] if span.endswith(".md") else span.split(".")


def test_each_thread_that_has_a_name_has_a_line_in_the_table() -> None:
    page = (INSIDE / "threads.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
    shown = [name for cell in table for name in re.findall(r"`(penstock-[\w-]+)`", cell)]
    sources = [path.read_text(encoding="utf-8") for path in modules().values()]
    named = set(chain.from_iterable(map(names_with_the_prefix, sources))) - NO_THREADS
    assert {"penstock-engine", "penstock-thread"} <= named
    assert sorted(name.removesuffix("-N") for name in shown) == sorted(named)


NO_THREADS = {"penstock-picture", "penstock-testing"}
"""Names that look like those of threads: a class of pictures, and a folder that is not made."""


def names_with_the_prefix(source: str) -> Iterator[str]:
    """The strings of a module that are names with a prefix, as threads have them."""
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.fullmatch(r"penstock-[a-z-]+", text):
            yield text.removesuffix("-")


def test_names_with_the_prefix_are_found() -> None:
    source = """
start("penstock-engine", name=f"penstock-thread-{number}")
say("penstock-engine is here", "penstock")
"""
    assert sorted(names_with_the_prefix(source)) == ["penstock-engine", "penstock-thread"]


def test_the_glossary_is_short_and_says_each_word_once() -> None:
    _, _, glossary = (INSIDE / "index.md").read_text(encoding="utf-8").partition("## Glossary\n")
    words = re.findall(r"^\| (?!word )([a-z][^|]*?) \|", glossary, re.MULTILINE)
    assert 10 < len(words) <= 30
    assert len(words) == len(set(words))


def test_a_heading_stands_on_one_page_alone() -> None:
    found = [heading for page in PAGES for heading in headings(page)]
    assert len(found) > 50
    assert sorted(found) == sorted(set(found))


def test_what_code_points_to_is_there() -> None:
    known = {page.name: headings(page) for page in PAGES}
    paths = [*modules().values(), *(ROOT / "tests").rglob("*.py")]
    for path in paths:
        for page, heading in pointers_in(path.read_text(encoding="utf-8")):
            assert page in known, f"{path} points to docs/inside/{page}"
            assert not heading or heading in known[page], f"{path} points to {heading!r} of {page}"


def pointers_in(source: str) -> list[tuple[str, str]]:
    """The pages, and the headings if any, that comments and docstrings point to."""
    flowing = re.sub(r"\s*\n\s*#?\s*", " ", source)
    return POINTER.findall(flowing)


def test_a_pointer_may_go_on_in_the_next_line() -> None:
    source = """
# A child has none of these (docs/inside/threads.md, "A fork closes
# every connection"), and docs/inside/store.md says more.
"""
    assert pointers_in(source) == [
        ("threads.md", "A fork closes every connection"),
        ("store.md", ""),
    ]
