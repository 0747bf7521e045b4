"""Runs the blocks of one document, one after the other, in one namespace.

Reads from stdin, as JSON, the path of the document and its blocks, each with the line that its code
starts on; writes a line of JSON for each block that ran to its end: what it printed. Tracebacks and
`inspect.getsource` see the lines of the document itself. Processes that a block starts import all
blocks as a script, as they would import that of a user.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from types import ModuleType


def run_blocks() -> None:
    """Run them as the `__main__` module, so that what they define can be pickled."""
    document = json.load(sys.stdin)
    script = Path("blocks.py").resolve()
    script.write_text("\n".join(block["code"] for block in document["blocks"]), encoding="utf-8")
    namespace = ModuleType("__main__")
    namespace.__file__ = str(script)
    sys.modules["__main__"] = namespace
    report = sys.stdout
    for block in document["blocks"]:
        source = "\n" * (block["line"] - 1) + block["code"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = compile(source, document["path"], "exec", dont_inherit=True)
            exec(code, namespace.__dict__)
        print(json.dumps(printed.getvalue()), file=report, flush=True)


run_blocks()
