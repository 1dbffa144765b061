"""The teacher's pass over encoded problems: logits of completion tokens, compressed a chunk at a time.

Finished shards wait in a folder under checkpoints/, named after all that decides them, so a killed capture goes on
where it stopped. Several processes share out the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from pipeline.capture.settings import TeacherLogitsParams
from pipeline.common.files import digest_of
from pipeline.common.paths import CHECKPOINTS
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.devices import to_device
from pipeline.language_models.processes import Processes
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.chunks import chunk_rows, float32_product
from pipeline.logit_store.random_draws import RandomDraws
from pipeline.logit_store.schemes import Scheme
from pipeline.logit_store.store import CapturedProblem, write_shard
from pipeline.logit_store.top_k import TopK
from pipeline.logit_store.top_k_tail_draws import TopKTailDraws
from pipeline.problems.record import Split

DRAWN: tuple[Split, ...] = ("train", "probe")  # what draws are kept of; what is measured elsewhere must be exact
FINGERPRINT = 20  # hexadecimal digits that name a folder of shards


@dataclass(frozen=True)
class Capture:
    """How the teacher's logits are captured, the same for every split.

    load_teacher: is called only where a shard is missing. made_by: a JSON value that names code and versions.
    """

    load_teacher: Callable[[], PreTrainedModel]
    params: TeacherLogitsParams
    processes: Processes
    made_by: Any

    def shards(self, split: Split, encoded: Sequence[EncodedProblem], identity: dict[str, Any]) -> list[Path]:
        """Writes this process's part of the shards that an earlier, killed capture did not; returns all of them.

        `identity` is that of the store they are for.
        """
        fingerprint = digest_of([self.made_by, identity, asdict(self.params), [e.digest for e in encoded]])
        folder = CHECKPOINTS / f"teacher_logits-{split}-{fingerprint[:FINGERPRINT]}"
        groups = in_groups(encoded, self.params.shard_size)
        paths = [folder / f"shard-{number:05d}" for number in range(len(groups))]
        missing = [(path, group) for path, group in zip(paths, groups, strict=True) if not path.exists()]
        self.processes.wait()  # all share out the same list before it changes
        mine = self.processes.share(missing)
        done = len(encoded) - sum(len(group) for _, group in missing)
        with tqdm(
            total=done + sum(len(group) for _, group in mine),
            initial=done,
            desc=f"teacher logits, {split}",
            unit="problem",
            disable=not self.processes.is_main,
        ) as progress:
            for path, group in mine:
                captured = []
                for batch in in_groups(group, self.params.batch_size):
                    captured += capture_batch(
                        self.load_teacher(),
                        batch,
                        scheme_of(split, self.params),
                        self.params.temperatures,
                        identity["vocabulary"],
                    )
                    progress.update(len(batch))
                write_shard(path, captured)
        self.processes.wait()
        return paths


def scheme_of(split: Split, params: TeacherLogitsParams) -> Scheme:
    """What is kept of a split. The probe is looked at through the training loss, so it is kept as train is."""
    seed = params.solutions.seed
    if params.scheme == "random_draws" and split in DRAWN:
        return RandomDraws(params.draws, seed)
    if params.scheme == "top_k_tail_draws" and split in DRAWN:
        return TopKTailDraws(params.top_k, params.draws, tuple(params.draw_temperatures), seed)
    return TopK(params.top_k)


def in_groups(encoded: Sequence[EncodedProblem], size: int) -> list[list[EncodedProblem]]:
    """Consecutive groups of at most `size`."""
    return [list(encoded[start : start + size]) for start in range(0, len(encoded), size)]


@torch.inference_mode()
def capture_batch(
    teacher: PreTrainedModel,
    batch: list[EncodedProblem],
    scheme: Scheme,
    temperatures: Sequence[float],
    vocabulary: int,
) -> list[CapturedProblem]:
    """One forward pass; logits are made for completion tokens alone, and a chunk of them at a time."""
    padded = pad_examples(batch)
    hidden_NH = predicting_states(teacher, padded)
    labels_N = to_device(padded.labels_N, teacher.device)
    uniforms_NTD = to_device(
        torch.cat([scheme.uniforms(e.id, len(e.completion_ids), len(temperatures)) for e in batch]), teacher.device
    )
    weight_VH = teacher.get_output_embeddings().weight[:vocabulary]
    chunk = chunk_rows(len(hidden_NH), vocabulary, teacher.device)
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
