"""The mini scale's tokenizer and models load as any Hugging Face model does."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.common.errors import DataError
from pipeline.mini.models import MiniShape, build_model
from pipeline.mini.problems import LEVELS, TASKS, generate
from pipeline.problems.record import Problem


def test_a_character_is_a_token_and_a_latex_command_is_one(tokenizer):
    assert tokenizer.tokenize("$3+4=7,\\boxed{\\frac{7}{8}}$") == [
        "$",
        "3",
        "+",
        "4",
        "=",
        "7",
        ",",
        "\\boxed",
        "{",
        "\\frac",
        "{",
        "7",
        "}",
        "{",
        "8",
        "}",
        "}",
        "$",
    ]
    assert len(tokenizer.encode("Find $f(3)$.\n")) == 13


def test_auto_classes_load_the_same_tokenizer_and_model_from_the_folder(tokenizer, tmp_path):
    torch.manual_seed(0)
    model = build_model(MiniShape(16, 1, 2, 1, 24), tokenizer).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(0)
    for subject in TASKS:
        for level in LEVELS:
            problem = generate(subject, level, "study", rng)
            text = problem.problem + "\n" + problem.solution
            ids = loaded.encode(text)
            assert ids == tokenizer.encode(text)
            assert loaded.decode(ids) == text
    assert (loaded.eos_token_id, loaded.pad_token_id, len(loaded)) == (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        102,
    )
    ids = torch.tensor([loaded.encode("Solve $x+3=5$.\n")])
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(reloaded(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("problem", "solution", "lost"), [("2 ÷ 3", "$\\boxed{6}$", "'÷'"), ("2 * 3", "é\\boxed{6}", "'é'")]
)
def test_characters_without_a_token_are_refused_by_name(encoder, problem, solution, lost):
    with pytest.raises(DataError, match=f"problem 'p1' has characters this tokenizer cannot write .{lost}"):
        encoder().encode(Problem("p1", problem, solution, 1, "Algebra", "6", "pool"))
