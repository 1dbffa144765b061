"""The few numbers that experiments are compared by: metrics/overview.json, the report's only DVC metrics."""

from __future__ import annotations

from pipeline.analysis.summary import Method, Reference, Summary
from pipeline.analysis.verdict import BASELINE, Comparison, Ratio

RATIOS = ("examples_ratio", "compute_ratio", "kl_examples_ratio", "kl_compute_ratio")


def overview(summary: Summary) -> dict[str, dict[str, float | None]]:
    """Of each method and reference, by name.

    A ratio is null where the method does not get there, and left out where there is nothing to reach, see `Ratio`.
    """
    compared = summary.comparisons.get(BASELINE, {})
    references = {"teacher": summary.teacher, "untrained_student": summary.untrained_student}
    return {name: _of_method(method, compared.get(name)) for name, method in summary.methods.items()} | {
        name: _answers(reference) for name, reference in references.items()
    }


def _of_method(method: Method, against_baseline: Comparison | None) -> dict[str, float | None]:
    found: dict[str, float | None] = {**_answers(method), "area_under_curve": method.aulc.mean}
    if against_baseline is not None:
        ratios: dict[str, Ratio] = {name: getattr(against_baseline, name) for name in RATIOS}
        found |= {name: ratio.ratio for name, ratio in ratios.items() if ratio.exists}
    return found


def _answers(model: Method | Reference) -> dict[str, float | None]:
    return {name: model.metrics[name] for name in ("accuracy", "kl_per_token")}
