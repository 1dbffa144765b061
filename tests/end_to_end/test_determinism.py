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
MEASURED = {"training_seconds", "peak_memory_bytes"}  # what honestly differs between two runs


def without_measurements(value):
    if isinstance(value, dict):
        return {k: without_measurements(v) for k, v in value.items() if k not in MEASURED}
    return [without_measurements(v) for v in value] if isinstance(value, list) else value


def everything(project):
    """A digest of each file; of JSON and the report, all but the measured times and memory."""
    found = digests(project)
    for name in [n for n in found if n.startswith("metrics/") and n.endswith(".json")]:
        found[name] = without_measurements(json.loads((project / name).read_text(encoding="utf-8")))
    report = (project / "metrics/experiment_report.md").read_text(encoding="utf-8")
    head, costs = report.split("## What it cost")
    found["metrics/experiment_report.md"] = head + costs.split("## ")[1]
    return {name: value for name, value in found.items() if not name.endswith(".lock")}


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
