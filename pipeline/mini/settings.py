"""The mini models and how they are trained: the section `pretrain`."""

from __future__ import annotations

from pipeline.common.params import Positive, PositiveFloat, Share, settings


@settings
class MiniModelParams:
    """Shape and pretraining of one mini model."""

    hidden_size: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    feed_forward_size: Positive
    steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    statement_share: Share


@settings
class PretrainParams:
    """The frozen pretrain stage."""

    seed: int
    threads: Positive
    teacher: MiniModelParams
    student: MiniModelParams
