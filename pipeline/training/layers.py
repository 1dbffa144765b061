"""How a student's layers compute while it is trained: their activations kept or made again."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def layers_of(student: PreTrainedModel) -> Iterator[GradientCheckpointingLayer]:
    """The layers that can make their activations again."""
    for module in student.modules():
        if isinstance(module, GradientCheckpointingLayer):
            yield module


def enable_checkpointing(student: PreTrainedModel) -> None:
    """Lets layers make activations again in the backward pass, where `checkpoint_layers` has told them to."""
    student.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})


def checkpoint_layers(student: PreTrainedModel) -> None:
    """Makes layers with gradient checkpointing use it: they do so in training mode alone.

    Only the layers' own flag is set, not that of what is inside, so dropout stays off.
    """
    for layer in layers_of(student):
        if layer.gradient_checkpointing:
            layer.training = True
