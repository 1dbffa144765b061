"""Stage `teacher_logits`: one pass of the teacher over all problems; keeps its logits of each completion token.

Where `targets` is teacher, it first samples solutions of its own to the training problems. Where `scheme` is sampled,
draws are kept of the training problems, and top-k logits of the others: what is measured there must be exact.

A killed capture goes on where it stopped: finished shards wait in a folder under checkpoints/ until all are there.
Several processes (torchrun, accelerate launch) share out the shards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.checkpoint import code_digest
from pipeline.common.errors import ParamsError, exit_on_error
from pipeline.common.files import digest_of, file_digest, remove_folder, write_json
from pipeline.common.locks import only_one
from pipeline.common.params import ModelsParams, ParamsFile, TeacherLogitsParams
from pipeline.common.paths import CHECKPOINTS, PREPARED, TEACHER_LOGITS, TEACHER_LOGITS_METRICS
from pipeline.distillation.logit_store import (
    CapturedProblem,
    finish_store,
    store_identity,
    write_shard,
)
from pipeline.distillation.loss import CHUNK_ELEMENTS, float32_product
from pipeline.distillation.schemes import Sampled, Scheme, TopK
from pipeline.distillation.step import pad_examples, predicting_states
from pipeline.language_models.loading import load_model, require_same_vocabulary
from pipeline.language_models.prompts import EncodedProblem, Encoding, encode_all, longest_first
from pipeline.problems.record import SPLITS, Problem, Split, read_problems
from pipeline.processes import Processes, join_processes
from pipeline.teacher_solutions import TeacherSolutions, sample_solutions


@dataclass(frozen=True)
class Params:
    """What this stage depends on."""

    models: ModelsParams
    teacher_logits: TeacherLogitsParams


def read_params(file: ParamsFile) -> Params:
    """The parameters this stage depends on."""
    return Params(file.scale_section("models", ModelsParams), file.scale_section("teacher_logits", TeacherLogitsParams))


@exit_on_error
def main() -> None:
    """Captures the teacher's logits for all three splits."""
    params = read_params(ParamsFile())
    if 1.0 not in params.teacher_logits.temperatures:
        raise ParamsError("params.yaml: teacher_logits.temperatures must hold 1.0, at which students are evaluated")
    processes = join_processes(params.models)
    tokenizer = require_same_vocabulary(params.models)
    identity = store_identity(params.models, tokenizer) | {
        "device": params.models.device,
        "temperatures": params.teacher_logits.temperatures,
        "targets": params.teacher_logits.targets,
    }
    load_teacher = functools.cache(lambda: load_model(params.models, "teacher"))
    with only_one("teacher_logits", is_main=processes.is_main):
        problems: dict[Split, list[Problem]] = {split: read_problems(split) for split in SPLITS}
        metrics: dict[str, Any] = {"targets": params.teacher_logits.targets}
        if params.teacher_logits.targets == "teacher":
            solutions = teacher_solutions(problems["train"], identity, params, tokenizer, load_teacher, processes)
            problems["train"] = solutions.problems
            metrics |= solutions.summary()
        encodings = {split: encode_all(problems[split], tokenizer, params.models) for split in SPLITS}
        for split, encoding in encodings.items():
            scheme = scheme_of(split, params.teacher_logits)
            made_from = identity | scheme.identity() | {"problems": file_digest(PREPARED / f"{split}.jsonl")}
            encoded = longest_first(encoding.encoded)
            shards = capture_shards(split, encoded, scheme, made_from, params, load_teacher, processes)
            if processes.is_main:
                finish_store(TEACHER_LOGITS / split, shards, made_from, split, problems[split])
        if processes.is_main:
            write_json(TEACHER_LOGITS_METRICS, metrics | summary(encodings))
            for folder in CHECKPOINTS.glob("teacher_logits-*/"):  # only now: a kill before this loses nothing finished
                remove_folder(folder)


def teacher_solutions(
    problems: list[Problem],
    identity: dict[str, Any],
    params: Params,
    tokenizer: PreTrainedTokenizerBase,
    load_teacher: Callable[[], PreTrainedModel],
    processes: Processes,
) -> TeacherSolutions:
    """The training problems with the teacher's own solutions; those of test and validation stay the reference ones."""
    sampling = params.teacher_logits.sampling
    decided_by = [code_digest(), identity, asdict(params.models), asdict(sampling), [asdict(p) for p in problems]]
    folder = CHECKPOINTS / f"teacher_logits-solutions-{digest_of(decided_by)[:20]}"
    return sample_solutions(problems, load_teacher, tokenizer, params.models, sampling, folder, processes)


def scheme_of(split: Split, params: TeacherLogitsParams) -> Scheme:
    """What is kept of a split."""
    if params.scheme == "sampled" and split == "train":
        return Sampled(params.draws, params.sampling.seed)
    return TopK(params.top_k)


def capture_shards(
    split: Split,
    encoded: list[EncodedProblem],
    scheme: Scheme,
    identity: dict[str, Any],
    params: Params,
    load_teacher: Callable[[], PreTrainedModel],
    processes: Processes,
) -> list[Path]:
    """Writes this process's part of a split's shards that an earlier, killed capture did not; returns all of them."""
    fingerprint = digest_of([code_digest(), identity, asdict(params), [e.digest for e in encoded]])
    folder = CHECKPOINTS / f"teacher_logits-{split}-{fingerprint[:20]}"
    groups = in_groups(encoded, params.teacher_logits.shard_size)
    paths = [folder / f"shard-{number:05d}" for number in range(len(groups))]
    missing = [(path, group) for path, group in zip(paths, groups, strict=True) if not path.exists()]
    processes.wait()  # all share out the same list before it changes
    mine = processes.share(missing)
    done = len(encoded) - sum(len(group) for _, group in missing)
    with tqdm(
        total=done + sum(len(group) for _, group in mine),
        initial=done,
        desc=f"teacher logits, {split}",
        unit="problem",
        disable=not processes.is_main,
    ) as progress:
        for path, group in mine:
            captured = []
            for batch in in_groups(group, params.teacher_logits.batch_size):
                captured += capture(
                    load_teacher(), batch, scheme, params.teacher_logits.temperatures, identity["vocabulary"]
                )
                progress.update(len(batch))
            write_shard(path, captured)
    processes.wait()
    return paths


def in_groups(encoded: list[EncodedProblem], size: int) -> list[list[EncodedProblem]]:
    """Consecutive groups of at most `size`."""
    return [encoded[start : start + size] for start in range(0, len(encoded), size)]


@torch.inference_mode()
def capture(
    teacher: PreTrainedModel,
    batch: list[EncodedProblem],
    scheme: Scheme,
    temperatures: Sequence[float],
    vocabulary: int,
) -> list[CapturedProblem]:
    """One forward pass; logits are made for completion tokens alone, and a chunk of them at a time."""
    padded = pad_examples(batch)
    hidden_NH = predicting_states(teacher, padded)
    labels_N = padded.labels_N.to(teacher.device)
    uniforms_NTD = torch.cat([scheme.uniforms(e.id, len(e.completion_ids), len(temperatures)) for e in batch])
    weight_VH = teacher.get_output_embeddings().weight[:vocabulary]
    chunk = min(len(hidden_NH), max(1, CHUNK_ELEMENTS // vocabulary))
    logits_CV, spare_CV = torch.empty(2, chunk, vocabulary, device=teacher.device)  # taken once, used for every chunk
    chunks = zip(hidden_NH.split(chunk), labels_N.split(chunk), uniforms_NTD.split(chunk), strict=True)
    rows_N = np.concatenate(
        [
            scheme.compress(
                float32_product(hidden_CH, weight_VH.T, out=logits_CV[: len(hidden_CH)]),
                labels_C,
                uniforms_CTD,
                temperatures,
                spare_CV[: len(hidden_CH)],
            )
            for hidden_CH, labels_C, uniforms_CTD in chunks
        ]
    )
    ends = np.cumsum([len(e.completion_ids) for e in batch])
    return [CapturedProblem(e.id, e.digest, rows) for e, rows in zip(batch, np.split(rows_N, ends[:-1]), strict=True)]


def summary(splits: dict[Split, Encoding]) -> dict[str, Any]:
    """What was captured: problems and tokens per split, what the length limit cost, and the size on disk."""
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
            }
            for name, s in splits.items()
        },
        "bytes": size,
        "bytes_per_completion_token": round(size / tokens, 2),
    }


if __name__ == "__main__":
    main()
