"""Stage `teacher_logits`: one pass of the teacher over all problems; keeps its logits of each completion token.

Where `targets` is teacher, it first samples solutions of its own to the training problems. Where `scheme` keeps draws,
they are kept of the training problems and of the probe, which is looked at through the training loss, and top-k logits
of the others: what is measured there must be exact. The probe comes first, for it is small and kept as the training
problems are: what too little is kept of is said early.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.capture.capture import FINGERPRINT, Capture, scheme_of
from pipeline.capture.settings import TeacherLogitsParams, require_grid
from pipeline.capture.solutions import TeacherSolutions, sample_solutions
from pipeline.checkpoints.code import code_digest
from pipeline.common.files import digest_of, file_digest, remove_folder, write_json
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import CHECKPOINTS, PREPARED, TEACHER_LOGITS, TEACHER_LOGITS_COST, TEACHER_LOGITS_METRICS
from pipeline.common.stage import exit_on_error
from pipeline.contents.noticed import require_models_noticed
from pipeline.language_models.loading import load_encoder, load_model
from pipeline.language_models.processes import join_processes
from pipeline.language_models.prompts import EncodedSplit, Encoder, longest_first
from pipeline.language_models.provenance import provenance_of
from pipeline.language_models.settings import ModelsParams
from pipeline.logit_store.store import LogitStore, finish_store, store_identity, told_apart_by
from pipeline.problems.record import SPLITS, Problem, Split, read_problems
from pipeline.results.files import write_record
from pipeline.results.rows import CaptureCost

MOST_TAIL_MASS = 0.1  # with less, nine tenths of the dense gradient were kept: benchmarks/README.md, cache_fidelity


@dataclass(frozen=True)
class Params:
    """What this stage depends on."""

    models: ModelsParams
    teacher_logits: TeacherLogitsParams


def read_params(file: ParamsFile) -> Params:
    return Params(file.scale_section("models", ModelsParams), file.scale_section("teacher_logits", TeacherLogitsParams))


@exit_on_error
def main() -> None:
    """Captures the teacher's logits for every split."""
    params = read_params(ParamsFile())
    kept = params.teacher_logits
    require_grid(kept)
    require_models_noticed({"teacher": params.models.teacher, "student_tokenizer": params.models.student})
    processes = join_processes(params.models)
    encoder = load_encoder(params.models)
    identity = store_identity(encoder) | {
        "device": params.models.device,
        "temperatures": kept.temperatures,
        "targets": kept.targets,
    }
    load_teacher = functools.cache(lambda: load_model(params.models, "teacher"))
    provenance = provenance_of(params.models)
    made_by = {"code": code_digest("pipeline.teacher_logits"), "models": asdict(params.models)}
    made_by |= asdict(provenance)
    capture = Capture(load_teacher, kept, processes, made_by)
    with only_one("teacher_logits", is_main=processes.is_main):
        problems: dict[Split, list[Problem]] = {split: read_problems(split) for split in SPLITS}
        metrics: dict[str, Any] = {"targets": kept.targets}
        if kept.targets == "teacher":
            solutions = solve(problems["train"], capture, encoder, identity)
            problems["train"] = solutions.problems
            metrics |= solutions.summary()
        encoded = {split: encoder.encode_all(problems[split]) for split in SPLITS}
        tail_masses: dict[Split, dict[str, float]] = {}
        for split in sorted(SPLITS, key=lambda split: split != "probe"):
            made_from = identity | scheme_of(split, kept).identity()
            made_from |= {"problems": file_digest(PREPARED / f"{split}.jsonl")}
            shards = capture.shards(split, longest_first(encoded[split].encoded), made_from)
            if processes.is_main:
                finish_store(TEACHER_LOGITS / split, shards, made_from, split, problems[split])
                tail_masses[split] = tail_masses_of(split, warns=split == "probe")
        if processes.is_main:
            write_json(TEACHER_LOGITS_METRICS, metrics | summary(encoded, tail_masses))
            write_record(TEACHER_LOGITS_COST, CaptureCost(provenance))
            for folder in CHECKPOINTS.glob("teacher_logits-*/"):  # only now: a kill before this loses nothing finished
                remove_folder(folder)


def solve(problems: list[Problem], capture: Capture, encoder: Encoder, identity: dict[str, Any]) -> TeacherSolutions:
    """The training problems with the teacher's own solutions; those of the other splits stay the reference ones."""
    wanted = capture.params.solutions
    decided_by = [capture.made_by, identity, asdict(wanted), [asdict(p) for p in problems]]
    folder = CHECKPOINTS / f"teacher_logits-solutions-{digest_of(decided_by)[:FINGERPRINT]}"
    return sample_solutions(problems, capture.load_teacher, encoder, wanted, folder, capture.processes)


def tail_masses_of(split: Split, *, warns: bool) -> dict[str, float]:
    """The teacher's mass in tails whose tokens are not told apart, by temperature."""
    store = LogitStore(TEACHER_LOGITS / split, {})
    masses = {temperature: store.tail_mass(temperature) for temperature in store.temperatures}
    for temperature, mass in masses.items():
        if warns and mass > MOST_TAIL_MASS:
            remedy = f"before students are trained at it, {told_apart_by(temperature)}"
            print(f"{store.in_tails(temperature)}; {remedy}", file=sys.stderr)
    return {str(temperature): round(mass, 6) for temperature, mass in masses.items()}


def summary(splits: dict[Split, EncodedSplit], tail_masses: dict[Split, dict[str, float]]) -> dict[str, Any]:
    """What was captured: problems and tokens per split, what the length limit cost, and the size on disk.

    tail_mass: the mean share of the teacher's mass on tokens that are not told apart, by temperature.
    """
    files = (f for split in splits for f in (TEACHER_LOGITS / split).glob("**/*") if f.is_file())
    size = sum(f.stat().st_size for f in files)
    tokens = sum(len(e.completion_ids) for s in splits.values() for e in s.encoded)
    return {
        "splits": {
            name: {
                "problems": len(s.encoded),
                "completion_tokens": sum(len(e.completion_ids) for e in s.encoded),
                "left_out_prompt_too_long": s.too_long,
                "completions_cut": s.cut,
                "tail_mass": tail_masses[name],
            }
            for name, s in splits.items()
        },
        "bytes": size,
        "bytes_per_completion_token": round(size / tokens, 2),
    }


if __name__ == "__main__":
    main()
