"""Two machines run a cell each, a third collects them: clones of one repository with a DVC remote in common."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.end_to_end.conftest import SMALL, change_params, digests

pytestmark = pytest.mark.slow

IDENTITY = {f"GIT_{role}_{key}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
RESULTS = ("models/students/{}", "data/runs/{}")


@pytest.fixture
def run(tmp_path):
    """Runs a command, as on a machine that has nothing of DVC's but the clone; its output."""
    environment = (
        os.environ
        | IDENTITY
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
        }
    )

    def run(folder, *command):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def repository(tmp_path, run, monkeypatch):
    """A git repository of the project with tiny params and a DVC remote, all committed."""
    folder = tmp_path / "repository"
    for name in run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if not name.startswith("tests/") and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    monkeypatch.chdir(folder)
    change_params(
        lambda values: [values["scales"]["mini"][section].update(change) for section, change in SMALL.items()]
    )
    change_params(lambda values: values["scales"]["mini"]["training"].update(epochs=1, validations=1))
    change_params(lambda values: values["scales"]["mini"]["grading"].update(workers=1))
    change_params(lambda values: values.update(scale="mini", methods=["rl", "traditional"], seeds=[0]))
    change_params(lambda values: values["report"].update(resamples=200))
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "remote", "add", "--quiet", "--default", "storage", str(tmp_path / "remote"))
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "A small experiment")
    return folder


def stages_run(output):
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage ")]


def cell_log(machine, cell):
    return (machine / "checkpoints/logs" / f"{cell}.log").read_text()


def test_cells_of_two_machines_are_restored_on_a_third(repository, run, tmp_path):
    machines = [tmp_path / name for name in ("first", "second", "collector")]
    for machine in machines:
        run(tmp_path, "git", "clone", "--quiet", str(repository), str(machine))
    first, second, collector = machines

    shared = run(first, "make", "shared")
    evaluated = ["evaluate_teacher", "evaluate_untrained_student"]
    assert sorted(stages_run(shared)) == sorted(
        ["local_inputs", "prepare", "teacher_logits", "curriculum_code", *evaluated]
    )
    for machine, cell in ((first, "rl-0"), (second, "traditional-0")):
        output = run(machine, "make", "worker", f"CELLS={cell}")
        assert stages_run(output) == ["local_inputs"]  # what else is shared came from the remote
        assert stages_run(cell_log(machine, cell)) == [f"train@{cell}", f"evaluate@{cell}"]

    assert stages_run(run(collector, "dvc", "repro", "--pull")) == ["local_inputs", "report"]
    for machine, cell in ((first, "rl-0"), (second, "traditional-0")):
        for pattern in RESULTS:
            assert digests(collector / pattern.format(cell)) == digests(machine / pattern.format(cell))
        for folder in ("training", "evaluation"):
            cost = f"data/costs/{folder}/{cell}.json"
            assert (collector / cost).read_bytes() == (machine / cost).read_bytes()
    assert set(yaml.safe_load((collector / "dvc.lock").read_text())["stages"]) >= {"train@rl-0", "train@traditional-0"}


def test_a_worker_without_a_remote_or_cells_says_what_is_missing(repository, run):
    def refused(*command):
        return run(repository, "bash", "-c", f"! {' '.join(command)} 2>&1")

    assert 'error: no cells are given: make worker CELLS="rl-0 rl-1"' in refused("make", "worker")
    run(repository, "dvc", "remote", "remove", "storage")
    assert "error: name the DVC remote first: dvc remote add" in refused("make", "worker", "CELLS=rl-0")
