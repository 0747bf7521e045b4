"""Sketches: a flow's code runs to see what it would call, and no task does.

A sketched run is in the one phase that no event leads to or from. So it enters no state, and
nothing of it is put on record. A task's is born with its result, which stands for the real one.

Why: docs/inside/rules.md, "A sketch is a run with other rules".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, assert_never

import msgspec

from penstock._rules.effects import (
    DeadlinePassed,
    Error,
    Interrupted,
    Invoke,
    Join,
    Outcome,
    Steps,
    Value,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.futures_in_arguments import all_leaves, parts_of
from penstock._rules.rulebook import CANCEL_MEMBERS
from penstock._rules.run import SKETCHED, Run
from penstock._rules.task_run import TaskRun
from penstock.exceptions import ParameterError, RunCancelled, RunTimedOut, VisualizationError
from penstock.pictures import Node, Picture
from penstock.states import StateType, Transition

_COMPLETED: Final = (Transition(StateType.COMPLETED, "Completed", None, 0.0),)
_FAILED: Final = (Transition(StateType.FAILED, "Failed", None, 0.0),)


class Placeholder:
    """Stands for the result of a task that was not run; it may be passed on, and nothing else."""

    __slots__ = ("_run",)

    def __init__(self, run: TaskRun) -> None:
        self._run = run

    def __repr__(self) -> str:
        return f"<the result of {self._run.definition.name}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other or self._refuse()

    def __copy__(self) -> Placeholder:
        return self

    def __deepcopy__(self, _memo: object) -> Placeholder:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):  # what libraries ask of any object
            raise AttributeError(name)
        return self._refuse()

    def _refuse(self, *_operands: object) -> NoReturn:
        name = self._run.definition.name
        raise VisualizationError(
            f"The flow's code uses the result of the task {name!r} as a value, and visualize() "
            f"runs no task. Say what stands for it: @task(viz_return_value=...) on {name!r}."
        )

    __bool__ = __len__ = __iter__ = __next__ = __reversed__ = _refuse
    __getitem__ = __contains__ = __call__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse
    __pow__ = __rpow__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = _refuse
    __int__ = __float__ = __complex__ = __index__ = _refuse
    __enter__ = __exit__ = __aenter__ = __await__ = __fspath__ = _refuse


class _Call(msgspec.Struct, frozen=True):
    """A run that would be made, and the runs whose results are in its arguments as values."""

    run: Run
    sources: Sequence[Run]


class Sketch:
    """What is called under one flow run, in order.

    Args:
        run: the flow run, which has not begun.
    """

    def __init__(self, run: FlowRun) -> None:
        self._flow_run = run
        self._calls: list[_Call] = []
        self._made: dict[int, tuple[object, Run]] = {}  # with the value, so that its id stays taken
        run.sketch = self
        _mark(run)

    def admit(self, run: Run) -> None:
        """Note a run that is being made under the flow run."""
        self._calls.append(_Call(run, list(self._sources_in([*run.args, *run.kwargs.values()]))))
        _mark(run)
        if isinstance(run, TaskRun):
            given = run.options.viz_return_value
            run.value = Placeholder(run) if given is msgspec.UNSET else given
            self._made[id(run.value)] = (run.value, run)
            run.set()

    def _sources_in(self, values: Sequence[object]) -> Iterator[Run]:
        ahead, seen = [*values], set[int]()
        while ahead:
            value = ahead.pop()
            if id(value) in seen or all_leaves([value]):  # a number that is the same is no trace
                continue
            seen.add(id(value))
            if id(value) in self._made:
                yield self._made[id(value)][1]
            else:
                ahead += parts_of(value)

    def picture(self) -> Picture:
        """What there is so far."""
        number = {call.run.run_id: at for at, call in enumerate(self._calls)}
        nodes = [
            Node(
                call.run.definition.name,
                inside=number.get(call.run.parent.run_id) if call.run.parent else None,
                is_flow=isinstance(call.run, FlowRun),
            )
            for call in self._calls
        ]
        edges = {
            (number[source], at)
            for at, call in enumerate(self._calls)
            for source in _upstream_ids(call)
            if source in number
        }
        return Picture(self._flow_run.definition.name, nodes, sorted(_innermost(nodes, edges)))


def _innermost(nodes: Sequence[Node], edges: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The edges, but for those to a subflow that go on to a task in it."""
    goes_on = {(source, nodes[target].inside) for source, target in edges}
    return (edge for edge in edges if edge not in goes_on)


def _mark(run: Run) -> None:
    run.phase = SKETCHED
    run.history, run.recorded = _COMPLETED, 1


def _upstream_ids(call: _Call) -> set[bytes]:
    """Of those that are futures or states, too, which the call is given after it is made."""
    return {run.run_id for run in call.sources} | {*call.run.upstream_run_ids()}


def sketch_steps(run: Run) -> Steps:
    """The life of a sketched run: a flow calls its function, a task nothing."""
    if not isinstance(run, FlowRun):
        return
    if run.flow_run is not None:
        yield WaitFor(run.upstream_runs)
        run.resolve_arguments()
        with suppress(ParameterError, VisualizationError):  # a placeholder fits no annotation
            run.validate()
    outcome = yield Invoke()
    yield Join() if type(outcome) is Value else CANCEL_MEMBERS
    _end(run, outcome)


def _end(run: FlowRun, outcome: Outcome) -> None:
    if type(outcome) is Value:
        run.value = outcome.value
        return
    run.history = _FAILED
    if type(outcome) is Error:
        run.error = outcome.exception
    elif type(outcome) is DeadlinePassed:
        run.error = RunTimedOut(
            f"The code of {run.definition.name!r} took longer than its timeout."
        )
    elif type(outcome) is Interrupted:
        run.error = outcome.exception or RunCancelled("The sketch was cancelled.")
    else:
        assert_never(outcome)
