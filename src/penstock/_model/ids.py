"""Run ids: 16 bytes that sort by the time at which they were made.

The layout is UUID version 7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 bits that start
at random and count up, so that the ids of one process never collide and rows append to the end of
their B-tree.

Why: docs/inside/store.md, "Ids are UUIDs of version 7".
"""

from __future__ import annotations

import itertools
import os
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LOW_BITS = (1 << 62) - 1


class _Sequence:
    """The part of the ids that starts at random and counts up; a forked child starts anew."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        start = int.from_bytes(os.urandom(10), "big")
        high = (start >> 62 & 0xFFF) << 64
        # The top bit stays 0, so that 2**61 ids fit before the count would reach the variant.
        low = start & (_LOW_BITS >> 1)
        self.next_tail = itertools.count(high | _VERSION_AND_VARIANT | low).__next__


_sequence = _Sequence()


def restart_ids() -> None:
    """Go on from another random start, as a forked child has to."""
    _sequence.restart()


def new_id() -> bytes:
    """A new id, which sorts after those of earlier milliseconds."""
    return ((time.time_ns() // 1_000_000 << 80) | _sequence.next_tail()).to_bytes(16, "big")


def id_bound(moment: datetime) -> bytes:
    """The lowest id that could have been made at `moment` or later."""
    milliseconds = (moment.astimezone(UTC) - _EPOCH) // _MILLISECOND
    return (milliseconds << 80).to_bytes(16, "big")


def id_time(run_id: bytes) -> datetime:
    """When `run_id` was made, to the millisecond."""
    return datetime.fromtimestamp(int.from_bytes(run_id[:6], "big") / 1000, UTC)


def id_text(run_id: bytes) -> str:
    """`str(to_uuid(run_id))`, several times as fast: every log record has two."""
    digits = run_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def to_uuid(run_id: bytes) -> UUID:
    """The id as it is shown to people."""
    return UUID(bytes=run_id)
