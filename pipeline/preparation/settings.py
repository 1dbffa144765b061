"""Which source problems come from and how many are used: the section `data`, without the settings of the sources."""

from __future__ import annotations

from pipeline.common.params import Positive, settings


@settings
class DataParams:
    """What every source is told; a size of None means all there are. `source` is a file in pipeline/sources."""

    source: str
    train_size: Positive | None
    validation_size: Positive
    test_size: Positive | None
    seed: int
