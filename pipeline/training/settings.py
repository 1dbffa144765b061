"""The optimisation: the section `training`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.common.errors import ParamsError
from pipeline.common.params import NonNegativeFloat, Positive, PositiveFloat, Share, settings
from pipeline.logit_store.names import SchemeName


@settings
class TrainingParams:
    """The optimisation, the same for every method: the budget is epochs x steps per epoch x batch size."""

    batch_size: Positive
    micro_batch_tokens: Positive | None
    gradient_checkpointing: bool | None
    compile: bool
    moments: Literal["device", "cpu", "8bit"] | None
    learning_rate: PositiveFloat
    warmup_share: Share
    final_learning_rate_share: Share
    weight_decay: NonNegativeFloat
    gradient_clip: PositiveFloat
    epochs: Positive
    steps_per_epoch: Positive | None
    temperature: PositiveFloat
    distillation_weight: Share
    divergence: Literal["forward_kl", "reverse_kl", "jsd"]
    jsd_beta: Annotated[float, Field(gt=0, lt=1)]
    most_tail_mass: Share
    validations: Positive
    validation_problems: Positive | None
    validation_new_tokens: Positive | None
    checkpoint_steps: Positive


def require_unbiased(training: TrainingParams, scheme: SchemeName) -> None:
    """Checks that the divergence can be learnt from what is kept of the teacher.

    Raises:
        ParamsError: draws of the teacher are to be learnt by another divergence than forward KL.
    """
    if scheme != "top_k" and training.divergence != "forward_kl":
        raise ParamsError(
            f"params.yaml: training.divergence is {training.divergence}, whose gradient is biased on random "
            "draws of the teacher; set it to forward_kl, or teacher_logits.scheme to top_k"
        )
