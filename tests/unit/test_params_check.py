"""params.yaml is refused as a whole before any stage: file, key, and what is allowed, in one sentence."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import local_inputs, train
from pipeline.common.errors import ParamsError
from pipeline.common.params import ParamsFile
from pipeline.params_check import require_runnable
from pipeline.registry import names_in
from tests.conftest import ROOT

VALUES = yaml.safe_load((ROOT / "params.yaml").read_text()) | {
    "scale": "mini",
    "methods": ["rl", "traditional"],
    "replays": [],
    "seeds": [0, 1],
}
REPLAYING = ["rl_permuted", "static_mixture"]
OTHERS = ", ".join(name for name in names_in("pipeline.curricula") if name not in REPLAYING)
REWARDS = ", ".join(names_in("pipeline.bandit.rewards"))
MINI, RL = "scales.mini", "curricula.rl"
MISSING = object()


def changed(changes):
    """VALUES with values at dotted keys."""
    values = copy.deepcopy(VALUES)
    for path, value in changes.items():
        *folders, last = path.split(".")
        section = values
        for folder in folders:
            section = section[folder]
        if value is MISSING:
            del section[last]
        else:
            section[last] = value
    return values


@pytest.fixture
def file_of(tmp_path):
    """A params.yaml with values at dotted keys changed."""

    def build(changes):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed(changes), sort_keys=False))
        return ParamsFile(tmp_path / "params.yaml")

    return build


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale": "smollm2"},
        {"scale": "qwen2"},
        {"methods": OTHERS.split(", "), "replays": REPLAYING},
        {"curricula.random": {}},  # not to be compared
        {"scales.qwen2.training": {}},  # not active
        {f"{RL}.reward": "multi_objective"},
        {f"{RL}.rewards": {"target_similarity": {"problems": 2, "first": 1, "every": 1}}},
        {f"{MINI}.teacher_logits.scheme": "random_draws"},
        {f"{RL}.reward": "learnability", f"{RL}.policy": "boltzmann"},
        {"launch": "torchrun --standalone --nproc-per-node 2"},
    ],
    ids=str,
)
def test_what_can_be_run_passes(file_of, changes):
    require_runnable(file_of(changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scale": "tiny"}, "scale: there is no 'tiny'; choose from mini, smollm2, qwen2"),
        ({"scale": MISSING}, "scale is missing"),
        ({"lunch": "python"}, "lunch: there is no such key; mend its spelling or remove it"),
        ({"methods": ["rl", "traditionel"]}, f"methods: there is no curriculum 'traditionel'; choose from {OTHERS}"),
        ({f"{MINI}.data.target.subjects": ["Algebr"]}, "Algebr"),
        ({f"{MINI}.data.target.levels": [9]}, "9"),
        ({f"{MINI}.data.target.levels": [1, 1]}, f"{MINI}.data.target.levels: it names 1 twice; name each once"),
        ({f"{MINI}.data.train_size": 50}, "data.train_size is 50, but mini_math needs a multiple of 35"),
        ({f"{MINI}.data.source": "path"}, "data.source is path but data.path.train is null; set it to"),
        (
            {f"{MINI}.data.path.train": 5},
            f"{MINI}.data.path.train: input should be a valid string, or a list (it is 5)",
        ),
        ({"methods": []}, "methods: list should have at least 1 item"),
        ({"methods": ["rl", "rl"]}, "methods: it names rl twice; name each once"),
        (
            {"methods": ["rl", "rl_permuted"]},
            f"methods: rl_permuted replays another's run; move it to replays, or choose from {OTHERS}",
        ),
        (
            {"replays": ["traditionel"]},
            "replays: there is no curriculum 'traditionel'; choose from rl_permuted, static_mixture",
        ),
        (
            {"replays": ["ddk"]},
            "replays: ddk replays no run; move it to methods, or choose from rl_permuted, static_mixture",
        ),
        (
            {"methods": ["random"], "replays": ["rl_permuted"]},
            "replays: rl_permuted replays the run of rl with the same seed; add rl to methods",
        ),
        (
            {"replays": ["rl_permuted"], "curricula.rl_permuted.arms": "level"},
            "curricula.rl_permuted.arms: it is level, and rl_permuted replays the run of rl, where it is "
            "level_subject; set it to level_subject",
        ),
        (
            {"replays": ["static_mixture"], f"{RL}.draws": "independent"},
            "curricula.static_mixture.draws: it is systematic, and static_mixture replays the run of rl, where it is "
            "independent; set it to independent",
        ),
        ({"seeds": ["a"]}, "seeds.0: input should be a valid integer (it is 'a')"),
        ({"seeds": [0, 1.5]}, "seeds.1: input should be a valid integer (it is 1.5)"),
        ({"seeds": ["1"]}, "seeds.0: input should be a valid integer (it is '1')"),
        ({"seeds": [True]}, "seeds.0: input should be a valid integer (it is True)"),
        ({"seeds": [-1]}, "seeds.0: input should be greater than or equal to 0 (it is -1)"),
        ({"seeds": [1, 0, 1]}, "seeds: it names 1 twice; name each once"),
        ({"seeds": 5}, "seeds: input should be a list (it is 5)"),
        ({"launch": ["torchrun"]}, "launch: input should be a valid string (it is ['torchrun'])"),
        ({"report.confidence": 95}, "report.confidence: input should be less than 1 (it is 95)"),
        ({"pretrain.teacher.steps": 0}, "pretrain.teacher.steps: input should be greater than 0 (it is 0)"),
        ({f"{MINI}.training.epochs": "3"}, f"{MINI}.training.epochs: input should be a valid integer (it is '3')"),
        ({f"{MINI}.training.epochs": MISSING}, f"{MINI}.training.epochs: field required"),
        ({f"{MINI}.trainng": {}}, f"{MINI}.trainng: there is no such key; mend its spelling or remove it"),
        ({f"{MINI}.models.device": "gpu"}, f"{MINI}.models.device: input should be 'cpu' or 'cuda' (it is 'gpu')"),
        ({f"{MINI}.generation.batch_size": 0}, f"{MINI}.generation.batch_size: input should be greater than 0"),
        ({f"{MINI}.grading.seconds": 0}, f"{MINI}.grading.seconds: input should be greater than 0"),
        ({f"{MINI}.evaluation.engine": "x"}, f"{MINI}.evaluation.engine: input should be 'transformers' or 'vllm'"),
        ({f"{MINI}.teacher_logits.scheme": "all"}, f"{MINI}.teacher_logits.scheme: input should be 'top_k', 'random_"),
        ({f"{MINI}.teacher_logits.temperatures": [2.0]}, "teacher_logits.temperatures must hold 1.0"),
        ({f"{MINI}.data.probe_size": 0}, f"{MINI}.data.probe_size: input should be greater than 0 (it is 0)"),
        ({f"{MINI}.data.mini_math.skew": -1}, f"{MINI}.data.mini_math.skew: input should be greater than or equal"),
        (
            {f"{MINI}.training.divergence": "jsd", f"{MINI}.teacher_logits.scheme": "random_draws"},
            "training.divergence is jsd, whose gradient is biased on random draws of the teacher; set it to",
        ),
        (
            {f"{MINI}.training.temperature": 3.0},
            f"{MINI}.training.temperature: it is 3.0, and teacher_logits.temperatures are 1.0, 2.0; change it, or add",
        ),
        ({f"{RL}.alpha": 2}, f"{RL}.alpha: input should be less than or equal to 1 (it is 2)"),
        ({f"{RL}.arms": "topic"}, f"{RL}.arms: input should be 'level', 'subject', 'level_subject', 'source' or "),
        ({"curricula.traditional": MISSING}, "curricula.traditional is missing ('traditional' is not one of: rl, "),
        ({f"{RL}.reward": "learnability"}, "learnability is never below zero; set its policy to boltzmann, and tau to"),
        ({f"{RL}.reward": "fame"}, f"{RL}.reward: there is no reward 'fame'; choose from {REWARDS}"),
        ({f"{RL}.rewards.fame": {}}, f"{RL}.rewards: there is no reward 'fame'; choose from {REWARDS}"),
        ({f"{RL}.rewards.target_gain.memory": 1}, f"{RL}.rewards.target_gain.memory: input should be less than 1"),
        ({f"{RL}.reward": "learnability", f"{RL}.rewards": {}}, f"{RL}.rewards.learnability is missing; add it, with"),
        (
            {"methods": ["ucb"], "curricula.ucb.rewards.learnability": {"p": 1}},
            "curricula.ucb.rewards.learnability.p: there is no such key",
        ),
        (
            {
                f"{RL}.reward": "multi_objective",
                f"{RL}.rewards.multi_objective.weights": {"target_gain": 1.0, "target_similarity": 1.0},
            },
            "the curriculum's rewards.multi_objective.weights names rewards that look at the probe differently",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_run_is_one_sentence_that_names_file_key_and_what_is_allowed(file_of, changes, sentence):
    with pytest.raises(ParamsError, match=f"params.yaml: .*{re.escape(sentence)}") as caught:
        require_runnable(file_of(changes))
    assert "\n" not in str(caught.value)


def test_the_first_stage_refuses_before_it_writes_anything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(changed({"seeds": ["a"]})))
    with pytest.raises(SystemExit):
        local_inputs.main()
    assert capsys.readouterr().err == "error: params.yaml: seeds.0: input should be a valid integer (it is 'a')\n"
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_dvc_runs_the_check_before_it_looks_for_what_a_wrong_name_lacks(tmp_path, monkeypatch):
    """With dvc.yaml as it is: other stages depend on params and files of that name."""
    for change in ({"scale": "tiny"}, {"methods": ["rl", "traditionel"]}, {"seeds": ["a"]}):
        folder = tmp_path / next(iter(change))
        folder.mkdir()
        (folder / "params.yaml").write_text(yaml.safe_dump(changed(change)))
        (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
        script = (
            "from dvc.repo import Repo\nfrom dvc.cli import main\nimport sys\n"
            "Repo.init(no_scm=True).close()\nsys.exit(main(['repro']))"
        )
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        site = {"PYTHONPATH": str(ROOT), "PATH": path, "DVC_SITE_CACHE_DIR": str(folder / "site")}
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            env=os.environ | site,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode != 0
        assert f"error: params.yaml: {next(iter(change))}" in done.stderr, done.stdout + done.stderr
        assert not (folder / "data").exists()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["--method", "static_mixture"], "methods names static_mixture; move it to replays"),
        (["--method", "ddk", "--replay"], "replays names ddk; move it to methods"),
    ],
)
def test_train_refuses_a_cell_whose_stage_would_not_wait_for_what_it_reads(
    project, monkeypatch, capsys, command, sentence
):
    monkeypatch.setattr(sys, "argv", ["train", *command, "--seed", "0"])
    with pytest.raises(SystemExit, match="1"):
        train.main()
    assert capsys.readouterr().err == f"error: params.yaml: {sentence}\n"
