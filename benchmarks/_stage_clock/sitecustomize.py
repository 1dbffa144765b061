"""Notes how long each stage's process runs and how much of that it spends importing.

Python runs a module of this name at its start when its folder is in PYTHONPATH. Processes that are no stage are left
alone.
"""

import _frozen_importlib
import atexit
import json
import os
import sys
import time


def watch(stage: str) -> None:
    """Measures imports from now on, and writes the note when the process ends."""
    started, depth, imports = time.perf_counter(), 0, 0.0
    original = _frozen_importlib._find_and_load  # what both `import` and import_module call for a module not yet loaded

    def timed(*arguments, **named):
        nonlocal depth, imports
        began = time.perf_counter()
        depth += 1
        try:
            return original(*arguments, **named)
        finally:
            depth -= 1
            if depth == 0:
                imports += time.perf_counter() - began

    def note() -> None:
        with open(os.environ["STAGE_CLOCK"], "a", encoding="utf-8") as file:
            file.write(
                json.dumps({"stage": stage, "seconds": time.perf_counter() - started, "imports": imports}) + "\n"
            )

    _frozen_importlib._find_and_load = timed
    atexit.register(note)


if "-m" in sys.orig_argv and sys.orig_argv[sys.orig_argv.index("-m") + 1].startswith("pipeline."):
    watch(" ".join(sys.orig_argv[sys.orig_argv.index("-m") + 1 :]))
