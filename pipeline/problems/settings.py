"""How answers are graded: the section `grading`."""

from __future__ import annotations

from pipeline.common.params import Positive, PositiveFloat, settings


@settings
class GradingParams:
    """How answers are graded: seconds per answer, number of worker processes."""

    seconds: PositiveFloat
    workers: Positive
