"""The rewards. Each file in this folder is one; its name is its key under `curricula.rl.rewards` in params.yaml.

A reward file defines

    Params                  a frozen dataclass of its settings, perhaps empty
    build(params, settings, seed)  -> Reward, where `settings` maps every reward's name to its raw settings
"""

from __future__ import annotations

from typing import Any, Protocol

from pipeline.common.errors import ParamsError
from pipeline.common.params import checked
from pipeline.distillation.step import StepSignals
from pipeline.registry import find


class Reward(Protocol):
    """Says what each arm of a step was worth."""

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of each arm that earned one in this step; an arm may earn none."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that changes over a run, as a JSON value that `load_state` takes back exactly."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` returned."""
        ...


def build_reward(name: str, settings: dict[str, Any], seed: int) -> Reward:
    """The reward `name` with its settings from params.yaml.

    Raises:
        ParamsError: there is no such reward, or its settings are missing or wrong.
    """
    module = find(__name__, name, "reward")
    where = f"params.yaml: curricula.rl.rewards.{name}"
    if name not in settings:
        raise ParamsError(f"{where} is missing; add an entry, `{name}: {{}}` if it has no settings")
    return module.build(checked(settings[name], module.Params, where), settings, seed)
