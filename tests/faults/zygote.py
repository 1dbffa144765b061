"""A process that has imported the project and forks a child for every stage it is asked to run, to be killed or not.

Importing torch takes seconds, forking milliseconds: hundreds of kills become affordable. A request is one line of
JSON on stdin, the answer one on stdout. It starts no thread itself and never computes, so that a fork is sound.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import threading
import time
import warnings
from typing import Any

from tqdm import tqdm

from pipeline.mini import pretraining

STAGES = ("local_inputs", "prepare", "pretrain", "teacher_logits", "curriculum_code", "train", "evaluate", "report")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link", "os.symlink"}


def main() -> None:
    """Answers requests until its input ends."""
    modules = {name: importlib.import_module(f"pipeline.{name}") for name in STAGES}
    pretraining.CHECKPOINT_STEPS = 4  # its real interval is longer than the runs here
    warm_up()
    tqdm.monitor_interval = 0  # no thread
    for line in sys.stdin:
        print(json.dumps(run(modules, json.loads(line))), flush=True)


def warm_up() -> None:
    """Imports what transformers imports only on first use."""
    from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

    assert Qwen2ForCausalLM.__module__
    assert Qwen2Tokenizer.__module__


def run(modules: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Runs one stage in a child: its exit status (negative: the signal that ended it), file-system events, seconds.

    `at_event` sends the signal from inside, just before the child's n-th change of the file system, and `after_saves`
    just before the first one after so many checkpoints; `after` sends it from outside after so many seconds.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        run_stage(modules[request["stage"]], request, writing)
    os.close(writing)
    descriptor = os.pidfd_open(child)
    if request.get("after") is not None:
        ended, _, _ = select.select([descriptor], [], [], request["after"])
        if not ended:
            os.kill(child, request["signal"])
    sent = time.monotonic()
    _, status = os.waitpid(child, 0)
    done = time.monotonic()
    os.close(descriptor)
    with os.fdopen(reading) as report:
        told = json.loads(report.read() or "{}")  # a killed child tells nothing
    return {
        "status": os.waitstatus_to_exitcode(status),
        "events": told.get("events"),
        "seconds": done - started,
        "seconds_after_signal": done - (told.get("sent") or sent),
    }


def run_stage(module: Any, request: dict[str, Any], report: int) -> None:
    """The child: never returns."""
    status = 1
    counted = saves = 0
    sent = None

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal counted, saves, sent
        if os.getpid() == child and changes_files(event, arguments, request["folder"]):
            counted += 1
            if counted == request.get("at_event") or saves == request.get("after_saves"):
                sent = time.monotonic()
                os.kill(child, request["signal"])
            saves += saves_checkpoint(event, arguments)

    try:
        child = os.getpid()
        os.chdir(request["folder"])
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        warnings.simplefilter("error")
        tqdm.set_lock(threading.RLock())  # its own is shared with all forks, and a killed one might never free it
        sys.argv = [request["stage"], *request["arguments"]]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.addaudithook(count)
        module.main()
        status = 0
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os.write(report, json.dumps({"events": counted, "sent": sent}).encode())
        os._exit(status)


def changes_files(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    """Whether an audit event is a change of the file system inside `folder`."""
    if event == "open":
        path, _, flags = arguments
        changes = bool(flags & WRITING)
    else:
        path, changes = arguments[0] if arguments else None, event in CHANGES
    return changes and isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(folder)


def saves_checkpoint(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event puts a checkpoint in its place."""
    return event == "os.rename" and os.path.basename(arguments[1]) == "state.safetensors"


if __name__ == "__main__":
    main()
