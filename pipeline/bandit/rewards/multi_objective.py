"""multi_objective: a weighted sum of other rewards, each standardised by its own running mean and deviation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.arms.protocols import MeasuredInParts, ProbeUse, Reward, load_state_of, probe_use, state_of
from pipeline.arms.signals import StepSignals
from pipeline.bandit.rewards import build_reward
from pipeline.bandit.standardizer import RunningStandardizer
from pipeline.common.errors import ParamsError
from pipeline.common.params import settings


@settings
class Params:
    """The weight of each reward that is summed, by its name."""

    weights: Annotated[dict[str, Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]


def build(params: Params, all_settings: dict[str, Any], seed: int) -> MultiObjective:
    """The reward with all its parts.

    Raises:
        ParamsError: a weight names no reward, or multi_objective itself, or two that look at the probe differently.
    """
    if "multi_objective" in params.weights:
        raise ParamsError(
            "params.yaml: the curriculum's rewards.multi_objective.weights must not name multi_objective itself"
        )
    parts = {name: (weight, build_reward(name, all_settings, seed)) for name, weight in params.weights.items()}
    looking = {name: use for name, (_, reward) in parts.items() if (use := probe_use(reward)) is not None}
    if len(set(looking.values())) > 1:
        raise ParamsError(
            "params.yaml: the curriculum's rewards.multi_objective.weights names rewards that look at the probe "
            f"differently, {' and '.join(looking)}; a run has one way to look, so leave out all but one"
        )
    return MultiObjective(parts, next(iter(looking.values()), None))


class MultiObjective:
    """Sum over rewards of weight x standardised reward; an arm that a part gave nothing gets nothing from it."""

    def __init__(self, parts: dict[str, tuple[float, Reward]], probe: ProbeUse | None) -> None:
        """`probe` is that of the part that looks at it."""
        self._parts, self.probe = parts, probe
        self._standardizers = {name: RunningStandardizer() for name in parts}

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of every arm that some part rewarded."""
        return self._weighted(
            {name: self._standardizers[name](part(signals)) for name, (_, part) in self._parts.items()}
        )

    def part_deviations(self, signals: StepSignals) -> list[dict[int, float]]:
        """Those of the rewards that are summed, summed as they are; all look at the probe in the same way."""
        of_each = {
            name: [self._standardizers[name].scaled(deviations) for deviations in part.part_deviations(signals)]
            for name, (_, part) in self._parts.items()
            if isinstance(part, MeasuredInParts)
        }
        measurements = zip(*of_each.values(), strict=True)
        return [self._weighted(dict(zip(of_each, deviations, strict=True))) for deviations in measurements]

    def _weighted(self, values: dict[str, dict[int, float]]) -> dict[int, float]:
        total: dict[int, float] = {}
        for name, by_arm in values.items():
            for arm, value in by_arm.items():
                total[arm] = total.get(arm, 0.0) + self._parts[name][0] * value
        return total

    def state(self) -> dict[str, Any]:
        """The state of every part and of its standardisation."""
        return {
            name: {"reward": state_of(reward), "standardizer": self._standardizers[name].state()}
            for name, (_, reward) in self._parts.items()
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for name, (_, reward) in self._parts.items():
            load_state_of(reward, state[name]["reward"])
            self._standardizers[name].load_state(state[name]["standardizer"])
