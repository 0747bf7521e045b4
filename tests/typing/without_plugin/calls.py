"""What cannot be said without the plugin: these calls run, and no checker lets them pass."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from penstock import State, TaskFuture
from tests.typing.library import inc, pipeline, total

future = inc.submit(1)

inc(1, return_state=True)  # type: ignore[call-arg]
assert_type(inc.call_state(1), State[int])  # instead

inc(future)  # type: ignore[arg-type]
assert_type(inc(future.result()), int)  # instead
assert_type(inc.submit(future).result(), int)  # or this

inc(1, wait_for=[future])  # type: ignore[call-arg]
assert_type(inc.wait_for(future)(1), int)  # instead

pipeline(1, [future])  # type: ignore[list-item]
assert_type(pipeline(1, [future.result()]), str)  # instead

assert_type(total.submit(["wrong"], "and too many"), TaskFuture[int])  # passes unseen
