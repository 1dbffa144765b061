"""The rewards of adaptive curricula. Each file here is one; its name is its key under a curriculum's `rewards`.

A reward file defines

    Params                         a class of its settings, perhaps empty, decorated with `@settings`
    build(params, all_settings, seed)  -> Reward (see pipeline/arms/protocols.py); `all_settings` maps every reward's
                                   name to its raw settings

Files that begin with an underscore are shared helpers, not rewards.
"""

from __future__ import annotations

from typing import Any

from pipeline.arms.protocols import Reward, state_of
from pipeline.common.errors import ParamsError
from pipeline.common.params import checked
from pipeline.registry import find


def build_reward(name: str, settings: dict[str, Any], seed: int) -> Reward:
    """The reward `name` with its settings from params.yaml.

    Raises:
        ParamsError: there is no such reward, or its settings are missing or wrong.
        TypeError: it defines only one of state and load_state.
    """
    module = find(__name__, name, ["build"], "reward")
    where = f"params.yaml: the curriculum's rewards.{name}"
    if name not in settings:
        raise ParamsError(f"{where} is missing; add an entry, `{name}: {{}}` if it has no settings")
    reward: Reward = module.build(checked(settings[name], module.Params, where), settings, seed)
    state_of(reward)  # refuses one that could not resume, before anything is trained
    return reward
