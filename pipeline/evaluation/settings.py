"""How students are tested: the section `evaluation`."""

from __future__ import annotations

from typing import Literal

from pipeline.common.params import Positive, settings


@settings
class EvaluationParams:
    """What answers the test problems, and what is measured besides accuracy."""

    engine: Literal["transformers", "vllm"]
    calibration_bins: Positive
