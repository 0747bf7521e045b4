"""Futures: what `submit` and `map` give back at once."""

from penstock._calls.futures import FailureAllowed, FutureList, TaskFuture, allow_failure
from penstock._model.publishing import publish

__all__ = ["FailureAllowed", "FutureList", "TaskFuture", "allow_failure"]

publish(__name__, __all__)
