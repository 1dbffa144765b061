"""A miniature of the default scale: the real models, few problems, few steps."""

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from benchmarks.pipeline import SHORT
from tests.conftest import ROOT, make_project

SMALL = {
    "data": SHORT["data"],
    "training": {"epochs": 2, "steps_per_epoch": 5, "batch_size": 8, "validations": 2, "checkpoint_steps": 3},
    "generation": {"max_new_tokens": 24},
    "teacher_logits": {"shard_size": 50},
    "models": {"threads": 1},  # tests run beside each other
}


@pytest.fixture(scope="module")
def tiny_benchmark(tmp_path_factory):
    """Runs a benchmark at its smallest, in a process of its own; what it writes and what it says.

    Warnings are errors there unless the programs that it is timed beside raise them.
    """

    def run(name, *arguments, warnings="error"):
        out = tmp_path_factory.mktemp(name) / "found.json"
        done = subprocess.run(
            [sys.executable, "-W", warnings, "-m", f"benchmarks.{name}", "--tiny", "--out", str(out), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(out.read_text()), done.stdout

    return run


@pytest.fixture
def stage(monkeypatch):
    """Runs a stage of the project in this process, in the working directory."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        importlib.import_module(f"pipeline.{name}").main()

    return run


@pytest.fixture(scope="session")
def prepared_project(tmp_path_factory):
    """A project with small sizes, prepared and with its teacher logits captured; made once, copied for each test."""
    folder = tmp_path_factory.mktemp("prepared") / "project"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_project(folder)
        change_params(
            lambda values: [values["scales"]["mini"][section].update(change) for section, change in SMALL.items()]
        )
        change_params(lambda values: values.update(methods=["rl", "traditional"], seeds=[0]))
        change_params(lambda values: values["report"].update(resamples=200))
        for name in ("prepare", "teacher_logits"):
            patch.setattr(sys, "argv", [name])
            importlib.import_module(f"pipeline.{name}").main()
    return folder


@pytest.fixture
def small_project(prepared_project, tmp_path, monkeypatch):
    """A project with small sizes, prepared and with its teacher logits captured; the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(prepared_project, folder)
    monkeypatch.chdir(folder)
    return folder


def change_params(change):
    """Applies `change` to the values of params.yaml in the working directory."""
    from pathlib import Path

    values = yaml.safe_load(Path("params.yaml").read_text())
    change(values)
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def digests(folder):
    """SHA-256 of every file below a folder."""
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.glob("**/*"))
        if f.is_file()
    }


def run_python(code, cwd, root=ROOT):
    """Runs `code` in a new process that can import the project, or a copy of it at `root`."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
