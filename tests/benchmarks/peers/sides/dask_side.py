"""Dask's LocalCluster as it comes: worker processes for the cores, and no records on any disk."""

from __future__ import annotations

from distributed import Client  # pyright: ignore[reportMissingModuleSource]  # not in this env

from tests.benchmarks.peers.measurement import Measurement, insist, main, timed

_WARM_UP_TASKS = 100


def noop(number: int) -> int:
    return number


def _submit_all(client: Client, numbers: range) -> int:
    futures = [client.submit(noop, number) for number in numbers]
    return sum(client.gather(futures))


def _measure(count: int) -> Measurement:
    total = 0

    def submit_all() -> None:
        nonlocal total
        total = _submit_all(client, range(count))

    with Client(dashboard_address=":0") as client:  # any port: another cluster may have the usual
        _submit_all(client, range(-_WARM_UP_TASKS, 0))  # other numbers: the same are not run again
        measurement = timed(submit_all, count)
    insist("as the sum of all results", total, count * (count - 1) // 2)
    return measurement


if __name__ == "__main__":
    main("distributed", {"submit": _measure})
