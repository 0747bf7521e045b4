"""The rules of the cache: a key is looked up, claimed, and computed once."""

from __future__ import annotations

from functools import lru_cache

from penstock._caching.explanations import encode_parts, number_of_task
from penstock._caching.keys import CacheKey
from penstock._model.ids import to_uuid
from penstock._model.payloads import reference_to_run
from penstock._model.rows import CacheHit, CacheRow
from penstock._rules.effects import (
    Claim,
    Error,
    Evaluate,
    Interrupted,
    LookUp,
    Steps,
    Value,
    WaitFor,
)
from penstock._rules.endings import interrupt_steps, moment_of
from penstock._rules.rulebook import ACQUIRE_WORKER, COMMIT, Rulebook
from penstock._rules.task_run import TaskRun
from penstock._rules.transitions import Event
from penstock.states import StateDetails


def cache_steps(run: TaskRun, rules: Rulebook) -> Steps[bool]:
    """Find the run's cache key, then a result under it."""
    outcome = yield Evaluate(lambda: run.options.cache_key_of(run))
    if type(outcome) is Interrupted:
        return (yield from interrupt_steps(run, rules, outcome))
    if type(outcome) is Error:
        rules.warn(run, "runs uncached", outcome.exception)
    key = outcome.value if type(outcome) is Value else None
    if key is None:
        return False
    return (yield from _look_up_steps(run, rules, key))


def _look_up_steps(run: TaskRun, rules: Rulebook, key: CacheKey) -> Steps[bool]:
    found: CacheHit | None = None
    if not run.options.refresh_cache:
        found = (yield LookUp(key.text)).value
        while found is None:
            owner = (yield Claim(key.text)).value
            if owner is not None:
                outcome = yield WaitFor([owner])
                if type(outcome) is not Interrupted:  # to look up reads what the user's code made
                    outcome = yield ACQUIRE_WORKER
                if type(outcome) is Interrupted:
                    return (yield from interrupt_steps(run, rules, outcome))
            # In any case once more: an owner may have ended between the look-up and the claim.
            found = (yield LookUp(key.text)).value
            if owner is None:
                break
    if found is None:
        run.cache_row = _new_entry(run, rules, key)
        return False
    return (yield from _end_cached(run, rules, key.text, found))


def _new_entry(run: TaskRun, rules: Rulebook, key: CacheKey) -> CacheRow:
    """The entry that the result will be found by; its lifetime, until that has begun."""
    options, parts = run.options, key.parts()
    if not options.refresh_cache:
        rules.missed(run, key)
    task = number_of_task(options.task_key) if parts else None
    encoded = encode_parts(parts) if parts else None
    return CacheRow(key.text, run.run_id, 0.0, options.cache_expiration, task, encoded)


def _end_cached(run: TaskRun, rules: Rulebook, key: str, hit: CacheHit) -> Steps[bool]:
    run.payload = reference_to_run(hit.run_id)
    run.value = hit.value
    details = StateDetails(
        cache_key=key,
        cache_expiration=moment_of(hit.expires_at),
        cached_from=_uuid_of_source(hit.run_id),
    )
    run.enter(Event.HIT, rules.now(), None, details)
    if rules.strict:
        yield COMMIT
    return True


_uuid_of_source = lru_cache(maxsize=4096)(to_uuid)
"""Many hits refer to few runs, and making a UUID takes longer than the rest of their state."""
