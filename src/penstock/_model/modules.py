"""Names of modules: a script is named by its file, as each process has its own `__main__`.

Why: docs/inside/caching.md, "A script is called by the path of its file".
"""

from __future__ import annotations

import os
import sys
from typing import Final

_SCRIPTS: Final = frozenset({"__main__", "__mp_main__"})
"""The name of a script where it runs, and in the worker processes that import it."""


def name_of_module(module: str) -> str:
    """A name that means one module in all processes.

    For the script that was started, it is the name under which others import it (`python -m
    package.module`), or the path of its file. An interactive session has neither and stays
    `__main__`.
    """
    if module not in _SCRIPTS:
        return module
    started = sys.modules.get(module)
    spec, file = getattr(started, "__spec__", None), getattr(started, "__file__", None)
    if spec is not None and spec.name not in _SCRIPTS:
        return str(spec.name)
    return os.path.realpath(file) if file is not None else "__main__"
