"""The report as Markdown: a verdict first, then tables, then how to read them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.analysis.metrics import METRICS, Metric, percent
from pipeline.analysis.statistics import Interval, PointEstimate
from pipeline.analysis.summary import Method, Reference, Summary
from pipeline.analysis.verdict import BASELINE
from pipeline.analysis.wording import exactly, headline, listed, p_value, points, sentence, span

NONE = "-"


def experiment_report(summary: Summary) -> str:
    """metrics/experiment_report.md."""
    parts = [
        f"# Curricula compared at the {summary.scale} scale",
        f"**{headline(summary)}.**",
        _setting(summary),
        _verdicts(summary),
        *(["## Read with care\n\n" + _bullets(summary.warnings)] if summary.warnings else []),
        "## Accuracy on the test problems\n\n" + _accuracy(summary),
        "## Accuracy by level\n\n" + _by_group(summary, "accuracy_by_level", "level "),
        "## Accuracy by subject\n\n" + _by_group(summary, "accuracy_by_subject", ""),
        "## How fast they learn\n\n" + _efficiency(summary),
        "## All metrics\n\n" + _metrics(summary),
        "## What it cost\n\n" + _cost(summary),
        "## How the intervals are made\n\n" + _methods_note(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _setting(summary: Summary) -> str:
    seeds = list(map(str, next(iter(summary.methods.values())).seeds))
    return (
        f"Compared: {listed(list(summary.methods))}; {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}. "
        f"Every run was trained for {summary.steps:,} steps on {summary.examples:,} examples and answers the same "
        f"{summary.problems:,} test problems. The teacher solves {percent(summary.teacher.accuracy)} of them (the "
        f"ceiling), the student before training {percent(summary.untrained_student.accuracy)} (the floor)."
    )


def _verdicts(summary: Summary) -> str:
    if not summary.comparisons:
        return summary.comparisons_note
    sentences = _bullets([sentence(name, comparison, summary) for name, comparison in summary.comparisons.items()])
    rows = [
        [
            name,
            points(c.difference),
            span(c.low, c.high),
            f"{c.probability_of_improvement:.2f}",
            p_value(c.p),
            p_value(c.p_holm),
            c.verdict,
        ]
        for name, c in summary.comparisons.items()
    ]
    header = [f"against {BASELINE}", "difference", "interval", "probability of improvement", "p", "p (Holm)", "verdict"]
    return f"{sentences}\n\n{table(header, rows)}"


def _interval(found: Interval | PointEstimate) -> str:
    bounds = f" ({percent(found.low)} to {percent(found.high)})" if isinstance(found, Interval) else ""
    return percent(found.mean) + bounds


def _accuracy(summary: Summary) -> str:
    rows = [
        [name, _interval(m.accuracy), _interval(m.accuracy_iqm), ", ".join(map(percent, m.accuracy_by_seed.values()))]
        for name, m in _best_first(summary)
    ]
    references = [[name, percent(reference.accuracy), NONE, NONE] for name, reference in _references(summary)]
    return table(["method", "accuracy (interval)", "interquartile mean (interval)", "single seeds"], rows + references)


def _by_group(summary: Summary, field: str, prefix: str) -> str:
    groups = list(getattr(summary.teacher, field))
    rows = [[name, *(percent(getattr(model, field)[group]) for group in groups)] for name, model in _models(summary)]
    return table(["method", *(f"{prefix}{group}" for group in groups)], rows)


def _efficiency(summary: Summary) -> str:
    target = next(iter(summary.methods.values())).examples_to_target.target_accuracy
    rows = []
    for name, method in _best_first(summary):
        reached = method.examples_to_target
        at_least = "" if reached.seeds_reached == len(method.seeds) else "at least "
        difference = summary.comparisons[name].aulc_difference if name in summary.comparisons else None
        rows.append(
            [
                name,
                f"{reached.seeds_reached} of {len(method.seeds)}",
                f"{at_least}{reached.restricted_mean:,.0f}",
                ", ".join("never" if n is None else f"{n:,}" for n in reached.by_seed.values()),
                _interval(method.aulc),
                NONE if difference is None else _difference(difference),
            ]
        )
    text = table(
        [
            "method",
            "seeds that reach it",
            "examples to target",
            "single seeds",
            "area under the curve",
            f"area against {BASELINE}",
        ],
        rows,
    )
    return (
        f"The target is a validation accuracy of {exactly(target)}, looked for at every validation. A seed that "
        "never reaches it counts with its whole budget, so a mean with such seeds is a lower bound. The area "
        "under the learning curve is the mean validation accuracy over all examples of the budget; its intervals "
        f"are over seeds only and not corrected for several comparisons.\n\n{text}"
    )


def _difference(found: Interval | PointEstimate) -> str:
    bounds = f" ({span(found.low, found.high)})" if isinstance(found, Interval) else ""
    return points(found.mean) + bounds


def _metrics(summary: Summary) -> str:
    rows = [
        [name, *(metric.shown(model.metrics[metric.name]) for metric in METRICS)] for name, model in _models(summary)
    ]
    return (
        "Of a method, means over its seeds (counts are sums). KL and most likely tokens are those on the reference "
        "solutions; ↑ and ↓ say which end is good.\n\n" + table(["method", *map(_heading, METRICS)], rows)
    )


def _heading(metric: Metric) -> str:
    return metric.heading + ("" if metric.better is None else " ↑" if metric.better == "higher" else " ↓")


def _cost(summary: Summary) -> str:
    rows = [
        [
            name,
            f"{summary.examples:,}",
            f"{m.tokens:,.0f}",
            f"{m.training_seconds:,.0f}",
            f"{m.peak_memory_bytes / 2**20:,.0f}",
        ]
        for name, m in _best_first(summary)
    ]
    return "Steps and examples are the same for every run; tokens and seconds are means over seeds.\n\n" + table(
        ["method", "examples", "tokens", "training seconds", "peak memory (MiB)"], rows
    )


def _methods_note(summary: Summary) -> str:
    return (
        f"Intervals are {exactly(summary.confidence)} percentile bootstrap intervals from {summary.resamples:,} "
        "resamples of seeds and, inside each level, of test problems (with one seed: of problems only). All "
        "methods share the same resamples, so differences are paired. Probability of improvement is the chance "
        f"that a random seed of the method beats a random seed of {BASELINE}, ties counting half. Two-sided "
        "bootstrap p-values are corrected by Holm's method over all comparisons. A method is called better or "
        f"worse only where the corrected p is below {1 - summary.confidence:.3g} and the interval leaves out zero. "
        "The interquartile mean is over the accuracies of all seeds at all levels."
    )


def _best_first(summary: Summary) -> list[tuple[str, Method]]:
    return sorted(summary.methods.items(), key=lambda item: -item[1].accuracy.mean)


def _models(summary: Summary) -> list[tuple[str, Method | Reference]]:
    """All that answered the test problems: the methods, the best first, then the references."""
    return [*_best_first(summary), *_references(summary)]


def _references(summary: Summary) -> list[tuple[str, Reference]]:
    return [("teacher", summary.teacher), ("untrained student", summary.untrained_student)]
