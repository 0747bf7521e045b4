"""The code that a function reaches: what changes its digest, and what does not."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
import threading
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from penstock import Task
from penstock._caching.policies import TASK_SOURCE
from penstock._caching.reached_code.reached import reached_code
from tests.rules.play import task_run

_numbers = itertools.count()


class Project:
    """Modules of a user's, in a folder of their own; `PKG` in a source is their package."""

    def __init__(self, folder: Path) -> None:
        self.name = f"project{next(_numbers)}"
        self.folder = folder / self.name
        self.folder.mkdir()
        (self.folder / "__init__.py").touch()

    def write(self, **sources: str) -> None:
        for name, source in sources.items():
            (self.folder / f"{name}.py").write_text(source.replace("PKG", self.name))

    def module(self, name: str) -> ModuleType:
        """The module as it is written now, and the others of the package with it."""
        for loaded in [n for n in sys.modules if n.partition(".")[0] == self.name]:
            del sys.modules[loaded]
        importlib.invalidate_caches()
        return importlib.import_module(f"{self.name}.{name}")

    def digest(self, **sources: str) -> bytes:
        """The digest of `flows.work` with these modules."""
        self.write(**sources)
        return reached_code(self.module("flows").work).digest

    def parts(self, **sources: str) -> dict[str, bytes]:
        self.write(**sources)
        parts = reached_code(self.module("flows").work).parts
        return {name.replace(f"{self.name}.", ""): part for name, part in parts.items()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(tmp_path)
    for loaded in [n for n in sys.modules if n.startswith("project")]:
        del sys.modules[loaded]


FLOWS = """
from PKG import helpers
from PKG.helpers import clean
LIMIT = 3
def work(x):
    return helpers.scale(clean(x)) + LIMIT
"""
HELPERS = """
from PKG import deep
FACTOR = 2
def clean(x):
    return deep.strip(x)
def scale(x):
    return x * FACTOR
def unused(x):
    return x
"""
DEEP = """
def strip(x):
    return x - 1
"""


def variants(project: Project, name: str, source: str, *changes: tuple[str, str]) -> list[bytes]:
    """The digest with the sources above, then with each change of the one with this name."""
    sources = {"flows": FLOWS, "helpers": HELPERS, "deep": DEEP}
    digests = [project.digest(**sources)]
    for old, new in changes:
        assert old in source
        digests.append(project.digest(**{**sources, name: source.replace(old, new)}))
    return digests


# Helpers


def test_a_change_of_the_function_a_helper_or_a_constant_changes_the_digest(
    project: Project,
) -> None:
    digests = variants(project, "flows", FLOWS, ("LIMIT = 3", "LIMIT = 4"), ("+ LIMIT", "- LIMIT"))
    assert len(set(digests)) == 3
    digests = variants(project, "helpers", HELPERS, ("x * F", "x ** F"), ("FACTOR = 2", "FACTOR=3"))
    assert len(set(digests)) == 3


def test_a_helper_of_a_helper_counts(project: Project) -> None:
    assert len(set(variants(project, "deep", DEEP, ("x - 1", "x - 2")))) == 2


def test_what_is_not_reached_does_not_count(project: Project) -> None:
    change = ("def unused(x):\n    return x", "def unused(x):\n    return 2 * x")
    assert len(set(variants(project, "helpers", HELPERS, change))) == 1


def test_comments_blank_lines_and_layout_do_not_count(project: Project) -> None:
    comment = ("def clean(x):\n", "\n\ndef clean(\n    x,\n):\n    # what it does\n\n")
    assert len(set(variants(project, "helpers", HELPERS, comment))) == 1
    assert len(set(variants(project, "deep", DEEP, ("x - 1", "(x  -  1)")))) == 1


def test_each_part_has_a_name(project: Project) -> None:
    assert list(project.parts(flows=FLOWS, helpers=HELPERS, deep=DEEP)) == [
        "code of flows.work",
        "constant flows.LIMIT",
        "code of helpers.scale",
        "constant helpers.FACTOR",
        "code of helpers.clean",
        "code of deep.strip",
    ]


def test_only_the_part_that_changed_differs(project: Project) -> None:
    one = project.parts(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    other = project.parts(deep=DEEP.replace("x - 1", "x - 2"))
    assert {name for name in one if one[name] != other[name]} == {"code of deep.strip"}


def differs(project: Project, source: str, old: str, new: str) -> bool:
    """Whether the digest of `work` in that source differs with this change."""
    assert old in source
    return project.digest(flows=source) != project.digest(flows=source.replace(old, new))


CHANGES = {
    "recursion": ("def work(n): return n and work(n - 1) + 1", "+ 1", "+ 2"),
    "cycle": ("def a(n): return b(n)\ndef b(n): return a(n) + 1\nwork = a", "+ 1", "+ 2"),
    "nested": ("def f(): return 1\ndef work():\n    def g(): return f()\n    return g", "1", "2"),
    "lambda": ("f = lambda x: x + 1\ndef work(x): return f(x)", "+ 1", "+ 2"),
    "comprehension": ("def f(x): return 1\ndef work(l): return [f(x) for x in l]", "1", "2"),
    "default": ("def f(): return 1\ndef work(g=f): return g()", "1", "2"),
    "closure": (
        "def make(n):\n    def work(): return n\n    return work\nwork = make(1)",
        "make(1)",
        "make(2)",
    ),
    "enclosed function": (
        (
            "def f(): return 1\ndef make(g):\n    def work(): return g()\n    return work\n"
            "work = make(f)"
        ),
        "return 1",
        "return 2",
    ),
    "enclosed module": (
        (
            "def make():\n    import PKG.flows as m\n    def work(): return m.f()\n"
            "    return work\ndef f(): return 1\nwork = make()"
        ),
        "return 1",
        "return 2",
    ),
    "wrapped": (
        (
            "import functools\ndef d(f):\n    @functools.wraps(f)\n    def w(): return f()\n"
            "    return w\n@d\ndef helper(): return 1\ndef work(): return helper()"
        ),
        "return 1",
        "return 2",
    ),
    "wrapper": (
        (
            "import functools\ndef d(f):\n    @functools.wraps(f)\n    def w(): return f() + 3\n"
            "    return w\n@d\ndef helper(): return 1\ndef work(): return helper()"
        ),
        "+ 3",
        "+ 4",
    ),
    "cached": (
        "import functools\n@functools.lru_cache\ndef f(): return 1\ndef work(): return f()",
        "1",
        "2",
    ),
    "partial": (
        "import functools\ndef f(x): return x\ng = functools.partial(f, 1)\ndef work(): return g()",
        "f, 1",
        "f, 2",
    ),
    "task": (
        "import penstock\n@penstock.task\ndef f(): return 1\ndef work(): return f()",
        "1",
        "2",
    ),
    "method": ("class C:\n    def f(self): return 1\ndef work(): return C().f()", "1", "2"),
    "method of an object": (
        "class C:\n    def f(self): return 1\nc = C()\ndef work(): return c.f()",
        "1",
        "2",
    ),
    "bound method": (
        "class C:\n    def f(self): return 1\nf = C().f\ndef work(): return f()",
        "1",
        "2",
    ),
    "static method": (
        "class C:\n    @staticmethod\n    def f(): return 1\ndef work(): return C.f()",
        "1",
        "2",
    ),
    "class method": (
        "class C:\n    @classmethod\n    def f(cls): return 1\ndef work(): return C.f()",
        "1",
        "2",
    ),
    "property": (
        "class C:\n    @property\n    def f(self): return 1\ndef work(): return C().f",
        "1",
        "2",
    ),
    "class attribute": ("class C:\n    n = 1\ndef work(): return C.n", "1", "2"),
    "base": ("class B:\n    n = 1\nclass C(B): pass\ndef work(): return C.n", "1", "2"),
    "helper of a method": (
        "def f(): return 1\nclass C:\n    def g(self): return f()\ndef work(): return C().g()",
        "1",
        "2",
    ),
    "dataclass field": (
        (
            "from dataclasses import dataclass\n@dataclass\nclass C:\n    n: int = 1\n"
            "def work(): return C()"
        ),
        "1",
        "2",
    ),
    "default factory": (
        (
            "from msgspec import Struct, field\ndef f(): return 1\n"
            "class C(Struct):\n    n: int = field(default_factory=f)\ndef work(): return C()"
        ),
        "return 1",
        "return 2",
    ),
    "struct field": (
        "from msgspec import Struct\nclass C(Struct):\n    n: int = 1\ndef work(): return C()",
        "1",
        "2",
    ),
    "member": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\ndef work(): return E.A",
        "1",
        "2",
    ),
    "tuple": ("T = (1, (2, 'x'))\ndef work(): return T", "2", "3"),
    "small tuple": ("t = (1, (2, 'x'))\ndef work(): return t", "2", "3"),
    "dict in capitals": ("D = {'a': [1]}\ndef work(): return D", "1", "2"),
    "set in capitals": ("_S = {'a', 'b'}\ndef work(): return _S", "'b'", "'c'"),
    "table of functions": (
        "def f(): return 1\nT = {'f': f}\ndef work(n): return T[n]()",
        "return 1",
        "return 2",
    ),
    "pattern": ("import re\np = re.compile('a')\ndef work(): return p", "'a'", "'b'"),
    "docstring": ("def work(): 'Says one.'", "one", "two"),
    "other name": ("a = b = 1\ndef work(): return a", "return a", "return b"),
    "class in a function": (
        "def f(): return 1\ndef work():\n    class C:\n        n = f()\n    return C",
        "return 1",
        "return 2",
    ),
    "metaclass": (
        (
            "class M(type):\n    def f(cls): return 1\nclass C(metaclass=M): pass\n"
            "def work(): return C.f()"
        ),
        "1",
        "2",
    ),
    "base among generics": (
        (
            "from typing import Generic, TypeVar\nT = TypeVar('T')\n"
            "class B(Generic[T]):\n    n = 1\nclass C(B[int]): pass\ndef work(): return C.n"
        ),
        "1",
        "2",
    ),
    "partial method": (
        (
            "import functools\nclass C:\n    def f(self, n): return n\n"
            "    g = functools.partialmethod(f, 1)\ndef work(): return C().g()"
        ),
        "f, 1",
        "f, 2",
    ),
    "context manager": (
        (
            "import contextlib\n@contextlib.contextmanager\ndef f(): yield 1\n"
            "def work():\n    with f() as n: return n"
        ),
        "1",
        "2",
    ),
    "decorator without wraps": (
        (
            "def d(f):\n    def w(): return f()\n    return w\n@d\ndef helper(): return 1\n"
            "def work(): return helper()"
        ),
        "return 1",
        "return 2",
    ),
    "decorator that is a class": (
        (
            "class D:\n    def __init__(self, f): self.f = f\n"
            "    def __call__(self): return self.f()\n@D\n"
            "def helper(): return 1\ndef work(): return helper()"
        ),
        "return 1",
        "return 2",
    ),
    "object that hides what it holds": (
        (
            "class C:\n    def __call__(self): return 1\n    @property\n"
            "    def __dict__(self): raise RuntimeError\nc = C()\ndef work(): return c()"
        ),
        "return 1",
        "return 2",
    ),
    "argument of a decorator": (
        (
            "import functools\ndef d(n):\n    def wrap(f):\n        @functools.wraps(f)\n"
            "        def w(): return f() + n\n        return w\n    return wrap\n"
            "@d(1)\ndef helper(): return 5\ndef work(): return helper()"
        ),
        "d(1)",
        "d(2)",
    ),
    "two lambdas in a line": ("f, g = (lambda: 1), (lambda: 3)\ndef work(): return f()", "1", "2"),
    "attrs field": (
        "import attrs\n@attrs.define\nclass C:\n    n: int = 1\ndef work(): return C()",
        "1",
        "2",
    ),
    "field as pydantic keeps it": (
        "class C: __pydantic_fields__ = {'n': 1}\ndef work(): return C()",
        "1",
        "2",
    ),
    "async": ("async def f(): return 1\nasync def work(): return await f()", "1", "2"),
}


@pytest.mark.parametrize(("source", "old", "new"), CHANGES.values(), ids=CHANGES)
def test_counted(project: Project, source: str, old: str, new: str) -> None:
    assert differs(project, source, old, new)


NOT_COUNTED = {
    "dict in small letters": ("seen = {'a': 1}\ndef work(): return seen", "1", "2"),
    "state": ("n = 1\ndef work():\n    global n\n    n += 5", "1", "2"),
    "state of a helper": (
        "n = 1\ndef f():\n    global n\n    n += 5\ndef work():\n    f()\n    return n",
        "1",
        "2",
    ),
    "options of the task": (
        "from penstock import task\n@task(retries=1)\ndef f(): return 5\ndef work(): return f()",
        "1",
        "2",
    ),
    "import in the function": (
        "def work():\n    from PKG.flows import f\n    return f()\ndef f(): return 1",
        "return 1",
        "return 2",
    ),
    "name made at run time": (
        "import sys\ndef f(): return 1\ndef work(): return getattr(sys.modules[__name__], 'f')()",
        "return 1",
        "return 2",
    ),
    "function that is registered": (
        (
            "import functools\n@functools.singledispatch\ndef f(x): return x\n"
            "@f.register\ndef _(x: int): return 1\ndef work(): return f(5)"
        ),
        "return 1",
        "return 2",
    ),
    "state of an object": (
        "class C: pass\nc = C()\nc.n = 1\ndef work(): return c.n",
        "1",
        "2",
    ),
    "order of definitions": (
        "def f(): return 1\ndef g(): return 2\ndef work(): return f() + g()",
        "def f(): return 1\ndef g(): return 2",
        "def g(): return 2\ndef f(): return 1",
    ),
    "captured local of the name of a global": (
        "x = 1\ndef work():\n    x = 5\n    return lambda: x",
        "x = 1",
        "x = 2",
    ),
}


@pytest.mark.parametrize(("source", "old", "new"), NOT_COUNTED.values(), ids=NOT_COUNTED)
def test_not_counted(project: Project, source: str, old: str, new: str) -> None:
    assert not differs(project, source, old, new)


def test_other_libraries_count_by_their_version_and_the_standard_library_does_not(
    project: Project,
) -> None:
    source = (
        "import json, msgspec, penstock\ndef work(x): return json.dumps(msgspec.json.encode(x))"
    )
    assert list(project.parts(flows=source)) == ["code of flows.work", "library msgspec"]
    assert msgspec.__version__


# While the process lives


def reached(function: Callable[..., object]) -> bytes:
    return reached_code(function).digest


def test_as_long_as_nothing_changes_nothing_is_walked_again(project: Project) -> None:
    project.write(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    work = project.module("flows").work
    assert reached_code(work) is reached_code(work)


def test_a_helper_that_is_defined_anew_changes_the_digest_and_back(project: Project) -> None:
    project.write(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    work = project.module("flows").work
    deep: Any = sys.modules[f"{project.name}.deep"]
    before, strip = reached(work), deep.strip
    deep.strip = _strip_more
    assert reached(work) != before
    deep.strip = strip
    assert reached(work) == before


def test_a_module_that_is_reloaded_changes_the_digest(project: Project) -> None:
    project.write(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    work = project.module("flows").work
    before = reached(work)
    project.write(deep=DEEP.replace("x - 1", "x - 2 "))
    importlib.reload(sys.modules[f"{project.name}.deep"])
    assert reached(work) != before


@pytest.mark.parametrize("name", ["LIMIT", "clean"])
def test_a_name_that_stands_for_something_else_changes_the_digest(
    project: Project, name: str
) -> None:
    project.write(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    module = project.module("flows")
    before = reached(module.work)
    setattr(module, name, 7 if name == "LIMIT" else module.helpers.unused)
    assert reached(module.work) != before


def test_threads_that_look_at_once_see_what_runs(project: Project) -> None:
    """Eight threads, while one helper takes the place of another and back, 50 times."""
    project.write(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    work = project.module("flows").work
    deep: Any = sys.modules[f"{project.name}.deep"]
    helpers = [deep.strip, _strip_more]
    known = {helper: _reached_with(deep, helper, work) for helper in helpers}
    start, stop = threading.Barrier(9), threading.Event()
    seen: set[bytes] = set()

    def look() -> None:
        start.wait()
        while not stop.is_set():
            seen.add(reached(work))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    for helper in helpers * 25:
        assert _reached_with(deep, helper, work) == known[helper]
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= set(known.values())


def _reached_with(module: Any, helper: Callable[..., object], work: Callable[..., object]) -> bytes:
    module.strip = helper
    return reached(work)


def test_new_code_in_a_helper_or_new_defaults_change_the_digest(project: Project) -> None:
    project.write(flows="def f(x=1): return x\ndef g(x): return 2\ndef work(): return f()")
    module = project.module("flows")
    digests = [reached(module.work)]
    module.f.__defaults__ = (2,)
    digests.append(reached(module.work))
    module.f.__code__ = module.g.__code__
    digests.append(reached(module.work))
    assert len(set(digests)) == 3


def test_a_method_that_is_replaced_changes_the_digest(project: Project) -> None:
    project.write(flows="class C:\n    def f(self): return 1\ndef work(): return C().f()")
    module = project.module("flows")
    before = reached(module.work)
    module.C.f = _strip_more
    assert reached(module.work) != before


def test_a_file_that_has_changed_since_it_was_imported_is_not_taken_for_what_runs(
    project: Project,
) -> None:
    """Or the result of the old code would be found under the key of the new one."""
    project.write(flows="def work(): return 1\n")
    old = project.module("flows").work
    new = project.digest(flows="def work(): return 2\n")
    assert reached(old) != new


def test_functions_of_no_file_are_known_by_their_code() -> None:
    digests: set[bytes] = set()
    for number in (1, 1, 2):
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(f"def f(): return {number}\ndef work(): return f()", scope)
        digests.add(reached(scope["work"]))
    assert len(digests) == 2


def _strip_more(x: int) -> int:
    return x - 2


class Callme:
    """An object that is called."""

    def __call__(self) -> int:
        return helper()

    def method(self) -> int:
        return helper()


def helper() -> int:
    return 1


def test_methods_and_objects_that_are_called_have_their_helpers() -> None:
    for function in (Callme(), Callme().method):
        assert f"code of {__name__}.helper" in reached_code(function).parts


# Across processes

SCRIPT = """
import importlib, sys
from penstock._caching.reached_code.reached import reached_code
print(reached_code(importlib.import_module(sys.argv[1] + ".flows").work).digest.hex())
"""


def test_the_digest_is_the_same_in_every_process(project: Project) -> None:
    tables = "S = {'a', 'b', 'c'}\nD = {'x': S, 'y': {1, 'z'}}\n"
    tables += "class C:\n    n = {'p', 'q'}\n    T = frozenset('abc')\n"
    tables += "import attrs\n@attrs.frozen\nclass F:\n    n: int = 1\n"
    flows = f"{tables}{FLOWS}".replace("+ LIMIT", "+ LIMIT, S, D, C, F")
    here = project.digest(flows=flows, helpers=HELPERS, deep=DEEP).hex()
    for seed in ("1", "2"):
        paths = [str(project.folder.parent), *sys.path]
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", SCRIPT, project.name]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == here


def test_a_look_at_what_is_known_takes_a_few_microseconds(project: Project) -> None:
    """Ten times what it takes, as the machine may be busy."""
    project.write(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    work = project.module("flows").work
    reached(work)
    assert min(timeit.repeat(lambda: reached(work), number=1000, repeat=5)) / 1000 < 20e-6


def test_the_policy_goes_by_what_the_task_reaches(project: Project) -> None:
    project.write(flows=FLOWS, helpers=HELPERS, deep=DEEP)
    task = Task[..., Any](project.module("flows").work, cache_policy=TASK_SOURCE)
    keys = {_key(task, 1), _key(task, 2)}
    helpers: Any = sys.modules[f"{project.name}.helpers"]
    helpers.FACTOR = 3
    keys.add(_key(task, 1))
    assert len(keys) == 2


def _key(task: Task[..., Any], *args: object) -> str:
    key = task.cache_key_of(task_run(task, *args))
    assert key is not None
    return key.text
