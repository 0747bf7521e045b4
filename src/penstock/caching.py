"""Cache keys: equal work has equal keys, in every process and after every restart.

`task_input_hash` hashes a canonical form: neither the order of a dict or a set nor the identity of
an object enters it, and values of different types differ (1, 1.0 and True are three keys).
"""

from __future__ import annotations

import contextlib
import copyreg
import enum
import hashlib
import inspect
import struct
import types
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, cast

import msgspec

from penstock.exceptions import UsageError

if TYPE_CHECKING:
    from penstock.cache_explanations import CacheExplanation
    from penstock.context import TaskRunContext
    from penstock.tasks import AsyncTask, Task

P = ParamSpec("P")


class CacheKeyFunction(Protocol):
    """Computes the key of a task run; None: the run is not cached.

    A key that is no string is turned into one.
    """

    def __call__(self, context: TaskRunContext, parameters: dict[str, Any], /) -> object:
        """The key of the run with these arguments, defaults included."""


class UnhashableParameter(TypeError):
    """An argument has no canonical form."""

    def __init__(self, parameter: str, reason: BaseException) -> None:
        super().__init__(f"parameter {parameter!r} cannot be hashed ({reason})")
        self.parameter = parameter


def task_input_hash(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """A key over the task's identity, the source of its function and its arguments.

    Raises:
        UnhashableParameter: an argument has no canonical form; the task then runs uncached and a
            warning names the parameter.
    """
    return hash_of_forms(task_input_forms(context, parameters))


def task_input_forms(context: TaskRunContext, parameters: dict[str, Any]) -> list[bytes]:
    """What `task_input_hash` is a hash of: the task's form, then those of names and arguments."""
    task = context.task
    function = task.fn
    forms = forms_of_parameters(inputs_of(function, parameters))
    forms.insert(0, _form_of_work(task.task_key, function))
    return forms


def hash_of_forms(forms: Iterable[bytes]) -> str:
    """A hash of forms in a row, in hex."""
    return hashlib.sha256(b"".join(forms)).hexdigest()


def explain(
    task: Task[P, Any] | AsyncTask[P, Any], /, *args: P.args, **kwargs: P.kwargs
) -> CacheExplanation:
    """Whether the cache would serve this call of the task; if not, what differs from before.

    Nothing is run but the task's key function, if it has one. Called in a flow, that is the flow
    whose arguments and whose run count. The call is compared with the entry of the task that has
    most in common with it, among its 100 newest. Reads the database in the calling thread.

    Raises:
        ParameterError: the function does not take such arguments.
        UsageError: it is no task, or a future among the arguments has not ended.
        BaseException: what such a future raised.
        StoreError: the database cannot be read.
    """
    if not hasattr(task, "_explain"):
        raise UsageError(f"explain takes a task and its arguments, not {task!r}.")
    return task._explain(args, kwargs)


def hash_inputs(function: Callable[..., object], parameters: Mapping[str, object]) -> str:
    """A hash of all that a call of `function` depends on but its code, in hex.

    The object of a method is one of its arguments, and so is an object that is itself called. Of
    what a function encloses, plain values count, as those that a factory of functions was given;
    lists and other objects do not, as functions enclose them to change them.

    Raises:
        UnhashableParameter: an argument has no canonical form.
    """
    return hash_of_forms(forms_of_parameters(inputs_of(function, parameters)))


def hash_parameters(parameters: Mapping[str, object]) -> str:
    """A hash of arguments by name, in hex.

    Raises:
        UnhashableParameter: an argument has no canonical form.
    """
    return hash_of_forms(forms_of_parameters(parameters))


def inputs_of(
    function: Callable[..., object], parameters: Mapping[str, object]
) -> Mapping[str, object]:
    """The arguments by name, and the other things that `hash_inputs` counts, in brackets."""
    if type(function) is not types.FunctionType:
        owner = getattr(function, "__self__", function)
        return {"(self)": owner, **parameters}
    if function.__closure__ is None:
        return parameters
    enclosed = _enclosed_values(function.__closure__)
    return {"(enclosed)": enclosed, **parameters} if enclosed else parameters


def _enclosed_values(closure: Iterable[types.CellType]) -> list[object]:
    values: list[object] = []
    for cell in closure:
        with contextlib.suppress(ValueError):  # the cell is still empty
            values.append(cell.cell_contents)
    return [value for value in values if type(value) in _SCALARS]


def forms_of_parameters(parameters: Mapping[str, object]) -> list[bytes]:
    """The forms of a name and its argument in turn, by name; raises `UnhashableParameter`."""
    forms: list[bytes] = []
    for name in sorted(parameters):
        try:
            forms += text_form(name), canonical_form(parameters[name])
        except Exception as error:
            raise UnhashableParameter(name, error) from error
    return forms


def canonical_form(value: object) -> bytes:
    """Bytes that are equal for equal values of one type, and no beginning of those of another.

    Scalars are written out, so that a call with a few of them is one hash; what has parts is a
    digest of their forms, so that the form of a large value is short.

    Raises:
        Exception: the value has no canonical form.
    """
    write = _SCALARS.get(type(value))
    return _Canonical().form(value) if write is None else write(value)


class _KnownFunction:
    """The forms of a function's names and source, as long as it has the same code.

    Saves asking `inspect` for each call, which took longer than all of a small key.
    """

    __slots__ = ("_code", "_form", "_key")

    def __init__(self, key: str) -> None:
        self._key = key
        self._code: types.CodeType | None = None
        self._form = b""

    def form(self, function: types.FunctionType) -> bytes:
        code = function.__code__
        if code is not self._code:
            self._form = _text(self._key) + _text(source_of(function))
            self._code = code
        return self._form


@lru_cache(maxsize=4096)
def _known_function(key: str, _function: types.FunctionType) -> _KnownFunction:
    return _KnownFunction(key)


def _form_of_work(key: str, function: Callable[..., object]) -> bytes:
    """What the task is, whatever its arguments."""
    if type(function) is types.FunctionType and "__wrapped__" not in function.__dict__:
        return _known_function(key, function).form(function)
    return _text(key) + _text(source_of(function))


def source_of(function: Callable[..., object]) -> str:
    """The source of a function; where there is none (a REPL), its compiled code as text."""
    defined = _defined_as(inspect.unwrap(function))
    return _source(getattr(defined, "__code__", defined), defined)


def _defined_as(function: Callable[..., object]) -> Callable[..., object]:
    """The function behind a method, or behind an object that is called."""
    call = getattr(type(function), "__call__", None)  # noqa: B004  # the method itself is asked for
    if inspect.isfunction(call):
        return call
    return cast("Callable[..., object]", getattr(function, "__func__", function))


@lru_cache(maxsize=4096)
def _source(code: object, function: Callable[..., object]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        if isinstance(code, types.CodeType):
            return canonical_form(code).hex()
        return f"{function.__module__}.{type(function).__qualname__}"


class _Canonical:
    """Walks one value; each node becomes a digest of its tag and of the forms of its parts."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}
        self._containers: Mapping[type, Callable[[Any], Iterable[bytes]]] = {
            list: self._in_order,
            tuple: self._in_order,
            set: self._sorted,
            frozenset: self._sorted,
            dict: self._items,
        }

    def form(self, value: object) -> bytes:
        write = _SCALARS.get(type(value))
        if write is not None:
            return write(value)
        if id(value) in self._above:
            # A cycle is named by how far up it leads.
            return _hash("cycle", (str(len(self._above) - self._above[id(value)]).encode(),))
        self._above[id(value)] = len(self._above)
        try:
            return self._compound(value)
        finally:
            del self._above[id(value)]

    def _compound(self, value: object) -> bytes:
        kind = type(value)
        writer = self._containers.get(kind)
        if writer is not None:
            return _hash(kind.__name__, writer(value))
        if isinstance(value, enum.Enum):
            label = getattr(value, "_name_", None) or value.value  # a flag of no bits has no name
            return _hash("enum", (_name_of(kind), self.form(label)))
        if isinstance(value, msgspec.Struct):
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            return _hash("struct", (_name_of(kind), *self._items(fields)))
        if isinstance(value, set | frozenset):
            return self._own_set(value)  # pyright: ignore[reportUnknownArgumentType]  # its items
        named = self._named(value)
        return self._reduced(value) if named is None else named

    def _named(self, value: object) -> bytes | None:
        """Code, and what has a name to be found by; None for anything else."""
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.BuiltinFunctionType):
            return self._built_in(value)
        if isinstance(value, type):
            return _hash("named", (_name_of(value),))
        if isinstance(value, types.ModuleType):
            return _hash("module", (value.__name__.encode(),))
        return None

    def _in_order(self, values: Iterable[object]) -> Iterable[bytes]:
        return map(self.form, values)

    def _sorted(self, values: Iterable[object]) -> Iterable[bytes]:
        return sorted(map(self.form, values))

    def _items(self, mapping: Mapping[Any, object]) -> Iterable[bytes]:
        return sorted(self.form(key) + self.form(value) for key, value in mapping.items())

    def _function(self, value: types.FunctionType) -> bytes:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
        return _hash("function", (_name_of(value), *map(self.form, parts)))

    def _built_in(self, value: types.BuiltinFunctionType) -> bytes:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return _hash("named", (_name_of(value),))
        return _hash("method", (_name_of(value), self.form(owner)))

    def _code(self, code: types.CodeType) -> bytes:
        parts = (
            code.co_code,
            code.co_exceptiontable,
            code.co_consts,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS),
        )
        return _hash("code", map(self.form, parts))

    def _own_set(self, value: set[Any] | frozenset[Any]) -> bytes:
        """A set of a class of its own, which pickle would list in whatever order it lies."""
        state = self.form(value.__getstate__())
        return _hash("own set", (_name_of(type(value)), state, *self._sorted(value)))

    def _reduced(self, value: object) -> bytes:
        """Any other object, by what pickle would keep of it."""
        reducer = copyreg.dispatch_table.get(type(value))
        reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
        if isinstance(reduced, str):
            return _hash("global", (reduced.encode(),))
        maker, arguments, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        parts = [
            self.form(maker),
            self.form(arguments),
            self.form(state),
            self.form(list(items) if items is not None else None),
            self.form(dict(pairs) if pairs is not None else None),
        ]
        return _hash("object", (_name_of(type(value)), *parts))


def _hash(tag: str, parts: Iterable[bytes]) -> bytes:
    """The form of what has parts; always of one length."""
    digest = hashlib.blake2b(tag.encode(), digest_size=32)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return b"#" + digest.digest()


def _name_of(value: object) -> bytes:
    module = getattr(value, "__module__", "")
    return f"{module}.{getattr(value, '__qualname__', '')}".encode()


# Forms of scalars: a letter for the type, then what has a fixed length, an end, or its length first

_LONG: Final = 256
"""Longer texts and bytes are hashed, so that no container holds a copy of all that is in it."""
_pack_float = struct.Struct("<d").pack


def _text(value: str) -> bytes:
    return _sized(b"s", value.encode("utf-8", "surrogatepass"))


text_form: Callable[[str], bytes] = lru_cache(maxsize=4096)(_text)
"""The form of a name that returns; saves as much as the form of a small argument takes."""


def _sized(letter: bytes, content: bytes) -> bytes:
    if len(content) > _LONG:
        return _hash(letter.decode(), (content,))
    return b"%b%d:%b" % (letter, len(content), content)


_SCALARS: Mapping[type, Callable[[Any], bytes]] = {
    type(None): lambda _value: b"n",
    type(...): lambda _value: b"e",
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: b"i%d;" % value,
    float: lambda value: b"d" + _pack_float(value),
    complex: lambda value: b"c" + _pack_float(value.real) + _pack_float(value.imag),
    str: _text,
    bytes: lambda value: _sized(b"b", value),
    bytearray: lambda value: _sized(b"a", bytes(value)),
}
