"""What the pool and a worker process tell each other: each message is a header and a payload.

The pool sends `JOB`s, a `CONTEXT` before the first job of it that a worker gets, and at last `END`.
The worker sends `READY` once. It does its jobs in their order, and answers each: `RETURNED`,
`RAISED`, `EXHAUSTED` or `REFUSED`; so it is always with the first one that it has not answered. For
a job with a time limit it says `CALLED` when the function is called. Log records come at any time.
Asked over a second socket, it says which jobs it gives back (`GIVEN_BACK`): those that it was sent
ahead, and has not taken.
"""

from __future__ import annotations

import pickle
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from penstock._model.codecs import decode_history, encode_history
from penstock._model.tracebacks import format_error
from penstock._remote.jobs import PROTOCOL, Job, JobContext, pickled
from penstock._remote.outcomes import JobOutcome, Raised, Returned, Untransferable
from penstock.states import Transition

CONTEXT: Final = b"C"
JOB: Final = b"J"
END: Final = b"E"
READY: Final = b"R"
CALLED: Final = b"F"
RETURNED: Final = b"V"
RAISED: Final = b"X"
EXHAUSTED: Final = b"M"
"""Like `RAISED`, by a lack of memory: the worker takes no more jobs."""
REFUSED: Final = b"N"
LOGGED: Final = b"L"
GIVEN_BACK: Final = b"G"
ANSWERS: Final = frozenset({RETURNED, RAISED, EXHAUSTED, REFUSED})

GIVE_BACK: Final = b"G"
"""What the second socket carries to the worker."""

CONTEXTS_KEPT: Final = 16
"""How many contexts a worker knows; with another one, both sides forget the oldest."""

_HEADER: Final = struct.Struct("<cQdQ")
_NUMBER: Final = struct.Struct("<Q")
_JOINED_BYTES: Final = 1 << 16
"""Parts up to this length are copied into one; longer ones are sent as they are."""

Bytes: TypeAlias = bytes | memoryview


class StartUp(msgspec.Struct, frozen=True):
    """What a worker is told when it starts.

    Attributes:
        environment: the settings of its engine, as environment variables.
        folder: the working directory.
        memory_limit_bytes: how much it may hold; None: as much as it likes.
        levels: of the loggers that have one; under "" that of the root.
    """

    environment: Mapping[str, str]
    folder: str
    memory_limit_bytes: int | None
    levels: Mapping[str, int]


# Messages on a stream


class Message(NamedTuple):
    """One message.

    Attributes:
        kind: one of the constants above.
        number: of the job or the context.
        seconds: how long a job took, in its answer.
        payload: the rest.
    """

    kind: bytes
    number: int
    seconds: float
    payload: Bytes


def framed(kind: bytes, number: int = 0, payload: Bytes = b"", seconds: float = 0.0) -> list[Bytes]:
    """The message in parts that can be sent one after another."""
    header = _HEADER.pack(kind, number, seconds, len(payload))
    if len(payload) > _JOINED_BYTES:
        return [header, payload]
    return [b"".join((header, payload))]


def joined(parts: Sequence[Bytes]) -> deque[memoryview]:
    """The parts as few pieces, without copying long ones."""
    if sum(map(len, parts)) <= _JOINED_BYTES:
        return deque([memoryview(b"".join(parts))])
    return deque([memoryview(part) for part in parts])


class MessageReader:
    """Makes messages of the bytes of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = _HEADER.size

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with these bytes."""
        self._buffer += data
        if len(self._buffer) < self._needed:
            return []
        view, self._buffer = memoryview(self._buffer), bytearray()  # the messages keep the old one
        messages: list[Message] = []
        position, end = 0, len(view)
        while end - position >= _HEADER.size:
            kind, number, seconds, length = _HEADER.unpack_from(view, position)
            begin = position + _HEADER.size
            if end - begin < length:
                break
            position = begin + length
            messages.append(Message(kind, number, seconds, view[begin:position]))
        self._buffer += view[position:]
        self._needed = self._length_of_next()
        return messages

    def _length_of_next(self) -> int:
        if len(self._buffer) < _HEADER.size:
            return _HEADER.size
        length: int = _HEADER.unpack_from(self._buffer)[3]
        return _HEADER.size + length


# Jobs


def encode_context(context: JobContext) -> bytes:
    """The context for a `CONTEXT`.

    Raises:
        NotTransferable: naming the task, whose function cannot be sent.
    """
    return pickled(context, f"{context.owner}: its function")


def decode_context(payload: Bytes) -> JobContext:
    """The inverse of `encode_context`; loads what the user has pickled."""
    context: JobContext = pickle.loads(payload)
    return context


class Call(NamedTuple):
    """A job as a worker has it."""

    run_id: bytes
    name: str
    history: tuple[Transition, ...]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def encode_job(job: Job, context_number: int) -> bytes:
    """The job for a `JOB`.

    Raises:
        NotTransferable: its arguments cannot be pickled.
    """
    call = (job.run_id, job.name, encode_history(job.history), job.args, job.kwargs)
    what = f"{job.context.owner}: its arguments"
    return _NUMBER.pack(context_number) + pickled(call, what)


def context_number_of(payload: Bytes) -> int:
    """The number of the context of the job in a `JOB`."""
    number: int = _NUMBER.unpack_from(payload)[0]
    return number


def decode_job(payload: Bytes) -> Call:
    """The inverse of `encode_job`; loads what the user has pickled."""
    run_id, name, history, args, kwargs = pickle.loads(memoryview(payload)[_NUMBER.size :])
    return Call(run_id, name, tuple(decode_history(history)), args, kwargs)


def encode_numbers(numbers: Sequence[int]) -> bytes:
    """The numbers of jobs for a `GIVEN_BACK`."""
    return b"".join(map(_NUMBER.pack, numbers))


def decode_numbers(payload: Bytes) -> list[int]:
    """The inverse of `encode_numbers`."""
    return [number for (number,) in _NUMBER.iter_unpack(payload)]


# Answers


class Answer(NamedTuple):
    """What a worker answers to a job."""

    kind: bytes
    payload: Bytes


def answer_of_value(value: object) -> Answer:
    """The answer where the function has returned."""
    try:
        return Answer(RETURNED, pickle.dumps(value, PROTOCOL))
    except Exception as error:
        what = f"a result of the type {type(value).__name__}"
        return _refusal(f"{what} cannot be sent back, as it cannot be pickled", error)


def answer_of_error(error: BaseException) -> Answer:
    """The answer where the function has raised."""
    text = format_error(error)
    try:
        content = pickle.dumps(error, PROTOCOL)
        pickle.loads(content)  # some exceptions fail there
    except Exception as trouble:
        what = f"what it raised, {error!r}, cannot be sent back, as it cannot be pickled"
        return _refusal(what, trouble, text)
    kind = EXHAUSTED if isinstance(error, MemoryError) else RAISED
    return Answer(kind, pickle.dumps((content, text), PROTOCOL))


def answer_of_unreadable(error: Exception) -> Answer:
    """The answer where the job could not be read."""
    return _refusal("its function or arguments could not be loaded in a worker process", error)


def _refusal(what: str, error: Exception, text: str | None = None) -> Answer:
    reason = f"{what} ({type(error).__name__}: {error})"
    return Answer(REFUSED, pickle.dumps((reason, text or format_error(error)), PROTOCOL))


def outcome_of(answer: Message) -> JobOutcome:
    """What an answer says; nothing of the user's is loaded here."""
    if answer.kind == RETURNED:
        return Returned(partial(pickle.loads, answer.payload))
    content, text = pickle.loads(answer.payload)
    if answer.kind == REFUSED:
        return Untransferable(content, text)
    load: Callable[[], BaseException] = partial(pickle.loads, content)
    return Raised(load, text)
