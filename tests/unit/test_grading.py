import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.errors import DataError, PipelineError
from pipeline.problems import grading, grading_worker
from pipeline.problems.grading import MAX_ANSWER_LENGTH, Grade, Grader, compared_as_text, question
from pipeline.problems.record import Problem

SLOW = "9^{9^{9^{9}}}"  # its digits do not fit into any memory

RIGHT = [
    ("12", "12"),
    ("12", "12.0"),
    ("-3", "-3"),
    ("-3", "{-3}"),
    ("007", "7"),
    ("10,000", "10000"),
    ("10,\\!000", "10000"),
    ("\\frac{3}{11}", "\\frac{3}{11}"),
    ("\\frac{3}{11}", "\\dfrac{6}{22}"),
    ("\\frac{3}{11}", "3/11"),
    ("-\\frac{1}{2}", "-0.5"),
    ("\\frac12", "\\frac{1}{2}"),
    ("(47,61)", "(47, 61)"),
    ("(47,61)", "\\left(47,61\\right)"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("x^2+2x+1", "(x+1)^2"),
    ("x=5", "5"),
    ("5", "x=5"),
    ("1,2", "2,1"),
    ("\\text{(A)}", "(A)"),
    ("\\text{Evelyn}", "Evelyn"),
    ("5\\text{ cm}", "5"),
    ("64\\%", "64"),
    ("30^\\circ.", "30^\\circ"),
    ("\\sin^2 t", "(\\sin t)^2"),
    ("\\approx 8.24 \\text{ mph}", "\\approx 8.24\\text{mph}."),
    ("\\approx 8.24 \\text{ mph}", "8.24"),
    ("\\$\\dfrac23 \\approx \\$0.67", "0.67"),
    ("0.56 = 56\\%", "56\\%"),
    ("9", "3^2 = 9"),
    ("9", "9 = x"),
    ("12", "\\text{twelve}"),
    ("6", " = ".join("6" * 200)),
    ("x \\in [-2,7]", "-2 \\le x \\le 7"),
    ("(-\\infty, 2) \\cup (3, \\infty)", "x < 2 \\text{ or } x > 3"),
    ("\\frac{1}{\\sqrt n}", "\\sqrt{1/n}"),
    ("\\tan 15^\\circ", "2-\\sqrt3"),
    ("2007+\\frac\\pi2", "\\frac{4014+\\pi}{2}"),
    ("6, 8\\text{, and }10", "10, 8, 6"),
    ("0.\\overline{3}", "\\frac13"),
    ("0.1\\overline{6}", "\\frac16"),
    ("1+i", "\\frac{2}{1-i}"),
    ("50\\%", "\\frac12"),
    ("-7", "7i^2"),
    ("2-i", "2+i^3"),
    ("-i", "i^3"),
    (r"15\text{ N}", r"15\text{ newtons}"),
    ("15", r"15\text{ J}"),
    ("5", "The answer is 5."),
    ("12345", "12345 \\approx 12000"),
    ("\\frac12", "\\frac12 \\approx 50\\%"),
    ("\\frac13", "\\frac13 \\text{ hour} \\approx 20 \\text{ minutes}"),
    ("\\frac17", "0.142857\\ldots"),
    ("\\frac{39}{11}", "3.5454545"),
    ("2^{4181}", "{2}^{4181}"),
    ("(-2,1)", "y=1, x=-2"),
    ("(3, \\frac\\pi2)", "\\theta = \\frac\\pi2, r = 3"),
    ("1, 1, -2", "x_1 = 1, x_2 = 1, x_3 = -2"),
    ("(6,235^\\circ)", "6, 235^\\circ"),
    ("3i,-3i", "(3i,-3i)"),
    ("60^\\circ, 120^\\circ", "120^\\circ \\text{ and } 60^\\circ"),
    ("81, 256", "256, 81"),
    ("(2,12) \\cup (12,102)", "2<x<12 \\text{ or } 12<x<102"),
    ("(-\\infty,2) \\cup (3,\\infty)", "x<2 \\lor x>3"),
    ("[-2,7]", "x \\ge -2 \\land x \\le 7"),
    ("[-2,7]", "x \\ge -2 \\text{ and } x \\le 7"),
    ("(-\\infty,-5) \\cup (-5,5)", "x < 5, \\text{and } x \\ne -5"),
    ("x<2 \\text{ or } x>3", "(-\\infty,2) \\cup (3,\\infty)"),
    ("[5,10]", "\\{x \\in \\mathbb R : 5 \\le x \\le 10\\}"),
    ("\\begin{pmatrix} 1/5 \\\\ -18/5 \\end{pmatrix}", "\\begin{bmatrix} 0.2 \\\\ -3.6 \\end{bmatrix}"),
]
WRONG = [
    ("12", "13"),
    ("12", "1212"),
    ("3", "-3"),
    ("\\frac{3}{11}", "\\frac{11}{3}"),
    ("\\frac{3}{11}", "0.27"),
    ("(1,2)", "(2,1)"),
    ("(2,1)", "(1,2)"),
    ("(1,2)", "(1,2,3)"),
    ("[1,2)", "[1,2]"),
    ("x+1", "x-1"),
    ("\\text{east}", "\\text{west}"),
    ("12", "\\text{eleven}"),
    ("12", ")("),
    ("12", "__import__('os').getpid()"),
    ("\\approx 8.24 \\text{ mph}", "\\approx 8.25\\text{mph}"),
    ("9", "10 = 9"),
    ("9", "9 = 10"),
    ("x=5", "y=5"),
    ("0", "\\text{not } 0"),
    ("2m", "2"),
    ("n+2m", "n+2"),
    (".0000672", ".0000673"),
    (".0000672", ".00006721"),
    ("\\frac{1}{2^{98}}", "\\frac{1}{2^{99}}"),
    ("50\\%", "0.5\\%"),
    ("|x|", "x"),
    ("x", "\\sqrt{x^2}"),
    ("\\text{CBAD}", "ABCD"),
    ("5", "\\,"),
    ("[-2,7]", "-2 < x \\le 7"),
    ("5", "\\text{5 or 6}"),
    (r"15\text{ N}", r"15\text{ J}"),
    ("15", "15N"),
    ("7i", "7i^2"),
    ("5i", "5i^{10}"),
    ("\\frac{9}{34}", "\\neq \\frac{9}{34}"),
    ("\\frac{9}{34}", "< \\frac{9}{34}"),
    ("\\frac18", "\\frac18 \\approx 0.14"),
    ("\\frac18", "\\frac18 \\approx 1"),
    ("\\frac18", "0.3 \\approx \\frac18"),
    ("2\\sqrt{113}", "2\\sqrt{113} \\approx 22.26"),
    ("4,\\!989,\\!600", "4, 989, 600"),
    ("0.088", "0,088"),
    ("0.088", "0, 088"),
    ("(-2,1)", "y=-2, x=1"),
    ("\\frac12", "\\frac12 \\text{ or less}"),
    ("1,2", "1,2 \\text{ or less}"),
]


@pytest.fixture(scope="module")
def grader():
    with Grader(seconds=20.0, workers=1) as shared:
        yield shared


def box(answer):
    return f"Therefore the answer is $\\boxed{{{answer}}}$."


@pytest.mark.parametrize(("pairs", "correct"), [(RIGHT, True), (WRONG, False)], ids=["right", "wrong"])
def test_answers_are_graded_by_meaning(grader, pairs, correct):
    grades = grader.grade([(gold, box(answer)) for gold, answer in pairs])
    assert [g.answer for g in grades] == [answer for _, answer in pairs]
    assert [pair for pair, grade in zip(pairs, grades, strict=True) if grade.correct is not correct] == []
    assert not any(grade.timed_out for grade in grades)


def test_the_last_box_counts_and_no_box_is_wrong(grader):
    outputs = ["\\boxed{1} no, \\boxed{2}", "\\boxed{2} no, \\boxed{1}", "2", "\\boxed{}", "\\boxed{2", ""]
    assert grader.grade([("2", output) for output in outputs]) == [
        Grade("2", True, False),
        Grade("1", False, False),
        *[Grade(None, False, False)] * 4,
    ]


def test_agreement_is_equivalence_and_none_agrees_with_nothing(grader):
    pairs = [("0.5", "\\frac{1}{2}"), ("1", "2"), (None, "1"), ("1", None), (None, None), ("same", "same")]
    assert grader.agree(pairs) == [True, False, False, False, False, True]


def test_parses_tells_formulas_from_texts(grader):
    answers = ["12", "\\frac{1}{2}", "(1,-2)", "x^2", "\\sin^2 t", "52_8", "5:00", "\\text{east}", "x=\\frac{"]
    assert grader.parses(answers) == [True] * 7 + [False] * 2


def test_plain_answers_are_judged_as_math_verify_would_judge_them():
    judge = grading_worker.Judge()
    for gold, answer in [("7", "7"), ("7", "8"), ("-7", "7"), ("007", "7"), ("-0", "0"), ("100", "1000")]:
        assert question(gold, answer) is judge.equivalent(gold, answer), (gold, answer)
    for answer in ["7", "-12", "\\frac{3}{11}", "-\\frac{3}{11}", "(1,-2)", "(1,2,3)"]:
        assert grading._PLAIN.fullmatch(answer)
        assert judge.parsed(answer)


def test_plain_and_equal_answers_go_to_no_worker(monkeypatch):
    def no_work(*_):
        raise AssertionError("a worker was given something to judge")

    monkeypatch.setattr(grading._Worker, "give", no_work)
    long = "1" * (MAX_ANSWER_LENGTH + 1)
    with Grader(1.0, 2) as grader:
        grades = grader.grade(
            [
                ("5", "\\boxed{5}"),
                ("5", "\\boxed{6}"),
                ("5", "none"),
                ("\\pi", "\\boxed{ \\pi }"),
                ("x", f"\\boxed{{x{long}}}"),
                ("5", "\\boxed{" + "{" * 100_000),
            ]
        )
        assert [g.correct for g in grades] == [True, False, False, True, False, False]
        assert grader.parses(["5", "(1,2)"]) == [True, True]
        with pytest.raises(AssertionError, match="a worker was given something to judge"):
            grader.grade([("5", "\\boxed{x}")])


def test_an_endless_answer_is_killed_and_the_others_are_graded(monkeypatch):
    processes = []
    start = subprocess.Popen

    def start_and_note(*arguments, **options):
        processes.append(start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start_and_note)
    with Grader(seconds=2.0, workers=2) as grader:
        outputs = [box("0.25"), box(SLOW), box("\\frac{2}{8}"), box("\\frac{1}{5}")]
        grades = grader.grade([("\\frac{1}{4}", output) for output in outputs])
        assert [(g.correct, g.timed_out) for g in grades] == [
            (True, False),
            (False, True),
            (True, False),
            (False, False),
        ]
        assert grader.agree([("0.25", "\\frac{4}{16}"), ("0.5", "\\frac{4}{16}")]) == [True, False]
        assert -signal.SIGKILL in [process.returncode for process in processes]
        assert None in [process.returncode for process in processes]
    assert None not in [process.returncode for process in processes]


def test_a_worker_that_dies_is_replaced(monkeypatch):
    with Grader(seconds=20.0, workers=1) as grader:
        assert grader.agree([("0.5", "\\frac{1}{2}")]) == [True]
        first = grader._workers[0]._process
        os.kill(first.pid, signal.SIGKILL)
        first.wait(timeout=20)
        assert grader.agree([("0.25", "\\frac{1}{4}")]) == [True]  # died idle: nothing is lost
        busy = grader._workers[0]
        give = busy.give

        def give_and_kill(job, seconds):
            os.kill(busy._process.pid, signal.SIGSTOP)  # so that the answer cannot come before the end
            given = give(job, seconds)
            os.kill(busy._process.pid, signal.SIGKILL)
            return given

        monkeypatch.setattr(busy, "give", give_and_kill)
        grades = grader.grade([("0.2", box("\\frac{1}{5}")), ("0.1", box("\\frac{1}{10}"))])
        assert grades == [Grade("\\frac{1}{5}", False, False), Grade("\\frac{1}{10}", True, False)]
        assert grader._workers[0]._process.pid != busy._process.pid


def test_a_worker_that_cannot_start_is_an_error(monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.setattr(grading_worker, "__file__", str(broken))
    with (
        Grader(1.0, 1) as grader,
        pytest.raises(PipelineError, match="a grading worker ended with status 3 at its start"),
    ):
        grader.agree([("1", "x")])


def run_worker(requests):
    return subprocess.run(
        [sys.executable, "-P", grading_worker.__file__], input=requests, capture_output=True, timeout=60, check=False
    )


def test_a_worker_ends_with_its_input_and_an_orphan_ends_itself():
    done = run_worker(
        b'[5, [[["0.5", "1/2"]]]]\n[5, [[["0.5", "1/3"]]]]\n[5, "x"]\n[5, [[["1","2"],["1","1.0"]],[["1","3"]]]]\n'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"RYNYN", b"")
    orphan = run_worker(json.dumps([0.1 - grading_worker.GRACE_SECONDS, [[["1", SLOW]]]]).encode() + b"\n")
    assert (orphan.returncode, orphan.stdout) == (-signal.SIGALRM, b"R")


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not enforce address-space limits")
def test_a_worker_s_memory_is_bounded():
    script = (
        "from pipeline.problems import grading_worker as w; w._limit_memory()\n"
        "try: bytearray(w.MEMORY_BYTES)\n"
        "except MemoryError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "refused\n"


def test_whatever_the_judge_raises_is_a_wrong_answer():
    class Failing:
        def equivalent(self, gold, answer):
            raise MemoryError

    assert grading_worker._judge(Failing(), [[["1", "2"]]]) is False


def problem(identifier, answer):
    return Problem(identifier, "p", "s", 1, "Algebra", answer, "pool")


def test_gold_answers_that_are_no_formula_are_found(grader):
    answers = {"a": "12", "b": "\\approx 8.24 \\text{ mph}", "c": "\\text{(E)},", "d": "x^2", "e": "52_8"}
    assert compared_as_text([problem(*item) for item in answers.items()], grader) == {"c"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("\\frac{1}{", "has braces without a partner"),
        ("1" * 1001, "has 1001 characters, 1000 are allowed"),
        (")(", "Math-Verify cannot parse it and it has no letter or digit"),
    ],
)
def test_gold_answers_that_cannot_be_graded_stop_the_run(grader, answer, words):
    with pytest.raises(DataError) as caught:
        compared_as_text([problem("good", "1"), problem("train/9.json", answer)], grader)
    assert str(caught.value).startswith("the answer of problem train/9.json cannot be graded: ")
    assert words in str(caught.value)


def test_small_numbers_are_compared_to_as_many_digits_as_large_ones():
    judge = grading_worker.Judge()
    zeros = {"12": 0, "0.3": 0, "0.05": 1, ".0000672": 4, "\\frac{1}{2^{98}}": 29, "(5, 0.002)": 2, "0": 0, "x": 0}
    for formula, expected in zeros.items():
        assert grading_worker.zeros_after_point(judge.parsed(formula)[0]) == expected, formula


def test_the_place_of_a_decimal_s_last_digit():
    places = {"0.67": -2, "-.5": -1, "12": 0, "12000": 3, "\\frac{1}{2}": None, "1,5": None}
    assert {formula: grading_worker.last_digit(formula) for formula in places} == places


def test_an_approximation_is_rounded_or_cut_at_its_last_digit():
    judge = grading_worker.Judge()
    near = {"2.23": True, "2.24": True, "2.25": False, "2": True, "3": False, "2.236068": True, "-2.24": False}
    assert {decimal: judge.equivalent("\\sqrt{5}", f"\\approx {decimal}") for decimal in near} == near
    # of two decimals, the one with fewer digits is the approximation
    assert judge.equivalent("0.3", "\\approx 0.3333")
    assert not judge.equivalent("0.3", "\\approx 0.4333")


def test_a_long_decimal_is_not_rounded_twice():
    judge = grading_worker.Judge()
    assert judge.equivalent("\\frac{39}{11}", "3.5454545")
    for gold, answer in [("1", "0.9999999"), ("2", "2.0000001"), ("0", "0.0000001")]:
        assert not judge.equivalent(gold, answer), (gold, answer)


def test_every_math_500_gold_answer_is_right_by_its_own_solution_and_when_spelt_differently(grader):
    if not (folder := os.environ.get("MATH_DIR")):
        pytest.skip("MATH_DIR is not set: it names a folder with train.jsonl.gz and math500.jsonl.gz")
    with gzip.open(Path(folder) / "math500.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    assert all(g.correct for g in grader.grade([(r["answer"], r["solution"]) for r in records]))
    # With a space and a full stop the texts differ, so that these go through Math-Verify.
    assert [
        r["answer"]
        for r, g in zip(records, grader.grade([(r["answer"], box(r["answer"] + " .")) for r in records]), strict=True)
        if not g.correct
    ] == []
