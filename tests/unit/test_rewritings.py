"""The grader against rewritings of gold answers, which benchmarks/_rewritings.py makes by program."""

import os
import random
from pathlib import Path

import pytest

from benchmarks._rewritings import DECIDED_RIGHT, HARMLESS, WRONG, rewritten
from benchmarks.grading import SAMPLE, counted, goals_of, grade_all, math_500


@pytest.fixture(scope="module")
def sample():
    return counted(grade_all(SAMPLE, workers=1))


def test_no_harmless_rewriting_is_wrong_and_no_wrong_one_right(sample):
    assert sample["harmless"]["examples"] == []
    assert sample["wrong"]["examples"] == []


def test_what_is_decided_is_graded_so(sample):
    assert sample["decided right"]["examples"] == []


def test_every_rewriting_is_applied():
    """A rewriting that changes no gold answer tests nothing."""
    applied = {rewriting.name for rewriting, _, _ in rewritten(SAMPLE)}
    assert (HARMLESS.keys() | WRONG.keys() | DECIDED_RIGHT.keys()) - applied == set()


def test_rewritings_differ_from_their_gold_answer():
    cases = list(rewritten(SAMPLE))
    assert all(gold != answer for _, gold, answer in cases)
    by_gold = {(gold, answer) for r, gold, answer in cases if r.kind == "wrong"}
    assert not by_gold & {(gold, answer) for r, gold, answer in cases if r.kind != "wrong"}


@pytest.mark.slow
def test_the_goals_hold_on_a_sample_of_math_500():
    if not (folder := os.environ.get("MATH_DIR")):
        pytest.skip("MATH_DIR is not set: it names a folder with train.jsonl.gz and math500.jsonl.gz")
    golds = random.Random(0).sample(sorted(set(math_500(Path(folder)))), 30)
    assert [goal.name for goal in goals_of(counted(grade_all(golds, workers=1))) if goal.state != "met"] == []
