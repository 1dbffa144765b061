"""Two at once on the same piece of work: one works, the other says so, and the results are those of one."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.harness import CASES, REPLAYS, TRAINING, contents, differences, scratch_copy, training

pytestmark = pytest.mark.slow

# a call in the middle of each stage, while it holds its lock
IN_THE_MIDDLE = {
    "local_inputs": ("pipeline.local_inputs", "digests_of"),
    "prepare": ("pipeline.prepare", "compared_as_text"),
    "pretrain": ("pipeline.mini.pretraining", "draw_examples"),
    "teacher_logits": ("pipeline.capture.capture", "write_shard"),
    "curriculum_code": ("pipeline.curriculum_code", "file_digests"),
    "train": ("pipeline.training.run", "accumulate_gradients"),
    "evaluate": ("pipeline.evaluate", "graded"),
    "report": ("pipeline.report", "summarise"),
}


# locks know nothing of curricula, nor of who wrote the solutions
LIKE_OTHERS = {*TRAINING, *(c for c in CASES if c.own_words)} - {training("rl"), training(REPLAYS[0])}


@pytest.mark.parametrize("case", [c for c in CASES if c not in LIKE_OTHERS], ids=str)
def test_a_second_start_says_so_and_leaves_the_first_alone(zygote, references, case, monkeypatch):
    reference = references.of(case)
    owner, name = IN_THE_MIDDLE[case.stage]
    original, seconds = getattr(importlib.import_module(owner), name), []

    def start_another(*arguments, **named):
        if not seconds:
            printed = zygote.log.stat().st_size
            outcome = zygote.run(project, case)
            seconds.append((outcome.status, zygote.log.read_bytes()[printed:].decode()))
        return original(*arguments, **named)

    with scratch_copy(reference.before) as project:
        monkeypatch.chdir(project)
        monkeypatch.setattr(f"{owner}.{name}", start_another)
        monkeypatch.setattr("pipeline.mini.pretraining.CHECKPOINT_STEPS", 4)  # as in the zygote
        monkeypatch.setattr(sys, "argv", [case.stage, *case.arguments])
        importlib.import_module(f"pipeline.{case.stage}").main()
        ((status, text),) = seconds
        assert status == 1
        assert "error: another process is already working on " in text
        assert "wait for it, or end it, and try again" in text
        assert not differences(contents(project), reference.after)


def test_a_second_dvc_repro_says_so_and_the_first_goes_on(tmp_path):
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  slow:\n    cmd: echo begun >> ran && cat gate > result\n    outs:\n    - result\n"
    )
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    dvc = str(Path(sys.executable).parent / "dvc")
    options = {
        "cwd": tmp_path,
        "env": environment,
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    subprocess.run([dvc, "init", "--no-scm", "--quiet"], check=True, **options)
    with subprocess.Popen([dvc, "repro"], **options) as first:
        with (tmp_path / "gate").open("w") as gate:  # opens once the first one's stage is at it
            second = subprocess.run([dvc, "repro"], timeout=120, check=False, **options)
            gate.write("made once\n")
        said = first.communicate(timeout=120)[0]
    assert first.returncode == 0, said
    assert second.returncode != 0
    assert "result' is busy, it is being blocked by:" in second.stdout
    assert (tmp_path / "ran").read_text() == "begun\n"
    assert (tmp_path / "result").read_text() == "made once\n"
