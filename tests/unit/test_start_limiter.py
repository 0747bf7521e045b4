"""Tasks of a loop begin a few at a time: one more is started with each that has begun."""

from __future__ import annotations

import sys
from functools import partial

from penstock._waiting import start_limiter
from penstock._waiting.start_limiter import StartLimiter

AT_MOST = start_limiter._NOT_BEGUN_AT_MOST


def test_as_many_are_started_as_may_wait_for_their_first_step() -> None:
    limiter, started = StartLimiter(), list[int]()
    for number in range(100):
        limiter.start(partial(started.append, number))
    assert started == list(range(AT_MOST))


def test_one_more_is_started_with_each_that_has_begun_in_their_order() -> None:
    limiter, started = StartLimiter(), list[int]()
    for number in range(100):
        limiter.start(partial(started.append, number))
    for begun in range(100):
        assert len(started) == min(100, AT_MOST + begun)
        limiter.note_begun()
    assert started == list(range(100))


def test_thousands_that_end_at_once_need_no_stack() -> None:
    """As those that were cancelled before they were started."""
    limiter, ended = StartLimiter(), list[int]()
    many = 10 * sys.getrecursionlimit()

    def end(number: int) -> None:
        ended.append(number)
        limiter.note_begun()

    for _ in range(AT_MOST):
        limiter.start(lambda: None)
    for number in range(many):
        limiter.start(partial(end, number))
    assert not ended
    limiter.note_begun()
    assert ended == list(range(many))
