# An example of the page, as it stands there.
# fmt: off
# ruff: noqa: ANN001, ANN201, I001
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from penstock import flow, task
from penstock.task_runners import SequentialTaskRunner

@task
def first_task(num):
    return num + num

@task
def second_task(num):
    return num * num

@flow(name="My Example Flow",
      task_runner=SequentialTaskRunner(),
)
def my_flow(num):
    plusnum = first_task.submit(num)
    sqnum = second_task.submit(plusnum)
    print(f"add: {plusnum.result()}, square: {sqnum.result()}")

my_flow(5)
