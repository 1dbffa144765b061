"""What a student's model card says, and what it keeps to itself."""

import ast
import re
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard

from pipeline.problems.record import Problem
from pipeline.training.model_card import TrainedStudent, model_card


def problem(number, subject, level):
    return Problem(str(number), "Compute $1+1$.", r"\boxed{2}", level, subject, "2")


STUDENT = TrainedStudent(
    method="rl",
    seed=4,
    teacher="HuggingFaceTB/SmolLM2-360M",
    student="HuggingFaceTB/SmolLM2-135M",
    prompt="Problem: {problem}\nSolution: ",
    chat_template=False,
    max_new_tokens=24,
    params={
        "models": {"teacher": "HuggingFaceTB/SmolLM2-360M", "student": "HuggingFaceTB/SmolLM2-135M", "threads": 1},
        "curriculum": {"tau": 0.3, "reward": "knowledge_transfer"},
    },
    trained_on=[
        problem(0, "Algebra", 1),
        problem(1, "Algebra", 3),
        problem(2, "Geometry", 3),
        problem(3, "Algebra", 3),
    ],
    digests={"train.jsonl": "0a1b", "validation.jsonl": "2c3d"},
    steps=1200,
    examples=9600,
    tokens=1234567,
    curve=pd.DataFrame(
        {"step": ["0", "1200"], "validation_accuracy": ["0.05", "0.285714"], "loss": ["", "0.25"]}, dtype=str
    ),
)


def block(card, language):
    """The one code block of a language in a card."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", card.text, re.DOTALL | re.MULTILINE)
    return code


def test_the_hub_understands_the_header():
    data = ModelCard(str(model_card(STUDENT))).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M"
    assert {"knowledge-distillation", "curriculum-learning", "rl"} <= set(data.tags)
    assert data.model_name == "rl-4"
    assert [(r.metric_type, r.dataset_split, r.metric_value) for r in data.eval_results] == [
        ("accuracy", "validation", 0.285714)
    ]
    assert data.license is None  # nobody told it


def test_the_body_tells_method_data_params_and_learning_curve():
    card = model_card(STUDENT)
    for said in (
        "`HuggingFaceTB/SmolLM2-360M`; the curriculum `rl`, with seed 4,",
        "1,200 optimiser steps on 9,600 examples: 1,234,567 tokens",
        "4 problems",
        "| subject | level 1 | level 3 |\n| --- | --- | --- |\n| Algebra | 1 | 2 |\n| Geometry | 0 | 1 |\n",
        "SHA-256 of `validation.jsonl`: `2c3d`",
        "| step | validation_accuracy | loss |\n| --- | --- | --- |\n| 0 | 0.05 |  |\n| 1200 | 0.285714 | 0.25 |\n",
        "`metrics/runs/rl-4.json`",
    ):
        assert said in card.text
    assert yaml.safe_load(block(card, "yaml")) == STUDENT.params


def test_a_local_students_folder_is_no_hub_name_and_stays_at_home(tmp_path):
    folder = tmp_path / "smollm2"
    folder.mkdir()
    params = STUDENT.params | {"models": STUDENT.params["models"] | {"student": str(folder)}}
    text = str(model_card(replace(STUDENT, student=str(folder), params=params)))
    assert ModelCard(text).data.base_model is None
    assert "The student `smollm2`" in text
    assert str(tmp_path) not in text
    assert yaml.safe_load(block(ModelCard(text), "yaml"))["models"]["student"] == "smollm2"


@pytest.mark.parametrize("prompt", ["{problem}\n", 'Say "it\'s"\n```\n{problem} in \\boxed{}'])
@pytest.mark.parametrize("chat_template", [False, True])
def test_the_usage_is_python_that_holds_the_prompt_exactly(prompt, chat_template):
    code = block(model_card(replace(STUDENT, prompt=prompt, chat_template=chat_template)), "python")
    constants = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert prompt in constants
    assert ("user" in constants) == chat_template
