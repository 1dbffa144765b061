"""Answers made to break a grader: each is wrong within its limit, the honest ones beside it are graded as ever."""

import os
from pathlib import Path

import pytest

from pipeline.problems.grading import Grader

SECONDS = 2.0
EVIL = Path("evil_answer_was_run")
CODE = [
    f"__import__('os').system('touch {EVIL}')",
    f"open('{EVIL}', 'w')",
    f"exec(\"open('{EVIL}','w')\")",
    f"\\input{{|touch {EVIL}}}",
    f"\\immediate\\write18{{touch {EVIL}}}",
    "().__class__.__bases__[0].__subclasses__()",
    "lambda: 5",
    "{{config}}",
    "${jndi:ldap://x}",
]
BOMBS = [
    "9^{9^{9^{9}}}",
    "9!!!!!!!!!",
    "(10^{10})!",
    "\\binom{10^{9}}{5\\cdot 10^{8}}",
    "(a+b+c+d+e+f+g+h)^{10000} - 1",
    "\\int_0^{10^{10}} \\sin(\\sin(\\sin(x^x))) dx",
    "\\sum_{n=1}^{10^{12}} \\frac{1}{n^{n}}",
    "\\lim_{x \\to 0} \\frac{\\sin(\\tan(x)) - \\tan(\\sin(x))}{x^{7}\\cos(x^{x})}",
    "\\prod_{i=1}^{10^{9}} (i+x)",
    "\\sqrt{" * 60 + "2" + "}" * 60,
    "2^{" * 60 + "2" + "}" * 60,
    "1+" * 120 + "1",
    "\\begin{pmatrix}" + "\\\\".join("&".join("x^{99}" for _ in range(6)) for _ in range(6)) + "\\end{pmatrix}^{99}",
]
SHAPES = [
    "\\frac" * 150,
    "\\frac{1}{" * 40 + "2" + "}" * 40,
    "{" * 140 + "5" + "}" * 140,
    "\\left(" * 60,
    "(" * 140 + "5" + ")" * 140,
    "\0" * 50,
    "5\0",
    "\ud800",
    "\uff15\u202e\u200b",
    "\N{COMBINING ZIGZAG ABOVE}" * 200,
    "\\text{" + "\\" * 100 + "}",
    "\\begin{matrix}" * 20,
    "=" * 200,
    "_" * 200,
    "^" * 200,
    "$" * 200,
    "%" * 200,
    "\n" * 200,
]
HUGE = ["{" * 10_000_000, "}" * 10_000_000, "1" * 10_000_000, "\\frac" * 2_000_000, "x" * 10_000_000]


def box(answer):
    return f"so \\boxed{{{answer}}}"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def children():
    """Process ids of this process's children, zombies included."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def grade_beside_honest_ones(attacks, workers=2):
    """Grades attacks, each between two honest answers that need a worker; returns the attacks' grades."""
    before = children()
    honest = [(f"\\frac{{{i}}}{{8}}", box(f"\\frac{{{2 * i}}}{{16}}")) for i in range(1, len(attacks) + 2)]
    pairs = [honest[0]]
    for attack, pair in zip(attacks, honest[1:], strict=True):
        pairs += [("7", attack), pair]
    with Grader(SECONDS, workers) as grader:
        grades = grader.grade(pairs)
        assert len(children() - before) <= workers
    assert children() == before
    assert not EVIL.exists()
    assert [g.correct for g in grades[::2]] == [True] * len(honest)
    assert not any(g.timed_out for g in grades[::2])
    return grades[1::2]


@pytest.mark.parametrize("attacks", [CODE, SHAPES, HUGE], ids=["code", "shapes", "sizes"])
def test_hostile_answers_are_wrong_and_do_no_harm(attacks):
    assert not any(grade.correct for grade in grade_beside_honest_ones([box(a) for a in attacks]))


@pytest.mark.slow
def test_bombs_are_wrong_within_the_limit_and_those_that_hit_it_are_counted():
    grades = grade_beside_honest_ones([box(bomb) for bomb in BOMBS])
    assert not any(grade.correct for grade in grades)
    assert grades[0].timed_out
    assert sum(grade.timed_out for grade in grades) < len(BOMBS)


def test_hostile_text_without_a_whole_box_is_wrong():
    outputs = ["\\boxed{" * 1_000_000, "\\boxed{" + "{}" * 5_000_000, "", "\0", "\\boxed", "7", "\ud800"]
    grades = grade_beside_honest_ones(outputs)
    assert [(grade.answer, grade.correct) for grade in grades] == [(None, False)] * len(outputs)


def test_a_bomb_takes_no_more_memory_than_a_worker_may_have():
    peak = 0
    original = os.read

    def note_memory(descriptor, size):
        nonlocal peak
        for pid in children():
            status = Path(f"/proc/{pid}/status").read_text()
            found = [line for line in status.splitlines() if line.startswith("VmHWM")]
            peak = max([peak, *(int(line.split()[1]) * 1024 for line in found)])
        return original(descriptor, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "read", note_memory)
        grade_beside_honest_ones([box("\\binom{10^{9}}{5\\cdot 10^{8}}"), box("(10^{10})!")], workers=1)
    assert 0 < peak < 2 * 1024**3
