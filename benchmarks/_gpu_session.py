"""A session on a device: what is checked and measured in it, at which sizes, and what was found so far."""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._device_checks import Verdict
from benchmarks._measure import Shape, clear_memory, say
from benchmarks._runs import Lengths, Params
from pipeline.language_models.settings import GenerationParams


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    teacher: Shape
    student: Shape
    lengths: Lengths
    problems: int
    warm_up_steps: int
    steps: int
    capture_passes: int
    generation: GenerationParams
    distillation_steps: int
    checks: Shape
    check_lengths: Lengths


QWEN2 = Scale(
    teacher=Shape(1536, 28, 12, 2, 8960, 151936),
    student=Shape(896, 24, 14, 2, 4864, 151936),
    lengths=Lengths(prompt=80, completion=190, most=1024),
    problems=256,
    warm_up_steps=3,
    steps=12,
    capture_passes=3,
    generation=GenerationParams(batch_size=64, max_new_tokens=256),
    distillation_steps=50,
    checks=Shape(256, 6, 4, 2, 768, 8192),
    check_lengths=Lengths(prompt=60, completion=200, most=512),
)
TINY = Scale(
    teacher=Shape(48, 3, 4, 2, 96, 500),
    student=Shape(32, 2, 4, 2, 64, 500),
    lengths=Lengths(prompt=8, completion=12, most=40),
    problems=30,
    warm_up_steps=1,
    steps=3,
    capture_passes=1,
    generation=GenerationParams(batch_size=4, max_new_tokens=8),
    distillation_steps=30,
    checks=Shape(32, 2, 4, 2, 64, 500),
    check_lengths=Lengths(prompt=8, completion=12, most=40),
)


@dataclass
class Session:
    """What has been found so far, and how much time is left."""

    device: str
    scale: Scale
    params: Params
    folder: Path
    seconds: float
    peak: float | None
    only: frozenset[str] = frozenset()  # names of checks and sections; none stands for all
    offered: set[str] = field(default_factory=set)
    started: float = field(default_factory=time.perf_counter)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.started

    def wants(self, name: str) -> bool:
        """Whether a check or section is to be done."""
        self.offered.add(name)
        return not self.only or name in self.only

    def check(self, name: str, work: Callable[[], Verdict], seconds: float = 20) -> None:
        """Carries out a check; whatever goes wrong in it is a failure of this check alone."""
        if not self.wants(name):
            return

        def judged() -> dict[str, Any]:
            verdict = work()
            figure = verdict.figure if math.isfinite(verdict.figure) else None  # JSON has no NaN
            return {"passed": verdict.passed, "figure": figure, "limit": verdict.limit, "what": verdict.what}

        self.checks[name] = self._guarded(name, seconds, judged)

    def section(self, name: str, seconds: float, work: Callable[[], dict[str, Any]]) -> None:
        """Takes measurements that should be done in so many seconds, unless too little time is left."""
        if self.wants(name):
            self.sections[name] = self._guarded(name, seconds, work)

    def _guarded(self, name: str, seconds: float, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        clear_memory(self.device)
        if self.elapsed() + seconds > self.seconds:
            reason = f"it may take {seconds:.0f} s, but only {max(0, self.seconds - self.elapsed()):.0f} s are left"
            say(f"{name}: SKIPPED, {reason}")
            return {"skipped": reason}
        began = self.elapsed()
        try:
            found = work()
        except Exception as error:  # on a new device anything may fail, and the rest is still wanted
            traceback.print_exc(file=sys.stdout)
            message = f"{type(error).__name__}: {error}"
            say(f"{name}: FAIL, {message}")
            return {"error": message}
        found["section_seconds"] = round(self.elapsed() - began, 2)
        say(f"{name}: {verdict_of(found) if 'passed' in found else 'done'} in {found['section_seconds']} s")
        return found

    def failures(self) -> list[str]:
        """What went wrong; what was skipped is no failure."""
        failed = [name for name, c in self.checks.items() if "error" in c or c.get("passed") is False]
        return failed + [name for name, s in self.sections.items() if "error" in s]

    def skipped(self) -> list[str]:
        """What there was no time for."""
        return [name for name, found in (self.checks | self.sections).items() if "skipped" in found]


def verdict_of(check: dict[str, Any]) -> str:
    """A check's verdict in one line."""
    verdict = "PASS" if check["passed"] else "FAIL"
    return f"{verdict}, {number(check['figure'])} (at most {number(check['limit'])}): {check['what']}"


def number(value: Any) -> str:
    """A figure to four digits; what there is none of is a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
