"""How often the grader errs: gold answers of MATH-500 rewritten by program, harmless or wrong, and graded.

    python -m benchmarks.grading --math FOLDER      all of math500.jsonl.gz: minutes on one core
    python -m benchmarks.grading --tiny             a few gold answers, in seconds

Each rewriting (see _rewritings.py) is applied to every gold answer that it has something to change in. Harmless ones
should be graded right and wrong ones wrong, by the project's grader; beside it stands Minerva's. Rewritings whose
verdict is a decision (docs/grading.md) are counted on their own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._goals import Goal, print_goals, write_found
from benchmarks._measure import environment, say
from benchmarks._rewritings import REWRITINGS, Rewriting, rewritten
from benchmarks._runs import ROOT
from pipeline.common.stage import exit_on_error
from pipeline.evaluation import minerva
from pipeline.problems.boxed import last_boxed
from pipeline.problems.grading import Grader

SAMPLE = [
    "9", "-12", "2016", "10,\\!080", "58,500", ".35625", "3.21", "\\frac{3}{11}", "\\frac{39}{11}", "-\\frac{7}{4}",
    "\\dfrac{17}{50}", "2\\sqrt{5}", "\\frac{\\sqrt{3}}{4}", "12\\pi", "\\frac{\\pi}{2}", "2 - \\frac{\\pi}{2}", "6+9i",
    "2k+2", "3R^2", "5x - 7y + 11z + 4 = 0", "y = 2x + 3", "x=5", "(1,-16,4)", "(-2,-2)", "(-2,1)", "3i,-3i",
    "\\text{A, B}", "60^\\circ, 120^\\circ", "(2,12) \\cup (12,102)", "-7", "1011100", "20,\\!000,\\!000", "0.088",
    "5000", "\\left( 3, \\frac{\\pi}{2} \\right)", "1,-2", "3, 5, 7", "(-\\infty, 2) \\cup (3, \\infty)",
    "\\left(\\frac{3}{5},\\frac{8}{3}\\right]", "x \\in [-2,7]", "1 \\pm \\sqrt{19}", "52_8", "90^\\circ", "64\\%",
    "\\$18.90", "15\\mbox{ cm}^2", "5.4 \\text{ cents}", "8\\!:\\!34 \\text{ p.m.}", "\\text{even}", "\\text{(B)}",
    "\\frac{1}{2^{98}}", "4210_{5}", "\\frac{1}{2}", "\\{4,5,7\\}", "0.15", "10\\text{ cm}",
    "\\begin{pmatrix} -1 & 0 \\\\ 0 & 3 \\end{pmatrix}",
]  # fmt: skip
SHOWN = 5


@dataclass(frozen=True)
class Case:
    """One rewritten answer and what both graders say of it."""

    rewriting: Rewriting
    gold: str
    answer: str
    correct: bool
    minerva_correct: bool
    timed_out: bool


def grade_all(golds: Sequence[str], workers: int) -> list[Case]:
    """Every rewriting of every gold answer, graded as a model's output is; those that leave no box are left out."""
    cases = [(r, gold, f"So the answer is $\\boxed{{{answer}}}$.") for r, gold, answer in rewritten(list(golds))]
    with Grader(20.0, workers) as grader:
        grades = grader.grade([(gold, output) for _, gold, output in cases], description="grade")
    return [
        Case(r, gold, grade.answer or "", grade.correct, minerva.is_right(gold, grade.answer), grade.timed_out)
        for (r, gold, output), grade in zip(cases, grades, strict=True)
        if last_boxed(output) is not None
    ]


def counted(cases: Sequence[Case]) -> dict[str, Any]:
    """Per kind and per rewriting: how many there are, and how many either grader gets wrong."""
    found: dict[str, Any] = {}
    for kind in dict.fromkeys(r.kind for r in REWRITINGS):
        of_kind = [case for case in cases if case.rewriting.kind == kind]
        errors = [case for case in of_kind if case.correct is (kind == "wrong")]
        by_name = Counter(case.rewriting.name for case in errors)
        found[kind] = {
            "rewritings": len({case.rewriting.name for case in of_kind}),
            "answers": len(of_kind),
            "errors": len(errors),
            "errors_of_minerva": sum(case.minerva_correct is (kind == "wrong") for case in of_kind),
            "timeouts": sum(case.timed_out for case in of_kind),
            "answers_by_rewriting": dict(Counter(case.rewriting.name for case in of_kind)),
            "errors_by_rewriting": dict(by_name),
            "examples": [[c.rewriting.name, c.gold, c.answer] for c in errors[: SHOWN * 4]],
        }
    return found


def goals_of(found: dict[str, Any]) -> list[Goal]:
    """At most 0.5% of harmless answers graded wrong, at most 0.1% of wrong ones graded right."""
    shares = {kind: 100 * found[kind]["errors"] / found[kind]["answers"] for kind in ("harmless", "wrong")}
    return [
        Goal("harmless rewritings graded wrong, %", shares["harmless"], "at most", 0.5),
        Goal("wrong answers graded right, %", shares["wrong"], "at most", 0.1),
    ]


def table(found: dict[str, Any]) -> str:
    """The table of docs/grading.md."""
    lines = ["| rewritings | kinds | answers | errors | errors of Minerva's rules |", "|---|---:|---:|---:|---:|"]
    says = {"harmless": "graded wrong", "wrong": "graded right", "decided right": "graded wrong"}
    for kind, error in says.items():
        row = found[kind]
        shares = [f"{row[key]:,} ({row[key] / row['answers']:.2%})" for key in ("errors", "errors_of_minerva")]
        lines.append(f"| {kind}, {error} | {row['rewritings']} | {row['answers']:,} | {shares[0]} | {shares[1]} |")
    return "\n".join(lines)


def math_500(folder: Path) -> list[str]:
    """The gold answers of MATH-500."""
    with gzip.open(folder / "math500.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["answer"] for line in file]


@exit_on_error
def main() -> None:
    """Grades, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--math", type=Path, help="a folder with math500.jsonl.gz")
    source.add_argument("--tiny", action="store_true", help="a few gold answers")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file; default: results/grading.json here, none with --tiny")
    args = parser.parse_args()
    golds = SAMPLE if args.tiny else math_500(args.math)
    started = time.perf_counter()
    cases = grade_all(golds, args.workers)
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {
        "benchmark": "grading",
        "environment": environment("cpu"),
        "golds": len(golds),
        "workers": args.workers,
        "answers_per_second": len(cases) / seconds,
        **counted(cases),
    }
    say(table(found))
    for kind in ("harmless", "wrong", "decided right"):
        for name, gold, answer in found[kind]["examples"][:SHOWN]:
            say(f"{kind}, {name}: {gold!r} / {answer!r}")
    goals = goals_of(found)
    print_goals(goals)
    if out := args.out or (None if args.tiny else ROOT / "benchmarks/results/grading.json"):
        write_found(out, found, goals)


if __name__ == "__main__":
    main()
