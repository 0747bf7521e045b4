"""Results that are too large for a row: where they are kept, and how they are found again.

The row holds a reference with a checksum. It is written after the result, and deleted before it:
so what a row refers to is there, unless somebody has taken it away.

Why: docs/inside/store.md, "Large results are files".
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path

from typing_extensions import override

from penstock._model.payloads import FileReference, file_payload
from penstock.exceptions import ResultUnavailable


class LargeResults(ABC):
    """Keeps results under names; every method may be called from any thread."""

    def store(self, payload: bytes, run_id: bytes) -> bytes:
        """Write the result of a run, durably.

        Returns:
            What the row holds in its place.

        Raises:
            OSError: it cannot be written.
        """
        digest = hashlib.sha256(payload)
        name = f"{run_id.hex()}-{digest.hexdigest()[:16]}.bin"
        self.write(name, payload)
        return file_payload(FileReference(name, digest.digest(), len(payload)))

    def load(self, reference: FileReference) -> bytes:
        """The result that a row refers to.

        Raises:
            ResultUnavailable: it is gone or damaged.
        """
        try:
            payload = self.read(reference.name)
        except OSError as error:
            where = self.place_of(reference.name)
            raise ResultUnavailable(f"The result file {where} cannot be read: {error}.") from error
        if hashlib.sha256(payload).digest() != reference.sha256:
            where = self.place_of(reference.name)
            raise ResultUnavailable(f"The result file {where} is damaged: its checksum differs.")
        return payload

    @abstractmethod
    def place_of(self, name: str) -> str:
        """Where a result is, for messages."""

    @abstractmethod
    def write(self, name: str, payload: bytes) -> None:
        """Write a result; it is there as a whole and outlives a crash, or is not there.

        Raises:
            OSError: it cannot be written.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A result as it was written.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a result; one that is gone is no error."""


class FolderOfResults(LargeResults):
    """Keeps each result in a file.

    Args:
        folder: where the files are; made with the first of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Path = folder.absolute()  # the process may change its own

    @override
    def place_of(self, name: str) -> str:
        return str(self.folder / name)

    @override
    def write(self, name: str, payload: bytes) -> None:
        import tempfile  # a twentieth of what importing all of this library takes

        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".part-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(self.folder)

    @override
    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    @override
    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there; NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
