"""Wrong calls, which nothing but the plugin finds."""

from __future__ import annotations

from typing import Any

from penstock import allow_failure
from tests.typing.library import (
    Box,
    Machine,
    abscissa,
    dumped,
    fetch,
    inc,
    listed,
    name_of,
    nothing,
    numbers,
    optioned,
    pair,
    pipeline,
    report,
    stream,
    told,
    total,
    unboxed,
    various,
)

future, text = inc.submit(1), name_of.submit(1)


def types() -> None:
    inc.submit("1")  # type: ignore[arg-type]
    inc.submit(text)  # type: ignore[arg-type]
    inc.submit(inc.map([1]))  # type: ignore[arg-type]
    inc.submit(1, by=text.state)  # type: ignore[arg-type]
    inc(text)  # type: ignore[arg-type]
    fetch.run_sync(text)  # type: ignore[arg-type]
    pipeline(text, [1])  # type: ignore[arg-type]
    stream.run_sync_state(text)  # type: ignore[arg-type]
    total.submit([text])  # type: ignore[list-item]
    total.submit([1, "a"])  # type: ignore[list-item]
    total.submit((1, 2))  # type: ignore[arg-type]
    total.submit(name_of.map([1]))  # type: ignore[arg-type]
    report.submit({"a": [text]})  # type: ignore[list-item]
    report.submit({1: [1]})  # type: ignore[dict-item]
    pair.submit((future, future))  # type: ignore[arg-type]
    unboxed.submit(Box(text))  # type: ignore[arg-type]
    abscissa.submit({"x": text})  # type: ignore[arg-type]
    dumped.submit(object())  # type: ignore[arg-type]
    various.submit(1, "a")  # type: ignore[arg-type]
    various.submit(a=1)  # type: ignore[arg-type]
    optioned.submit(1, size=text)  # type: ignore[arg-type]
    Machine().work.submit("1")  # type: ignore[arg-type]


def arguments() -> None:
    inc.submit()  # type: ignore[call-arg]
    inc.submit(1, to=2)  # type: ignore[call-arg]
    nothing.submit(1)  # type: ignore[call-arg]
    optioned.submit(1, width=2)  # type: ignore[call-arg]
    listed.submit()  # type: ignore[call-arg]
    Machine.work.submit(1)  # type: ignore[call-arg, arg-type]


def options() -> None:
    inc.submit(1, return_state=True)  # type: ignore[call-arg]
    inc.map([1], return_state=True)  # type: ignore[call-arg]
    inc.call_state(1, return_state=True)  # type: ignore[call-arg]
    inc(1, return_state="yes")  # type: ignore[arg-type]
    inc.submit(1, wait_for=[1])  # type: ignore[list-item]
    pipeline(1, [1], wait_for=[1])  # type: ignore[list-item]
    inc.submit(1, wait_for=[[future], ["a"]])  # type: ignore[list-item]
    inc.submit(1, wait_for="a")  # type: ignore[arg-type]
    inc.wait_for("a")  # type: ignore[arg-type]
    pipeline.submit("a", [1])  # type: ignore[arg-type]
    pipeline.map([1], [["a"]])  # type: ignore[list-item]
    inc.submit(allow_failure(future))  # type: ignore[arg-type]
    told.submit(allow_failure(text))  # type: ignore[arg-type]


def maps(data: bytes, by_number: dict[int, int], unknown: Any) -> None:
    inc.map(["a"])  # type: ignore[list-item]
    inc.imap(["a"])  # type: ignore[list-item]
    inc.imap_unordered(5)  # type: ignore[call-arg]
    inc.map([text])  # type: ignore[list-item]
    inc.map([[1]])  # type: ignore[list-item]
    inc.map("abc")  # type: ignore[arg-type]
    inc.map(data)  # type: ignore[arg-type]
    inc.map(by_number)  # type: ignore[arg-type]
    inc.map([1], by="a")  # type: ignore[arg-type]
    inc.map([1], by=text)  # type: ignore[arg-type]
    inc.map(numbers.submit(), by=[text])  # type: ignore[list-item]
    inc.map(1)  # type: ignore[call-arg]
    inc.map(future, by=unknown)
    inc.map(future, by=1)  # type: ignore[call-arg]
    inc.map()  # type: ignore[call-arg]
    inc.map([1], to=[2])  # type: ignore[call-arg]
    total.map([1, 2])  # type: ignore[list-item]
