"""Effects are closed: each says how it may be answered, and each driver has an answer to all."""

from __future__ import annotations

import ast
import inspect
import sys
from itertools import chain
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest

from penstock._drivers import aborting, in_loop, in_thread, parked
from penstock._rules import effects
from penstock._rules.effects import Effect, Interruptible, Shielded, Uninterruptible

BASES = (Interruptible, Uninterruptible)
EFFECTS: tuple[type[Any], ...] = get_args(Effect)


def test_all_that_derives_from_the_bases_is_an_effect_and_nothing_derives_from_an_effect() -> None:
    below = set(chain.from_iterable(base.__subclasses__() for base in (*BASES, Shielded)))
    assert below - {Shielded} == set(EFFECTS)
    assert all(not effect.__subclasses__() and effect.__final__ for effect in EFFECTS)


@pytest.mark.parametrize("effect", EFFECTS)
def test_each_effect_says_once_whether_it_may_be_interrupted(effect: type[Any]) -> None:
    assert [issubclass(effect, base) for base in BASES].count(True) == 1
    assert effect.is_interruptible is issubclass(effect, Interruptible)
    assert effect.is_shielded is not (
        issubclass(effect, Interruptible) and not issubclass(effect, Shielded)
    )
    assert {"is_interruptible", "is_shielded"}.isdisjoint(vars(effect))


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_documented_answers_name_an_interruption_where_there_may_be_one(
    effect: type[msgspec.Struct],
) -> None:
    answers = (effect.__doc__ or "").partition("Answer:")[2]
    assert ("Interrupted" in answers) is issubclass(effect, Interruptible)


@pytest.mark.parametrize("driver", [in_thread, in_loop, parked, aborting])
def test_each_driver_has_one_match_over_all_effects_and_no_other_answer(driver: ModuleType) -> None:
    """mypy holds `assert_never` against the union: an effect without an answer is an error."""
    (answer,) = filter(is_answer, ast.walk(ast.parse(inspect.getsource(driver))))
    (match,) = (node for node in ast.iter_child_nodes(answer) if isinstance(node, ast.Match))
    last = match.cases[-1]
    assert isinstance(last.pattern, ast.MatchAs)
    assert last.pattern.pattern is None
    assert ast.unparse(last.body[0]) == "assert_never(effect)"
    named = {
        node.cls.id
        for node in ast.walk(match)
        if isinstance(node, ast.MatchClass) and isinstance(node.cls, ast.Name)
    }
    assert named == {effect.__name__ for effect in EFFECTS}


def is_answer(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "_answer"


def test_effects_are_compared_by_what_they_ask_for() -> None:
    assert effects.Join(5) == effects.Join(5) != effects.Join()
    assert sys.getsizeof(effects.Invoke()) < 40
