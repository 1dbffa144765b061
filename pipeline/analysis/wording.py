"""The findings in words: the sentences that open the report and head its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.analysis.markdown import NONE
from pipeline.analysis.metrics import percent
from pipeline.analysis.summary import Method, Summary
from pipeline.analysis.verdict import BASELINE, Comparison, Difference, Finding, Ratio, Verdict

MOST_INTERVALS = 3  # a headline with more cannot be read
EXAMPLES_CLAIMS: Mapping[Verdict, str] = {
    "better": "**{method} needs fewer examples than {rival}**",
    "worse": "**{method} needs more examples than {rival}**",
    "no difference shown": "**{method}: no difference shown** from {rival} in the examples it needs",
    "fewer than 3 seeds cannot tell": "**{method}: fewer than 3 seeds cannot tell** whether it needs fewer examples "
    "than {rival}",
    "the rival ended no better than it began": "**{method}: {rival} ended no more accurate on the "
    "validation problems than it began**, so there is nothing to reach with fewer examples",
}


def validation_accuracy_of(problems: int | None) -> str:
    """What a learning curve shows; how many problems it is of where these are not all."""
    return "validation accuracy" if problems is None else f"validation accuracy ({problems:,} problems)"


def headline(summary: Summary) -> str:
    """The answer to the project's question in one sentence: who needs fewer examples than the baseline."""
    ratios = {name: found.examples_ratio for name, found in summary.comparisons.get(BASELINE, {}).items()}
    if not ratios:
        return _best(summary)
    return _untold(ratios) or _shown(ratios)


def _untold(ratios: Mapping[str, Ratio]) -> str:
    """Why nothing is claimed of the baseline's examples; empty where something is."""
    if not all(ratio.exists for ratio in ratios.values()):
        return (
            f"{BASELINE} ended no more accurate on the validation problems than it began, so there is nothing to reach "
            "with fewer examples"
        )
    if _named("fewer than 3 seeds cannot tell", ratios):
        return f"Fewer than 3 seeds per method cannot tell which curriculum needs fewer examples than {BASELINE}"
    return ""


def _shown(ratios: Mapping[str, Ratio]) -> str:
    """Who is shown to need fewer examples than the baseline, and who more."""
    better, more = _fewest_first(ratios), _more(ratios)
    if len(better) == 1:
        found = ratios[better[0]]
        times = f"{ratio_text(found)} times its examples ({ratio_span(found)})"
        return f"{better[0]} reaches {BASELINE}'s final accuracy with {times}{more}"
    if better:
        return f"Examples to reach {BASELINE}'s final accuracy: {_times(better, ratios)}{more}"
    if more:
        return f"No curriculum is shown to need fewer examples to reach {BASELINE}'s final accuracy{more}"
    return f"No curriculum is shown to need fewer, or more, examples to reach {BASELINE}'s final accuracy"


def closeness_headline(summary: Summary) -> str:
    """Who comes as near to the teacher as the baseline with fewer examples; empty without a verdict."""
    ratios = {name: found.kl_examples_ratio for name, found in summary.comparisons.get(BASELINE, {}).items()}
    if not all(ratio.exists for ratio in ratios.values()):
        return f"{BASELINE} ended no nearer to the teacher (KL per token) than it began, so no ratio is given of that."
    if not ratios or _named("fewer than 3 seeds cannot tell", ratios):
        return ""
    better, more = _fewest_first(ratios), _more(ratios)
    if not better:
        return f"No curriculum is shown to come as near to the teacher as {BASELINE} with fewer examples{more}."
    return f"Examples to come as near to the teacher (KL per token) as {BASELINE}: {_times(better, ratios)}{more}."


def _fewest_first(ratios: Mapping[str, Ratio]) -> list[str]:
    """Who is shown to need less than the rival, the least first."""
    return sorted(_named("better", ratios), key=lambda name: ratios[name].ratio or 0.0)


def _times(better: Sequence[str], ratios: Mapping[str, Ratio]) -> str:
    few = len(better) <= MOST_INTERVALS
    return listed(
        [f"{name} {ratio_text(ratios[name])} times" + f" ({ratio_span(ratios[name])})" * few for name in better]
    )


def _more(ratios: Mapping[str, Ratio]) -> str:
    """Who is shown to need more; empty where nobody is."""
    worse = _named("worse", ratios)
    return f"; {listed(worse)} {'needs' if len(worse) == 1 else 'need'} more" if worse else ""


def _best(summary: Summary) -> str:
    best = max(summary.methods, key=lambda name: summary.methods[name].accuracy.mean)
    return (
        f"{best} solves {percent(summary.methods[best].accuracy.mean)} of the test problems "
        f"(teacher {percent(summary.teacher.accuracy)}, "
        f"untrained student {percent(summary.untrained_student.accuracy)})"
    )


def _named(which: Verdict, found: Mapping[str, Ratio | Difference]) -> list[str]:
    return [name for name, part in found.items() if part.test.verdict == which]


def accuracy_headline(summary: Summary) -> str:
    """Where the methods end, beside the baseline, in one sentence; empty without a verdict."""
    found = {name: comparison.accuracy for name, comparison in summary.comparisons.get(BASELINE, {}).items()}
    if not found or _named("fewer than 3 seeds cannot tell", found):
        return ""
    better, worse = (
        listed([f"{name} ({points(found[name].difference)})" for name in _named(which, found)])
        for which in ("better", "worse")
    )
    if not better and not worse:
        return f"In final accuracy on the test problems no curriculum is shown to differ from {BASELINE}."
    above = f"{better} above {BASELINE}" if better else f"none shown above {BASELINE}"
    return f"In final accuracy on the test problems: {above}{f', {worse} below it' if worse else ''}."


def sentence(pair: tuple[str, str], comparison: Comparison, confidence: float) -> str:
    """One comparison in words: examples by accuracy, examples by KL, and where both end."""
    method, rival = pair
    examples, near, accuracy = comparison.examples_ratio, comparison.kl_examples_ratio, comparison.accuracy
    claim = EXAMPLES_CLAIMS[examples.test.verdict].format(method=method, rival=rival)
    numbers = f": to reach {rival}'s final accuracy {_ratio_numbers(examples, confidence)}" if examples.exists else ""
    nearer = f": {_ratio_numbers(near, confidence)}" if near.exists else ""
    return (
        f"{claim}{numbers}. To come as near to the teacher (KL per token), {near.test.verdict}{nearer}. Final "
        f"accuracy, {accuracy.test.verdict}: {points(accuracy.difference)}, {exactly(confidence)} interval "
        f"{span(accuracy.low, accuracy.high)}{_p_holm(accuracy.test)}."
    )


def _ratio_numbers(found: Ratio, confidence: float) -> str:
    interval = "" if found.low is None else f", {exactly(confidence)} interval {ratio_span(found)}"
    return f"{ratio_text(found)} times as many{interval}{_p_holm(found.test)}"


def _p_holm(test: Finding) -> str:
    return "" if test.p_holm is None else f", Holm-adjusted p = {p_value(test.p_holm)}"


def points_ahead(lead: float) -> str:
    """A lead in accuracy, in words."""
    return f"{points(lead).removeprefix('+')} more"


def times_nearer(lead: float) -> str:
    """A lead in the log of the KL, in words."""
    return f"a KL {np.exp(lead):.2f} times lower"


def q_sentence(name: str, method: Method, confidence: float) -> str:
    """Whether a curriculum's Q-values predict the rewards that follow them; empty where it has none."""
    found, predicts = method.curriculum.q_correlation, method.curriculum.q_predicts
    if found is None:
        if not method.draws:
            return ""
        if predicts is None:
            return f"The Q-values of {name}, or its rewards, do not tell arms apart in these seeds."
        return f"**The Q-values of {name} predict nothing**: they, or the rewards, do not tell arms apart."
    bounds = f", {exactly(confidence)} interval {found.low:+.2f} to {found.high:+.2f}" if found.low is not None else ""
    mean = f"{found.mean:+.2f} within steps"
    numbers = f"an arm's Q and its next reward have a correlation of {mean}{bounds}{_known_in(method)}"
    if predicts is None:
        return f"{name}: fewer than 3 seeds cannot tell whether its Q-values predict anything; {numbers}."
    if predicts:
        return f"The Q-values of {name} predict rewards: {numbers}."
    return f"**The Q-values of {name} predict nothing**: {numbers}."


def _known_in(method: Method) -> str:
    """How many seeds have a correlation, where not all do."""
    known = [r is not None for r in method.curriculum.q_correlation_by_seed.values()]
    if all(known):
        return ""
    return f", in the {sum(known)} of {len(known)} seeds where both vary at all"


def ratio_text(found: Ratio) -> str:
    """A ratio, or that it is more than all that was trained, or that there is none."""
    if not found.exists:
        return NONE
    return _beyond(found) if found.ratio is None else _share(found.ratio)


def ratio_span(found: Ratio) -> str:
    """The interval of a ratio, empty without one; one that lies beyond all that was trained has no end to name."""
    if found.low is None:
        return ""
    if found.ratio is None and found.low >= found.trained:
        return _beyond(found)
    return f"{found.low:.2f} or more" if found.high is None else f"{found.low:.2f} to {_share(found.high)}"


def _share(spent: float) -> str:
    """Two decimals; what they cannot show is little, but not nothing."""
    return "less than 0.01" if 0 <= spent < 0.005 else f"{spent:.2f}"


def _beyond(found: Ratio) -> str:
    trained = f"{found.trained:.2f}"
    return "more than " + ("1" if trained == "1.00" else trained)


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
