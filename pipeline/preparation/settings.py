"""Which source problems come from, how many are used, and for what: the section `data`, without the sources' own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.common.params import Positive, settings


@settings
class TargetParams:
    """What the student should become good at; None does not restrict."""

    subjects: Annotated[list[str], Field(min_length=1)] | None
    levels: Annotated[list[int], Field(min_length=1)] | None


@settings
class DataParams:
    """What every source is told; a size of None means all there are. `source` is a file in pipeline/sources."""

    source: str
    target: TargetParams
    train_size: Positive | None
    probe_size: Positive
    validation_size: Positive
    test_size: Positive | None
    seed: int
