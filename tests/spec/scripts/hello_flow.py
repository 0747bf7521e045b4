# An example of the page, as it stands there.
# fmt: off
# ruff: noqa: ANN001, ANN201, I001
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from penstock import flow, task
from penstock.tasks import task_input_hash
from datetime import timedelta

@task(cache_key_fn=task_input_hash, cache_expiration=timedelta(minutes=1))
def hello_task(name_input):
    # Doing some work
    print(f"Saying hello {name_input}")
    return "hello " + name_input

@flow
def hello_flow(name_input):
    hello_task(name_input)
