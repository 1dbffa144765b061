"""What the arm logs say of a curriculum: whether its Q-values predict rewards, and how unevenly it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import entr

from pipeline.analysis.reading import TrainedRun
from pipeline.analysis.statistics import LEAST_SEEDS, Interval, PointEstimate, seed_interval

ROUNDING = 1e-12
SMALL = 0.1  # the least correlation that counts as an effect (Cohen 1988, Statistical Power Analysis, section 3.2)


@dataclass(frozen=True)
class Curriculum:
    """A method's draws over its seeds.

    q_correlation: of an arm's Q-value before a step with its reward in that step, within steps, and then over seeds;
    null without Q-values, or where they or the rewards never vary between the arms of a step. q_predicts: whether the
    interval over seeds lies above 0 and the mean is at least 0.1, where a seed without a correlation counts as 0, since
    what never varies predicts nothing; null without Q-values or below three seeds. entropy_share: mean entropy
    of the probabilities of drawing each arm, as a share of the largest, which even draws have; null with one arm.
    """

    q_correlation: Interval | PointEstimate | None
    q_correlation_by_seed: dict[str, float | None]
    q_predicts: bool | None
    entropy_share: float | None


def curriculum(runs: Sequence[TrainedRun], confidence: float) -> Curriculum:
    """Reads the arm logs of a method's seeds."""
    by_seed = {str(run.record.seed): q_correlation(run.arm_log) for run in runs}
    known = np.array([r for r in by_seed.values() if r is not None])
    filled = np.array([r or 0.0 for r in by_seed.values()])
    told = has_q_values(runs) and len(runs) >= LEAST_SEEDS
    shares = [share for run in runs if (share := entropy_share(run.arm_log)) is not None]
    return Curriculum(
        q_correlation=seed_interval(known, confidence) if len(known) else None,
        q_correlation_by_seed=by_seed,
        q_predicts=_predicts(seed_interval(filled, confidence)) if told else None,
        entropy_share=float(np.mean(shares)) if shares else None,
    )


def has_q_values(runs: Sequence[TrainedRun]) -> bool:
    """Whether a method learns: the logs of all its seeds have Q-values, or none has."""
    return bool(runs[0].arm_log["q_value"].notna().any())


def _predicts(found: Interval | PointEstimate) -> bool:
    return isinstance(found, Interval) and found.low > 0 and found.mean >= SMALL


def q_correlation(arm_log: pd.DataFrame) -> float | None:
    """Pearson's correlation within steps of Q before a step with the step's reward; None where either never varies.

    Of both the step's mean over the arms that have both is taken off, since a trend that all arms share, such as a
    student that gets better, tells no arm from another.
    """
    before = arm_log.groupby("arm", sort=False)["q_value"].shift()
    known = pd.DataFrame({"q": before, "reward": arm_log["reward"]}, dtype=np.float64).dropna()
    steps = arm_log["step"].loc[known.index]
    q_N, reward_N = ((known[name] - known[name].groupby(steps).transform("mean")).to_numpy() for name in known)
    if not (_varies(q_N, known["q"]) and _varies(reward_N, known["reward"])):
        return None
    return float(np.corrcoef(q_N, reward_N)[0, 1])


def _varies(centred_N: np.ndarray, whole_N: pd.Series) -> bool:
    """Whether anything but rounding is left of numbers whose means were taken off."""
    return len(centred_N) > 1 and bool(np.ptp(centred_N) > ROUNDING * whole_N.abs().max())


def entropy_share(arm_log: pd.DataFrame) -> float | None:
    """Mean over steps of the entropy of the probabilities, over the logarithm of the number of arms."""
    arms = arm_log["arm"].nunique()
    if arms < 2:
        return None
    entropy_N = entr(arm_log["probability"].to_numpy(dtype=np.float64))
    return float(entropy_N.sum() / arm_log["step"].nunique() / np.log(arms))
