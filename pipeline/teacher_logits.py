"""Stage `teacher_logits`: one pass of the teacher over all problems; keeps its top-k logits per completion token.

A killed capture goes on where it stopped: finished shards wait in a folder under checkpoints/ until all are there.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from pipeline.distillation import checkpoint
from pipeline.distillation.logit_store import (
    FORMAT,
    STORE,
    CapturedProblem,
    compress,
    finish_store,
    store_identity,
    token_digest,
    write_shard,
)
from pipeline.distillation.step import pad_examples
from pipeline.errors import ParamsError, exit_on_error
from pipeline.files import digest_of, write_json
from pipeline.language_models.loading import (
    load_model,
    model_identity,
    require_same_vocabulary,
    tokenizer_digest,
    use_threads,
)
from pipeline.language_models.prompts import EncodedProblem, Encoding, encode_all, longest_first
from pipeline.locks import only_one
from pipeline.params import ModelsParams, ParamsFile, TeacherLogitsParams
from pipeline.problems.record import SPLITS, read_problems

METRICS = Path("metrics/teacher_logits.json")


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
    use_threads(params.models)
    if 1.0 not in params.teacher_logits.temperatures:
        raise ParamsError("params.yaml: teacher_logits.temperatures must hold 1.0, at which students are evaluated")
    tokenizer = require_same_vocabulary(params.models)
    splits = {
        split: encode_all(read_problems(split), tokenizer, params.models.prompt, params.models.max_tokens)
        for split in SPLITS
    }
    encoded = longest_first(e for split in splits.values() for e in split.encoded)
    identity = store_identity(params.models, tokenizer_digest(tokenizer)) | {
        "teacher_files": model_identity(params.models, "teacher")["files"],
        "device": params.models.device,
        "top_k": params.teacher_logits.top_k,
        "temperatures": params.teacher_logits.temperatures,
    }
    with only_one("teacher_logits"):
        fingerprint = digest_of(
            [FORMAT, identity, params.teacher_logits.shard_size, [token_digest(e) for e in encoded]]
        )
        shards_folder = checkpoint.FOLDER / f"teacher_logits-{fingerprint[:20]}"
        shards = capture_shards(encoded, params, shards_folder)
        finish_store(STORE, shards, identity)
        shutil.rmtree(shards_folder)
    write_json(METRICS, summary(splits, STORE))


def capture_shards(encoded: list[EncodedProblem], params: Params, folder: Path) -> list[Path]:
    """Writes the shards that `folder` lacks; returns all of them."""
    groups = in_groups(encoded, params.teacher_logits.shard_size)
    paths = [folder / f"shard-{number:05d}" for number in range(len(groups))]
    missing = [(path, group) for path, group in zip(paths, groups, strict=True) if not path.exists()]
    if not missing:
        return paths
    teacher = load_model(params.models, "teacher")
    done = len(encoded) - sum(len(group) for _, group in missing)
    with tqdm(total=len(encoded), initial=done, desc="teacher logits", unit="problem") as progress:
        for path, group in missing:
            captured = []
            for batch in in_groups(group, params.teacher_logits.batch_size):
                captured += capture(teacher, batch, params.teacher_logits)
                progress.update(len(batch))
            write_shard(path, captured)
    return paths


def in_groups(encoded: list[EncodedProblem], size: int) -> list[list[EncodedProblem]]:
    """Consecutive groups of at most `size`."""
    return [encoded[start : start + size] for start in range(0, len(encoded), size)]


@torch.inference_mode()
def capture(
    teacher: PreTrainedModel, batch: list[EncodedProblem], params: TeacherLogitsParams
) -> list[CapturedProblem]:
    """One forward pass; only hidden states of completion tokens meet the lm_head."""
    input_ids_BT, target_mask_BT = pad_examples(batch)
    hidden_BTH = teacher.model(input_ids=input_ids_BT.to(teacher.device)).last_hidden_state
    predicting_BT = torch.roll(target_mask_BT, -1, dims=1).to(teacher.device)
    lengths = [len(e.completion_ids) for e in batch]
    labels_N = input_ids_BT[target_mask_BT].to(teacher.device)
    captured = []
    for e, hidden_NH, problem_labels_N in zip(
        batch, hidden_BTH[predicting_BT].split(lengths), labels_N.split(lengths), strict=True
    ):
        logits_NV = teacher.lm_head(hidden_NH).float()
        captured.append(
            CapturedProblem(
                e.id, token_digest(e), *compress(logits_NV, problem_labels_N, params.top_k, params.temperatures)
            )
        )
    return captured


def summary(splits: dict[str, Encoding], store: Path) -> dict[str, Any]:
    """What was captured: problems and tokens per split, what the length limit cost, and the size on disk."""
    size = sum(f.stat().st_size for f in store.glob("**/*") if f.is_file())
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
        "mean_tail_mass": mean_tail_mass(store),
    }


def mean_tail_mass(store: Path) -> float:
    """The mean mass at temperature 1 that the top k leave to the tail; how much a cache without tail would lose."""
    temperatures = json.loads((store / "manifest.json").read_text(encoding="utf-8"))["identity"]["temperatures"]
    tails = [np.load(f, mmap_mode="r")[:, temperatures.index(1.0)] for f in sorted(store.glob("*/log_tails.npy"))]
    return float(np.exp(np.concatenate(tails).astype(np.float64)).mean())


if __name__ == "__main__":
    main()
