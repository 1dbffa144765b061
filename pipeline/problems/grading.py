"""Grading answers with Math-Verify in worker processes under a hard time and memory limit.

Model output is hostile input: an answer may keep a computer algebra system busy for ever. Every answer is
therefore judged in a worker that is killed and replaced once its time is up; nothing else is affected.
Workers are plain subprocesses that exchange JSON lines and single bytes, rather than multiprocessing's, which
would import the parent's main module (and with it torch) in every worker and talk in pickles.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tqdm import tqdm

from pipeline.common.errors import DataError, PipelineError
from pipeline.problems import grading_worker
from pipeline.problems.boxed import braces_balance, last_boxed
from pipeline.problems.comparison import Question, compare
from pipeline.problems.reading import read
from pipeline.problems.record import Problem

MAX_ANSWER_LENGTH = 1000  # characters; nothing longer is parsed
_PLAIN = re.compile(r"-?(?:[0-9]{1,15}|\\frac\{[0-9]{1,15}\}\{[0-9]{1,15}\})|\(-?[0-9]{1,15}(?:,-?[0-9]{1,15})+\)")
START_SECONDS = 120.0  # for a worker's imports, on a machine that may be busy

Job = str | Question  # a formula: can it be parsed?  formulas: are they equivalent?


@dataclass(frozen=True)
class Grade:
    """One graded output; `answer` is the content of its last box, None where there is none or it is empty."""

    answer: str | None
    correct: bool
    timed_out: bool


@dataclass(frozen=True)
class Verdict:
    """What a worker, or a shortcut, says of one job."""

    holds: bool
    timed_out: bool = False


class Grader:
    """A pool of grading workers; use it in a `with` block, after which no worker is left.

    No pair is judged twice.
    """

    def __init__(self, seconds: float, workers: int) -> None:
        """`seconds` is the limit for one answer, `workers` the number of processes."""
        self._seconds = seconds
        self._limit = workers
        self._workers: list[_Worker] = []
        self._verdicts: dict[Job, Verdict] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        """One worker gets ready while the caller makes something to judge; the others start when they are needed."""
        self._start_workers(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kills every worker and waits for its end."""
        for worker in list(self._workers):
            self._remove(worker)
        self._selector.close()

    def grade(self, pairs: Sequence[tuple[str, str]], description: str | None = None) -> list[Grade]:
        """Grades (gold answer, model output) pairs, in order; with a description, a progress bar is shown."""
        answers = [last_boxed(output) or None for _, output in pairs]
        jobs = [(gold, answer) for (gold, _), answer in zip(pairs, answers, strict=True)]
        verdicts = self._equivalent(jobs, description)
        return [Grade(a, v.holds, v.timed_out) for a, v in zip(answers, verdicts, strict=True)]

    def agree(self, pairs: Sequence[tuple[str | None, str | None]], description: str | None = None) -> list[bool]:
        """Whether two answers are equivalent, the first standing where gold stands; None agrees with nothing."""
        return [verdict.holds for verdict in self._equivalent(pairs, description)]

    def parses(self, answers: Sequence[str], description: str | None = None) -> list[bool]:
        """Whether each answer is a number with a base, a time, or what Math-Verify reads as a formula (in time)."""
        readings = [read(answer) for answer in answers]
        known = [r.words is None and bool(r.base or r.clock or _PLAIN.fullmatch(r.formula)) for r in readings]
        formulas = [None if r.words is not None else r.formula for r in readings]
        self._settle((f for f, k in zip(formulas, known, strict=True) if f is not None and not k), description)
        return [k or (f is not None and self._verdicts[f].holds) for f, k in zip(formulas, known, strict=True)]

    def _equivalent(self, pairs: Sequence[tuple[str | None, str | None]], description: str | None) -> list[Verdict]:
        questions = [question(gold, answer) for gold, answer in pairs]
        self._settle((q for q in questions if not isinstance(q, bool)), description)
        return [Verdict(q) if isinstance(q, bool) else self._verdicts[q] for q in questions]

    def _settle(self, jobs: Iterable[Job], description: str | None) -> None:
        """Has the workers judge every job that has no verdict yet."""
        waiting = deque(dict.fromkeys(job for job in jobs if job not in self._verdicts))
        with tqdm(total=len(waiting), desc=description, disable=description is None or not waiting) as progress:
            unsettled = len(waiting)
            while unsettled:
                self._start_workers(unsettled)
                for worker in [w for w in self._workers if w.ready and w.job is None][: len(waiting)]:
                    if not worker.give(waiting[0], self._seconds):
                        self._remove(worker)  # died while it had nothing to do: the job goes to the next
                        continue
                    waiting.popleft()
                for job, verdict in self._collect():
                    self._verdicts[job] = verdict
                    unsettled -= 1
                    progress.update()

    def _start_workers(self, wanted: int) -> None:
        while len(self._workers) < min(self._limit, wanted):
            worker = _Worker()
            self._workers.append(worker)
            self._selector.register(worker.replies, selectors.EVENT_READ, worker)

    def _collect(self) -> list[tuple[Job, Verdict]]:
        """Waits for replies, deaths or the nearest deadline; returns what has been decided by them."""
        nearest = min((worker.deadline for worker in self._workers), default=time.monotonic())
        decided = []
        for key, _ in self._selector.select(max(0.0, nearest - time.monotonic())):
            worker: _Worker = key.data
            reply = os.read(worker.replies, 1)
            if not reply:
                decided += self._dismiss(worker)
            elif not worker.ready:
                worker.ready, worker.deadline = True, float("inf")
            else:
                decided.append((worker.take_job(), Verdict(reply == grading_worker.YES)))
        now = time.monotonic()
        for worker in [w for w in self._workers if w.deadline <= now]:
            decided += self._dismiss(worker, late=True)
        return decided

    def _dismiss(self, worker: _Worker, late: bool = False) -> list[tuple[Job, Verdict]]:
        """Ends a late or dead worker; its answer, if it had one, is wrong."""
        status = self._remove(worker)
        if not worker.ready:
            what = f"did not start within {START_SECONDS:.0f} s" if late else f"ended with status {status} at its start"
            raise PipelineError(f"a grading worker {what}; check that `{sys.executable} -c 'import math_verify'` works")
        if worker.job is None:
            return []
        return [(worker.take_job(), Verdict(False, timed_out=late or status == -signal.SIGALRM))]

    def _remove(self, worker: _Worker) -> int:
        self._selector.unregister(worker.replies)
        self._workers.remove(worker)
        return worker.end()


class _Worker:
    """One subprocess, and the job it has in hand."""

    def __init__(self) -> None:
        # -P: the worker's folder is not searched for modules; a fixed hash seed: SymPy's sets have one order.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-W", "ignore", grading_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin
        self.replies = self._process.stdout.fileno()
        self.ready = False
        self.job: Job | None = None
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, job: Job, seconds: float) -> bool:
        """Hands over a job; False where the worker is gone. A request fits into a pipe, so this never blocks."""
        try:
            self._requests.write(json.dumps([seconds, job]).encode() + b"\n")
        except BrokenPipeError:
            return False
        self.job, self.deadline = job, time.monotonic() + seconds
        return True

    def take_job(self) -> Job:
        assert self.job is not None
        job, self.job, self.deadline = self.job, None, float("inf")
        return job

    def end(self) -> int:
        """Kills the process if it still runs, and returns its exit status."""
        self._process.kill()
        with self._process:  # closes both pipes and waits
            pass
        return self._process.returncode


def question(gold: str | None, answer: str | None) -> bool | Question:
    """Whether an answer is right, or what has to be asked of Math-Verify to know.

    The same text means the same, whether or not it can be parsed, and this is what most right answers look like. What
    is missing, empty or too long is wrong.
    """
    if not gold or not answer:
        return False
    if gold.strip() == answer.strip():
        return True
    return max(len(gold), len(answer)) <= MAX_ANSWER_LENGTH and compare(gold, answer)


def compared_as_text(problems: Sequence[Problem], grader: Grader, description: str | None = None) -> set[str]:
    """The ids of problems whose gold answer is no formula, so that answers to them are compared as text.

    Raises:
        DataError: a gold answer can be graded neither way: it is too long, its braces do not match, or it holds
            neither a letter nor a digit.
    """
    for problem in problems:
        if (fault := _fault(problem.answer)) is not None:
            raise DataError(
                f"the answer of problem {problem.id} cannot be graded: it {fault} "
                f"({problem.answer[:60]!r}); correct or remove the record"
            )
    parses = grader.parses([problem.answer for problem in problems], description)
    textual = {problem.id for problem, parsed in zip(problems, parses, strict=True) if not parsed}
    for problem in problems:
        if problem.id in textual and not any(map(str.isalnum, problem.answer)):
            raise DataError(
                f"the answer of problem {problem.id} cannot be graded: Math-Verify cannot parse it and it "
                f"has no letter or digit ({problem.answer!r}); correct or remove the record"
            )
    return textual


def _fault(answer: str) -> str | None:
    if len(answer) > MAX_ANSWER_LENGTH:
        return f"has {len(answer)} characters, {MAX_ANSWER_LENGTH} are allowed"
    return None if braces_balance(answer) else "has braces without a partner"
