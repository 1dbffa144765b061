"""Whatever is wrong, the user sees one sentence, the exit status is not 0, and nothing half-written is left."""

import json
import math
import shutil

import pytest

from pipeline.common.locks import only_one
from pipeline.registry import names_in
from tests.end_to_end.conftest import change_params, digests

MINI = ("scales", "mini")


def setting(*path, value):
    """A change of params.yaml."""

    def change(values):
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


def refused(stage, capsys, *command):
    """The sentence with which a stage refuses."""
    with pytest.raises(SystemExit) as stopped:
        stage(*command)
    assert stopped.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("path", "value", "command", "sentence"),
    [
        ((*MINI, "data", "source"), "hub", ("prepare",), "cannot"),
        (
            (*MINI, "data", "source"),
            "elsewhere",
            ("prepare",),
            f"unknown source 'elsewhere'; pipeline/sources has {', '.join(names_in('pipeline.sources'))}",
        ),
        ((*MINI, "data", "train_size"), 71, ("prepare",), "multiple of 35"),
        (("scale",), "maxi", ("prepare",), "scales.maxi.data is missing ('maxi' is not one of: mini, smollm2, qwen2)"),
        (("curricula", "rl", "tau"), -1.0, ("train", "--method", "rl", "--seed", "0"), "curricula.rl.tau"),
        (
            (*MINI, "training", "batch_size"),
            0,
            ("train", "--method", "rl", "--seed", "0"),
            "scales.mini.training.batch_size: input should be greater than 0 (it is 0)",
        ),
        ((*MINI, "training", "learning_rate"), "fast", ("train", "--method", "rl", "--seed", "0"), "(it is 'fast')"),
        (
            (*MINI, "training", "divergence"),
            "chi2",
            ("train", "--method", "rl", "--seed", "0"),
            "'forward_kl', 'reverse_kl'",
        ),
        ((*MINI, "models", "teacher"), "no/such-model", ("teacher_logits",), "'no/such-model' cannot be loaded"),
        ((*MINI, "models", "prompt"), "Solve:", ("teacher_logits",), "it needs the slot {problem}"),
        ((*MINI, "models", "chat_template"), True, ("teacher_logits",), "the tokenizer has none"),
        ((*MINI, "models", "device"), "cuda", ("teacher_logits",), "torch finds no CUDA device"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_is_written(
    project, stage, capsys, path, value, command, sentence
):
    if command[0] != "prepare":
        stage("prepare")
    change_params(setting(*path, value=value))
    before = written(project)
    assert sentence in refused(stage, capsys, *command)
    assert written(project) == before


def written(project):
    """The bytes of everything but locks."""
    return {name: digest for name, digest in digests(project).items() if not name.endswith(".lock")}


def test_an_unknown_curriculum_is_named_with_those_there_are(project, stage, capsys):
    sentence = refused(stage, capsys, "train", "--method", "no_such_curriculum", "--seed", "0")
    known = ", ".join(names_in("pipeline.curricula"))
    assert f"unknown curriculum 'no_such_curriculum'; pipeline/curricula has {known}" in sentence


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"problem": "p", "solution": "\\\\boxed{1}", "level": "Level 1"}', "line 2"),
        ('{"problem": "p", "solution"', "line 2"),
    ],
)
def test_a_malformed_line_is_named_and_no_split_is_written(project, stage, capsys, line, sentence):
    good = json.dumps({"problem": "1+1?", "solution": "\\boxed{2}", "level": "Level 1", "type": "Algebra"})
    (project / "train.jsonl").write_text(f"{good}\n{line}\n")
    change_params(setting(*MINI, "data", "source", value="path"))
    change_params(setting(*MINI, "data", "path", "train", value="train.jsonl"))
    refusal = refused(stage, capsys, "prepare")
    assert "train.jsonl" in refusal
    assert sentence in refusal
    assert not (project / "data").exists()


def test_stages_say_which_earlier_one_is_missing(project, stage, capsys):
    assert "run `dvc repro prepare` first" in refused(stage, capsys, "teacher_logits")
    stage("prepare")
    assert "manifest.json is missing" in refused(stage, capsys, "train", "--method", "rl", "--seed", "0")


def test_a_vocabulary_mismatch_is_refused(project, stage, capsys):
    from transformers import AutoTokenizer

    stage("prepare")
    other = AutoTokenizer.from_pretrained("models/mini/student")
    other.add_tokens(["zweiundvierzig"])
    shutil.copytree("models/mini/student", "other_student")
    other.save_pretrained("other_student")
    change_params(setting(*MINI, "models", "student", value="other_student"))
    sentence = refused(stage, capsys, "teacher_logits")
    assert "(102 tokens) and student 'other_student' (103 tokens) have different vocabularies" in sentence


def test_a_diverging_run_stops_with_its_step_and_leaves_no_student(small_project, stage, capsys):
    change_params(setting(*MINI, "training", "learning_rate", value=1e18))
    change_params(setting(*MINI, "training", "warmup_share", value=0.0))
    sentence = refused(stage, capsys, "train", "--method", "traditional", "--seed", "0")
    assert "step " in sentence
    assert "lower training.learning_rate" in sentence
    assert not (small_project / "models/students").exists()
    assert not (small_project / "data/runs").exists()


def test_logits_of_other_problems_or_another_prompt_are_refused(small_project, stage, capsys):
    change_params(setting(*MINI, "data", "seed", value=5))
    stage("prepare")
    assert "data/teacher_logits/train was captured with problems = " in refused(
        stage, capsys, "train", "--method", "rl", "--seed", "0"
    )
    change_params(setting(*MINI, "models", "prompt", value="Q: {problem}\n"))
    assert "was captured with prompt = '{problem}\\n'" in refused(
        stage, capsys, "train", "--method", "rl", "--seed", "0"
    )


def test_an_unknown_reward_is_named_with_those_there_are(small_project, stage, capsys):
    change_params(setting("curricula", "rl", "reward", value="fame"))
    sentence = refused(stage, capsys, "train", "--method", "rl", "--seed", "0")
    known = ", ".join(names_in("pipeline.bandit.rewards"))
    assert f"unknown reward 'fame'; pipeline/bandit/rewards has {known}" in sentence


def test_an_altered_teacher_makes_its_logits_useless(small_project, stage, capsys):
    weights = small_project / "models/mini/teacher/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "was captured with teacher = " in refused(stage, capsys, "train", "--method", "rl", "--seed", "0")


def test_a_temperature_the_cache_does_not_hold_is_refused(small_project, stage, capsys):
    change_params(setting(*MINI, "training", "temperature", value=math.e))
    assert "holds the temperatures [1.0, 2.0]" in refused(stage, capsys, "train", "--method", "rl", "--seed", "0")


def test_a_second_process_for_the_same_run_is_refused(small_project, stage, capsys):
    with only_one("train-rl-0"):
        assert "another process is already working on train-rl-0" in refused(
            stage, capsys, "train", "--method", "rl", "--seed", "0"
        )


def test_logits_of_another_scheme_are_refused(small_project, stage, capsys):
    change_params(setting(*MINI, "teacher_logits", "scheme", value="random_draws"))
    assert "was captured with scheme = 'top_k', but this run needs 'random_draws'; run `dvc repro" in refused(
        stage, capsys, "train", "--method", "rl", "--seed", "0"
    )


def test_a_cache_that_keeps_little_of_the_teacher_is_refused_unless_all_is_allowed_or_it_is_not_learnt_from(
    small_project, stage, capsys
):
    train = "train", "--method", "traditional", "--seed", "0"
    change_params(setting(*MINI, "training", "temperature", value=2.0))
    change_params(setting(*MINI, "training", "most_tail_mass", value=0.001))
    sentence = refused(stage, capsys, *train)
    assert "data/teacher_logits/train: at temperature 2.0, 1% of the teacher's mass lies in tails" in sentence
    assert "more than training.most_tail_mass 0.001" in sentence
    assert "set teacher_logits.scheme to top_k_tail_draws with 2.0 among draw_temperatures, or raise" in sentence
    change_params(setting(*MINI, "training", "distillation_weight", value=0.0))
    stage(*train)
    change_params(setting(*MINI, "training", "distillation_weight", value=0.5))
    change_params(setting(*MINI, "training", "most_tail_mass", value=1.0))
    stage(*train)


@pytest.mark.parametrize("scheme", ["random_draws", "top_k_tail_draws"])
@pytest.mark.parametrize("divergence", ["reverse_kl", "jsd"])
def test_draws_are_refused_for_a_divergence_whose_gradient_they_would_bias(project, stage, capsys, divergence, scheme):
    change_params(setting(*MINI, "teacher_logits", "scheme", value=scheme))
    change_params(setting(*MINI, "training", "divergence", value=divergence))
    assert (
        f"training.divergence is {divergence}, whose gradient is biased on random draws of the teacher; set it"
        in refused(stage, capsys, "train", "--method", "rl", "--seed", "0")
    )
