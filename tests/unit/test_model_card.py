"""What a published student's model card says, and what it keeps to itself."""

import ast
import contextlib
import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from report_inputs import EXAMPLES, PROVENANCE, REPORT, STEPS, write_inputs

from pipeline.analysis.reading import read_results
from pipeline.analysis.summary import summarise
from pipeline.common.params import ParamsFile, as_yaml
from pipeline.problems.record import Problem
from pipeline.publishing.finished_run import FinishedRun
from pipeline.publishing.model_card import OTHER, model_card
from pipeline.publishing.run_params import read_run_params
from pipeline.sources import source_of
from tests.conftest import ROOT

HUB_DATA = {
    "source": "hub",
    "hub": {"name": "EleutherAI/hendrycks_math", "revision": "21a5633"},
    "target": {"subjects": None, "levels": None},
    "train_size": None,
    "probe_size": 1,
    "validation_size": 2,
    "test_size": 2,
    "seed": 0,
}


def problem(number, subject, level):
    return Problem(str(number), "Compute $1+1$.", r"\boxed{2}", level, subject, "2", "pool")


PROBLEMS = {
    "train": [
        problem(0, "Algebra", 1),
        problem(1, "Algebra", 3),
        problem(2, "Geometry", 3),
        problem(3, "Algebra", 3),
    ],
    "probe": [problem(6, "Algebra", 1)],
    "validation": [problem(4, "Algebra", 1)],
    "test": [problem(5, "Algebra", 1)],
}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Any run of a made-up comparison: of these methods, with these seeds."""

    def build(method, skills, seeds):
        with contextlib.chdir(tmp_path_factory.mktemp("results")):
            write_inputs(skills, seeds)
            results = read_results(list(skills), seeds)
        run = results.runs[method][0]
        return FinishedRun(
            record=run.record,
            cost=run.cost,
            learning_curve=run.learning_curve,
            metrics=run.evaluation.metrics,
            summary=summarise(results, "mini", REPORT),
            problems=PROBLEMS,
            digests={"train": "0a1b", "probe": "1b2c", "validation": "2c3d", "test": "4e5f"},
            learnt_from=3,
        )

    return build


@pytest.fixture(scope="module")
def rl(run_of):
    return run_of("rl", {"rl": 0.75, "traditional": 0.4}, [4, 5, 6])


@pytest.fixture
def params():
    """Those of the mini scale, with some values of the section `models` changed, and other data if given."""
    read = read_run_params(ParamsFile(ROOT / "params.yaml"), "rl")

    def build(data=None, targets="reference", **models):
        return replace(
            read,
            source=source_of(data, "data") if data else read.source,
            models=replace(read.models, **models),
            teacher_logits=replace(read.teacher_logits, targets=targets),
        )

    return build


def card_of(run, params, model="me/student", licence=OTHER):
    """A card as it is read back from its text."""
    return ModelCard(str(model_card(run, params, model, licence)))


def block(card, language):
    """The one code block of a language in a card."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", card.text, re.DOTALL | re.MULTILINE)
    return code


def with_commits(run, **commits):
    return replace(run, cost=replace(run.cost, provenance=replace(PROVENANCE, commits=commits)))


def test_the_hub_understands_the_header(rl, params):
    run = with_commits(rl, teacher="12fd25f7", student="93efa2f0")
    data = card_of(run, params(HUB_DATA, student="HuggingFaceTB/SmolLM2-135M"), licence="apache-2.0").data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert {"knowledge-distillation", "curriculum-learning", "rl"} <= set(data.tags)
    assert data.model_name == "rl-4"
    assert data.datasets == ["EleutherAI/hendrycks_math"]
    assert data.license == "apache-2.0"
    first = data.eval_results[0]
    assert (first.dataset_type, first.dataset_revision, first.dataset_split) == (
        "EleutherAI/hendrycks_math",
        "21a5633",
        "test",
    )
    assert first.metric_value == round(run.metrics["accuracy"], 6)


def test_the_body_tells_method_data_params_and_learning_curve(rl, params):
    run = with_commits(rl, teacher="12fd25f7", student=None)
    card = card_of(run, params(HUB_DATA, teacher="HuggingFaceTB/SmolLM2-360M"))
    accuracies, kls = (run.learning_curve[f"validation_{name}"].tolist() for name in ("accuracy", "kl"))
    for said in (
        "`HuggingFaceTB/SmolLM2-360M`; the curriculum `rl`, with seed 4,",
        f"{STEPS} optimiser steps on {EXAMPLES} examples: {run.record.tokens:,} tokens",
        "[EleutherAI/hendrycks_math](https://huggingface.co/datasets/EleutherAI/hendrycks_math) at revision `21a5633`",
        "3 training problems could be learnt from; their solutions are the data's own.",
        "| subject | level 1 | level 3 |\n| --- | ---: | ---: |\n| Algebra | 1 | 2 |\n| Geometry | 0 | 1 |\n",
        "| validation | 1 | `2c3d` |",
        f"| step | examples | tokens | training compute | validation accuracy | validation KL | loss |\n"
        f"| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        f"| 0 | 0 | 0 | 0 | {accuracies[0]:.1%} | {kls[0]:.4f} |  |\n",
        f"| 40 | 320 | 28,800 | 28,800 | {accuracies[-1]:.1%} | {kls[-1]:.4f} | 0.5000 |\n",
        "- torch: `2.9.1`",
        "- teacher's commit on the hub: `12fd25f7`",
        "greedy and of at most 96 tokens",
        f"It solves **{run.metrics['accuracy']:.1%}** of 120 test problems",
    ):
        assert said in card.text, said
    assert "student's commit" not in card.text
    assert "Accuracy is greedy, on validation problems" in card.text
    of_some = replace(run, record=replace(run.record, validation_problems=250))
    assert "Accuracy is greedy, on 250 validation problems" in card_of(of_some, params()).text
    assert block(card, "yaml") == as_yaml(params(HUB_DATA, teacher="HuggingFaceTB/SmolLM2-360M").as_file(4))


@pytest.mark.parametrize(
    ("target", "of_what"),
    [
        ({"subjects": None, "levels": None}, ""),
        ({"subjects": ["Algebra", "Number Theory"], "levels": None}, " of Algebra and Number Theory"),
        ({"subjects": ["Algebra"], "levels": [4, 5]}, " of Algebra of levels 4 and 5"),
        ({"subjects": None, "levels": [5]}, " of level 5"),
    ],
)
def test_an_accuracy_says_what_the_test_problems_are_of(rl, params, target, of_what):
    text = card_of(rl, params(HUB_DATA | {"target": target})).text
    assert (
        f"It solves **{rl.metrics['accuracy']:.1%}** of 120 test problems{of_what}. With seeds 4, 5 and 6, rl" in text
    )
    assert (f"Those of probe, validation and test are problems{of_what} alone." in text) == bool(of_what)


def test_a_target_in_a_file_is_named_without_the_machine(rl, params, tmp_path):
    paths = {"train": "math.jsonl", "test": None, "target": str(tmp_path / "exam.jsonl")}
    text = card_of(rl, params(HUB_DATA | {"source": "path", "path": paths})).text
    assert "of 120 test problems of the target, `exam.jsonl`. With" in text


@pytest.mark.parametrize(
    ("data", "models", "said"),
    [
        (
            None,
            {},
            "The models that it comes from and the problems were made by the project curriculum-distillation:",
        ),
        (
            HUB_DATA,
            {"teacher": "me/big"},
            "The project curriculum-distillation made `models/mini/student` itself, from problems that it generates. "
            "The licences of `me/big` and the dataset [Eleuther",
        ),
        (
            None,
            {"student": "me/small", "teacher": "me/big"},
            "The problems are generated by the project curriculum-distillation. The licences of `me/small` and "
            "`me/big` apply.",
        ),
        (
            HUB_DATA,
            {"student": "me/small", "teacher": "me/small"},
            "No licence was chosen for this student. The licences of `me/small` and the dataset [Eleuther",
        ),
    ],
    ids=["mini", "mini student", "generated problems", "hub"],
)
def test_licences_are_those_of_others_alone(rl, params, data, models, said):
    assert said in card_of(rl, params(data, **models)).text.split("## Licence")[1]


def test_every_metric_stands_beside_those_of_the_method_and_the_references(rl, params):
    text = card_of(rl, params()).text
    accuracies = (
        rl.metrics["accuracy"],
        rl.method.accuracy.mean,
        rl.summary.teacher.accuracy,
        rl.summary.untrained_student.accuracy,
    )
    assert "| metric | this student | rl, seeds 4, 5 and 6 | teacher | untrained student |" in text
    assert "| accuracy | " + " | ".join(f"{value:.1%}" for value in accuracies) + " |" in text
    assert "| KL per token (nats) | 0.2500 | 0.2500 | 0.2500 | 0.2500 |" in text


@pytest.mark.parametrize(
    ("method", "skills", "seeds", "said"),
    [
        (
            "rl",
            {"rl": 0.75, "traditional": 0.4},
            [0, 1, 2],
            "**rl needs fewer examples than traditional**: to reach traditional's final accuracy 0.",
        ),
        (
            "rl",
            {"rl": 0.4, "traditional": 0.4},
            [0, 1, 2],
            "**rl: no difference shown** from traditional in the examples",
        ),
        ("rl", {"rl": 0.75, "traditional": 0.4}, [0], "**rl: fewer than 3 seeds cannot tell** whether it"),
        ("traditional", {"rl": 0.75, "traditional": 0.4}, [0, 1], "the baseline of the comparison with rl."),
        ("rl", {"rl": 0.75, "random": 0.4}, [0, 1], "Nothing is compared with traditional, because it is not among"),
    ],
)
def test_the_verdict_is_that_of_the_comparison(run_of, params, method, skills, seeds, said):
    text = card_of(run_of(method, skills, seeds), params()).text
    assert said in text
    assert text.count("needs fewer examples than traditional**") == ("needs fewer" in said)


def test_solutions_of_the_teachers_own_are_owned_up_to(rl, params):
    assert "their solutions are written by the teacher." in card_of(rl, params(targets="teacher")).text


def test_a_local_students_folder_is_no_hub_name_and_stays_at_home(rl, params, tmp_path):
    data = HUB_DATA | {
        "source": "path",
        "path": {"train": str(tmp_path / "math.jsonl"), "test": "../me/test.jsonl", "target": None},
    }
    card = card_of(rl, params(data, student=str(tmp_path / "smollm2"), teacher="../me/big"))
    assert card.data.base_model is None
    assert card.data.datasets is None
    assert "The student `smollm2`" in card.text
    assert str(tmp_path) not in str(card)
    assert "../me" not in str(card)
    sections = yaml.safe_load(block(card, "yaml"))["scales"]["mini"]
    assert (sections["models"]["student"], sections["models"]["teacher"]) == ("smollm2", "big")
    assert sections["data"]["path"] == {"train": "math.jsonl", "test": "test.jsonl", "target": None}


def test_a_folder_has_no_revision_whatever_params_say(rl, params, tmp_path):
    values = params(student=str(tmp_path), student_revision="12fd25f", teacher="org/big", teacher_revision="1a2b3c4")
    models = yaml.safe_load(block(card_of(rl, values), "yaml"))["scales"]["mini"]["models"]
    assert (models["student_revision"], models["teacher_revision"]) == (None, "1a2b3c4")


def test_a_student_of_fewer_layers_says_so(rl, params):
    assert "/student`, of which 10 layers were kept, learnt" in card_of(rl, params(student_layers=10)).text


@pytest.mark.parametrize("prompt", ["{problem}\n", 'Say "it\'s"\n```\n{problem} in \\boxed{}', "/start {problem}"])
@pytest.mark.parametrize("chat_template", [False, True])
def test_the_usage_is_python_that_holds_the_prompt_exactly(rl, params, prompt, chat_template):
    card = card_of(rl, params(prompt=prompt, chat_template=chat_template), model="me/student")
    constants = [node.value for node in ast.walk(ast.parse(block(card, "python"))) if isinstance(node, ast.Constant)]
    assert prompt in constants
    assert "me/student" in constants
    assert ("user" in constants) == chat_template
    assert ("in the tokenizer's chat template" in card.text) == chat_template
    assert yaml.safe_load(block(card, "yaml"))["scales"]["mini"]["models"]["prompt"] == prompt
