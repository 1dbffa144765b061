"""The report as Markdown: a verdict first, then tables, then how to read them."""

from __future__ import annotations

from pathlib import Path

from pipeline.analysis.comparison_tables import comparisons, curricula
from pipeline.analysis.draws_tables import draws, pool_and_target
from pipeline.analysis.markdown import NONE, bullets, code, table
from pipeline.analysis.metrics import METRICS, Metric, percent, whole
from pipeline.analysis.statistics import Interval, PointEstimate
from pipeline.analysis.summary import Method, Reference, Summary
from pipeline.analysis.verdict import BASELINE
from pipeline.analysis.wording import accuracy_headline, closeness_headline, exactly, headline, listed, points, span

REPORT = Path("metrics/experiment_report.md")


def verdict_in(report: str) -> str:
    """What `verdict_paragraph` wrote into a report, without its marks."""
    _, verdict, *_ = report.split("\n\n")
    return verdict.replace("**", "")


def experiment_report(summary: Summary) -> str:
    """What REPORT holds."""
    parts = [
        f"# Curricula compared at the {summary.scale} scale",
        verdict_paragraph(summary),
        pool_and_target(summary),
        setting(summary),
        *(["## Read with care\n\n" + bullets(summary.warnings)] if summary.warnings else []),
        *(["## What the curricula draw, and why\n\n" + drawn] if (drawn := draws(summary)) else []),
        "## Compared in pairs\n\n" + comparisons(summary),
        "## Accuracy on the test problems\n\n" + _accuracy(summary),
        "## Accuracy by level\n\n" + _by_group(summary, "accuracy_by_level", "level "),
        "## Accuracy by subject\n\n" + _by_group(summary, "accuracy_by_subject", ""),
        "## How fast they learn\n\n" + _efficiency(summary),
        curricula(summary, depth=2),
        "## All metrics\n\n" + _metrics(summary),
        "## Two graders\n\n" + _graders(summary),
        "## What was computed\n\n" + _computed(summary),
        "## How the intervals are made\n\n" + _methods_note(summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict_paragraph(summary: Summary) -> str:
    """The answer to the project's question, where the methods end, and who comes near to the teacher sooner."""
    return " ".join(
        filter(None, [f"**{headline(summary)}.**", accuracy_headline(summary), closeness_headline(summary)])
    )


def setting(summary: Summary) -> str:
    """What was compared, with which budget and on how many problems."""
    seeds = list(map(str, next(iter(summary.methods.values())).seeds))
    return (
        f"Compared: {listed(list(summary.methods))}; {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}. "
        f"Every run was trained for {summary.steps:,} steps on {summary.examples:,} examples and answers the same "
        f"{summary.problems:,} test problems. The teacher solves {percent(summary.teacher.accuracy)} of them (the "
        f"ceiling), the student before training {percent(summary.untrained_student.accuracy)} (the floor)."
    )


def _interval(found: Interval | PointEstimate) -> str:
    bounds = f" ({percent(found.low)} to {percent(found.high)})" if isinstance(found, Interval) else ""
    return percent(found.mean) + bounds


def _accuracy(summary: Summary) -> str:
    rows = [
        [name, _interval(m.accuracy), percent(m.accuracy_iqm), ", ".join(map(percent, m.accuracy_by_seed.values()))]
        for name, m in _best_first(summary)
    ]
    references = [[name, percent(reference.accuracy), NONE, NONE] for name, reference in _references(summary)]
    return table(["method", "accuracy (interval)", "interquartile mean", "single seeds"], rows + references)


def _by_group(summary: Summary, field: str, prefix: str) -> str:
    groups = list(getattr(summary.teacher, field))
    rows = [[name, *(percent(getattr(model, field)[group]) for group in groups)] for name, model in _models(summary)]
    return table(["method", *(f"{prefix}{group}" for group in groups)], rows)


def _efficiency(summary: Summary) -> str:
    rows = []
    for name, method in _best_first(summary):
        reached = method.examples_to_threshold
        at_least = "" if reached.seeds_reached == len(method.seeds) else "at least "
        comparison = summary.comparisons.get(BASELINE, {}).get(name)
        rows.append(
            [
                name,
                f"{reached.seeds_reached} of {len(method.seeds)}",
                f"{at_least}{reached.restricted_mean:,.0f}",
                ", ".join("never" if n is None else f"{n:,.0f}" for n in reached.by_seed.values()),
                _interval(method.aulc),
                NONE if comparison is None else _difference(comparison.aulc_difference),
            ]
        )
    text = table(
        [
            "method",
            "seeds that reach it",
            "examples to threshold",
            "single seeds",
            "area under the curve",
            f"area against {BASELINE}",
        ],
        rows,
    )
    return (
        f"The threshold is a validation accuracy of {percent(summary.threshold_accuracy)}: "
        f"{exactly(summary.threshold_share)} of the way from where the learning curves begin to the teacher's accuracy "
        "on the test problems. It is looked for on the rising curve nearest to the validations. A seed that never "
        "reaches it counts with its whole budget, so a mean with such seeds is a lower bound. The area under the "
        "learning curve is the mean validation accuracy over all examples of the budget; its intervals are over seeds "
        f"only and not corrected for several comparisons.\n\n{text}"
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


def _graders(summary: Summary) -> str:
    names = ("accuracy", "minerva_accuracy", "graders_part")
    shares = table(
        ["method", "accuracy", "by Minerva's rules", "they part on"],
        [[name, *(percent(model.metrics[key]) for key in names)] for name, model in _models(summary)],
    )
    text = (
        "Answers are graded twice. What counts everywhere else is equivalence by Math-Verify; Minerva's rules compare "
        f"normalised texts.\n\n{shares}\n\n"
    )
    if not summary.graders_part:
        return text + "They agree on every answer."
    pairs = [
        [code(found.gold), code(found.answer), "Math-Verify" if found.correct else "Minerva", whole(found.times)]
        for found in summary.graders_part
    ]
    return f"{text}Where they part, the most frequent first:\n\n" + table(
        ["gold answer", "answer", "right by", "times"], pairs
    )


def _heading(metric: Metric) -> str:
    return metric.heading + ("" if metric.better is None else " ↑" if metric.better == "higher" else " ↓")


def _computed(summary: Summary) -> str:
    rows = [
        [
            name,
            f"{summary.examples:,}",
            f"{m.tokens:,.0f}",
            f"{m.compute:,.0f}",
        ]
        for name, m in _best_first(summary)
    ]
    return (
        "Steps and examples are the same for every run; tokens and compute are means over seeds. Training compute is "
        "in tokens forward and backward; a pass forward alone, over probes for example, counts a third. Seconds and "
        "memory are those of one machine: see [costs.md](costs.md).\n\n"
    ) + table(["method", "examples", "tokens", "training compute"], rows)


def _methods_note(summary: Summary) -> str:
    return (
        f"Intervals are {exactly(summary.confidence)} intervals. Those of accuracies are the wider of two: Student's t "
        "with each method's own variance over seeds (Welch's for a difference) and what problems add to it, and a "
        f"percentile bootstrap of {summary.resamples:,} resamples of the test problems inside each level; with one "
        "seed, the bootstrap alone. What is known per seed only has the t interval. Differences are paired by "
        "problem, not by seed.\n\n"
        "The ratio is read off the rising curve nearest to the mean learning curve, at the rival's final validation "
        "accuracy (mean over seeds), or KL per token (geometric mean, read on a log scale). Its interval holds every "
        "ratio at which the method is not shown to differ from that; it is open above where the method may never get "
        "there. A ratio of 1 is tested by the values after equal spending. It is about these validation problems.\n\n"
        "p-values are two-sided and agree with the intervals. Each of the five questions (examples and compute for "
        "the rival's accuracy, examples and compute for its KL, final accuracy) is a family of its own in Holm's "
        "correction, so among all five a false verdict is likelier than in one. Better or worse needs a corrected p "
        f"below {1 - summary.confidence:.3g}, and three seeds. Detectable is what would have been shown in 8 of 10 "
        "repetitions even as the first step of Holm's correction; for ratios it is the lead after equal spending, "
        "which is what is tested. Probability of improvement is the chance that a random seed of the method beats a "
        "random seed of the rival, ties counting half. The interquartile mean is over the accuracies of all seeds at "
        "all levels. Both are descriptions and have no interval: one over so few seeds would not hold what it promises."
    )


def _best_first(summary: Summary) -> list[tuple[str, Method]]:
    return sorted(summary.methods.items(), key=lambda item: -item[1].accuracy.mean)


def _models(summary: Summary) -> list[tuple[str, Method | Reference]]:
    """All that answered the test problems: the methods, the best first, then the references."""
    return [*_best_first(summary), *_references(summary)]


def _references(summary: Summary) -> list[tuple[str, Reference]]:
    return [("teacher", summary.teacher), ("untrained student", summary.untrained_student)]


def further_tables(summary: Summary) -> str:
    """What charts cannot show, for the page that has charts of the rest; nothing in it depends on the machine."""
    parts = [
        "### Accuracy on the test problems\n\n" + _accuracy(summary),
        "### How fast they learn\n\n" + _efficiency(summary),
        curricula(summary, depth=3),
        "### All metrics\n\n" + _metrics(summary),
        "### How the intervals are made\n\n" + _methods_note(summary),
    ]
    return "\n\n".join(part for part in parts if part)
