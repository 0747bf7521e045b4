"""A rival has a virtual environment of its own, made anew when its pins change."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.benchmarks.peers.rivals import Rival

_FOLDER: Final = Path(__file__).parents[3] / ".venv-peers"
_MARKER: Final = "installed.txt"
_PIP_FLAGS: Final = (
    "--quiet",  # what is kept of its lines are errors
    "--disable-pip-version-check",  # the pip of a new environment is as old as Python
)


class NotInstalledError(Exception):
    """A rival cannot be measured, as its environment cannot be made."""


def prepare(rival: Rival) -> None:
    """Make the environment, unless it is there already.

    Raises:
        NotInstalledError: it cannot be made.
    """
    folder = _FOLDER / rival.distribution
    marker = folder / _MARKER
    wanted = f"# Python {platform.python_version()}\n{rival.requirements()}"
    if marker.exists() and marker.read_text() == wanted:
        return
    sys.stderr.write(f"{rival.name} {rival.version}: installing\n")
    _run(rival, [sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(interpreter(rival)), "-m", "pip", "install", *_PIP_FLAGS]
    _run(rival, [*pip, *rival.requirements().split()])
    marker.write_text(wanted)


def interpreter(rival: Rival) -> Path:
    """The Python of a rival's environment."""
    scripts = "Scripts" if os.name == "nt" else "bin"
    return _FOLDER / rival.distribution / scripts / "python"


def _run(rival: Rival, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise NotInstalledError(
            f"{rival.name} {rival.version} cannot be installed:\n{done.stderr.strip()}"
        )
