"""The source of a function, without what does not change what it does."""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import TypeAlias

from penstock._caching.canonical import canonical_form
from penstock._caching.reached_code.bytecode import with_nested


def form_of_code(function: types.FunctionType) -> bytes:
    """The source of a function without comments and layout, where that is what runs.

    Where there is no source, or the file has changed since it was imported, the compiled code
    stands for it; that is the same in all processes of one minor version of Python.
    """
    code = function.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    node = _functions_in(text, code.co_filename).get(code)
    if node is None:
        return canonical_form(code)
    return ast.unparse(node).encode("utf-8", "surrogatepass")


_FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@lru_cache(maxsize=256)
def _functions_in(text: str, filename: str) -> Mapping[types.CodeType, _FunctionNode]:
    """The functions of a file by their code, but for those that share a line."""
    # The compiler gives its warnings a second time: to suppress them would change the filters of
    # all threads, which another thread may be changing at the same time.
    try:
        tree = ast.parse(text, filename)
        whole = compile(tree, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # such as a cell of a notebook with magic in it
        return {}
    nodes_at: dict[tuple[str, int], list[_FunctionNode]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _FunctionNode):
            nodes_at.setdefault(_name_and_line(node), []).append(node)
    for node in chain.from_iterable(nodes_at.values()):
        _drop_our_decorators(node)
    found = {code: nodes_at.get((code.co_name, code.co_firstlineno)) for code in with_nested(whole)}
    return {code: nodes[0] for code, nodes in found.items() if nodes and len(nodes) == 1}


def _name_and_line(node: _FunctionNode) -> tuple[str, int]:
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    return node.name, min(part.lineno for part in (node, *node.decorator_list))


def _drop_our_decorators(node: _FunctionNode) -> None:
    if not isinstance(node, ast.Lambda):
        node.decorator_list = [d for d in node.decorator_list if not _is_ours(d)]


def _is_ours(node: ast.expr) -> bool:
    """`@task`, `@task(…)` or `@penstock.task(…)`, and the same of flows."""
    name = node.func if isinstance(node, ast.Call) else node
    return getattr(name, "attr", getattr(name, "id", "")) in {"task", "flow"}
