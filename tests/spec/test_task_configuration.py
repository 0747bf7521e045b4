"""The page's section "Basic task configuration"."""

from __future__ import annotations

import pytest

from penstock import history, task
from penstock._engine.engine import Engine
from penstock.exceptions import ConfigurationError
from tests.spec.transcripts import Machine, normalized

TASKS = "[run.task for run in history.task_runs()]"


@pytest.mark.parametrize("script", ["task_name.py", "task_tags.py"])
def test_a_task_has_the_name_and_the_description_given(machine: Machine, script: str) -> None:
    output = machine.run(script, "my_flow()", "print(repr(my_task.description))")

    assert normalized(output.lines)[2] == (
        "<time> | INFO    | Flow run '<flow run 1>' - "
        "Created task run 'My Example Task-<hash 1>-0' for task 'My Example Task'"
    )
    assert output.lines[-1] == "'An example task for a tutorial.'"
    assert machine.ask(TASKS) == ["My Example Task"]


def test_tasks_are_named_and_described_independently_of_each_other() -> None:
    """ "You can independently assign tasks their own name and description": two of one function."""

    def work() -> None:
        """What the function says."""

    first = task(name="first", description="one")(work)
    second = task(name="second")(work)

    assert (first.name, first.description) == ("first", "one")
    assert (second.name, second.description) == ("second", "What the function says.")


def test_the_runs_of_a_task_are_found_by_each_of_its_tags(machine: Machine) -> None:
    machine.run("task_tags.py", "my_flow()")

    assert machine.ask("[sorted(run.tags) for run in history.task_runs()]") == [
        ["tag-test", "tutorial"]
    ]
    for tag in ("tutorial", "tag-test"):
        assert machine.ask(f"[run.task for run in history.task_runs(tag={tag!r})]") == [
            "My Example Task"
        ]


def test_tags_filter_the_runs_that_are_shown(engine: Engine) -> None:
    @task(tags=["tutorial"])
    def tagged() -> None: ...

    @task(tags=["tutorials"])
    def nearly() -> None: ...

    @task
    def untagged() -> None: ...

    tagged()
    nearly()
    untagged()

    assert [run.task for run in history.task_runs(tag="tutorial")] == ["tagged"]
    assert history.task_runs(tag="tutoria") == []
    assert len(history.task_runs()) == 3


def test_tags_are_a_list_of_strings() -> None:
    refusal = "a list of strings that are not blank, not 'tutorial'"
    with pytest.raises(ConfigurationError, match=refusal):
        task(tags="tutorial")(print)
