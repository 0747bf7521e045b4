# An example of the page, as it stands there.
# fmt: off
# ruff: noqa: ANN201, I001
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from penstock import flow

@flow(name="My Example Flow",
      description="An example flow for a tutorial.",
      version="tutorial_02")
def my_flow():
    # run tasks and subflows
    ...
