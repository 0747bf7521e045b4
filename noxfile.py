"""Every check of the project: `nox` runs them all, `nox -s NAME` one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
LOOPS = ["asyncio", "trio"]


def _kept_by_version_managers() -> Iterator[Path]:
    """Folders of interpreters that are off the PATH, or on it as shims that fail until chosen."""
    for folder in map(Path, os.get_exec_path()):
        if folder.name == "shims":
            yield from folder.parent.glob("versions/*/bin")  # pyenv
            yield from folder.parent.glob("installs/python/*/bin")  # asdf, mise
    if (uv := shutil.which("uv")) is not None:
        said = subprocess.run([uv, "python", "dir"], capture_output=True, check=True, text=True)
        yield from Path(said.stdout.strip()).glob("*/bin")


def _is_there(version: str) -> bool:
    """Whether an interpreter of this version runs; a shim may be there without one."""
    commands = [Path(folder, f"python{version}") for folder in os.get_exec_path()]
    return any(_runs(command) for command in commands if command.exists())


def _runs(python: Path) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


os.environ["PATH"] = os.pathsep.join([*os.get_exec_path(), *map(str, _kept_by_version_managers())])
NEWEST = next(filter(_is_there, reversed(PYTHONS)), PYTHONS[0])
"""The newest Python that is here: the default sessions run the tests on the oldest and on it."""

nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "lint",
    "types",
    f"tests-{PYTHONS[0]}",
    *([f"tests-{NEWEST}(loop='asyncio')"] if PYTHONS[0] != NEWEST else []),
    f"memory-{NEWEST}",
    "docs",
    "bench",
]


def _install(session: nox.Session, *groups: str) -> None:
    session.install("-e", ".[trio]", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(python=PYTHONS)
@nox.parametrize("loop", LOOPS)
def tests(session: nox.Session, loop: str) -> None:
    """The test suite; what touches no loop runs with asyncio only."""
    _install(session, "tests")
    other = LOOPS[1 - LOOPS.index(loop)]
    chosen = f"not {other}" if loop == LOOPS[0] else loop
    session.run("pytest", "-k", chosen, "--ignore=tests/docs", *session.posargs)


@nox.session(python=PYTHONS)
def memory(session: nox.Session) -> None:
    """The tests of the engine on the store in memory; those in a loop on trio."""
    _install(session, "tests")
    chosen = f"not {LOOPS[0]}"
    session.run("pytest", "tests/engine", "--store=memory", "-k", chosen, *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The test suite with the lowest allowed dependencies."""
    _install(session, "tests")
    pins = [
        requirement.replace(">=", "==")
        for requirement in [
            *PYPROJECT["project"]["dependencies"],
            *PYPROJECT["project"]["optional-dependencies"]["trio"],
        ]
    ]
    session.install(*pins)
    # What the documentation shows beside Penstock, such as FastAPI, needs newer ones.
    session.run("pytest", "--ignore=tests/docs", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """mypy with and without the plugin, and pyright, all strict, over the library and the tests."""
    _install(session, "types")
    session.run("mypy")
    session.run("mypy", "--config-file", "tests/typing/with_plugin/mypy.ini")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "penstock", "--ignoreexternal")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation: its site, in the session's temporary folder, and its code, run."""
    _install(session, "tests", "docs")
    site = Path(session.create_tmp(), "site")
    no_advertising = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    build = ("mkdocs", "build", "--config-file=.mkdocs.yml", "--site-dir", str(site))
    session.run(*build, env=no_advertising)
    session.run("pytest", "tests/docs", *session.posargs)
    session.log(f"The site is in {site}.")


@nox.session
def bench(session: nox.Session) -> None:
    """Times the engine against floors written by hand; prints ratios, asserts none.

    `-- --peers` times other libraries beside it, and `-- --against REV` another revision, each in
    an environment of its own.
    """
    _install(session, "tests")
    session.create_tmp()
    session.run("python", "-m", "tests.benchmarks", *(session.posargs or ["--quick"]))
