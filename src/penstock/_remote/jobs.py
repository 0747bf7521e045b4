"""A job is data: a call of the user's function, and what its code can know of its run.

It knows no live run, no engine and no pipe. Jobs of one task in one flow run share one `JobContext`
object, so an executor can send that ahead, or once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from penstock._model.definition import Definition
from penstock._remote.functions import Name
from penstock.exceptions import NotTransferable
from penstock.states import Transition

PROTOCOL: Final = pickle.HIGHEST_PROTOCOL


class FlowFacts(msgspec.Struct, frozen=True):
    """What the code of a task can know of the flow run around it.

    Attributes:
        run_id: of the flow run.
        name: of the flow run.
        definition: of the flow, with the tags of the run.
        history: the states that it has entered so far.
        outer: the flow run around it; None: there is none.
    """

    run_id: bytes
    name: str
    definition: Definition
    history: tuple[Transition, ...]
    outer: FlowFacts | None


class JobContext(msgspec.Struct, frozen=True, eq=False):
    """What the runs of a task in one flow run have in common.

    Attributes:
        function: where it is found, or a callable object itself.
        definition: of the task, with the tags of the runs.
        logs_prints: whether the code wants its prints logged.
        timeout_seconds: how long the call may take; None: as long as it takes.
        flow: the flow run around it; None: there is none.
    """

    function: Name | Callable[..., Any]
    definition: Definition
    logs_prints: bool
    timeout_seconds: float | None
    flow: FlowFacts | None

    @property
    def owner(self) -> str:
        """The task, as messages name it."""
        return f"Task {self.definition.name!r}"


class Job(msgspec.Struct, frozen=True, eq=False):
    """A call of a function, elsewhere.

    Attributes:
        context: what it has in common with other jobs; often the same object.
        args: for the function; the instance comes first where it is a method.
        kwargs: for the function.
        run_id: of the task run.
        name: of the task run.
        history: the states that the task run has entered so far.
    """

    context: JobContext
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    run_id: bytes
    name: str
    history: tuple[Transition, ...]


def pickled(value: object, what: str) -> bytes:
    """The value as bytes.

    Raises:
        NotTransferable: it cannot be pickled; the message begins with `what`.
    """
    try:
        return pickle.dumps(value, PROTOCOL)
    except Exception as error:
        raise NotTransferable(
            f"{what} cannot be sent to a worker process, as it cannot be pickled "
            f"({type(error).__name__}: {error})."
        ) from error
