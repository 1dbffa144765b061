"""A change of a local file or model reruns the stages that open it, and no other."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from pipeline import local_inputs
from tests.conftest import ROOT

# DVC 3.67 asks pygtrie for what the newest will take back
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")

OPEN_TOKENIZERS = {"teacher_logits", "train@rl-0", "evaluate@rl-0", "evaluate_teacher", "evaluate_untrained_student"}


def name_of(out):
    return next(iter(out)) if isinstance(out, dict) else out


def paths_of(stage):
    return [*stage["deps"], *(name_of(out) for kind in ("outs", "metrics", "plots") for out in stage.get(kind, []))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The stages of dvc.yaml, without their code, on local data and models, as if `dvc repro` had finished them."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
        for name in ("teacher/config.json", "student/config.json", "teacher/a.safetensors", "student/a.safetensors"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(name)
        Path("train.jsonl").write_text("problems")
        values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"methods": ["rl"], "seeds": [0]}
        scale = values["scales"]["mini"]
        scale["models"] |= {"teacher": "teacher", "student": "student"}
        scale["data"] |= {"source": "path", "path": {"train": "train.jsonl", "test": None, "target": None}}
        Path("params.yaml").write_text(yaml.safe_dump(values))
        local_inputs.main()
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
        for stage in stages.values():
            stage["deps"] = [dep for dep in stage.get("deps", []) if not dep.startswith("pipeline")]
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
        for path in (path for stage in stages.values() for path in paths_of(stage)):
            stand_in(Path(path.replace("${item.method}", "rl").replace("${item.seed}", "0")))
        with Repo.init(no_scm=True) as repo:
            repo.commit(force=True)
    return folder


def stand_in(path):
    """A file, or a folder with one, in the place of a stage's."""
    if not path.exists():
        file = path if path.suffix else path / "content"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(path))


@pytest.fixture
def project(finished, monkeypatch):
    monkeypatch.chdir(finished)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(finished / "site"))


@contextmanager
def changed(path):
    before = Path(path).read_text() if Path(path).exists() else None
    Path(path).write_text("changed")
    yield
    Path(path).unlink() if before is None else Path(path).write_text(before)


def changed_stages():
    local_inputs.main()
    with Repo() as repo:
        return set(repo.status())


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("student/README.md", set()),
        ("train.jsonl", {"prepare"}),
        ("teacher/a.safetensors", {"teacher_logits", "evaluate_teacher"}),
        ("teacher/config.json", OPEN_TOKENIZERS),
        ("student/a.safetensors", {"train@rl-0", "evaluate_untrained_student"}),
        ("student/config.json", OPEN_TOKENIZERS),
    ],
)
def test_a_changed_local_file_reruns_the_stages_that_open_it(project, path, stages):
    with changed(path):
        assert changed_stages() == {"local_inputs", *stages}


def test_dvc_looks_at_every_repro_and_runs_nothing_else_if_nothing_has_changed(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    with Repo() as repo:
        assert [stage.addressing for stage in repo.reproduce()] == ["local_inputs"]
