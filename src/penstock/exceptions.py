"""Every error that Penstock raises, by who is at fault.

    PenstockError
    ├── UsageError                the caller: a call that cannot work
    │   ├── ConfigurationError        an argument or a setting with an impossible value
    │   ├── ParameterError            arguments that do not fit the flow's or the task's signature
    │   ├── WouldDeadlock             waiting here can never end
    │   ├── UnknownLimit              there is no concurrency limit of this name
    │   ├── NotTransferable           a value cannot be sent to a worker process, or back
    │   ├── VisualizationError        a flow needs the value of a task that visualize() does not run
    │   ├── MissingContextError       there is no current run
    │   └── TimeStoodStill            a fake clock cannot advance
    ├── RunError                  the run: it has no value
    │   ├── RunFailed                 it failed without an exception to raise
    │   ├── RunTimedOut               it took longer than its `timeout_seconds`
    │   ├── RunCancelled              it was cancelled
    │   ├── RunCrashed                it was ended from outside of its code
    │   ├── WorkerCrashed             the worker process that ran its code died
    │   └── RunNotReady               it never started, as an upstream did not complete
    │       └── RunUnfinished         it has not ended yet
    ├── StoreError                the environment: disk, file, another process
    │   ├── NotADatabase              the file is something else
    │   ├── SchemaTooNew              a newer Penstock wrote the file
    │   ├── SchemaTooOld              an older Penstock wrote the file that is only to be read
    │   └── ResultUnavailable         the value was never stored, is gone, or cannot be read
    └── InternalError             this library
        └── IllegalTransition         a state that cannot follow the current one

Exceptions out of the user's own functions are never wrapped.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "IllegalTransition",
    "InternalError",
    "MissingContextError",
    "NotADatabase",
    "NotTransferable",
    "ParameterError",
    "PenstockError",
    "ResultUnavailable",
    "RunCancelled",
    "RunCrashed",
    "RunError",
    "RunFailed",
    "RunNotReady",
    "RunTimedOut",
    "RunUnfinished",
    "SchemaTooNew",
    "SchemaTooOld",
    "StoreError",
    "TimeStoodStill",
    "UnknownLimit",
    "UsageError",
    "VisualizationError",
    "WorkerCrashed",
    "WouldDeadlock",
]


class PenstockError(Exception):
    """The root of all errors of this library."""


class UsageError(PenstockError):
    """A call that cannot work; the message says what to do instead."""


class ConfigurationError(UsageError, ValueError):
    """An argument of a decorator, or a setting, has an impossible value."""


class ParameterError(UsageError, TypeError):
    """The arguments of a call do not fit the signature or the annotations."""


class WouldDeadlock(UsageError, RuntimeError):
    """Blocking this thread would stop the work that it waits for."""


class UnknownLimit(UsageError, LookupError):
    """Code asks for a slot of a concurrency limit that has not been set."""


class NotTransferable(UsageError, TypeError):
    """A task, an argument, a result or an exception cannot be sent to another process."""


class VisualizationError(UsageError):
    """The code of a flow needs the value of a task, and `visualize()` runs no tasks."""


class MissingContextError(UsageError, RuntimeError):
    """The calling code does not belong to a flow run or task run."""


class TimeStoodStill(UsageError, RuntimeError):
    """Code waits for a fake clock whose time cannot advance."""


class RunError(PenstockError):
    """The run has no value."""


class RunFailed(RunError):
    """The run failed without an exception of its own to raise."""


class RunTimedOut(RunError, TimeoutError):
    """The run took longer than its `timeout_seconds`."""


class RunCancelled(RunError):
    """The run was cancelled before it had a result."""


class RunCrashed(RunError):
    """The run was ended from outside of its code."""


class WorkerCrashed(RunError):
    """The worker process died while it ran the code, or before it could; see the message."""


class RunNotReady(RunError):
    """The run never started, as an upstream did not complete."""


class RunUnfinished(RunNotReady):
    """The run has not ended yet."""


class StoreError(PenstockError):
    """The database or the result files cannot be read or written."""


class NotADatabase(StoreError):
    """The file is not a Penstock database."""


class SchemaTooNew(StoreError):
    """The database was written by a newer version of Penstock."""


class SchemaTooOld(StoreError):
    """The database was written by an older version of Penstock, and has to be migrated first."""


class ResultUnavailable(StoreError):
    """The result was never stored, is gone, or cannot be read back."""


class InternalError(PenstockError):
    """A defect of this library; please report it."""


class IllegalTransition(InternalError):
    """A run was to enter a state that cannot follow its current one."""
