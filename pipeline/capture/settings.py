"""What is kept of the teacher: the section `teacher_logits`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.common.errors import ParamsError
from pipeline.common.params import Positive, PositiveFloat, settings
from pipeline.logit_store.names import SchemeName


@settings
class SolutionParams:
    """How the teacher is asked for solutions of its own."""

    attempts: Positive
    temperature: PositiveFloat
    max_new_tokens: Positive
    batch_size: Positive
    seed: int


@settings
class TeacherLogitsParams:
    """Whose solutions students learn, and what the teacher's pass over them stores per completion token."""

    targets: Literal["reference", "teacher"]
    solutions: SolutionParams
    scheme: SchemeName
    top_k: Positive
    draws: Annotated[int, Field(gt=0, lt=2**16)]
    draw_temperatures: Annotated[list[PositiveFloat], Field(min_length=1)]
    temperatures: Annotated[list[PositiveFloat], Field(min_length=1)]
    batch_size: Positive
    shard_size: Positive


def require_grid(kept: TeacherLogitsParams) -> None:
    """Checks that the temperatures fit each other.

    Raises:
        ParamsError: 1.0 is not among them, or draws are to be kept at one that is not, or at one twice.
    """
    if 1.0 not in kept.temperatures:
        raise ParamsError("params.yaml: teacher_logits.temperatures must hold 1.0, at which students are evaluated")
    drawn_at = kept.draw_temperatures if kept.scheme == "top_k_tail_draws" else []
    if others := set(drawn_at) - set(kept.temperatures):
        raise ParamsError(
            f"params.yaml: teacher_logits.draw_temperatures holds {min(others)}, which is not among "
            "teacher_logits.temperatures; add it there or take it out"
        )
    if twice := {temperature for temperature in drawn_at if drawn_at.count(temperature) > 1}:
        raise ParamsError(f"params.yaml: teacher_logits.draw_temperatures holds {min(twice)} twice; take one out")
