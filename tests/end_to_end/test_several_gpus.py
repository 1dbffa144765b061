"""`make cells` on a pipeline of the project's shape whose stages are shell commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

PIPELINE = """
stages:
  local_inputs:
    cmd: cp local seen
    always_changed: true
    outs:
    - seen
  evaluate_teacher:
    cmd: echo shared >> ran && touch teacher
    deps:
    - seen
    outs:
    - teacher
  curriculum_code:
    cmd: echo code > code
    outs:
    - code
  train:
    matrix:
      method: [rl, traditional]
      seed: [0]
    cmd: sh train.sh ${item.method} students/${item.method}-${item.seed}
    deps:
    - teacher
    outs:
    - students/${item.method}-${item.seed}
  evaluate:
    matrix:
      method: [rl, traditional]
      seed: [0]
    cmd: cp students/${item.method}-${item.seed} runs/
    deps:
    - students/${item.method}-${item.seed}
    outs:
    - runs/${item.method}-${item.seed}
  report:
    cmd: echo report >> ran && cat runs/* > report
    deps:
    - runs
    outs:
    - report
"""
# opening a FIFO waits for the other end: the cells get past it only if they run at once
TRAIN = """
echo "$1" >> ran
if [ "$1" = rl ]; then echo hello > meeting; else cat meeting; fi
grep -q "$1" sound || { echo "error: $1 is broken"; exit 1; }
echo "$1 on $CUDA_VISIBLE_DEVICES" > "$2"
"""


@pytest.fixture
def pipeline(tmp_path):
    """Runs `tools/run_cells.sh` in a small pipeline; `train.sh` fails for methods that `sound` does not name."""
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "train.sh").write_text(TRAIN)
    (tmp_path / "sound").write_text("rl traditional\n")
    (tmp_path / "local").write_text("problems\n")
    for folder in ("tools", "students", "runs"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "tools/run_cells.sh", tmp_path / "tools")
    os.mkfifo(tmp_path / "meeting")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
    }

    def run(*command, devices="3 5,6"):
        (tmp_path / "ran").write_text("")
        return subprocess.run(
            command or ["tools/run_cells.sh"],
            cwd=tmp_path,
            env=environment | {"DEVICES": devices},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert run("dvc", "init", "--no-scm", "--quiet").returncode == 0
    return run


def ran(folder):
    return sorted((folder / "ran").read_text().split())


def test_cells_run_at_once_on_devices_of_their_own_and_only_when_unfinished(pipeline, tmp_path):
    done = pipeline()
    assert done.returncode == 0, done.stderr
    assert ran(tmp_path) == ["report", "rl", "shared", "traditional"]
    report = (tmp_path / "report").read_text().splitlines()
    assert [line.split(" on ")[0] for line in report] == ["rl", "traditional"]
    assert {line.split(" on ")[1] for line in report} == {"3", "5,6"}

    again = pipeline()
    assert again.returncode == 0, again.stderr
    assert again.stdout == "Nothing to do: all cells and the report are up to date.\n"
    assert ran(tmp_path) == []

    (tmp_path / "local").write_text("other problems\n")
    assert pipeline().returncode == 0
    assert ran(tmp_path) == ["shared"]


def test_a_failing_cell_is_named_the_others_finish_and_the_same_command_goes_on(pipeline, tmp_path):
    (tmp_path / "meeting").unlink()  # one process: nobody to meet
    (tmp_path / "sound").write_text("traditional\n")
    failed = pipeline(devices="0")
    assert failed.returncode == 1
    assert ran(tmp_path) == ["rl", "shared", "traditional"]
    assert "error: rl is broken" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: these cells failed: rl-0; mend the cause")
    assert "traditional-0: done" in failed.stdout
    assert (tmp_path / "runs/traditional-0").exists()

    (tmp_path / "sound").write_text("rl traditional\n")
    mended = pipeline(devices="0")
    assert mended.returncode == 0, mended.stderr
    assert ran(tmp_path) == ["report", "rl"]
