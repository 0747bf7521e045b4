"""The page's section "Basic flow configuration"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock import flow
from tests.spec.transcripts import Machine, code_of, normalized

VERSIONS = "[run.version for run in history.flow_runs()]"


def test_the_name_given_to_a_flow_identifies_its_runs(machine: Machine) -> None:
    output = machine.run("flow_name.py", "my_flow()")

    created, *_ = normalized(output.lines)
    assert created == (
        "<time> | INFO    | penstock.engine - "
        "Created flow run '<flow run 1>' for flow 'My Example Flow'"
    )
    assert machine.ask('[run.flow for run in history.flow_runs(flow="My Example Flow")]') == [
        "My Example Flow"
    ]
    assert machine.ask('history.flow_runs(flow="my-flow")') == []


def test_a_name_stands_for_all_runs_whatever_their_version_and_tasks(machine: Machine) -> None:
    """ "The unifying identifier for all future runs of that flow, regardless of version or task
    structure": three scripts, three versions, one of them with tasks.
    """
    machine.run("flow_name.py", "my_flow()")
    machine.run("flow_version.py", "my_flow()")
    machine.run("sequential.py")

    runs = machine.ask(
        "[(run.version, len(history.task_runs(flow_run=run)))"
        ' for run in history.flow_runs(flow="My Example Flow")]'
    )
    versions = {version for version, _tasks in runs}
    assert len(versions) == len(runs) == 3
    assert [tasks for _version, tasks in runs] == [2, 0, 0]


@pytest.mark.parametrize(
    "script", ["flow_description.py", "flow_docstring.py", "flow_version.py", "flow_git_version.py"]
)
def test_a_description_is_the_option_or_the_docstring(machine: Machine, script: str) -> None:
    output = machine.run(script, "print(repr(my_flow.description))", "my_flow()")

    assert output.lines[0] == "'An example flow for a tutorial.'"


def test_a_description_given_wins_over_the_docstring() -> None:
    @flow(description="given")
    def described() -> None:
        """written"""

    assert described.description == "given"


def test_a_flow_without_either_has_no_description(machine: Machine) -> None:
    output = machine.run("flow_name.py", "print(my_flow.description)")

    assert output.lines == ["None"]


def test_a_version_is_associated_with_the_run(machine: Machine) -> None:
    machine.run("flow_version.py", "my_flow()")
    machine.run("flow_version.py", "my_flow()", replace={"tutorial_02": "tutorial_03"})

    assert machine.ask(VERSIONS) == ["tutorial_03", "tutorial_02"]


def test_the_commit_hash_may_be_the_version(machine: Machine) -> None:
    commit = "0f3a9c7d2b1e4f5a6b7c8d9e0f1a2b3c4d5e6f70"
    machine.run("flow_git_version.py", "my_flow()", environ={"GIT_COMMIT_SHA": commit})

    assert machine.ask(VERSIONS) == [commit]


def test_without_a_commit_hash_the_version_is_that_of_the_file(machine: Machine) -> None:
    """`os.getenv` gives None where there is no such variable: "you don't have to supply one"."""
    machine.run("flow_git_version.py", "my_flow()")
    (version,) = machine.ask(VERSIONS)

    assert re.fullmatch(r"[0-9a-f]{16,}", version)


def test_the_version_of_a_file_stays_and_changes_with_it(machine: Machine, tmp_path: Path) -> None:
    """ "A stable hash of the .py file in which the flow is defined to automatically detect when
    your code changes": the same in each process and each folder, another for each content.
    """
    machine.run("flow_name.py", "my_flow()")
    machine.run("flow_name.py", "my_flow()")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "renamed.py").write_bytes((tmp_path / "flow_name.py").read_bytes())
    machine.python(str(elsewhere / "renamed.py"))
    machine.run("flow_name.py", "my_flow()", replace={"# run tasks": "# run other tasks"})

    changed, *same = machine.ask(VERSIONS)
    assert len(same) == 3
    assert len(set(same)) == 1
    assert None not in same
    assert changed is not None
    assert changed not in same


def test_the_version_is_that_of_the_file_that_defines_the_flow(machine: Machine) -> None:
    """Not of the script that imports it and runs it."""
    machine.run("flow_name.py")
    for caller in ("first.py", "second.py"):
        path = machine.folder / caller
        path.write_text(f"from flow_name import my_flow\nmy_flow()  # from {caller}\n")
        assert machine.python(str(path)).status == 0

    first, second = machine.ask(VERSIONS)
    assert first == second
    assert first is not None


@pytest.mark.parametrize(
    "console",
    [("-i", "-q"), ("-c", "import code; code.interact(banner='', exitmsg='')")],
    ids=["python -i", "code.interact"],
)
def test_in_an_interpreter_the_version_is_none(machine: Machine, console: tuple[str, ...]) -> None:
    machine.type_in(code_of("flow_name.py"), "", "my_flow()", console=console)

    assert machine.ask(VERSIONS) == [None]


def test_a_version_given_in_an_interpreter_is_the_version(machine: Machine) -> None:
    machine.type_in(code_of("flow_version.py"), "", "my_flow()")

    assert machine.ask(VERSIONS) == ["tutorial_02"]
