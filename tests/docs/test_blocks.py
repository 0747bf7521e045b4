"""What the documentation shows is so: its Python runs and prints what it says, its scripts exist.

All `python` blocks of a document run as they stand, in order, in one namespace and one process; a
`text` or `mermaid` block directly below one is what it prints. The scripts and modules that the
`$ python …` lines of `console` blocks name exist. `<!-- not run: reason -->` directly above a block
exempts it.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("_run_blocks.py")
DOCUMENTS = [
    *(ROOT / path for path in ("README.md", "CONTRIBUTING.md", "tests/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PRINTED = frozenset({"text", "mermaid"})

FENCE = re.compile(r"( *)(`{3,}|~{3,}) *([\w+-]*)[^`]*")
NOT_RUN = re.compile(r"<!-- not run: .*\w.* -->")
PYTHON = re.compile(r"(.*/)?python[\d.]*")
OPERATORS = frozenset({"&&", "||", ";", "|", "&"})
LIMIT_SECONDS = 200


class Block(NamedTuple):
    """A fenced block of a document.

    Attributes:
        line: of the opening fence.
        language: the word beside the fence.
        code: what is between the fences, without their indentation.
        end: the line of the closing fence.
        above: the last line above that is not empty, its number and its text.
    """

    line: int
    language: str
    code: str
    end: int
    above: tuple[int, str]

    @property
    def is_exempt(self) -> bool:
        """Whether a comment says that it is not run, and why."""
        return NOT_RUN.fullmatch(self.above[1]) is not None


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks of a document; one that is not closed goes to the end."""
    above = (0, "")
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        opening = FENCE.fullmatch(line)
        if opening is None:
            above = (number, line.strip()) if line.strip() else above
            continue
        indent, fence, language = opening.groups()
        inside = lines_until(fence, lines)
        code = "".join(f"{inner.removeprefix(indent)}\n" for inner in inside)
        end = number + len(inside) + 1
        yield Block(number, language, code, end, above)
        above = (end, fence)


def lines_until(fence: str, lines: Iterator[tuple[int, str]]) -> list[str]:
    """Takes the lines up to the fence that closes the block, and that one too."""

    def is_inside(numbered: tuple[int, str]) -> bool:
        line = numbered[1].strip()
        return not (line.startswith(fence) and set(line) == {fence[0]})

    return [line for _, line in takewhile(is_inside, lines)]


def problems_of(document: Path, folder: Path) -> list[str]:
    """What is not as the document says, as `path:line: what`; its Python runs in `folder`."""
    blocks = list(blocks_of(document.read_text(encoding="utf-8")))
    checked = [block for block in blocks if not block.is_exempt]
    wrong = [
        *wrong_commands([block for block in checked if block.language == "console"], folder=ROOT),
        *wrong_python(
            document, [b for b in checked if b.language in {"python", "py"}], blocks, folder
        ),
    ]
    return [f"{document}:{line}: {what}" for line, what in sorted(wrong)]


def wrong_python(
    document: Path, blocks: Sequence[Block], all_blocks: Sequence[Block], folder: Path
) -> Iterator[tuple[int, str]]:
    """The first block that does not run to its end, and all that print something else."""
    if not blocks:
        return
    printed, complaint = run(document, blocks, folder)
    below = {block.above[0]: block for block in all_blocks if block.language in PRINTED}
    for block, output in zip(blocks, printed, strict=False):
        expected = below.get(block.end)
        if expected is not None and output.splitlines() != expected.code.splitlines():
            yield expected.line, f"the block above prints something else\n{diff(expected, output)}"
    if len(printed) < len(blocks):
        yield blocks[len(printed)].line, f"this block does not run to its end\n{complaint}"
    elif complaint:
        yield blocks[-1].line, f"the process does not end well after this block\n{complaint}"


def run(document: Path, blocks: Sequence[Block], folder: Path) -> tuple[list[str], str]:
    """What each block printed that ran to its end, and what was wrong then, if anything."""
    given = [{"line": block.line + 1, "code": block.code} for block in blocks]
    process = subprocess.Popen(
        [sys.executable, str(RUNNER)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    complaint = ""
    request = json.dumps({"path": str(document), "blocks": given})
    try:
        output, errors = process.communicate(request, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        complaint = f"It has not ended after {LIMIT_SECONDS} s.\n"
    printed = [str(json.loads(line)) for line in output.splitlines()]
    if process.returncode != 0 or len(printed) < len(blocks):
        complaint += f"{errors}(exit code {process.returncode})"
    return printed, complaint


def diff(expected: Block, output: str) -> str:
    """From what the document says to what was printed."""
    lines = difflib.unified_diff(
        expected.code.splitlines(), output.splitlines(), "documented", "printed", lineterm=""
    )
    return "\n".join(lines)


def wrong_commands(blocks: Sequence[Block], folder: Path) -> Iterator[tuple[int, str]]:
    """The `$ python …` lines that name a script or a module which does not exist."""
    for block in blocks:
        lines = enumerate(block.code.splitlines(), block.line + 1)
        for number, line in lines:
            command = line.strip()
            while command.endswith("\\"):
                command = command[:-1] + next(lines, (0, ""))[1]
            if command.startswith("$ "):
                for missing in missing_in(command.removeprefix("$ "), folder):
                    yield number, f"{missing}, in: {command}"


def missing_in(command: str, folder: Path) -> Iterator[str]:
    """What the Python commands in a line of shell name and nobody has."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        all_words = list(lexer)
    except ValueError as error:  # a quotation that does not end
        yield str(error)
        return
    words: list[str] = []
    for word in [*all_words, ";"]:
        if word not in OPERATORS:
            words.append(word)
            continue
        while words and re.match(r"\w+=", words[0]):  # settings of this command's environment
            del words[0]
        if words and PYTHON.fullmatch(words[0]):
            missing = missing_of_python(words[1:], folder)
            if missing is not None:
                yield missing
        words = []


def missing_of_python(arguments: Sequence[str], folder: Path) -> str | None:
    """What `python` with these arguments cannot find."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "-m":
            module = next(rest, "")
            return None if is_module(module) else f"there is no module {module!r}"
        if argument == "-c":
            return None
        if argument in {"-W", "-X"}:
            next(rest, None)
        elif not argument.startswith("-"):
            return None if (folder / argument).is_file() else f"there is no file {argument!r}"
    return None


def is_module(name: str) -> bool:
    """Whether it can be imported; it is not, but for the packages that it is in."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_runs_as_it_stands(document: Path, tmp_path: Path) -> None:
    problems = problems_of(document, tmp_path)
    assert not problems, "\n\n".join(problems)


# The check itself


def check(text: str, folder: Path) -> list[str]:
    """The problems of a document with this text, without the path of the document."""
    document = folder / "document.md"
    document.write_text(text, encoding="utf-8")
    return [problem.removeprefix(f"{document}:") for problem in problems_of(document, folder)]


def test_blocks_of_a_document_share_a_namespace_and_print_what_the_text_block_says(
    tmp_path: Path,
) -> None:
    assert check(GOOD, tmp_path) == []


GOOD = """\
# A document

```python
from __future__ import annotations

import inspect, pickle, sys
from penstock import task
from penstock.tasks import task_input_hash

assert "json" not in globals()

class Value: pass

@task(cache_key_fn=task_input_hash)
def double(x: Undefined) -> int:
    return 2 * x
```

1.  In a list, with the value of the block above:

    ```python
    from __future__ import annotations
    if __name__ == "__main__":
        print(double(21), "\N{SNOWMAN}")
    print(inspect.getsource(double.fn).splitlines()[1])
    print(type(pickle.loads(pickle.dumps(Value()))) is Value, file=sys.stderr)
    ```

    ```text
    42 \N{SNOWMAN}
    def double(x: Undefined) -> int:
    ```

```python
print("not compared")
```

It is not directly below:

```text
something else
```

<!-- not run: it would never end -->

```python
while True: pass
```

~~~~python
fence = "~~~"
~~~~
"""


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        pytest.param(
            "\n```python\nx = 1\n```\n\n```python\nprint(x)\n\nprint(y)\n```\n",
            6,
            ["does not run", 'document.md", line 9, in <module>', "NameError: name 'y'"],
            id="an exception",
        ),
        pytest.param(
            "```python\nassert 1 == 2\n```\n", 1, ["AssertionError"], id="a false assertion"
        ),
        pytest.param(
            "```python\nx = \n```\n", 1, ["document.md", "SyntaxError"], id="no Python at all"
        ),
        pytest.param("```python\nexit()\n```\n", 1, ["exit code 0"], id="an early end"),
        pytest.param(
            "```python\nimport atexit, os\natexit.register(os._exit, 3)\n```\n",
            1,
            ["does not end well", "exit code 3"],
            id="a bad end",
        ),
        pytest.param(
            '```python\nprint("a")\nprint("b")\n```\n\n```text\na\nc\n```\n',
            6,
            ["prints something else", "\n-c\n+b"],
            id="another output",
        ),
        pytest.param(
            "```python\nx = 1\n```\n```text\n1\n```\n",
            4,
            ["\n-1"],
            id="no output where there is one",
        ),
        pytest.param(
            '```python\nprint("flowchart TD")\n```\n\n```mermaid\nflowchart LR\n```\n',
            5,
            ["\n-flowchart LR\n+flowchart TD"],
            id="another picture",
        ),
        pytest.param(
            "<!-- not run: -->\n```python\n1 / 0\n```\n", 2, ["ZeroDivision"], id="no reason given"
        ),
        pytest.param(
            "<!-- not run: why -->\nA word.\n```python\n1 / 0\n```\n",
            3,
            ["ZeroDivision"],
            id="a comment that is not directly above",
        ),
        pytest.param(
            "```console\n$ pip install penstock\n$ python docs/gone.py --all\n```\n",
            3,
            ["there is no file 'docs/gone.py'"],
            id="a script that is gone",
        ),
        pytest.param(
            "```console\n$ A=1 python3.11 -X dev -m penstock.gone\n```\n",
            2,
            ["there is no module 'penstock.gone'"],
            id="a module that is gone",
        ),
        pytest.param(
            "```console\n$ python -c 'print(1)\n```\n",
            2,
            ["No closing quotation"],
            id="half a command",
        ),
        pytest.param(
            "```console\n$ cd x && \\\n  .venv/bin/python gone.py; ls\n```\n",
            2,
            ["there is no file 'gone.py'"],
            id="a command behind another one",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    text: str, line: int, told: list[str], tmp_path: Path
) -> None:
    (problem,) = check(text, tmp_path)
    assert problem.startswith(f"{line}: ")
    for part in told:
        assert part in problem


@pytest.mark.parametrize(
    "command",
    [
        "python noxfile.py  # a script",
        "python -m venv .venv && .venv/bin/python -m pip install penstock",
        "PENSTOCK_HOME=/tmp/x python -W error -u noxfile.py | tail -n 3",
        'python -c "print(1); print(2)"',
        "python",
        "pip install gone.py",
        "pythonic gone.py",
    ],
)
def test_commands_that_name_what_exists_are_fine(command: str, tmp_path: Path) -> None:
    assert check(f"```console\n$ {command}\nits output: python gone.py\n```\n", tmp_path) == []


def test_exempt_console_block_is_not_checked(tmp_path: Path) -> None:
    text = "<!-- not run: the reader has saved it -->\n```console\n$ python hello.py\n```\n"
    assert check(text, tmp_path) == []


def test_each_of_several_problems_is_told_in_the_order_of_the_document(tmp_path: Path) -> None:
    text = (
        "```console\n$ python gone.py\n```\n```python\nprint(1)\n```\n```text\n2\n```\n"
        "```python\n1 / 0\n```\n"
    )
    lines = [problem.partition(":")[0] for problem in check(text, tmp_path)]
    assert lines == ["2", "7", "10"]
