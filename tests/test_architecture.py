"""The layers and the state diagram of `docs/architecture.md` are those of the code.

A change that moves a module, or a transition, changes the document with it: these tests print what
it has to say.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import pytest

from penstock.states import FINAL_TYPES, TRANSITIONS, TYPES, Event

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "penstock"
DOCUMENT = ROOT / "docs" / "architecture.md"

Layers: TypeAlias = Sequence[Sequence[str]]
Imports: TypeAlias = Mapping[str, set[str]]

LAYERS: Layers = (
    ("mypy", "mypy.verbs", "mypy.decorators", "mypy.library"),
    ("__init__",),
    (
        "testing",
        "testing.engines",
        "testing.transitions",
        "testing.clock",
        "testing._crew",
        "testing._questions",
    ),
    ("_engine.processes.serving",),
    ("flows", "tasks", "tagging"),
    ("_engine.verbs", "_engine.definitions"),
    (
        "history",
        "waiting",
        "streams",
        "futures",
        "logging",
        "context",
        "runtime",
        "concurrency",
        "settings",
    ),
    ("_engine.mapping", "_engine.signature", "_engine.arrivals"),
    (
        "_engine.drivers.starting",
        "_engine.drivers.loop_tasks",
        "_engine.drivers.parked",
        "_engine.drivers.in_loop",
        "_engine.drivers.in_thread",
    ),
    ("_engine.drivers.bookkeeping", "_engine.drivers.calls", "_engine.drivers.deadlocks"),
    ("_engine.runtime",),
    ("task_runners", "stores.sqlite", "stores.memory", "_engine.slots"),
    (
        "_engine.processes.pool",
        "_engine.processes.worker",
        "_engine.processes.messages",
        "_engine.processes.functions",
        "_engine.processes.guard",
    ),
    (
        "stores.slots",
        "stores.holders",
        "stores.shares",
        "stores.writer",
        "stores.batches",
        "stores.pages",
        "stores.pruning",
        "stores.recent",
        "stores.schema",
    ),
    ("stores",),
    ("_engine.lifecycle", "_engine.sketches", "_engine.run_log", "_engine.log_records"),
    ("_engine.runs", "_engine.arguments", "_engine.current", "_engine.effects"),
    (
        "_engine.clock",
        "_engine.lanes",
        "_engine.latch",
        "_engine.loops",
        "_engine.trio_host",
        "_engine.threads",
        "_engine.ids",
        "_engine.names",
        "_engine.tracebacks",
    ),
    ("pictures", "_svg", "_layout"),
    ("cache_explanations", "cache_policies", "reached_code", "caching"),
    (
        "records",
        "results",
        "serializers",
        "_settings",
        "hooks",
        "retries",
        "states",
    ),
    ("exceptions", "_hints", "_containers", "_modules"),
)
"""A module imports from the rows below its own, and in its own row from its right."""

PLUGIN = LAYERS[0]
"""What only mypy imports, and so may import mypy."""

EMPTY = {"_engine", "_engine.drivers", "_engine.processes"}
"""Packages that hold nothing but a docstring."""

OTHER_NAMES = {"double", "md", "start_soon"}
"""What the document names and the code does not: an example, a file, what another library has."""


# What the modules import


def modules() -> dict[str, Path]:
    """The files of the package by the names that the layers give them."""
    found: dict[str, Path] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = path
    return found


def imports_of(source: str) -> Iterator[tuple[str, bool]]:
    """What a module imports when it runs, dotted down to the names; and whether on import."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(source), True)]
    while pending:
        node, at_once = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((f"{node.module}.{alias.name}", at_once) for alias in node.names)
        children: Iterator[ast.AST] = ast.iter_child_nodes(node)
        if isinstance(node, ast.If) and is_type_checking(node.test):
            children = iter(node.orelse)
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        pending.extend((child, at_once and not inside_function) for child in children)


def is_type_checking(test: ast.expr) -> bool:
    """Whether a condition is that of the imports which only type checkers see."""
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def own_imports() -> Imports:
    """Of each module of the package, the others that it imports."""
    found = modules()
    return {
        name: {
            module_of(imported, found)
            for imported, _ in imports_of(path.read_text(encoding="utf-8"))
            if imported.split(".")[0] == "penstock"
        }
        for name, path in found.items()
    }


def module_of(imported: str, found: Mapping[str, Path]) -> str:
    """The module that a dotted name is, or is in."""
    name = imported.removeprefix("penstock").removeprefix(".")
    while name and name not in found:
        name = name.rpartition(".")[0]
    return name or "__init__"


def upward_imports(imports: Imports, layers: Layers) -> list[str]:
    """The imports that do not point down, as text."""
    place = {name: number for number, name in enumerate(chain.from_iterable(layers))}
    return [
        f"{name} imports {other}"
        for name in sorted(imports)
        for other in sorted(imports[name])
        if place[other] <= place[name]
    ]


def test_every_module_stands_in_one_layer() -> None:
    placed = list(chain.from_iterable(LAYERS))
    assert len(placed) == len(set(placed))
    assert set(placed) == modules().keys() - EMPTY


def test_imports_point_down() -> None:
    imports = {name: others for name, others in own_imports().items() if name not in EMPTY}
    assert sum(map(len, imports.values())) > 100
    assert upward_imports(imports, LAYERS) == []


def test_packages_said_to_be_empty_are() -> None:
    for name in EMPTY:
        assert len(ast.parse(modules()[name].read_text(encoding="utf-8")).body) == 1


def test_an_import_that_points_up_or_to_the_left_is_found() -> None:
    layers = (("top",), ("left", "right"), ("bottom",))
    fine = {"top": {"left"}, "left": {"right", "bottom"}, "right": {"bottom"}, "bottom": set[str]()}
    assert upward_imports(fine, layers) == []
    wrong = {"bottom": {"right"}, "right": {"left"}, "top": {"top"}}
    assert upward_imports(wrong, layers) == [
        "bottom imports right",
        "right imports left",
        "top imports top",
    ]


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


@pytest.mark.parametrize("name", ["_engine.lifecycle", "_engine.effects", "states", "retries"])
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
    for path in (path for name, path in modules().items() if name not in PLUGIN):
        for imported, on_import in imports_of(path.read_text(encoding="utf-8")):
            root = imported.split(".")[0]
            if root not in sys.stdlib_module_names | {"penstock"}:
                (at_once if on_import else later).add(root)
    assert at_once == needed
    assert later <= needed | optional


def test_the_plugin_imports_mypy_and_the_protocols_that_it_names_are_imported_by_nobody() -> None:
    for name in PLUGIN:
        imported = imports_of(modules()[name].read_text(encoding="utf-8"))
        roots = {i.split(".")[0] for i, _ in imported}
        assert roots - sys.stdlib_module_names <= {"mypy", "penstock"}
    assert not any("_containers" in others for others in own_imports().values())


def distribution(requirement: str) -> str:
    """What a requirement is imported as."""
    match = re.match(r"[\w-]+", requirement)
    assert match is not None
    return match[0].replace("-", "_")


# The document


def block(language: str, heading: str) -> str:
    """The first fenced block in that language below a heading of the document."""
    _, _, below = DOCUMENT.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    match = re.search(rf"^```{language}\n(.*?)^```$", below, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no {language} block below {heading!r}"
    return match[1]


def drawn_layers(drawing: str) -> Layers:
    """The layers of a drawing: boxes of names, and after three spaces what they are."""
    return tuple(
        tuple(names_in(re.split(r"\s{3,}", line.strip("│ "))[0].split()))
        for line in drawing.splitlines()
        if line.startswith("│")
    )


def names_in(words: Sequence[str]) -> Iterator[str]:
    """`_engine: a b` stands for `_engine.a _engine.b`."""
    package = ""
    for word in words:
        if word.endswith(":"):
            package = f"{word[:-1]}."
        else:
            yield f"{package}{word}"


def test_the_drawing_shows_these_layers() -> None:
    assert drawn_layers(block("text", "## Layers")) == LAYERS


def test_the_state_diagram_is_the_table() -> None:
    assert block("mermaid", "## States") == diagram(TRANSITIONS)


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


def test_the_names_that_the_document_uses_are_in_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in modules().values())
    known = set(re.findall(r"\w+", code)) | {path.stem for path in modules().values()}
    text = re.sub(r"(?ms)^```.*?^```$", "", DOCUMENT.read_text(encoding="utf-8"))
    names = {name for span in re.findall(r"`([A-Za-z_][\w.]*)`", text) for name in span.split(".")}
    assert len(names) > 50
    assert names - known - OTHER_NAMES == set()
