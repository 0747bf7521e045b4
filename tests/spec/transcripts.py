"""Runs the page's examples in processes of their own, and holds what they print to the page.

Only what no two runs share is taken out of a transcript: the times, and the random names, ids and
hashes. Those become numbers in the order of their appearance, so equal ones must stay equal and
different ones different.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_SECONDS

HERE = Path(__file__).parent
PROMPT = ">>> "


@dataclass(frozen=True)
class Output:
    """What a process wrote, to stdout and stderr in one, and the status that it ended with."""

    text: str
    status: int

    @property
    def lines(self) -> list[str]:
        """The lines, without the empty ones."""
        return [line for line in self.text.splitlines() if line.strip()]

    def count(self, line: str) -> int:
        """How many lines are exactly this."""
        return self.lines.count(line)


class Machine:
    """A machine on which scripts are run one after another, and the files they find there.

    Attributes:
        folder: where the scripts are.
        home: what `PENSTOCK_HOME` says.
        environ: the environment of the processes; no other setting of Penstock's is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "penstock-home"
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PENSTOCK_")
            and name not in {"GIT_COMMIT_SHA", "PYTHONSTARTUP", "PYTHONINSPECT"}
        }
        self.environ |= {"PENSTOCK_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}

    def run(
        self,
        script: str,
        *statements: str,
        replace: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Output:
        """Run a script of the `scripts` folder, then `statements` at its end.

        Args:
            script: the file's name.
            statements: lines of Python.
            replace: texts of the script, each there once, and what to put in their place.
            environ: variables on top of the machine's own.
        """
        path = self.folder / script
        path.write_text("\n".join([code_of(script, replace), *statements, ""]))
        output = self.python(str(path), environ=environ)
        assert output.status == 0, output.text
        return output

    def type_in(self, *lines: str, console: Sequence[str] = ("-i", "-q")) -> Output:
        """Type lines into a Python interpreter."""
        output = self.python(*console, typed="\n".join([*lines, ""]))
        assert output.status == 0, output.text
        return output

    def ask(self, expression: str, environ: Mapping[str, str] | None = None) -> Any:
        """The value of an expression over `history`, from a process that ran none of the runs."""
        code = f"import json\nfrom penstock import history\nprint(json.dumps({expression}))"
        output = self.python("-c", code, environ=environ)
        assert output.status == 0, output.text
        return json.loads(output.text)

    def python(
        self, *arguments: str, typed: str = "", environ: Mapping[str, str] | None = None
    ) -> Output:
        """Run Python to its end."""
        done = subprocess.run(
            [sys.executable, *arguments],
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.environ, **(environ or {})},
            cwd=self.folder,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Output(done.stdout, done.returncode)


def code_of(script: str, replace: Mapping[str, str] | None = None) -> str:
    """The text of a script, with some of it replaced."""
    code = (HERE / "scripts" / script).read_text()
    for old, new in (replace or {}).items():
        assert code.count(old) == 1, f"{script} has {old!r} {code.count(old)} times"
        code = code.replace(old, new)
    return code


# The page's transcripts


def transcript(name: str) -> list[str]:
    """The lines of a transcript of the page, `prefect` read as `penstock`."""
    text = (HERE / "expected" / f"{name}.txt").read_text()
    return text.replace("prefect", "penstock").splitlines()


def calls_in(lines: Iterable[str]) -> list[str]:
    """What was typed at the prompts of a transcript."""
    return [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]


def with_state(call: str) -> str:
    """A call that gives the state, as it did when the page was written."""
    opening = call.removesuffix(")")
    assert opening != call, f"{call!r} is no call"
    return f"{opening}{'' if opening.endswith('(') else ', '}return_state=True)"


def at_prompt(call: str, expression: str | None = None) -> tuple[str, str]:
    """Statements that show a call as if typed at a prompt, and the state that it gives.

    Args:
        call: as it is shown.
        expression: what is evaluated; by default the call itself, giving its state.
    """
    return f"print({PROMPT + call!r})", f"print(repr({expression or with_state(call)}))"


def answers_in(lines: Iterable[str]) -> list[str]:
    """What came after the prompts of a transcript."""
    return [line for line in lines if not line.startswith(PROMPT)]


def blocks(lines: Iterable[str]) -> list[list[str]]:
    """The lines of each prompt, the prompt first."""
    found: list[list[str]] = []
    for line in lines:
        if line.startswith(PROMPT):
            found.append([])
        found[-1].append(line)
    return found


# What no two runs share

_TIME = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} \| ")
_CREATED = re.compile(r"Created (?:sub)?flow run '([a-z]+-[a-z]+)'")
_FLOW_RUN = re.compile(r"(?<=[Ff]low run ')[a-z]+-[a-z]+(?=')")
_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_HASH = re.compile(r"(?<=-)[0-9a-f]{8}(?=-\d+')")


def normalized(lines: Iterable[str]) -> list[str]:
    """The lines without what is different in each run; see the top of this module."""
    numbers = _Numbers()
    return [numbers.in_place_of_names(line) for line in lines]


class _Numbers:
    """Numbers for names, in the order of their appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {"flow run": {}, "id": {}, "hash": {}}
        self._flow_runs = 0

    def in_place_of_names(self, line: str) -> str:
        line = _TIME.sub("<time> | ", line)
        created = _CREATED.search(line)
        if created is not None:  # by chance, two runs may have one name
            self._flow_runs += 1
            self._numbers["flow run"][created[1]] = self._flow_runs
        for kind, pattern in (("flow run", _FLOW_RUN), ("id", _ID), ("hash", _HASH)):
            line = pattern.sub(partial(self._number, kind), line)
        return line

    def _number(self, kind: str, name: re.Match[str]) -> str:
        known = self._numbers[kind]
        return f"<{kind} {known.setdefault(name[0], len(known) + 1)}>"


def without_prompts(lines: Iterable[str]) -> list[str]:
    """The lines of an interpreter that writes its prompts, but not what is typed at them."""
    bare = (re.sub(r"^(?:>>> |\.\.\. )+", "", line) for line in lines)
    return [line for line in bare if line.strip()]


def tracebacks_folded(lines: Iterable[str]) -> list[str]:
    """The lines with each traceback as one line, as the page has them."""
    folded: list[str] = []
    inside = False
    for line in lines:
        if line == "Traceback (most recent call last):":
            folded.append(f"{line}...")
            inside = True
        elif not inside:
            folded.append(line)
        elif not line.startswith(" "):  # the exception itself
            inside = False
    return folded
