# An example of the page, as it stands there.
# fmt: off
# ruff: noqa: ANN201, I001
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from penstock import flow, task

@task(name="My Example Task",
      description="An example task for a tutorial.")
def my_task():
    # do some work
    ...

@flow
def my_flow():
    my_task()
