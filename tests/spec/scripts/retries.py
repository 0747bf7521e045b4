# An example of the page, as it stands there.
# fmt: off
# ruff: noqa: ANN201, I001, Q000
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from penstock import flow, task

# this tasks runs 3 times before the flow fails
@task(retries=2, retry_delay_seconds=60)
def failure():
    print('running')
    raise ValueError("bad code")

@flow
def test_retries():
    return failure()
