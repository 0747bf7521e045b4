"""Cache policies: what a task's results depend on, added up from parts.

from penstock.cache_policies import INPUTS, TASK_SOURCE

@task(cache_policy=INPUTS - "verbose" + TASK_SOURCE)
"""

from penstock._caching.keys import CacheKey
from penstock._caching.policies import (
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
)
from penstock._model.publishing import publish

__all__ = [
    "FLOW_PARAMETERS",
    "INPUTS",
    "NO_CACHE",
    "RUN_ID",
    "TASK_SOURCE",
    "CacheKey",
    "CacheKeyFnPolicy",
    "CachePolicy",
]

publish(__name__, __all__)
