"""The program that a grading worker runs: one pair of answers in, one verdict out, until its input ends.

It is started by path with the interpreter's own options (see grading.py), so that it shares no state with the
parent and does not import the parent's main module; hence it imports nothing of this project. Only JSON and
single bytes pass between the two. Text is parsed by Math-Verify's LaTeX grammar alone: the extraction of bare
expressions, which hands text to Python's `eval`, is left out.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from dataclasses import replace
from typing import Any

READY, YES, NO = b"R", b"Y", b"N"
MEMORY_BYTES = 2 * 1024**3
GRACE_SECONDS = 5.0  # past its limit a worker is killed by its parent; this much later by itself, an orphan

_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf)(?![A-Za-z])")
_SPACING = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|\\(?:left|right)(?![A-Za-z])|[\s${}~]")
_THOUSANDS = re.compile(r"(?<=\d),\\!(?=\d{3})")
_TAIL = re.compile(r"(?:[\s.,;]|\\?%)+$")


def tidy(answer: str) -> str:
    r"""An answer without what Math-Verify stumbles over: a closing full stop, a percent sign, `,\!` in 10,000.

    The percent sign goes on both sides of a comparison, as in MATH's own grader: 64\% and 64 are one answer.
    """
    return _TAIL.sub("", _THOUSANDS.sub("", answer)).strip()


def as_text(answer: str) -> str:
    """An answer without LaTeX's text and spacing commands: how answers that are no formula are compared."""
    return _TAIL.sub("", _SPACING.sub("", _TEXT_COMMAND.sub("", answer)))


class Judge:
    """Math-Verify, imported once."""

    def __init__(self) -> None:
        """Imports Math-Verify and runs it once, so that no answer pays for its start."""
        from math_verify import LatexExtractionConfig, parse, verify  # noqa: PLC0415

        self._parse, self._verify = parse, verify
        config = LatexExtractionConfig(boxed_match_priority=0)
        keeping_units = replace(config, normalization_config=replace(config.normalization_config, units=False))
        # Taking units off also takes the t off \sin^2 t; where nothing can be parsed then, they stay on.
        self._configs = [[config], [keeping_units]]
        self.equivalent("\\frac{1}{2}", "0.5")

    def parsed(self, answer: str) -> list[Any]:
        """The SymPy readings of an answer; empty where it is no formula.

        Math-Verify's own time limits, which rest on signals, are off: the parent's limit is the only one.
        """
        for config in self._configs:
            found: list[Any] = self._parse(
                f"\\boxed{{{tidy(answer)}}}", config, fallback_mode="no_fallback", parsing_timeout=None
            )
            if found:
                return found
        return []

    def equivalent(self, gold: str, answer: str) -> bool:
        """Whether an answer equals the gold one: as formulas, or as texts where the gold one is no formula."""
        gold_readings = self.parsed(gold)
        if not gold_readings:
            return as_text(gold) == as_text(answer)
        return bool(self._verify(gold_readings, self.parsed(answer), timeout_seconds=None))


def main() -> None:
    """Answers requests `[seconds, answer]` (can it be parsed?) and `[seconds, gold, answer]` (are they equal?)."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as replies:
        os.dup2(2, 1)  # nothing a library prints may pass for a verdict
        logging.disable(logging.CRITICAL)
        judge = Judge()
        _limit_memory()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the parser complains about every odd character
        replies.write(READY)
        for line in sys.stdin:
            seconds, *answers = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS)
            verdict = _judge(judge, answers)
            signal.setitimer(signal.ITIMER_REAL, 0)
            replies.write(YES if verdict else NO)


def _judge(judge: Judge, answers: list[str]) -> bool:
    try:
        return judge.equivalent(*answers) if len(answers) == 2 else bool(judge.parsed(*answers))
    except Exception:  # whatever hostile text does to the parser (memory, recursion), it is not a right answer
        return False


def _limit_memory() -> None:
    if sys.platform == "darwin":  # macOS refuses this limit; there the time limit alone bounds a worker
        return
    import resource  # noqa: PLC0415

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    main()
