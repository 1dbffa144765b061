"""Which models, how problems are put to them and how they answer: the sections `models` and `generation`."""

from __future__ import annotations

from typing import Literal

from pipeline.common.params import Positive, settings


@settings
class ModelsParams:
    """Teacher and student, each a local folder or a hub name, and how problems are put to them."""

    teacher: str
    teacher_revision: str | None
    student: str
    student_revision: str | None
    student_layers: Positive | None
    prompt: str
    chat_template: bool
    max_tokens: Positive
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    threads: Positive


@settings
class GenerationParams:
    """How a model answers problems: greedily, in batches."""

    batch_size: Positive
    max_new_tokens: Positive
