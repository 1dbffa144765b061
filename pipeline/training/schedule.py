"""How long a run is, when it is validated, and how fast it learns."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.training.settings import TrainingParams


@dataclass(frozen=True)
class Budget:
    """What a run may spend; the same for every run that is compared."""

    steps: int
    examples: int


def budget_of(training: TrainingParams, problems: int) -> Budget:
    """Epochs x (steps_per_epoch, or as many steps as one pass over the problems takes)."""
    per_epoch = training.steps_per_epoch or max(1, problems // training.batch_size)
    steps = training.epochs * per_epoch
    return Budget(steps, steps * training.batch_size)


def validation_steps(steps: int, validations: int) -> set[int]:
    """Numbers of steps done when the student is validated: none, then evenly spaced up to all."""
    return {round(i * steps / validations) for i in range(validations + 1)}


def learning_rate_factor(step: int, steps: int, warmup_share: float, final_share: float) -> float:
    """Linear warm-up over the first share of the steps, then a linear fall from 1 towards `final_share`."""
    warmup = warmup_share * steps
    left = min(1.0, (steps - step) / max(1.0, steps - warmup))
    return min((step + 1) / max(1.0, warmup), final_share + (1 - final_share) * left)
