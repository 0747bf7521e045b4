"""Hooks: functions of yours that are called once a state of a run has been recorded."""

from penstock._model.hook_lists import Hook

__all__ = ["Hook"]
