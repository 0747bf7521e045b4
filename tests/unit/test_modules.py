"""The names of modules, which cache keys and definitions are told apart by."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from penstock._model.modules import name_of_module


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module under both names of a script."""
    module = ModuleType("__main__")
    for name in ("__main__", "__mp_main__"):
        monkeypatch.setitem(sys.modules, name, module)
    return module


def names() -> set[str]:
    """What a script is called, here and in the processes that import it to help."""
    return {name_of_module("__main__"), name_of_module("__mp_main__")}


def test_a_script_is_called_by_the_one_path_of_its_file(
    started: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    started.__file__ = str(tmp_path / "link" / ".." / tmp_path.name / "script.py")
    assert names() == {str(tmp_path / "script.py")}


def test_a_module_that_is_started_by_its_name_is_called_as_by_those_who_import_it(
    started: ModuleType,
) -> None:
    started.__file__ = "/somewhere/package/module.py"
    started.__spec__ = ModuleSpec("package.module", None)
    assert names() == {"package.module"}


def test_a_folder_that_is_started_is_called_by_the_path_of_what_runs(started: ModuleType) -> None:
    """Python names its specification as the module that it is."""
    started.__file__ = "/somewhere/folder/__main__.py"
    started.__spec__ = ModuleSpec("__main__", None)
    assert names() == {"/somewhere/folder/__main__.py"}


@pytest.mark.usefixtures("started")
def test_what_was_typed_into_a_prompt_has_no_file_and_other_modules_keep_their_names() -> None:
    assert names() == {"__main__"}
    assert name_of_module("package.module") == "package.module"
