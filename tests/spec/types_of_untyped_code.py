"""Held by the type checkers: functions without annotations, as the page has them, are sync ones."""
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, allow-untyped-calls
# pyright: basic

from __future__ import annotations

from typing import Any

from penstock import Flow, Task, flow, task


@task
def hello_task(name_input):
    return "hello " + name_input


@task(name="My Example Task")
def named_task(name_input):
    return name_input


@flow
def hello_flow(name_input):
    hello_task(name_input)
    return named_task(name_input)


@flow(name="My Example Flow")
def named_flow(name_input):
    return hello_flow(name_input)


TASKS: list[Task[..., Any]] = [hello_task, named_task]
FLOWS: list[Flow[..., Any]] = [hello_flow, named_flow]
