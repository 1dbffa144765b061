"""AdamW (Loshchilov and Hutter 2019, algorithm 2) whose moments may wait in CPU memory between steps.

A float32 student costs 16 bytes per parameter: itself, its gradient and two moments. Where the GPU is too small for
that, the moments stay on the CPU and visit it parameter by parameter: 8 bytes less, the same numbers, only slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from pipeline.language_models.devices import kind_of, memory_of

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
CLIP_EPSILON = 1e-6  # that of torch.nn.utils.clip_grad_norm_
BYTES_PER_PARAMETER = 16
ROOM_FOR_ACTIVATIONS = 3 * 2**30  # bytes that a step needs besides


class AdamW:
    """One optimiser for all parameters of a student; matrices decay, vectors (norms and biases) do not."""

    def __init__(self, student: nn.Module, weight_decay: float, *, moments_on_cpu: bool) -> None:
        """Takes every parameter of `student`; all must be float32."""
        self.parameters = list(student.parameters())
        self._decay = [weight_decay if p.ndim > 1 else 0.0 for p in self.parameters]
        self._moments_on_cpu = moments_on_cpu
        self._steps = 0
        self._first, self._second = self._zeros(), self._zeros()

    def _zeros(self) -> list[Tensor]:
        """A zero for every parameter. On the CPU they are parts of one block: torch rounds pinned ones up to 2^n."""
        if not self._moments_on_cpu:
            return [torch.zeros_like(p).detach() for p in self.parameters]
        sizes = [p.numel() for p in self.parameters]
        block = torch.zeros(sum(sizes), pin_memory=self.parameters[0].is_cuda)
        return [part.view_as(p) for part, p in zip(block.split(sizes), self.parameters, strict=True)]

    @torch.no_grad()
    def step(self, learning_rate: float, divisor: Tensor | None = None) -> None:
        """Updates every parameter from its gradient, divided by a number if one is given, and drops the gradients."""
        groups = (
            [[i] for i in range(len(self.parameters))]
            if self._moments_on_cpu
            else [[i for i, d in enumerate(self._decay) if d == decay] for decay in sorted(set(self._decay))]
        )
        for group in groups:
            parameters: list[Tensor] = [self.parameters[i] for i in group]
            first = [self._first[i].to(self.parameters[i].device, non_blocking=True) for i in group]
            second = [self._second[i].to(self.parameters[i].device, non_blocking=True) for i in group]
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
            if self._moments_on_cpu:
                for i, m1, m2 in zip(group, first, second, strict=True):
                    self._first[i].copy_(m1, non_blocking=True)
                    self._second[i].copy_(m2, non_blocking=True)
        self._steps += 1
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def preconditioned(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """A gradient of `parameter` as a step scales it, gradient / (sqrt(v) + eps); as it is before the first step."""
        if not self._steps:
            return gradient
        [i] = [i for i, p in enumerate(self.parameters) if p is parameter]
        second = self._second[i].to(parameter.device) / (1 - BETA2**self._steps)
        return gradient / second.sqrt_().add_(EPSILON)

    def state(self) -> dict[str, Tensor]:
        """Both moments of every parameter and the number of steps, wherever the moments are kept."""
        if self._moments_on_cpu and self.parameters[0].is_cuda:
            torch.cuda.synchronize()  # the last step's copies may still be on their way
        moments = {"first": self._first, "second": self._second}
        tensors = {
            f"{name}.{i}": m.clone() if self._moments_on_cpu else m  # parts of one block cannot be saved as they are
            for name, kept in moments.items()
            for i, m in enumerate(kept)
        }
        return tensors | {"steps": torch.tensor(self._steps)}

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        for i in range(len(self.parameters)):
            self._first[i].copy_(tensors[f"first.{i}"])
            self._second[i].copy_(tensors[f"second.{i}"])
        self._steps = int(tensors["steps"])


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


def moments_fit(student: nn.Module) -> bool:
    """Whether student, gradients and moments leave room for a step in the memory of the student's device."""
    device = next(student.parameters()).device
    if kind_of(device) == "cpu":
        return True
    needed = BYTES_PER_PARAMETER * sum(p.numel() for p in student.parameters()) + ROOM_FOR_ACTIVATIONS
    return needed <= memory_of(device)
