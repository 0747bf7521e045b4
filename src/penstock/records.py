"""What is kept of a run: the rows that stores write and the histories that they give back.

A live run hands the store a `Source`; the store asks it for a row when it writes, so that the
thread of the run pays for nothing but the hand-over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeAlias, cast
from uuid import UUID

import msgspec

from penstock.states import State, StateDetails, StateType, StoredValue, Transition


class RunKind(StrEnum):
    """The two kinds of run."""

    FLOW = "flow"
    TASK = "task"


class Definition(msgspec.Struct, frozen=True):
    """A flow or a task as its runs refer to it.

    Attributes:
        id: 63 bits of a hash over all that follows.
        kind: flow or task.
        name: as given to the decorator.
        key: module and qualified name of the function.
        version: as given, or the hash of the defining file.
        description: as given, or the docstring.
        tags: as given to the decorator and by `penstock.tags`, sorted.
    """

    id: int
    kind: RunKind
    name: str
    key: str
    version: str | None
    description: str | None
    tags: tuple[str, ...]


def make_definition(
    kind: RunKind,
    name: str,
    key: str,
    version: str | None,
    description: str | None,
    tags: Sequence[str],
) -> Definition:
    """A definition with the id that follows from all the rest."""
    text = repr((kind.value, name, key, version, description, tuple(tags)))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    id_ = int.from_bytes(digest[:8], "big") >> 1
    return Definition(id_, kind, name, key, version, description, tuple(tags))


@lru_cache(maxsize=1024)
def with_tags(definition: Definition, tags: frozenset[str]) -> Definition:
    """The definition of runs that have these tags besides its own."""
    return make_definition(
        definition.kind,
        definition.name,
        definition.key,
        definition.version,
        definition.description,
        sorted(tags.union(definition.tags)),
    )


class FlowRow(NamedTuple):
    """A row of `flow_run`, in the order of its columns."""

    id: bytes
    flow_id: int
    parent_id: bytes | None
    name: str
    state_type: str
    state_name: str
    run_count: int
    parameters: bytes | None
    history: bytes
    result: bytes | None


class TaskRow(NamedTuple):
    """A row of `task_run`, in the order of its columns.

    What most runs do not have is empty, as binding a None takes sqlite3 several times as long.
    """

    id: bytes
    task_id: int
    flow_run_id: bytes | None
    parent_id: bytes | None
    number: int
    ordinal: int
    state_type: str
    state_name: str
    run_count: int
    upstreams: bytes | None
    history: bytes
    result: bytes | None
    name: str = ""  # empty: it follows from the number


Row: TypeAlias = FlowRow | TaskRow


class CacheRow(NamedTuple):
    """A row of `cache`: the run whose result the key stands for.

    `task` is a number for the task, and `parts` says what the key is made of, where that is known;
    see `cache_explanations`.
    """

    key: str
    run_id: bytes
    created_at: float
    expires_at: float | None
    task: int | None = None
    parts: bytes | None = None


class Source(Protocol):
    """A live run, as a store sees it."""

    run_id: bytes
    payload: bytes | None
    cache_row: CacheRow | None

    @property
    def definition(self) -> Definition:
        """The flow or task."""
        ...

    def row(self, length: int, payload: bytes | None) -> Row:
        """The run as it was after its first `length` states, its result being `payload`."""
        ...

    def is_final(self, length: int) -> bool:
        """Whether the last of the first `length` states ended the run."""
        ...

    def settle(self) -> None:
        """The run has ended and is stored: let go of what only the store needed."""


class CacheHit(NamedTuple):
    """A result found under a cache key."""

    run_id: bytes
    value: object
    expires_at: float | None


def encode_history(history: Sequence[Transition]) -> bytes:
    """The transitions as the database keeps them."""
    try:
        return _encode(history)
    except UnicodeEncodeError:
        return _encode(_storable(history))


def storable_text(text: str) -> str:
    """The text in valid Unicode: lone surrogates, as in odd file names, are written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _storable(value: Any) -> Any:
    """Plain data with all its texts storable."""
    plain: Any = msgspec.to_builtins(value, builtin_types=(bytes, datetime, UUID))
    if isinstance(plain, str):
        return storable_text(plain)
    if isinstance(plain, dict):
        return {key: _storable(item) for key, item in cast("dict[str, Any]", plain).items()}
    if isinstance(plain, list | tuple):
        return [_storable(item) for item in cast("Sequence[Any]", plain)]
    return plain


class _StoredTransition(msgspec.Struct, array_like=True):
    """A transition as a database may hold it: the first ones wrote the time as a timestamp."""

    type: StateType
    name: str
    message: str | None
    timestamp: float | datetime
    details: StateDetails


def decode_history(history: bytes) -> list[Transition]:
    """The inverse of `encode_history`."""
    return [
        Transition(t.type, t.name, t.message, _seconds(t.timestamp), t.details)
        for t in _decode(history)
    ]


def _seconds(moment: float | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_StoredTransition]).decode


def encode_parameters(parameters: dict[str, object]) -> bytes:
    """Parameters for people to read: what msgpack cannot say is written as its `repr`."""
    encoded = {name: _readable(value) for name, value in parameters.items()}
    return _encode(encoded)


def decode_parameters(parameters: bytes | None) -> dict[str, object]:
    """The inverse of `encode_parameters`, as near as it goes."""
    return _decode_parameters(parameters) if parameters else {}


_PARAMETER_LIMIT = 16 * 1024
_decode_any = msgspec.msgpack.Decoder().decode
_decode_parameters = msgspec.msgpack.Decoder(dict[str, object]).decode


def _readable(value: object) -> msgspec.Raw:
    try:
        raw = msgspec.msgpack.encode(value, enc_hook=_shortened)
    except Exception:
        raw = msgspec.msgpack.encode(_shortened(value))
    if len(raw) > _PARAMETER_LIMIT or not _can_be_read(raw):
        raw = msgspec.msgpack.encode(_shortened(value))
    return msgspec.Raw(raw)


def _can_be_read(raw: bytes) -> bool:
    """False where the key of a dict is written as a map, such as that of a dataclass."""
    try:
        _decode_any(raw)
    except (msgspec.DecodeError, TypeError):  # the latter up to msgspec 0.19
        return False
    return True


def _shortened(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
    clean = storable_text(text)
    return clean if len(clean) <= 1000 else f"{clean[:1000]}… ({len(clean)} characters)"


class FlowRunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A flow run as the history gives it back.

    Attributes:
        id: the run.
        name: such as `attentive-turaco`.
        flow: the flow's name.
        version: the flow's version at that time.
        parent_run_id: the run that called it as a subflow; None: nobody.
        parameters: its arguments; what msgpack cannot say, as its `repr`.
        tags: of the flow, and of `penstock.tags` around the call.
        run_count: attempts that it started.
        created_at: when it was submitted (UTC, to the millisecond).
        state: the last state; `state.result()` reads the stored value.
        states: all its states, in order.
    """

    id: UUID
    name: str
    flow: str
    version: str | None
    parent_run_id: UUID | None
    parameters: dict[str, object]
    tags: frozenset[str]
    run_count: int
    created_at: datetime
    states: tuple[State[object], ...]

    @property
    def state(self) -> State[object]:
        """The last state."""
        return self.states[-1]


class TaskRunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A task run as the history gives it back.

    Attributes:
        id: the run.
        name: such as `hello_task-e97fb216-0`.
        task: the task's name.
        flow_run_id: the flow run that it belongs to; None: it was run on its own.
        parent_run_id: the run, of a flow or a task, whose code called it.
        tags: of the task, and of `penstock.tags` around the call.
        run_count: attempts that it started; 0: served from the cache, or never ready.
        upstream_ids: the runs whose futures were its arguments.
        created_at: when it was submitted (UTC, to the millisecond).
        states: all its states, in order.
    """

    id: UUID
    name: str
    task: str
    version: str | None
    flow_run_id: UUID | None
    parent_run_id: UUID | None
    tags: frozenset[str]
    run_count: int
    upstream_ids: tuple[UUID, ...]
    created_at: datetime
    states: tuple[State[object], ...]

    @property
    def state(self) -> State[object]:
        """The last state."""
        return self.states[-1]


def state_of(
    transition: Transition,
    task_run: bytes | None,
    flow_run: bytes | None,
    *,
    value: object = msgspec.UNSET,
    error: BaseException | None = None,
    child_states: tuple[State[object], ...] = (),
    stored: StoredValue | None = None,
) -> State[Any]:
    """The state that a run has entered, for people."""
    return State(
        transition.type,
        transition.name,
        transition.message,
        datetime.fromtimestamp(transition.timestamp, UTC),
        transition.details,
        child_states,
        value,
        error,
        stored,
        task_run,
        flow_run,
    )


def states_of(
    history: bytes, stored: StoredValue | None, task_run: bytes | None, flow_run: bytes | None
) -> tuple[State[object], ...]:
    """The states in a stored history; the last one gives the stored value."""
    *before, last = decode_history(history)
    return (
        *(state_of(transition, task_run, flow_run) for transition in before),
        state_of(last, task_run, flow_run, stored=stored),
    )
