"""The values of stored results, which are read when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock._model.payloads import LoadFile, any_type, decode_result, referenced_run
from penstock.exceptions import ResultUnavailable


class Results:
    """Decodes payloads, with all that they refer to.

    Args:
        load: gives large results.
        payload_of: the stored result of another task run; None: there is none.
    """

    def __init__(self, load: LoadFile, payload_of: Callable[[bytes], bytes | None]) -> None:
        self._load = load
        self._payload_of = payload_of

    def decode(self, payload: bytes, returned: Callable[[], Any] = any_type) -> object:
        """The value in a payload.

        Args:
            payload: as a row has it.
            returned: gives the type that the value had, for serializers that keep no types.

        Raises:
            ResultUnavailable: it was never stored, is gone, or cannot be read back.
        """
        source = referenced_run(payload)
        if source is not None:
            found = self._payload_of(source)
            if found is None:
                raise ResultUnavailable("The run that made the cached result is no longer stored.")
            payload = found
        return decode_result(payload, self._load, returned)


class StoredResult:
    """A result that is read when somebody asks for it."""

    def __init__(self, payload: bytes, results: Results) -> None:
        self._payload = payload
        self._results = results

    def load(self) -> object:
        """The value; raises `ResultUnavailable`."""
        return self._results.decode(self._payload)
