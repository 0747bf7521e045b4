"""What the engine and a worker process tell each other: each message is one piece of bytes.

The engine sends jobs, and `STOP`. What many jobs have in common is their setting, which is sent
only where it is another one than that of the worker's job before. The worker sends `READY` once;
then for each job any number of log records, `BEGUN` where the setting asks for it, and one answer.
The first byte of a message says what it is.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from penstock._model.definition import Definition
from penstock._model.settings import Settings
from penstock._model.tracebacks import RemoteTraceback, format_error
from penstock._remote.functions import Name, split, transferable
from penstock._rules.effects import Error, Interrupted, Outcome, Value
from penstock._rules.flow_run import FlowRun
from penstock._rules.task_run import TaskRun
from penstock.exceptions import NotTransferable
from penstock.states import Transition

STOP: Final = b""
SETTING: Final = b"S"
JOB: Final = b"J"
READY: Final = b"R"
BEGUN: Final = b"B"
LOGGED: Final = b"L"
_VALUE: Final = b"V"
_ERROR: Final = b"E"
_INTERRUPTED: Final = b"I"
_REFUSED: Final = b"N"
_PROTOCOL: Final = pickle.HIGHEST_PROTOCOL


class Terms(msgspec.Struct, frozen=True):
    """What a worker is told when it starts.

    Attributes:
        settings: those of the engine.
        folder: the working directory.
        memory_limit_bytes: how much it may hold; None: as much as it likes.
        levels: of the loggers that have one; under "" that of the root.
    """

    settings: Settings
    folder: str
    memory_limit_bytes: int | None
    levels: Mapping[str, int]


class FlowFacts(msgspec.Struct, frozen=True):
    """What the code of a task can know of the flow run around it."""

    run_id: bytes
    name: str
    definition: Definition
    history: tuple[Transition, ...]
    outer: FlowFacts | None


class Setting(msgspec.Struct, frozen=True):
    """What the runs of a task in one flow run have in common."""

    function: Name | Callable[..., Any]
    definition: Definition
    logs_prints: bool
    says_when_it_begins: bool
    flow: FlowFacts | None


class Job(msgspec.Struct, frozen=True):
    """A call of the function, and what its code can know of the run."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    run_id: bytes
    name: str
    history: tuple[Transition, ...]


class Likeness(NamedTuple):
    """Runs whose likenesses are equal have the same setting."""

    function: Callable[..., Any]
    definition: int
    logs_prints: bool
    says_when_it_begins: bool
    flow_run: bytes | None
    flow_states: int


def likeness_of(run: TaskRun) -> Likeness:
    """What says whether the run's setting is that of another run."""
    flow_run = run.flow_run
    return Likeness(
        split(run.options.fn)[0],
        run.definition.id,
        run.logs_prints,
        run.options.timeout_seconds is not None,
        None if flow_run is None else flow_run.run_id,
        0 if flow_run is None else len(flow_run.history),
    )


def encode_setting(run: TaskRun) -> bytes:
    """The setting of the run's job.

    Raises:
        NotTransferable: naming the task, whose function cannot be sent.
    """
    owner = _owner(run)
    setting = Setting(
        transferable(split(run.options.fn)[0], owner),
        run.definition,
        run.logs_prints,
        run.options.timeout_seconds is not None,
        _facts_of(run.flow_run),
    )
    return SETTING + _pickled(setting, f"{owner}: its function")


def encode_job(run: TaskRun) -> bytes:
    """The job that a run is for a worker that knows its setting.

    Raises:
        NotTransferable: naming the task, and the argument that cannot be sent.
    """
    args = (*split(run.options.fn)[1], *run.args)
    job = Job(args, run.kwargs, run.run_id, run.name, run.history)
    try:
        return JOB + pickle.dumps(job, _PROTOCOL)
    except Exception:
        for name, value in run.parameters.items():
            _pickled(value, f"{_owner(run)}: the argument {name!r}")
        return JOB + _pickled(job, f"{_owner(run)}: the instance whose method it is")


def _owner(run: TaskRun) -> str:
    return f"Task {run.definition.name!r}"


def _pickled(value: object, what: str) -> bytes:
    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception as error:
        raise NotTransferable(
            f"{what} cannot be sent to a worker process, as it cannot be pickled "
            f"({type(error).__name__}: {error})."
        ) from error


def _facts_of(run: FlowRun | None) -> FlowFacts | None:
    if run is None:
        return None
    return FlowFacts(run.run_id, run.name, run.definition, run.history, _facts_of(run.flow_run))


def encode_outcome(outcome: Outcome) -> memoryview | bytes:
    """The answer to a job, whatever came of it."""
    if type(outcome) is Value:
        buffer = io.BytesIO(_VALUE)
        buffer.seek(0, io.SEEK_END)
        try:
            pickle.Pickler(buffer, _PROTOCOL).dump(outcome.value)
        except Exception as error:
            what = f"a result of the type {type(outcome.value).__name__}"
            return _refusal(f"{what} cannot be sent back, as it cannot be pickled", error)
        return buffer.getbuffer()
    assert isinstance(outcome, Error | Interrupted), "user code ends in one of three ways"
    assert outcome.exception is not None, "it is one that the code has raised"
    return _encode_error(outcome.exception)


def _encode_error(error: BaseException) -> bytes:
    text = format_error(error)
    kind = _ERROR if isinstance(error, Exception) else _INTERRUPTED
    try:
        pickled = pickle.dumps(error, _PROTOCOL)
        pickle.loads(pickled)  # some exceptions fail there
    except Exception as trouble:
        what = f"what it raised, {error!r}, cannot be sent back, as it cannot be pickled"
        return _refusal(what, trouble, text)
    return kind + pickle.dumps((pickled, text), _PROTOCOL)


def _refusal(what: str, error: Exception, text: str | None = None) -> bytes:
    reason = f"{what} ({type(error).__name__}: {error})"
    return _REFUSED + pickle.dumps((reason, text or format_error(error)), _PROTOCOL)


def encode_refusal(error: Exception) -> bytes:
    """The answer to a job that could not be read."""
    what = "its function or arguments could not be loaded in a worker process"
    return _refusal(what, error)


def decode_outcome(message: bytes, run: TaskRun) -> Outcome:
    """What came of a job."""
    kind, content = message[:1], memoryview(message)[1:]
    try:
        if kind == _VALUE:
            return Value(pickle.loads(content))
        payload, text = pickle.loads(content)
        if kind == _REFUSED:
            error = NotTransferable(f"Task run {run.name!r}: {payload}.")
        else:
            error = pickle.loads(payload)
    except Exception as trouble:
        error = NotTransferable(
            f"Task run {run.name!r}: what came back from the worker process could not be loaded "
            f"({type(trouble).__name__}: {trouble})."
        )
        text = format_error(trouble)
    error.__cause__ = RemoteTraceback(text)
    return outcome_of(error)


def outcome_of(error: BaseException) -> Outcome:
    """The outcome of code that has raised this, elsewhere."""
    try:
        raise error from error.__cause__  # noqa: TRY301  # this gives it a traceback
    except Exception as raised:
        return Error(raised)
    except BaseException as raised:
        return Interrupted(raised)
