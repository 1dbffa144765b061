"""Problems as tokens."""

import pytest

from pipeline.common.errors import DataError, ModelError, ParamsError
from pipeline.language_models.prompts import Encoder, longest_first
from pipeline.problems.record import Problem


def problem(text="1+1?", solution="$\\boxed{2}$", name="p"):
    return Problem(name, text, solution, 1, "Algebra", "2", "pool")


def test_prompt_then_completion_then_end_token(tokenizer, encoder):
    e = encoder(prompt="Q: {problem}\n").encode(problem())
    assert tokenizer.decode(e.prompt_ids) == "Q: 1+1?\n"
    assert tokenizer.decode(e.completion_ids[:-1]) == "$\\boxed{2}$"
    assert e.completion_ids[-1] == tokenizer.eos_token_id
    assert (e.cut, e.length) == (False, 8 + 7)


def test_braces_in_a_problem_are_not_a_template(tokenizer, encoder):
    prompt = encoder(prompt="{problem}!").encode_prompt("\\frac{a}{problem}")
    assert tokenizer.decode(prompt) == "\\frac{a}{problem}!"


def test_a_completion_that_does_not_fit_is_cut_and_counted(encoder):
    split = encoder(max_tokens=9).encode_all([problem(), problem("x" * 30, name="long")])
    assert [(e.id, e.length, e.cut) for e in split.encoded] == [("p", 9, True)]
    assert (split.cut, split.too_long) == (1, 1)
    assert [p.id for p in split.problems] == ["p"]


def test_no_problem_left_is_an_error(encoder):
    with pytest.raises(DataError, match=r"none of 1 problems has a prompt under models.max_tokens = 3"):
        encoder(max_tokens=3).encode_all([problem()])


def test_a_template_without_a_slot_is_refused(encoder):
    with pytest.raises(ParamsError, match=r"needs the slot \{problem\}"):
        encoder(prompt="Solve:").encode_prompt("x")


def test_a_chat_template_is_used_where_there_is_one_and_asked_for_where_not(encoder, models):
    from pipeline.mini.models import build_tokenizer

    with pytest.raises(ModelError, match="the tokenizer has none"):
        encoder(chat_template=True).encode_prompt("x")
    chatty = build_tokenizer()
    chatty.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    prompt = Encoder(chatty, models(prompt="{problem} Go.", chat_template=True)).encode_prompt("1+1?")
    assert chatty.decode(prompt) == "[user]1+1? Go.>"


def test_a_completion_is_read_back_without_control_tokens(tokenizer, encoder):
    completion = encoder().encode(problem()).completion_ids
    assert encoder().decode(completion.tolist()) == "$\\boxed{2}$"
    assert tokenizer.decode(completion) != "$\\boxed{2}$"


def test_longest_come_first_and_ties_keep_a_fixed_order(encoder):
    encoded = [encoder().encode(problem(text, name=name)) for text, name in (("a", "z"), ("bb", "y"), ("c", "x"))]
    assert [e.id for e in longest_first(encoded)] == ["y", "x", "z"]
