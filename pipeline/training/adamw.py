"""AdamW (Loshchilov and Hutter 2019, algorithm 2) whose moments may wait elsewhere between steps (moments.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from pipeline.distillation.compiled_tail import compiled
from pipeline.language_models.devices import kind_of
from pipeline.training.moments import Place, new_moments

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
CLIP_EPSILON = 1e-6  # that of torch.nn.utils.clip_grad_norm_


class AdamW:
    """One optimiser for all parameters of a student; matrices decay, vectors (norms and biases) do not."""

    def __init__(self, student: nn.Module, weight_decay: float, moments: Place) -> None:
        """Takes every parameter of `student`; all must be float32."""
        self.parameters = list(student.parameters())
        self._decay = [weight_decay if p.ndim > 1 else 0.0 for p in self.parameters]
        self._moments = new_moments(moments, self.parameters)
        self._steps = 0

    def reserve(self) -> None:
        """Allocates what a step needs beside parameters, gradients and kept moments, and frees it.

        Where this succeeds, the step that follows does not run out of memory half-way.

        Raises:
            MemoryError, RuntimeError: what torch raises where the memory does not suffice.
        """
        device = self.parameters[0].device
        tensors = [torch.empty(size, dtype=torch.uint8, device=device) for size in self.step_bytes()]
        del tensors

    def step_bytes(self) -> list[int]:
        """The sizes of the tensors that a step needs at once beside parameters, gradients and kept moments."""
        return self._moments.visit()

    @torch.no_grad()
    def step(self, learning_rate: float, divisor: Tensor | None = None) -> None:
        """Updates every parameter from its gradient, divided by a number if one is given, and drops the gradients."""
        for group in self._visits():
            self._visit(group, learning_rate, divisor)
        self._steps += 1
        for p in self.parameters:
            p.grad = None

    def _visits(self) -> list[list[int]]:
        """Parameters that are updated together: all of the same decay, or one where moments are fetched for it."""
        if not self._moments.in_place:
            return [[i] for i in range(len(self.parameters))]
        return [[i for i, d in enumerate(self._decay) if d == decay] for decay in sorted(set(self._decay))]

    def _visit(self, group: list[int], learning_rate: float, divisor: Tensor | None) -> None:
        parameters: list[Tensor] = [self.parameters[i] for i in group]
        first = [self._moments.first(i) for i in group]
        second = [self._moments.second(i) for i in group]
        adamw(
            parameters,
            [gradient_of(p) for p in parameters],
            first,
            second,
            [],
            # filled there: a number of the host's for each parameter would be waited for
            list(torch.full((len(group),), float(self._steps), device=parameters[0].device).unbind()),
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=learning_rate,
            weight_decay=self._decay[group[0]],
            eps=EPSILON,
            maximize=False,
            grad_scale=divisor,
        )
        for i, m1, m2 in zip(group, first, second, strict=True):
            self._moments.keep(i, m1, m2)

    @torch.no_grad()
    def preconditioned(self, parameter: Tensor, gradient: Tensor, *, compile_it: bool = False) -> Tensor:
        """A gradient of `parameter` as a step scales it, gradient / (sqrt(v) + eps); as it is before the first step.

        Compiled it is one pass over the parameter instead of four.
        """
        if not self._steps:
            return gradient
        [i] = [i for i, p in enumerate(self.parameters) if p is parameter]
        # a tensor, since a number would be compiled in, and every step has another
        correction = torch.full((), 1 - BETA2**self._steps, device=gradient.device)
        function = compiled(scaled) if compile_it else scaled
        return function(gradient, self._moments.second(i), correction)

    def state(self) -> dict[str, Tensor]:
        """Both moments of every parameter and the number of steps, wherever the moments are kept."""
        return self._moments.state() | {"steps": torch.tensor(self._steps)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self._moments.load_state(tensors)
        self._steps = int(tensors["steps"])


def scaled(gradient: Tensor, second: Tensor, correction: Tensor) -> Tensor:
    """A gradient over the root of its second moment, which is corrected for having started at 0."""
    return gradient / (second / correction).sqrt_().add_(EPSILON)


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], largest: float) -> tuple[Tensor, Tensor | None]:
    """The norm of all gradients, and what they are to be divided by so that it is at most `largest`.

    On a CPU it is done at once, and nothing is left to divide by. On a GPU the optimiser does it as it reads them: one
    pass less.
    """
    norm = torch.nn.utils.get_total_norm([gradient_of(p) for p in parameters])
    if kind_of(norm.device) == "gpu":
        return norm, ((norm + CLIP_EPSILON) / largest).clamp(min=1)
    torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm, None


def gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # a step follows a backward pass
    return parameter.grad
