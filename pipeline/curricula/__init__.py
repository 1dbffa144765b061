"""The curricula. Each folder here is one; its name is its key in params.yaml and its value in `methods`.

A curriculum's `__init__.py` defines

    Params                      a class of its settings, decorated with `@settings`; it has a field `arms`
    build(params, arms, seed)   -> Curriculum (see pipeline/arms/protocols.py)

One that reads more than every run does also defines `inputs(seed)`, a list of files. Helpers of its own lie in the same
folder: cells depend on all of it and on no other curriculum's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import Curriculum
from pipeline.checkpoints.code import import_closure, module_file, modules_in
from pipeline.common.errors import ParamsError
from pipeline.registry import find

REWARDS = "pipeline.bandit.rewards"


def params_class(method: str) -> type[Any]:
    """The class of a method's settings, which has at least the field `arms`.

    Raises:
        ParamsError: there is no such curriculum, or it is incomplete.
    """
    params: type[Any] = find(__name__, method, ["build"], "curriculum").Params
    if "arms" not in params.__dataclass_fields__:
        raise ParamsError(f"pipeline/curricula/{method}: Params lacks the field arms, which says what an arm is")
    return params


def inputs_of(method: str, seed: int) -> list[Path]:
    """The files that a curriculum's run depends on, besides those that every run does."""
    module = find(__name__, method, ["build"], "curriculum")
    files: list[Path] = module.inputs(seed) if hasattr(module, "inputs") else []
    return files


def modules_of(method: str) -> list[str]:
    """The modules of a curriculum, and those that are found by name: all rewards, where it imports their registry.

    Its files are read, not imported, so that one that is not finished yet is no obstacle to the others.
    """
    own, rewards = modules_in(f"{__name__}.{method}"), modules_in(REWARDS)
    registry = module_file(REWARDS)
    return own + (rewards if registry in import_closure(own) else [])


def build_curriculum(method: str, params: Any, arms: ArmSet, seed: int) -> Curriculum:
    """The curriculum of one run; `params` is an instance of `params_class(method)`."""
    curriculum: Curriculum = find(__name__, method, ["build"], "curriculum").build(params, arms, seed)
    return curriculum
