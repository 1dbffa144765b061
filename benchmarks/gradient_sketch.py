"""Could target_gain do with random projections of gradients, as R&B does, instead of the gradients themselves?

    python -m benchmarks.gradient_sketch --setting broad    on one of the study's settings
    python -m benchmarks.gradient_sketch                    on what is prepared here, at any scale

target_gain holds an example's gradient of lm_head, G [V, H], against that of the target, D [V, H]. The light form (R&B,
Ge et al. 2025, arXiv 2505.00358) keeps L^T G R and L^T D R alone, K x K numbers, with random signs L [V, K] and
R [H, K]: over the signs the mean of their inner product is K^2 <G, D>. What is held side by side is what both say of
the same examples, and of arms as means over their examples.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from benchmarks._branches import Bench, load_bench, start, take_steps
from benchmarks._measure import say
from benchmarks._runs import ROOT
from benchmarks.study.running import study_plan, working_copy
from benchmarks.study.settings import SETTINGS
from pipeline.common.errors import ResultsError
from pipeline.common.files import write_json
from pipeline.common.paths import TEACHER_LOGITS
from pipeline.common.seeding import numpy_rng
from pipeline.common.stage import exit_on_error
from pipeline.curricula.random import Random
from pipeline.distillation.loss import LossSettings, lm_head_gradient
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.loading import precision
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.store import LogitStore
from pipeline.training.run import Run

SIZES = (16, 32, 64)


@dataclass(frozen=True)
class Signs:
    """Random signs, which project [V, H] to [K, K]."""

    left_VK: Tensor
    right_HK: Tensor

    @staticmethod
    def drawn(shape: tuple[int, int], size: int, repeat: int) -> Signs:
        """Those of a repetition."""
        rng = numpy_rng(0, "gradient sketch", size, repeat)
        left, right = (rng.choice(np.array([-1, 1], dtype=np.float32), (length, size)) for length in shape)
        return Signs(torch.from_numpy(left), torch.from_numpy(right))

    def sketch(self, matrix_VH: Tensor) -> Tensor:
        """[K, K]; inner products of two sketches are, on average over the signs, those of the matrices."""
        size = self.left_VK.shape[1]
        return (self.left_VK.T @ matrix_VH @ self.right_HK) / size


class Gradients:
    """Gradients of lm_head of a run's student, of one example or of the probe."""

    def __init__(self, run: Run, bench: Bench) -> None:
        training = bench.training
        self._student, self._models = run.student.eval(), bench.models
        self._settings = LossSettings(
            training.temperature, training.distillation_weight, training.divergence, training.jsd_beta
        )

    def of(self, example: EncodedProblem, store: LogitStore) -> Tensor:
        """[V, H]."""
        batch = pad_examples([example])
        weight_VH = self._student.get_output_embeddings().weight
        with torch.no_grad(), precision(self._models):
            total_VH, _ = lm_head_gradient(
                predicting_states(self._student, batch),
                weight_VH,
                batch.labels_N.to(self._student.device),
                store.targets([example], self._settings.temperature, self._student.device),
                self._settings,
                torch.zeros_like(weight_VH),
            )
        return total_VH.cpu()


def target_direction(run: Run, gradients: Gradients, bench: Bench, problems: int) -> Tensor:
    """[V, H]: the probe's gradient, per problem, as AdamW would scale it."""
    probe = bench.problems.probe
    assert probe is not None  # load_bench reads one
    examples = probe.encoded[:problems]
    mean_VH = functools.reduce(torch.add, (gradients.of(e, probe.store) / len(examples) for e in examples))
    return run._precondition(mean_VH.to(run.student.device)).cpu()


def spread_over_arms(bench: Bench, count: int) -> tuple[list[EncodedProblem], np.ndarray]:
    """Some examples of the pool, as many of each arm, and their arms [N]."""
    members = bench.problems.arms.members
    each = max(1, count // len(members))
    chosen = [(int(place), arm) for arm, places in enumerate(members) for place in places[:each]]
    return [bench.problems.encoded[place] for place, _ in chosen], np.array([arm for _, arm in chosen])


def compare(bench: Bench, steps: int, count: int, problems: int, repeats: int) -> dict[str, Any]:
    """What sketches of each size say beside the gradients themselves."""
    run = take_steps(start(bench, Random(len(bench.problems.arms)), 0), steps)
    gradients = Gradients(run, bench)
    direction_VH = target_direction(run, gradients, bench, problems)
    signs = {(size, r): Signs.drawn(tuple(direction_VH.shape), size, r) for size in SIZES for r in range(repeats)}
    held = {key: of.sketch(direction_VH) for key, of in signs.items()}
    examples, arm_N = spread_over_arms(bench, count)
    full, cosines, light = [], [], {key: [] for key in signs}
    for example in examples:
        gradient_VH = gradients.of(example, bench.problems.store)
        gain = float((gradient_VH * direction_VH).sum())
        full.append(gain)
        cosines.append(gain / float(gradient_VH.norm() * direction_VH.norm()))
        for key, of in signs.items():
            light[key].append(float((of.sketch(gradient_VH) * held[key]).sum()))
    return {
        "steps": steps,
        "examples": len(examples),
        "shape": list(direction_VH.shape),
        "median_cosine": float(np.median(np.abs(cosines))),
        "sizes": {
            size: agreement(np.array(full), [np.array(light[size, r]) for r in range(repeats)], arm_N) for size in SIZES
        },
    }


def agreement(full_N: np.ndarray, light_RN: Sequence[np.ndarray], arm_N: np.ndarray) -> dict[str, list[float]]:
    """Pearson's correlation over examples, and Spearman's over arms, of each repetition with the full gains."""
    full_A = by_arm(full_N, arm_N)
    return {
        "examples": [float(np.corrcoef(full_N, light_N)[0, 1]) for light_N in light_RN],
        "arms": [float(stats.spearmanr(full_A, by_arm(light_N, arm_N)).statistic) for light_N in light_RN],
    }


def by_arm(value_N: np.ndarray, arm_N: np.ndarray) -> np.ndarray:
    """The mean of each arm."""
    counts_A = np.bincount(arm_N)
    sums_A: np.ndarray = np.bincount(arm_N, weights=value_N)
    return sums_A / counts_A


def tell(found: dict[str, Any]) -> None:
    """One line for each size."""
    say(
        f"{found['examples']} examples after {found['steps']} steps; gradients of {found['shape'][0]} x "
        f"{found['shape'][1]}, whose cosine with the target's is {found['median_cosine']:.3f} (median size)"
    )
    for size, row in found["sizes"].items():
        texts = (
            f"{name} {np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" for name, values in row.items()
        )
        say(f"{size} x {size}: correlation with the full gain over " + ", over ".join(texts))


@exit_on_error
def main() -> None:
    """Compares, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=SETTINGS, help="one of the study's; without it, what is prepared here")
    parser.add_argument("--steps", type=int, default=40, help="of training before, with uniform draws")
    parser.add_argument("--examples", type=int, default=420)
    parser.add_argument("--problems", type=int, default=70, help="of the probe, for the target's gradient")
    parser.add_argument("--repeats", type=int, default=5, help="draws of the signs")
    parser.add_argument("--out", type=Path, help="JSON file; default: results/gradient_sketch-SETTING.json, or none")
    args = parser.parse_args()
    where = Path.cwd() if args.setting is None else working_copy(study_plan(args.setting))
    out = args.out or (ROOT / f"benchmarks/results/gradient_sketch-{args.setting}.json" if args.setting else None)
    out = out and out.resolve()
    os.chdir(where)
    if not (TEACHER_LOGITS / "train/manifest.json").exists():
        raise ResultsError(f"{where} has no teacher logits yet; run `dvc repro evaluate_untrained_student` there first")
    found = compare(load_bench(), args.steps, args.examples, args.problems, args.repeats)
    tell(found)
    if out:
        write_json(out, found)
        say(f"written to {out}")


if __name__ == "__main__":
    main()
