"""What is kept of the teacher: the section `teacher_logits`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.common.params import Positive, PositiveFloat, settings
from pipeline.logit_store.schemes import SchemeName


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
