"""The mypy plugin: an argument of type `T` may also be a future or a state of `T`, at any depth.

Switch it on with `plugins = ["penstock.mypy"]`. Each verb of a flow or a task gets the parameters
of its function with wider types; mypy does the rest, and reports errors as in any other call.
Without the plugin, `submit` and `map` take any arguments, and direct calls those of the function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from mypy.nodes import MypyFile
from mypy.plugin import FunctionContext, MethodContext, MethodSigContext
from mypy.plugin import Plugin as BasePlugin
from mypy.types import FunctionLike, Type

from penstock import __version__
from penstock.mypy._decorators import decorated
from penstock.mypy._library import CONTAINERS, DECORATORS, DEFINED_IN, MAPPING, VERBS_OF, Library
from penstock.mypy._verbs import checked_by_rules_of_map, rewritten

# Mypy reads `__version__`, too: where it differs, nothing of an earlier check is taken over.
__all__ = ["Plugin", "__version__", "plugin"]

_SignatureHook: TypeAlias = Callable[[MethodSigContext], FunctionLike]
_MethodHook: TypeAlias = Callable[[MethodContext], Type]
_FunctionHook: TypeAlias = Callable[[FunctionContext], Type]


def plugin(version: str) -> type[BasePlugin]:  # noqa: ARG001  # what mypy calls
    """The class of the plugin, which mypy asks for.

    Args:
        version: of mypy.
    """
    return Plugin


class Plugin(BasePlugin):
    """Tells mypy which calls it handles, and how."""

    def get_additional_deps(self, file: MypyFile) -> list[tuple[int, str, int]]:
        """Have mypy read the protocols of containers, which no code imports."""
        return [(10, CONTAINERS, -1)] if file.fullname in DEFINED_IN else []

    def get_method_signature_hook(self, fullname: str) -> _SignatureHook | None:
        """For verbs: derive the parameters from those of the function."""
        owner, _, verb = fullname.rpartition(".")
        if verb not in VERBS_OF.get(owner, ()):
            return None
        return partial(rewritten, Library(self), verb)

    def get_method_hook(self, fullname: str) -> _MethodHook | None:
        """For `map`: check what types of parameters cannot express; for decorators with options."""
        owner, _, name = fullname.rpartition(".")
        if owner in DECORATORS:
            return partial(decorated, Library(self), owner)
        if owner in VERBS_OF and name in MAPPING:
            return partial(checked_by_rules_of_map, Library(self), name)
        return None

    def get_function_hook(self, fullname: str) -> _FunctionHook | None:
        """For decorators: correct the type that they make of some functions."""
        return partial(decorated, Library(self), fullname) if fullname in DECORATORS else None
