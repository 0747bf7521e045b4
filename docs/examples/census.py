"""A census of Python code: how long, how complex and how well documented each package is.

    python docs/examples/census.py

measures the standard library of the Python that runs it and writes a report to `census.md`. Each
file is a task run of its own whose result is kept, so the next census measures only the files that
have changed since.
"""

from __future__ import annotations

import argparse
import ast
import logging
import sysconfig
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from heapq import nlargest
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from penstock import TaskFuture, TaskRunContext, flow, get_run_logger, task

STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
INSTALLED = {"site-packages", "dist-packages"}
TESTS = {"test", "tests", "idle_test"}

Inner: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
KINDS: dict[type[ast.AST], str] = {ast.Module: "module", ast.ClassDef: "class"}
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)


class Definition(NamedTuple):
    """A module, class or function; what is defined inside it adds nothing to its complexity."""

    name: str
    kind: str
    lines: int
    complexity: int
    documented: bool


class Module(NamedTuple):
    """What was measured of a file; one that cannot be parsed has no definitions."""

    lines: int
    definitions: list[Definition]


class Package(NamedTuple):
    """What its modules come to; its complexity is that of its functions on average."""

    name: str
    modules: int
    lines: int
    classes: int
    functions: int
    complexity: float
    documented: str


def version_of_file(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """A cache key that stays the same until the file changes, or this script does."""
    path: Path = parameters["path"].absolute()
    file = path.stat()
    return f"{context.task.name} {path} {file.st_size} {file.st_mtime_ns} {census.version}"


@task(retries=2, retry_delay_seconds=0.1, persist_result=False)
def read(path: Path) -> bytes:
    """Read a file; a network share that fails once may well give it the next time."""
    return path.read_bytes()


@task(cache_key_fn=version_of_file)
def measure(name: str, path: Path) -> Module:
    """Parse a file and measure all that it defines."""
    source = read(path)
    try:
        definitions = list(survey(ast.parse(source), name))
    except (SyntaxError, ValueError):
        definitions = []
    return Module(len(source.splitlines()), definitions)


@task
def summarize(name: str, modules: list[Module]) -> Package:
    """Add up the modules of a package."""
    definitions = [definition for module in modules for definition in module.definitions]
    functions = [definition for definition in definitions if definition.kind == "function"]
    complexity = sum(function.complexity for function in functions)
    documented = sum(definition.documented for definition in definitions)
    return Package(
        name,
        modules=len(modules),
        lines=sum(module.lines for module in modules),
        classes=sum(definition.kind == "class" for definition in definitions),
        functions=len(functions),
        complexity=round(complexity / max(len(functions), 1), 1),
        documented=f"{documented / max(len(definitions), 1):.0%}",
    )


@task
def write_report(
    report: Path, total: Package, packages: list[Package], modules: list[Module]
) -> None:
    """Write the totals and the extremes as Markdown tables."""
    functions = [d for module in modules for d in module.definitions if d.kind == "function"]
    unparsed = sum(not module.definitions for module in modules)
    lines, complexity = attrgetter("lines"), attrgetter("complexity")
    parts = [
        f"# A census of Python code\n\nModules that could not be parsed: {unparsed}\n",
        table("In all", Package, [total]),
        table("The longest functions", Definition, nlargest(20, functions, lines)),
        table("The most complex functions", Definition, nlargest(20, functions, complexity)),
        table("The most complex packages", Package, nlargest(20, packages, complexity)),
        table("All packages by size", Package, sorted(packages, key=lines, reverse=True)),
    ]
    report.write_text("\n".join(parts), encoding="utf-8")


@flow
def census(
    root: Path, report: Path, package: str | None = None, tests: bool = False
) -> Counter[str]:
    """Measure the modules below a folder; how many of them ended in which state."""
    files = dict(find_modules(root, package, tests))
    get_run_logger().info("Found %d modules in %s", len(files), root)
    modules = measure.map(files.keys(), files.values())
    by_package = defaultdict[str, list[TaskFuture[Module]]](list)
    for name, module in zip(files, modules, strict=True):
        by_package[name.partition(".")[0]].append(module)
    packages = [summarize.submit(name, members) for name, members in by_package.items()]
    total = summarize.submit("everything", modules)
    write_report.submit(report, total, packages, modules).result()
    return Counter(module.state.name for module in modules)


def find_modules(root: Path, package: str | None, tests: bool) -> Iterator[tuple[str, Path]]:
    """Names and paths of modules: installed ones never, those of tests only where wanted."""
    skipped = INSTALLED if tests else INSTALLED | TESTS
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if skipped.isdisjoint(parts) and package in (None, parts[0]):
            yield ".".join(parts).removesuffix(".__init__"), path


def survey(scope: ast.Module | Inner, name: str) -> Iterator[Definition]:
    """A module, class or function, and all that is defined inside it."""
    complexity = 1
    nodes = list(ast.iter_child_nodes(scope))
    for node in nodes:  # which grows by what is inside them
        if isinstance(node, Inner):
            yield from survey(node, f"{name}.{node.name}")
        else:
            complexity += decisions(node)
            nodes.extend(ast.iter_child_nodes(node))
    first = 1 if isinstance(scope, ast.Module) else scope.lineno
    last = max((statement.end_lineno or 0 for statement in scope.body), default=0)
    kind = KINDS.get(type(scope), "function")
    documented = ast.get_docstring(scope, clean=False) is not None
    yield Definition(name, kind, last - first + 1, complexity, documented)


def decisions(node: ast.AST) -> int:
    """How many ways through the code a node adds, as McCabe counts them."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, BRANCHES))


def table(title: str, kind: type[Package | Definition], rows: Iterable[tuple[object, ...]]) -> str:
    """A title, and a Markdown table with a column for each field of the records."""
    named = ((f"`{name}`", *figures) for name, *figures in rows)
    lines = [kind._fields, ["--"] * len(kind._fields), *named]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def main() -> None:
    """Take a census as the command line asks for it, and say what it took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--report", type=Path, default=Path("census.md"), help="the file to write")
    parser.add_argument("--root", type=Path, default=STANDARD_LIBRARY, help="the folder to measure")
    parser.add_argument("--package", help="measure this top-level package only")
    parser.add_argument("--tests", action="store_true", help="measure test folders as well")
    options = parser.parse_args()

    # A module is a task run, and at the level INFO each would be seen to begin and to end.
    logging.getLogger("penstock.task_runs").setLevel(logging.WARNING)

    started = time.perf_counter()
    modules = census(**vars(options))
    seconds = time.perf_counter() - started
    print(
        f"{modules.total():,} modules: {modules['Completed']:,} measured, "
        f"{modules['Cached']:,} from the cache, in {seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
