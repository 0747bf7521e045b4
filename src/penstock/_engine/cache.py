"""The cache of an engine: a key gives a stored result, or the one run that computes it.

A result that is stored and cannot be read counts as none: the run computes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from penstock._caching.explanations import ENTRIES_COMPARED, CacheExplanation, number_of_task
from penstock._caching.keys import CacheKey
from penstock._logs.run_log import RunLog
from penstock._model.rows import CacheHit
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._stores.port import Store
from penstock._stores.reading.results import Results
from penstock._waiting.latch import Latch
from penstock.exceptions import ResultUnavailable, StoreError


class Cache:
    """Results by their keys.

    Args:
        store: where the entries are.
        results: decodes what they stand for.
        now: the time, in seconds since 1970, at which entries expire.
        log: is told of results that cannot be read, and why keys found none.
    """

    def __init__(
        self, store: Store, results: Results, now: Callable[[], float], log: RunLog
    ) -> None:
        self._store = store
        self._results = results
        self._now = now
        self._log = log
        self._owners: dict[str, TaskRun] = {}

    # Stored results

    def look_up(self, key: str, returned: Callable[[], Any]) -> CacheHit | None:
        """The result stored under a key; one that cannot be read back counts as none.

        Args:
            key: of the run that asks.
            returned: gives the type of its function's results.
        """
        found = self._store.look_up(key, self._now())
        if found is None:
            return None
        try:
            value = self._results.decode(found.payload, returned)
            return CacheHit(found.run_id, value, found.expires_at)
        except ResultUnavailable as error:
            self._log.unreadable(key, error)
            return None

    # The runs that compute

    def claim(self, key: str, run: TaskRun) -> Latch | None:
        """Let `run` be the one that computes the key; or the run that already is.

        It is the latter's to `release`. `setdefault` is a single step of the interpreter, so of two
        runs that claim a key at once, both find the same owner, and no lock is needed.
        """
        owner = self._owners.setdefault(key, run)
        if owner is run:
            run.claimed_key = key
        # A run that its owner itself waits for must not wait for the owner.
        return None if owner is run or owner in _ancestors(run) else owner

    def release(self, run: TaskRun) -> None:
        """Let others compute the key that a run has claimed, if it has."""
        if run.claimed_key is not None:
            self._owners.pop(run.claimed_key, None)

    # Why a key finds nothing

    def explain(self, run: TaskRun) -> CacheExplanation:
        """Whether a run would be served from the cache; if not, why."""
        name = run.definition.name
        if not run.options.is_cached:
            return CacheExplanation.uncached(name, "it has no cache policy")
        if run.options.refresh_cache:
            return CacheExplanation.uncached(name, "refresh_cache has it computed anew")
        try:
            key = run.options.cache_key_of(run)
        except Exception as error:
            return CacheExplanation.uncached(name, f"its key cannot be made: {error!r}")
        if key is None:
            return CacheExplanation.uncached(name, "its policy gives this call no key")
        found = self._store.look_up(key.text, self._now())
        if found is not None:
            return CacheExplanation.hit(name, key.text, found.run_id)
        return self._explain_miss(run, key)

    def note_miss(self, run: TaskRun, key: CacheKey) -> None:
        """Log why a key found nothing, where anybody reads that.

        A run does not end because nobody can tell.
        """
        if not self._log.tells_of_misses:
            return
        try:
            explanation: object = self._explain_miss(run, key)
        except StoreError as error:
            explanation = f"Task '{run.definition.name}': miss; no more can be said: {error}"
        self._log.missed(run, explanation)

    def _explain_miss(self, run: TaskRun, key: CacheKey) -> CacheExplanation:
        parts = key.parts()
        task = number_of_task(run.options.task_key)
        entries = self._store.entries_of(task, ENTRIES_COMPARED) if parts else ()
        return CacheExplanation.miss(run.definition.name, key.text, parts, entries)


def _ancestors(run: Run) -> Iterator[Run]:
    parent = run.parent
    while parent is not None:
        yield parent
        parent = parent.parent
