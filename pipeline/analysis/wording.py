"""The findings in words: the sentences that open the report and head its picture."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.analysis.metrics import percent
from pipeline.analysis.summary import Summary
from pipeline.analysis.verdict import BASELINE, Comparison, Verdict


def headline(summary: Summary) -> str:
    """The finding in one sentence."""
    if not summary.comparisons:
        best = max(summary.methods, key=lambda name: summary.methods[name].accuracy.mean)
        return (
            f"{best} solves {percent(summary.methods[best].accuracy.mean)} of the test problems "
            f"(teacher {percent(summary.teacher.accuracy)}, "
            f"untrained student {percent(summary.untrained_student.accuracy)})"
        )
    if _with_verdict(summary, "one seed cannot tell"):
        return f"One seed per method cannot tell whether any method differs from {BASELINE}"
    better, worse = (_with_points(summary, which) for which in ("better", "worse"))
    if better and worse:
        return f"Better than {BASELINE}: {better}. Worse: {worse}"
    if better:
        return f"Better than {BASELINE}: {better}"
    if worse:
        return f"No method is shown to be better than {BASELINE}; worse: {worse}"
    return f"No difference shown: no method is distinguishable from {BASELINE}"


def _with_verdict(summary: Summary, which: Verdict) -> list[str]:
    chosen = [name for name, comparison in summary.comparisons.items() if comparison.verdict == which]
    return sorted(chosen, key=lambda name: -abs(summary.comparisons[name].difference))


def _with_points(summary: Summary, which: Verdict) -> str:
    return listed(
        [f"{name} ({points(summary.comparisons[name].difference)})" for name in _with_verdict(summary, which)]
    )


def sentence(name: str, comparison: Comparison, summary: Summary) -> str:
    """One comparison in words."""
    numbers = (
        f"{points(comparison.difference)} of accuracy, {exactly(summary.confidence)} interval "
        f"{span(comparison.low, comparison.high)}, Holm-adjusted p = {p_value(comparison.p_holm)}"
    )
    tests = len(summary.comparisons)
    # the interval is of this comparison alone, the p-value is corrected for all: say so where they part
    alone = (
        f" (the interval leaves out zero, but with {tests} comparisons that is not enough)"
        if tests > 1 and (comparison.low > 0 or comparison.high < 0)
        else ""
    )
    claims: dict[Verdict, str] = {
        "better": f"**{name} is better than {BASELINE}**: {numbers}.",
        "worse": f"**{name} is worse than {BASELINE}**: {numbers}.",
        "no difference shown": f"**{name}: no difference shown** from {BASELINE}: {numbers}{alone}.",
        "one seed cannot tell": f"**{name}: one seed cannot tell** whether it differs from {BASELINE}: {numbers}.",
    }
    return claims[comparison.verdict]


def exactly(share: float) -> str:
    """A share that is a parameter as a percentage: 0.95 is 95%, 0.995 is 99.5%."""
    return f"{100 * share:.6g}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = f"{100 * difference:+.1f}"
    return ("0.0" if float(text) == 0 else text) + " points"


def span(low: float, high: float) -> str:
    """An interval of differences, in percentage points."""
    return f"{points(low).removesuffix(' points')} to {points(high)}"


def p_value(p: float) -> str:
    """Three decimals, or as many as show two digits."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"


def listed(names: Sequence[str]) -> str:
    """A, B and C."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
