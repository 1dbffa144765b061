import pytest

from pipeline.evaluation.minerva import is_right, normalised
from pipeline.problems.grading import MAX_ANSWER_LENGTH

# Worked out by hand from the rules as published (arXiv 2206.14858, appendix D.1).
NORMALISED = {
    r"x=5": "5",
    r"\frac12": r"\frac{1}{2}",
    r"\frac{1}{2}": r"\frac{1}{2}",
    r"\sqrt3": r"\sqrt{3}",
    r"\sqrt34": r"\sqrt{3}4",
    "10,000": "10000",
    r"10,\!000": "10000",
    "1,2": "12",
    "1,-2": "1,-2",
    r"5\text{ cm}^2": "5",
    r"5\mbox{ feet}": "5",
    r"90^\circ": "90",
    r"\text{even}": "even",
    r"\$18.90": "18.90",
    r"6, 8\text{, and }10": "6,8,and10",
    r"6, 8\text{ and }10": "6810",  # a list of digits looks like 10,000 to the rules
    "$9$.": "9",
    r"64\%": r"64\%",
    "a pizza pie": "pizzpie",
}


@pytest.mark.parametrize(("answer", "expected"), NORMALISED.items(), ids=NORMALISED)
def test_answers_are_normalised_by_the_published_rules(answer, expected):
    assert normalised(answer) == expected


def test_texts_are_compared_after_normalisation():
    assert is_right(r"\frac{1}{2}", r"\frac12")
    assert not is_right(r"\frac{1}{2}", "0.5")
    assert not is_right("9", None)
    assert not is_right("9" * (MAX_ANSWER_LENGTH + 1), "9" * (MAX_ANSWER_LENGTH + 1))
