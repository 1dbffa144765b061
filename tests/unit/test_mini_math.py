import random
import re
from fractions import Fraction
from statistics import mean

import pytest

from pipeline.mini.problems import LEVELS, TASKS, generate, generate_distinct, pool_of
from pipeline.preparation.records import SUBJECTS
from pipeline.problems.boxed import last_boxed

CELLS = [(subject, level) for subject in TASKS for level in LEVELS]


@pytest.fixture(scope="module")
def sample():
    return {cell: generate_distinct(*cell, 120, random.Random(7)) for cell in CELLS}


def value(expression: str) -> Fraction:
    """The value of sums of products and quotients of integers, without parentheses."""
    assert re.fullmatch(r"-?\d+(?:[-+*/]-?\d+)*", expression), expression
    total = Fraction(0)
    for sign, term in re.findall(r"(?:(?<=\d)|^)([-+]?)(\d+(?:[*/]\d+)*)", expression):
        product = Fraction(1)
        for operator, factor in re.findall(r"([*/]?)(\d+)", term):
            product = product / int(factor) if operator == "/" else product * int(factor)
        total += -product if sign == "-" else product
    return total


def worked_steps(solution: str) -> list[list[str]]:
    """The parts of every equation chain in a solution, without the boxed answer and without bare unknowns."""
    body = solution.removeprefix("$").split(",\\boxed")[0]
    return [[part for part in step.split("=") if not re.search("[a-z]", part)] for step in body.split(",")]


def substituted(equation: str, x: int) -> str:
    """An equation in one unknown with `x` put in: a(v+c) becomes a*(x+c), worked out, and av becomes a*x."""
    equation = re.sub(r"\([a-z]\+(\d+)\)", lambda match: f"*{x + int(match[1])}", equation)
    return re.sub("[a-z]", str(x), re.sub(r"(?<=\d)[a-z]", f"*{x}", equation))


def test_the_checker_itself_knows_arithmetic():
    assert value("2+3*4-6/2") == 11
    assert value("7-12") == -5
    assert value("-5") == -5
    assert value("1/3") == Fraction(1, 3)


def test_subjects_are_those_of_math():
    assert tuple(TASKS) == SUBJECTS


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_cell_holds_enough_distinct_true_problems(sample, cell):
    problems = sample[cell]
    assert len({p.problem for p in problems}) == 120
    for p in problems:
        assert (p.subject, p.level, p.answer) == (*cell, last_boxed(p.solution))
        steps = worked_steps(p.solution)
        assert len(steps) == p.steps
        for parts in steps:
            assert len(parts) == 2, p.solution
            assert len({value(part) for part in parts}) == 1, p.solution


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_boxed_answer_follows_from_the_steps(sample, cell):
    for p in sample[cell]:
        numbers = re.findall(r"-?\d+", p.answer)
        results = [parts[-1] for parts in worked_steps(p.solution)]
        if cell in {("Counting & Probability", 1), ("Counting & Probability", 2)}:
            assert numbers[0] == re.search(r"\d+", p.problem)[0], p  # the first count stands in the problem
            assert numbers[1] == results[-1], p
        else:
            assert numbers == results[-len(numbers) :], p


@pytest.mark.parametrize("level", LEVELS)
def test_answers_solve_the_stated_problem(sample, level):
    for p in sample["Prealgebra", level]:
        assert value(p.problem.removeprefix("Compute $").removesuffix("$.")) == int(p.answer)
    for p in sample["Number Theory", level]:
        expression, modulus = re.fullmatch(r"\$(.+)\$ mod \$(\d+)\$\?", p.problem).groups()
        assert value(expression) % int(modulus) == int(p.answer)
    for p in sample["Algebra", level]:
        left, right = substituted(p.problem.removeprefix("Solve $").removesuffix("$."), int(p.answer)).split("=")
        assert value(left) == value(right), p.problem


@pytest.mark.parametrize("subject", TASKS)
def test_steps_rise_with_level(sample, subject):
    steps = [mean(p.steps for p in sample[subject, level]) for level in LEVELS]
    assert steps == sorted(steps)
    assert steps[-1] >= steps[0] + 3


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_pools_are_disjoint_and_generation_is_deterministic(cell):
    pretraining = [generate(*cell, "pretraining", random.Random(seed)) for seed in range(60)]
    study = [generate(*cell, "study", random.Random(seed)) for seed in range(60)]
    assert {pool_of(p.problem) for p in pretraining} == {"pretraining"}
    assert {pool_of(p.problem) for p in study} == {"study"}
    assert study == [generate(*cell, "study", random.Random(seed)) for seed in range(60)]
    assert generate_distinct(*cell, 20, random.Random(1)) == generate_distinct(*cell, 20, random.Random(1))


def test_a_cell_that_is_used_up_says_so():
    with pytest.raises(ValueError, match="Number Theory, level 1 holds only about"):
        generate_distinct("Number Theory", 1, 5000, random.Random(0))
