"""Problems as tokens."""

import pytest

from pipeline.common.errors import DataError, ModelError, ParamsError
from pipeline.language_models.prompts import encode, encode_all, encode_prompt, longest_first
from pipeline.problems.record import Problem


def problem(text="1+1?", solution="$\\boxed{2}$", name="p"):
    return Problem(name, text, solution, 1, "Algebra", "2")


def test_prompt_then_completion_then_end_token(tokenizer, models):
    e = encode(problem(), tokenizer, models(prompt="Q: {problem}\n"))
    assert tokenizer.decode(e.prompt_ids) == "Q: 1+1?\n"
    assert tokenizer.decode(e.completion_ids[:-1]) == "$\\boxed{2}$"
    assert e.completion_ids[-1] == tokenizer.eos_token_id
    assert (e.cut, e.length) == (False, 8 + 7)


def test_braces_in_a_problem_are_not_a_template(tokenizer, models):
    assert (
        tokenizer.decode(encode_prompt("\\frac{a}{problem}", tokenizer, models(prompt="{problem}!")))
        == "\\frac{a}{problem}!"
    )


def test_a_completion_that_does_not_fit_is_cut_and_counted(tokenizer, models):
    encoding = encode_all([problem(), problem("x" * 30, name="long")], tokenizer, models(max_tokens=9))
    assert [(e.id, e.length, e.cut) for e in encoding.encoded] == [("p", 9, True)]
    assert (encoding.cut, encoding.too_long) == (1, 1)
    assert [p.id for p in encoding.problems] == ["p"]


def test_no_problem_left_is_an_error(tokenizer, models):
    with pytest.raises(DataError, match=r"none of 1 problems has a prompt under models.max_tokens = 3"):
        encode_all([problem()], tokenizer, models(max_tokens=3))


def test_a_template_without_a_slot_is_refused(tokenizer, models):
    with pytest.raises(ParamsError, match=r"needs the slot \{problem\}"):
        encode_prompt("x", tokenizer, models(prompt="Solve:"))


def test_a_chat_template_is_used_where_there_is_one_and_asked_for_where_not(tokenizer, models):
    from pipeline.mini_models import build_tokenizer

    with pytest.raises(ModelError, match="the tokenizer has none"):
        encode_prompt("x", tokenizer, models(chat_template=True))
    chatty = build_tokenizer()
    chatty.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    assert chatty.decode(encode_prompt("1+1?", chatty, models(prompt="{problem} Go.", chat_template=True))) == (
        "[user]1+1? Go.>"
    )


def test_longest_come_first_and_ties_keep_a_fixed_order(tokenizer, models):
    encoded = [
        encode(problem(text, name=name), tokenizer, models()) for text, name in (("a", "z"), ("bb", "y"), ("c", "x"))
    ]
    assert [e.id for e in longest_first(encoded)] == ["y", "x", "z"]
