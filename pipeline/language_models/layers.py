"""Making a student smaller by leaving out layers."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.common.errors import ModelError, one_line


def keep_layers(model: PreTrainedModel, count: int) -> None:
    """Keeps `count` evenly spaced layers of a decoder, the first and the last among them.

    Raises:
        ModelError: the model has fewer layers, or its config cannot say which ones were kept.
    """
    config = model.config.get_text_config()
    before = config.num_hidden_layers
    if count > before:
        raise ModelError(f"models.student_layers is {count}, but the student has only {before} layers")
    chosen = [round(i * (before - 1) / max(1, count - 1)) for i in range(count)]
    try:
        layers = layers_of(model, before)
        kept = [layers[i] for i in chosen]
        del layers[:]
        layers.extend(kept)
        for position, layer in enumerate(layers):
            renumber(layer, position)
        shorten(config, chosen)
        why = "" if is_what_its_config_says(model) else ", whose config cannot say which layers were kept"
    except Exception as error:  # an architecture that is not made for this may fail in any way
        why = f" ({one_line(error)})"
    if why:
        raise ModelError(
            f"models.student_layers does not work with {type(model).__name__}{why}; set it to null, or choose a "
            "student of a family whose layers docs/models.md says yes to"
        )


def layers_of(model: PreTrainedModel, count: int) -> nn.ModuleList:
    """The list that holds a decoder's layers, by whatever name.

    Raises:
        ValueError: there is none of this length.
    """
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"it has no list of {count} layers")


def renumber(layer: nn.Module, position: int) -> None:
    """Tells all parts of a layer where it stands now: they find their place in a cache by it."""
    for module in layer.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = position  # type: ignore[assignment]  # a number is no submodule


def shorten(config: PretrainedConfig, chosen: list[int]) -> None:
    """Takes out of a config what it says of layers that are gone, such as their kinds of attention."""
    before = config.num_hidden_layers
    for name, value in vars(config).copy().items():
        if "layer" in name and isinstance(value, list) and len(value) == before:
            setattr(config, name, [value[i] for i in chosen])
    config.num_hidden_layers = len(chosen)


@torch.inference_mode()
def is_what_its_config_says(model: PreTrainedModel) -> bool:
    """Whether a model that is made from the config and given the same weights has the same logits.

    It shares the weights, so that it takes no memory.
    """
    with torch.device("meta"):
        again = type(model)(copy.deepcopy(model.config))
    again.load_state_dict(model.state_dict(), assign=True)
    buffers = dict(model.named_buffers())
    for name, _ in list(again.named_buffers()):
        owner, _, key = name.rpartition(".")
        again.get_submodule(owner)._buffers[key] = buffers[name]
    input_ids_BT = torch.arange(8)[None].to(model.device)

    logits = [m.eval()(input_ids=input_ids_BT, use_cache=False).logits for m in (model, again)]
    return torch.equal(*logits)
