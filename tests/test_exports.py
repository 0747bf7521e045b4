"""What the package offers: its names, their docstrings, their types, and the cost of its import."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.resources
import inspect
import json
import pickle
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest

import penstock

PUBLIC_MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(penstock.__path__, "penstock.")
    if "._" not in module.name
)
REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
IMPORTED_BY_CODE = [name for name in PUBLIC_MODULES if not name.startswith("penstock.mypy")]
"""All but the plugin, which only mypy imports."""
NEEDED = {"anyio", "idna", "msgspec", "sniffio", "typing_extensions"}
"""The dependencies, and what they need themselves."""


# Names


def test_all_is_what_the_package_imports_and_nothing_else() -> None:
    body = ast.parse(inspect.getsource(penstock)).body
    bound = {a.asname or a.name for s in body if isinstance(s, ast.ImportFrom) for a in s.names}
    public = {name for name in bound if not name.startswith("_")}
    assert {*public, "__version__"} == set(penstock.__all__)


def test_what_the_package_holds_is_in_all_or_one_of_its_modules() -> None:
    names = {name for name in vars(penstock) if not name.startswith("_")}
    others = names - set(penstock.__all__)
    assert {f"penstock.{name}" for name in others} <= set(PUBLIC_MODULES)


def test_all_is_sorted_and_names_each_thing_once() -> None:
    assert penstock.__all__ == sorted(set(penstock.__all__))


def listed(module: ModuleType) -> list[str]:
    """The names that a module lists in its `__all__`, which each public one has."""
    return list(module.__all__)


def published(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The classes and functions that a module lists, by name."""
    for name in listed(module):
        offered = getattr(module, name)
        if isinstance(offered, type | FunctionType):
            yield name, offered


def public_definitions(source: str) -> Iterator[str]:
    """What a module defines at its top under a public name, but for type variables."""
    for statement in ast.parse(source).body:
        names: list[str] = []
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [statement.name]
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if not is_type_variable(statement.value):
                names = [node.id for node in targets if isinstance(node, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def is_type_variable(value: ast.expr | None) -> bool:
    """Whether a value is a new `TypeVar` or `ParamSpec`."""
    made = value.func if isinstance(value, ast.Call) else None
    return isinstance(made, ast.Name) and made.id in {"TypeVar", "ParamSpec"}


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_what_a_module_lists_it_has(name: str) -> None:
    module = importlib.import_module(name)
    assert [entry for entry in listed(module) if not hasattr(module, entry)] == []


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_what_a_public_module_defines_under_a_public_name_is_listed(name: str) -> None:
    module = importlib.import_module(name)
    unlisted = set(public_definitions(inspect.getsource(module))) - set(listed(module))
    assert not unlisted, f"list {unlisted} in __all__ of {name}, or move it to a private module"


def test_definitions_are_found_and_type_variables_are_left_out() -> None:
    source = """
from elsewhere import imported
T = TypeVar("T")
P = ParamSpec("P")
_private = 1
public = 2
annotated: int = 3
def function(): inner = 4
async def coroutine(): ...
class Thing: attribute = 5
"""
    assert list(public_definitions(source)) == [
        "public",
        "annotated",
        "function",
        "coroutine",
        "Thing",
    ]


@pytest.mark.parametrize("name", ["penstock", *PUBLIC_MODULES])
def test_what_is_listed_shows_a_public_module_as_its_home(name: str) -> None:
    for entry, offered in published(importlib.import_module(name)):
        assert offered.__module__ in {"penstock", *PUBLIC_MODULES}, entry
        home = importlib.import_module(offered.__module__)
        assert getattr(home, offered.__qualname__) is offered
        assert pickle.loads(pickle.dumps(offered)) is offered


@pytest.mark.parametrize("name", ["penstock", *PUBLIC_MODULES])
def test_the_annotations_of_published_classes_can_be_evaluated(name: str) -> None:
    """By the standard library and by msgspec, which look into the module that a class shows."""
    for _, offered in published(importlib.import_module(name)):
        if isinstance(offered, type):
            assert typing.get_type_hints(offered) is not None
            if issubclass(offered, msgspec.Struct):
                assert msgspec.structs.fields(offered) is not None


def test_the_package_imports_its_public_modules_so_that_all_names_are_published() -> None:
    code = "import json, sys, penstock; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    not_loaded = {name for name in PUBLIC_MODULES if name not in loaded}
    assert not_loaded == {"penstock.mypy", "penstock.testing"}


# The reference


@pytest.mark.parametrize("name", ["penstock", *PUBLIC_MODULES])
def test_a_public_module_has_a_page_in_the_reference_and_a_line_in_its_index(name: str) -> None:
    page = f"{name.removeprefix('penstock.')}.md"
    assert (REFERENCE / page).is_file(), f"write docs/reference/{page}"
    index = (REFERENCE / "index.md").read_text(encoding="utf-8")
    assert f"| [`{name}`]({page}) |" in index


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_the_page_of_a_module_describes_each_name_that_it_lists(name: str) -> None:
    text = (REFERENCE / f"{name.removeprefix('penstock.')}.md").read_text(encoding="utf-8")
    if f"::: {name}\n" in text:
        return  # the page describes the whole module
    module = importlib.import_module(name)
    own = {
        entry
        for entry in listed(module)
        if not entry.startswith("_")
        and getattr(getattr(module, entry), "__module__", name) in {name, "typing"}
    }
    assert {entry for entry in own if not re.search(rf"\b{entry}\b", text)} == set()


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("ConcurrentTaskRunner", "penstock.task_runners"),
        ("SequentialTaskRunner", "penstock.task_runners"),
        ("task_input_hash", "penstock.tasks"),
        ("Completed", "penstock.states"),
        ("WouldDeadlock", "penstock.exceptions"),
        ("flow_runs", "penstock.history"),
        ("RunFormatter", "penstock.logging"),
        ("plugin", "penstock.mypy"),
    ],
)
def test_names_that_the_documentation_imports_are_where_it_says(name: str, home: str) -> None:
    assert getattr(importlib.import_module(home), name).__doc__


def test_shutdown_shows_the_name_that_users_know() -> None:
    shown = f"{penstock.shutdown.__module__}.{penstock.shutdown.__qualname__}"
    assert shown == "penstock.shutdown"


# Docstrings


def undocumented(module: ModuleType) -> Iterator[str]:
    """The public classes, functions, methods and properties of a module without a docstring."""
    if not module.__doc__:
        yield module.__name__
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
            continue
        if isinstance(thing, type):
            yield from (f"{module.__name__}.{name}{member}" for member in undocumented_in(thing))
        elif inspect.isfunction(thing) and not thing.__doc__:
            yield f"{module.__name__}.{name}"


def undocumented_in(kind: type) -> Iterator[str]:
    """The same of a class; what it inherits is documented where it comes from."""
    if not kind.__doc__:
        yield ""
    for name, member in vars(kind).items():
        is_code = inspect.isfunction(member) or isinstance(member, property | classmethod)
        if is_code and not name.startswith("_") and not is_documented(kind, name):
            yield f".{name}"


def is_documented(kind: type, name: str) -> bool:
    """Whether a member has a docstring, where it is or on a port that the class implements."""
    members = (vars(base)[name] for base in kind.__mro__ if name in vars(base))
    return any(getattr(member, "__doc__", None) for member in members)


@pytest.mark.parametrize("name", ["penstock", *PUBLIC_MODULES])
def test_every_public_object_has_a_docstring(name: str) -> None:
    assert list(undocumented(importlib.import_module(name))) == []


def test_what_has_no_docstring_is_found() -> None:
    module = ModuleType("example", "A module.")
    source = """
def documented(): "What it does."
def bare(): ...
def _private(): ...
class Port:
    'A port.'
    def inherited(self): "What it does."
class Thing(Port):
    'A thing.'
    def bare(self): ...
    @property
    def value(self): ...
    def _private(self): ...
    def inherited(self): ...
class Bare: ...
"""
    exec(source, vars(module) | {"__name__": "example"}, vars(module))
    assert list(undocumented(module)) == [
        "example.bare",
        "example.Thing.bare",
        "example.Thing.value",
        "example.Bare",
    ]


# Types


def test_the_package_says_that_it_is_typed() -> None:
    assert importlib.resources.files("penstock").joinpath("py.typed").is_file()
    classifiers = importlib.metadata.metadata("penstock-engine").get_all("Classifier") or []
    assert "Typing :: Typed" in classifiers


# The cost of the import


PROBE = """
import json, sys, threading
before = set(sys.modules)
import {module}
loaded = sys.modules.keys() - before
third_party = sorted(
    name for name in loaded
    if "." not in name and "site-packages" in (getattr(sys.modules[name], "__file__", "") or "")
)
print(json.dumps([third_party, threading.active_count()]))
"""


def probe(module: str) -> tuple[set[str], int]:
    """The third-party modules that an import loads, and the threads that are there then."""
    process = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
    )
    third_party, threads = json.loads(process.stdout)
    return set(third_party), int(threads)


@pytest.mark.parametrize("names", [["penstock"], IMPORTED_BY_CODE], ids=["package", "all modules"])
def test_an_import_loads_what_is_needed_starts_no_thread_and_makes_no_file(
    names: list[str], tmp_path: Path
) -> None:
    loaded, threads = probe(", ".join(names))
    assert "msgspec" in loaded
    assert loaded <= NEEDED
    assert threads == 1
    assert not (tmp_path / "home").exists()


def test_the_plugin_is_only_loaded_by_its_name() -> None:
    assert "penstock.mypy" in PUBLIC_MODULES
    assert "mypy" in probe("penstock.mypy")[0]
    assert "mypy" not in probe("penstock")[0]


def test_the_probe_sees_what_is_loaded() -> None:
    loaded, _ = probe("penstock, trio, pytest")
    assert {"trio", "pytest", "anyio"} <= loaded


def test_decorating_starts_no_engine() -> None:
    code = """
import threading
from penstock import flow, task

@task(retries=2, cache_key_fn=lambda context, parameters: "key")
def work() -> int:
    return 1

@flow(log_prints=True)
def works() -> int:
    return work()

assert threading.active_count() == 1, threading.enumerate()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
