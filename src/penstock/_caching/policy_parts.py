"""The parts that a cache policy is a sum of: each says what enters the key of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec
from typing_extensions import override

from penstock._caching.canonical import canonical_form
from penstock._caching.keys import (
    CacheKeyFunction,
    KeyedRun,
    forms_of_parameters,
    inputs_of,
    task_input_forms,
    task_input_hash,
)

if TYPE_CHECKING:
    from penstock._caching.reached_code.reached import ReachedCode


class Uncached(Exception):
    """A key function wants this run uncached."""


Parameters: TypeAlias = "dict[str, Any]"
Forms: TypeAlias = "Sequence[bytes]"


class Part(msgspec.Struct, frozen=True):
    """What a result may depend on; equal parts count once.

    Attributes:
        tag: which kind of part it is, the same in every process.
    """

    tag: ClassVar[str]

    def forms(self, run: KeyedRun, parameters: Parameters, /) -> Forms | None:
        """What enters the key; None: this run has no such thing.

        Raises:
            Uncached: the run is not cached at all.
        """
        raise NotImplementedError

    def named(
        self, run: KeyedRun, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        """The same by name, for people."""
        raise NotImplementedError


class Inputs(Part, frozen=True):
    """The arguments of the task, but for those left out."""

    tag: ClassVar[str] = "INPUTS"
    left_out: frozenset[str] = frozenset()

    @override
    def forms(self, run: KeyedRun, parameters: Parameters, /) -> Forms:
        return forms_of_parameters(self._counted(run.options.fn, parameters))

    @override
    def named(
        self, run: KeyedRun, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return _named_arguments(self._counted(run.options.fn, parameters), forms)

    def _counted(
        self, function: Callable[..., object], parameters: Mapping[str, object]
    ) -> Mapping[str, object]:
        inputs = inputs_of(function, parameters)
        if not self.left_out:
            return inputs
        hidden = self.left_out
        if name_of_self(function) in hidden:
            hidden |= {"(self)"}
        return {name: value for name, value in inputs.items() if name not in hidden}

    def __repr__(self) -> str:
        return "INPUTS" + "".join(f" - {name!r}" for name in sorted(self.left_out))


def name_of_self(function: Callable[..., object]) -> str | None:
    """The name of a bound method's first parameter; None: it is not a bound method."""
    code = getattr(getattr(function, "__func__", None), "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else None


def _named_arguments(inputs: Iterable[str], forms: Forms) -> Iterable[tuple[str, bytes]]:
    """The forms of arguments by name; in `forms`, each follows the form of its name."""
    names = (_NAMES.get(name, f"argument {name}") for name in sorted(inputs))
    return zip(names, forms[1::2], strict=True)


_NAMES: Mapping[str, str] = {"(self)": "argument self", "(enclosed)": "enclosed values"}


def _reached_code(function: Callable[..., object]) -> ReachedCode:
    # Imported where it is used, as this takes a twentieth of the whole import.
    from penstock._caching.reached_code.reached import reached_code

    return reached_code(function)


class TaskSource(Part, frozen=True):
    """The code of the task's function, and all that it reaches."""

    tag: ClassVar[str] = "TASK_SOURCE"

    @override
    def forms(self, run: KeyedRun, _parameters: Parameters, /) -> Forms:
        return (_reached_code(run.options.fn).digest,)

    @override
    def named(
        self, run: KeyedRun, _parameters: Parameters, _forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return _reached_code(run.options.fn).parts.items()

    def __repr__(self) -> str:
        return self.tag


class FlowParameters(Part, frozen=True):
    """The arguments of the flow run that the task run belongs to."""

    tag: ClassVar[str] = "FLOW_PARAMETERS"

    @override
    def forms(self, run: KeyedRun, _parameters: Parameters, /) -> Forms | None:
        flow_run = run.flow_run
        return None if flow_run is None else forms_of_parameters(flow_run.parameters)

    @override
    def named(
        self, run: KeyedRun, _parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        flow_run = run.flow_run
        names = () if flow_run is None else sorted(flow_run.parameters)
        return zip((f"flow parameter {name}" for name in names), forms[1::2], strict=True)

    def __repr__(self) -> str:
        return self.tag


class RunId(Part, frozen=True):
    """The flow run that the task run belongs to; outside of flows, the task run."""

    tag: ClassVar[str] = "RUN_ID"

    @override
    def forms(self, run: KeyedRun, _parameters: Parameters, /) -> Forms:
        return (run.run_id if run.flow_run is None else run.flow_run.run_id,)

    @override
    def named(
        self, run: KeyedRun, _parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        return [("task run" if run.flow_run is None else "flow run", forms[0])]

    def __repr__(self) -> str:
        return self.tag


class KeyFunction(Part, frozen=True):
    """What a function of the user's returns for a run."""

    tag: ClassVar[str] = "CacheKeyFnPolicy"
    function: CacheKeyFunction

    @override
    def forms(self, run: KeyedRun, parameters: Parameters, /) -> Forms:
        if self.function is task_input_hash:
            return task_input_forms(run.options.fn, run.options.task_key, parameters)
        key = self.function(
            run.context(), dict(parameters)
        )  # a copy, as the function may change it
        if key is None:
            raise Uncached
        return (canonical_form(str(key)),)

    @override
    def named(
        self, run: KeyedRun, parameters: Parameters, forms: Forms, /
    ) -> Iterable[tuple[str, bytes]]:
        if self.function is not task_input_hash:
            return [(f"what {self._name} returned", forms[0])]
        task = run.options
        arguments = _named_arguments(inputs_of(task.fn, parameters), forms[1:])
        return [(f"code of {task.task_key}", forms[0]), *arguments]

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)

    def __repr__(self) -> str:
        return f"CacheKeyFnPolicy({self._name})"
