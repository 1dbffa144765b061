"""The same params give the same bytes: in another folder, process, locale and time zone, with another hash seed."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.end_to_end.conftest import digests

pytestmark = pytest.mark.slow

COMMANDS = [
    ["prepare"],
    ["teacher_logits"],
    ["evaluate", "--reference", "teacher"],
    ["evaluate", "--reference", "untrained_student"],
    *(
        [stage, "--method", method, "--seed", "0"]
        for method in ("rl", "traditional")
        for stage in ("train", "evaluate")
    ),
    ["report"],
]
ALL_STAGES = """
import importlib, json, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    importlib.import_module(f"pipeline.{command[0]}").main()
"""
ELSEWHERE = {
    "PYTHONPATH": str(ROOT),
    "PYTHONHASHSEED": "4711",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "POSIX",
    "TZ": "Pacific/Chatham",
    "COLUMNS": "40",
    "MPLCONFIGDIR": "/nonexistent/matplotlib",
}
COSTS = ("data/costs/", "metrics/costs.md")  # measured times and memory, and nothing else


def everything(project):
    """A digest of each file but locks and costs."""
    return {
        name: value
        for name, value in digests(project).items()
        if not name.endswith(".lock") and not name.startswith(COSTS)
    }


def test_another_folder_hash_seed_locale_and_time_zone_give_the_same_bytes(small_project, stage, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("somewhere") / "a folder für alles"
    elsewhere.mkdir()
    shutil.copy("params.yaml", elsewhere)
    shutil.copytree("models", elsewhere / "models")
    for command in COMMANDS:
        stage(*command)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("LC_") and k not in ("LANG", "OMP_NUM_THREADS")
    }
    done = subprocess.run(
        [sys.executable, "-c", ALL_STAGES, json.dumps(COMMANDS)],
        cwd=elsewhere,
        env=environment | ELSEWHERE,
        capture_output=True,
        timeout=300,
        check=False,
        umask=0o077,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    found, expected = everything(elsewhere), everything(small_project)
    different = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
    assert not different
    assert {"models/students/rl-0/model.safetensors", "plots/comprehensive_comparison.png"} <= found.keys()
