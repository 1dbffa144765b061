"""Whatever is wrong with the input, the user reads one sentence, and nothing is written."""

import importlib
import shutil
import sys

import pytest

from tests.end_to_end.conftest import digests
from tests.faults.harness import new_project
from tests.malformed.corpus import CASES


def run(stage, *_):
    importlib.import_module(f"pipeline.{stage}").main()


@pytest.fixture(scope="module")
def sound_project(tmp_path_factory):
    """A small project whose problems are prepared and whose teacher logits are captured."""
    folder = tmp_path_factory.mktemp("sound") / "project"
    new_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("prepare", "teacher_logits"):
            patch.setattr(sys, "argv", [stage])
            run(stage)
    return folder


def contents(folder):
    return {name: digest for name, digest in digests(folder).items() if not name.endswith(".lock")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_input_is_told_in_one_sentence(sound_project, tmp_path, monkeypatch, capsys, case):
    project = tmp_path / "project"
    shutil.copytree(sound_project, project)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", list(case.command))
    case.arrange()
    before = contents(project)
    with pytest.raises(SystemExit) as stopped:
        run(*case.command)
    assert stopped.value.code == 1
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    missing = [part for part in case.sentence if part not in sentence]
    assert not missing, sentence
    assert contents(project) == before
