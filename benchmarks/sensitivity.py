"""How much do the settings matter? rl and the baseline with one setting changed at a time.

    python -m benchmarks.sensitivity                       everything that is missing: an hour on two cores
    python -m benchmarks.sensitivity --settings broad
    python -m benchmarks.sensitivity --report              the table alone

The problems and the seeds are others than the study's, so what is chosen here is not chosen by what it is judged on.
What concerns the optimiser is changed for the baseline too. Finished runs are rows of results/sensitivity.jsonl and are
not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks._measure import say
from benchmarks._runs import ROOT
from benchmarks.study.rows import Row, is_of, read_lines
from benchmarks.study.running import Plan, newest_commit, params_in, run_cells, working_copy
from benchmarks.study.settings import params_of
from pipeline.analysis.learning import Curves, Need, need
from pipeline.common.files import write_text
from pipeline.common.locks import only_one
from pipeline.common.stage import exit_on_error

ROWS = ROOT / "benchmarks/results/sensitivity.jsonl"
SETTINGS = ("broad", "same")
DATA_SEED = 1  # the study's is 0
SEEDS = range(100, 103)  # the study's begin at 0
BASELINE = "traditional"
DEFAULT = "default"
CURRICULUM: dict[str, dict[str, Any]] = {
    "alpha 0.02": {"curricula.rl.alpha": 0.02},
    "alpha 0.15": {"curricula.rl.alpha": 0.15},
    "tau 0.06": {"curricula.rl.tau": 0.06},
    "tau 0.25": {"curricula.rl.tau": 0.25},
    "tau 1": {"curricula.rl.tau": 1.0},
    "boltzmann": {"curricula.rl.policy": "boltzmann", "curricula.rl.tau": 0.5},
    "epsilon 0": {"curricula.rl.epsilon": 0.0},
    "epsilon 0.2": {"curricula.rl.epsilon": 0.2},
    "independent draws": {"curricula.rl.draws": "independent"},
    "arms subject": {"curricula.rl.arms": "subject"},
    "arms difficulty": {"curricula.rl.arms": "difficulty"},
    "similarity and progress": {
        "curricula.rl.policy": "boltzmann",
        "curricula.rl.tau": 0.25,
        "curricula.rl.reward": "multi_objective",
        "curricula.rl.rewards.multi_objective.weights": {"target_similarity": 2.0, "knowledge_transfer": 1.0},
    },
    "one look": {
        "curricula.rl.rewards.target_similarity.first": 100_000,
        "curricula.rl.rewards.target_similarity.every": 100_000,
    },
    "a look every 64 steps": {
        "curricula.rl.rewards.target_similarity.first": 64,
        "curricula.rl.rewards.target_similarity.every": 64,
    },
}
REWARDS: dict[str, dict[str, Any]] = {
    f"reward {reward}": {
        "curricula.rl.policy": "boltzmann",
        "curricula.rl.tau": 1.0,
        "curricula.rl.scale": "arms",
        "curricula.rl.reward": reward,
    }
    for reward in ("target_gain", "confidence_gap", "excess_over_reference", "knowledge_transfer", "learnability")
}
OPTIMISER: dict[str, dict[str, Any]] = {
    "a third of the budget": {"scales.mini.training.epochs": 1},
    "twice the budget": {"scales.mini.training.epochs": 6},
    "final learning rate 1/3": {"scales.mini.training.final_learning_rate_share": 1 / 3},
    "learning rate halved": {"scales.mini.training.learning_rate": 0.001},
    "learning rate doubled": {"scales.mini.training.learning_rate": 0.004},
    "moments in 8 bits": {"scales.mini.training.moments": "8bit"},
}
VARIANTS = {DEFAULT: {}} | CURRICULUM | REWARDS | OPTIMISER


@dataclass(frozen=True)
class Tried:
    """A run of a study's setting with one of the variants."""

    setting: str
    variant: str
    row: Row


def changed(values: dict[str, Any], setting: str, variant: str) -> dict[str, Any]:
    """params.yaml's values for a variant in one of the study's settings, on other problems and seeds."""
    values = copy.deepcopy(params_of(values, setting))
    values["scales"]["mini"]["data"]["seed"] = DATA_SEED
    for name, value in VARIANTS[variant].items():
        *path, last = name.split(".")
        section = values
        for part in path:
            section = section[part]
        assert last in section, name
        section[last] = value
    return values | {"methods": [BASELINE, "rl"], "replays": [], "seeds": list(SEEDS)}


def cells_of(variant: str) -> list[str]:
    """The cells of a variant; what the curriculum alone is told does not change the baseline."""
    methods = [BASELINE, "rl"] if variant in {DEFAULT} | OPTIMISER.keys() else ["rl"]
    return [f"{method}-{seed}" for seed in SEEDS for method in methods]


def run_missing(setting: str, variant: str, processes: int) -> None:
    """Runs the cells of a variant that have no row yet, or one of other params."""
    plan = Plan(f"tuning-{setting}", lambda values: changed(values, setting, variant))
    values = plan.expected()
    done = {tried.row.cell for tried in read_rows() if (tried.setting, tried.variant) == (setting, variant)}
    missing = [cell for cell in cells_of(variant) if cell not in done]
    if not missing:
        return
    for row in run_cells(working_copy(plan), missing, values, processes):
        with ROWS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Tried(setting, variant, row))) + "\n")
        say(f"{setting}, {variant}: {row.cell} {row.accuracy:.1%}, KL {row.validation_kl[-1]:.4f}")


def read_rows() -> list[Tried]:
    """The rows that are there."""
    return read_lines(ROWS, Tried)


def drop_outdated() -> None:
    """Removes rows of other params than the present ones, and of variants that are no more."""
    rows, values = read_rows(), params_in(newest_commit())
    kept = [
        tried
        for tried in rows
        if tried.variant in VARIANTS and is_of(tried.row, changed(values, tried.setting, tried.variant))
    ]
    if len(kept) < len(rows):
        write_text(ROWS, "".join(json.dumps(asdict(tried)) + "\n" for tried in kept))


@dataclass(frozen=True)
class Found:
    """A variant against the baseline under the same optimiser.

    accuracy: on the test problems, over seeds. examples: what rl needs to come as near to the teacher.
    """

    variant: str
    seeds: int
    accuracy: float
    baseline_accuracy: float
    kl_per_token: float
    baseline_kl_per_token: float
    examples: Need


def findings(setting: str, rows: Sequence[Tried]) -> Iterator[Found]:
    """What there is on each variant: on the seeds that both methods have, if there are any."""
    of = {
        (variant, method): {
            t.row.seed: t.row for t in rows if (t.setting, t.variant, t.row.method) == (setting, variant, method)
        }
        for variant in VARIANTS
        for method in (BASELINE, "rl")
    }
    for variant in VARIANTS:
        by_seed, rivals = of[variant, "rl"], of[variant if variant in OPTIMISER else DEFAULT, BASELINE]
        if seeds := sorted(by_seed.keys() & rivals.keys()):
            own, rival = ([found[seed] for seed in seeds] for found in (by_seed, rivals))
            yield Found(
                variant,
                len(own),
                *(float(np.mean([row.accuracy for row in runs])) for runs in (own, rival)),
                *(float(np.mean([row.kl_per_token for row in runs])) for runs in (own, rival)),
                need(curves(own), curves(rival), 0.95),
            )


def curves(rows: Sequence[Row]) -> Curves:
    """Minus the KL per token on the validation problems, over examples."""
    return Curves(np.array(rows[0].examples, dtype=float), -np.array([row.validation_kl for row in rows]))


def report() -> None:
    """Prints a table per setting."""
    for setting in SETTINGS:
        say(f"\n{setting:<26}{'rl':>7}{'traditional':>13}{'KL rl':>9}{'trad.':>8}   examples to come as near")
        for found in findings(setting, read_rows()):
            missing = "more than 1" if found.examples.rival_gained else "no ratio, traditional has not come nearer"
            ratio = missing if found.examples.ratio is None else f"{found.examples.ratio:.2f}"
            high = "or more" if found.examples.high in (None, np.inf) else f"to {found.examples.high:.2f}"
            span = "" if found.examples.low is None else f"({found.examples.low:.2f} {high})"
            say(
                f"{found.variant:<26}{found.accuracy:>7.1%}{found.baseline_accuracy:>13.1%}{found.kl_per_token:>9.4f}"
                f"{found.baseline_kl_per_token:>8.4f}   {ratio} {span}, {found.seeds} seeds"
            )


@exit_on_error
def main() -> None:
    """Runs what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one core each")
    parser.add_argument("--report", action="store_true", help="the tables alone")
    args = parser.parse_args()
    if not args.report:
        with only_one("sensitivity"):
            drop_outdated()
            for variant in args.variants:
                for setting in args.settings:
                    run_missing(setting, variant, args.processes)
    report()


if __name__ == "__main__":
    main()
