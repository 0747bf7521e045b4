# An example of the page, as it stands there.
# fmt: off
# ruff: noqa: ANN001, ANN201, I001, Q000
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from penstock import flow, task
from datetime import timedelta
import time

def cache_key_from_sum(context, parameters):
    print(parameters)
    return sum(parameters["nums"])

@task(cache_key_fn=cache_key_from_sum, cache_expiration=timedelta(minutes=1))
def cached_task(nums):
    print('running an expensive operation')
    time.sleep(3)
    return sum(nums)

@flow
def test_caching(nums):
    cached_task(nums)
