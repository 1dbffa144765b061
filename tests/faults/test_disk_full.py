"""A disk that fills up: one sentence, nothing finished is lost, and after space is made the same bytes as ever."""

import subprocess
from contextlib import contextmanager

import pytest

from tests.faults.harness import Case, contents, differences, scratch_copy

pytestmark = pytest.mark.slow

CAPTURE = Case("teacher_logits")
TRAIN = Case("train", ("--method", "rl", "--seed", "0"))


@contextmanager
def small_disk(folder, size):
    """Mounts a file system of `size` bytes on a folder; yields a function that makes it large."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (tried := subprocess.run(options, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def refused(zygote, project, case):
    """The sentence with which a stage stops."""
    printed = zygote.log.stat().st_size if zygote.log.exists() else 0
    assert zygote.run(project, case).status == 1
    text = zygote.log.read_bytes()[printed:].decode()
    assert "Traceback" not in text, text
    assert not list(project.glob("**/.*.tmp"))
    (sentence,) = [line for line in text.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert "cannot be written (no space left on device); free some space" in sentence
    return sentence


def test_a_capture_keeps_its_finished_shards_and_the_old_store(zygote, references):
    reference = references.of(CAPTURE)
    with scratch_copy(reference.before) as project:
        zygote.finish(project, CAPTURE)
        old = contents(project / "data/teacher_logits")
        with small_disk(project / "checkpoints", "72k") as enlarge:
            sentence = refused(zygote, project, CAPTURE)
            assert "checkpoints/teacher_logits-" in sentence
            assert "/shard-0000" in sentence
            finished = sorted((project / "checkpoints").glob("teacher_logits-*/shard-*"))
            assert finished
            assert contents(project / "data/teacher_logits") == old
            enlarge()
            zygote.finish(project, CAPTURE)
            assert not differences(contents(project), reference.after)


def test_a_run_keeps_the_checkpoint_before(zygote, references):
    reference = references.of(TRAIN)
    with scratch_copy(reference.before) as project, small_disk(project / "checkpoints", "4m") as enlarge:
        assert "state.safetensors cannot be written" in refused(zygote, project, TRAIN)
        assert list((project / "checkpoints").glob("train-rl-0-*/state.safetensors"))
        enlarge()
        printed = zygote.log.stat().st_size
        zygote.finish(project, TRAIN)
        assert b"0/8" not in zygote.log.read_bytes()[printed:]  # it went on, it did not begin again
        assert not differences(contents(project), reference.after)


def test_a_student_that_cannot_be_written_costs_no_training(zygote, references):
    reference = references.of(TRAIN)
    with scratch_copy(reference.before) as project, small_disk(project / "models/students", "300k") as enlarge:
        assert "models/students/rl-0 cannot be written" in refused(zygote, project, TRAIN)
        assert not list((project / "models/students").iterdir())
        enlarge()
        zygote.finish(project, TRAIN)
        assert not differences(contents(project), reference.after)
