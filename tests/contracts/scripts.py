"""Scripts in processes of their own, as users run them."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock._model.payloads import decode_result
from penstock._stores.large_results import FolderOfResults
from tests.patience import PATIENCE_SECONDS, soon


@dataclass
class Script:
    """A script on a database of its own.

    Attributes:
        folder: its home, and where it is written to.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    _started: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])
    _texts: list[str] = field(default_factory=list[str])

    @property
    def database(self) -> Path:
        return self.folder / "penstock.db"

    def start(self, text: str, *arguments: str) -> subprocess.Popen[str]:
        """Start `text` as a script, its pipes open; an equal text is the same script."""
        self.folder.mkdir(exist_ok=True)
        if text not in self._texts:
            self._texts.append(text)
            self._path_of(text).write_text(textwrap.dedent(text))
        settings = {"PENSTOCK_HOME": str(self.folder), "PENSTOCK_LOGGING_LEVEL": "WARNING"}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(self._path_of(text)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings, **self.environment},
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _path_of(self, text: str) -> Path:
        return self.folder / f"script_{self._texts.index(text)}.py"

    def run(self, text: str, *arguments: str, within: float = PATIENCE_SECONDS) -> Ended:
        """Run `text` as a script to its end, which must come soon: within so many seconds."""
        began = time.monotonic()
        done = ended(self.start(text, *arguments))
        assert soon(time.monotonic() - began, within), done
        return done

    def stop_all(self) -> None:
        """Whatever happened, no process outlives its test."""
        for process in self._started:
            stop(process)

    def completed(self, task: str) -> list[object]:
        """The results of the completed runs of a task, in the order of their submission."""
        rows = self.rows(
            "SELECT t.result FROM task_run t JOIN definition d ON d.id = t.task_id "
            f"WHERE d.name = '{task}' AND t.state_name = 'Completed' ORDER BY t.id"
        )
        load = FolderOfResults(self.folder / "storage").load
        return [decode_result(payload, load) for (payload,) in rows]

    def flow_states(self) -> list[tuple[str, str]]:
        """Name and state of the flow runs, in the order in which they began."""
        rows = self.rows(
            "SELECT d.name, f.state_name FROM flow_run f JOIN definition d ON d.id = f.flow_id "
            "ORDER BY f.id"
        )
        return [(name, state) for name, state in rows]

    def task_states(self) -> dict[str, int]:
        """How many task runs are in each state."""
        rows = self.rows("SELECT state_name, count(*) FROM task_run GROUP BY state_name")
        return {str(state): int(number) for state, number in rows}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query gives, to somebody who only opens the file."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(sql).fetchall()

    def check_integrity(self) -> None:
        """Let SQLite look through the whole file."""
        assert self.rows("PRAGMA integrity_check") == [("ok",)]


@dataclass
class Ended:
    """How a script ended."""

    status: int
    output: str
    errors: str

    def check(self) -> None:
        """It ended well, and had nothing to complain about."""
        assert (self.status, self.errors) == (0, ""), self.errors


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end of a script; what hangs is killed, with its children."""
    try:
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        stop(process)
    return Ended(process.returncode, output, errors)


def say(process: subprocess.Popen[str], line: str = "go") -> None:
    """Write a line for a script to read."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """The next line that a script writes."""
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(f"The script has ended:\n{process.stderr.read()}")
    return line.removesuffix("\n")


def stop(process: subprocess.Popen[str]) -> None:
    """Kill a script, with its children, unless it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
