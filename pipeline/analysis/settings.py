"""How results are compared: the section `report`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.common.params import Positive, Share, settings


@settings
class ReportParams:
    """How results are compared."""

    threshold_share: Share
    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Positive
    seed: int
