"""The cache of teacher logits: top-k per completion token, keyed by problem id, memory-mapped.

A store is a folder of shards and a manifest. A shard holds whole problems:

    token_ids.npy   int32    [tokens, k]   the teacher's k most likely tokens, most likely first
    offsets.npy     float16  [tokens, k]   their logits minus the largest one (0 for the first)
    log_tails.npy   float32  [tokens, T]   log of the mass outside the top k, exact, for each temperature
    log_probs.npy   float32  [tokens]      log-probability of the reference token at temperature 1
    problems.json                          problem id, digest of its tokens, first row, number of rows

log_tails carries what log Z would, in a form that stays accurate when the tail is tiny: 1 - sum of rounded masses
would be noise there. Together with the offsets it gives a distribution that sums to one exactly.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.distillation.loss import TeacherTargets
from pipeline.errors import TeacherLogitsError
from pipeline.files import digest_of, file_digest, replacing_folder, write_json
from pipeline.language_models.loading import model_identity, tokenizer_digest
from pipeline.language_models.prompts import EncodedProblem
from pipeline.params import ModelsParams

FORMAT = 1
ARRAYS = ("token_ids", "offsets", "log_tails", "log_probs")
REMEDY = "run `dvc repro --force --single-item teacher_logits`"


@dataclass(frozen=True)
class CapturedProblem:
    """What a store keeps of one problem of N completion tokens; see the module's description for the arrays."""

    id: str
    digest: str
    token_ids_NK: np.ndarray
    offsets_NK: np.ndarray
    log_tails_NT: np.ndarray
    log_probs_N: np.ndarray


def store_identity(models: ModelsParams, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The part of a store's identity that a student depends on and can check without loading the teacher."""
    return {
        "teacher": model_identity(models, "teacher"),
        "tokenizer": tokenizer_digest(tokenizer),
        "prompt": models.prompt,
        "max_tokens": models.max_tokens,
        "dtype": models.dtype,
    }


def compress(logits_NV: Tensor, labels_N: Tensor, top_k: int, temperatures: Sequence[float]) -> list[np.ndarray]:
    """The four arrays of a store for N tokens, from the teacher's logits in float32."""
    k = min(top_k, logits_NV.shape[1])
    top_NK, token_ids_NK = logits_NV.topk(k, dim=1)
    rest_NV = logits_NV.scatter(1, token_ids_NK, -torch.inf)
    log_tails_NT = torch.stack(
        [torch.logsumexp(rest_NV / t, dim=1) - torch.logsumexp(logits_NV / t, dim=1) for t in temperatures], dim=1
    )
    log_probs_N = logits_NV.log_softmax(dim=1).gather(1, labels_N[:, None])[:, 0]
    return [
        token_ids_NK.int().cpu().numpy(),
        (top_NK - top_NK[:, :1]).half().cpu().numpy(),
        log_tails_NT.cpu().numpy(),
        log_probs_N.cpu().numpy(),
    ]


def write_shard(folder: Path, problems: Sequence[CapturedProblem]) -> None:
    """Writes one shard, whole or not at all."""
    columns = zip(*[(p.token_ids_NK, p.offsets_NK, p.log_tails_NT, p.log_probs_N) for p in problems], strict=True)
    index, row = [], 0
    for p in problems:
        index.append({"id": p.id, "digest": p.digest, "row": row, "rows": len(p.log_probs_N)})
        row += len(p.log_probs_N)
    with replacing_folder(folder) as temporary:
        for name, parts in zip(ARRAYS, columns, strict=True):
            np.save(temporary / f"{name}.npy", np.concatenate(parts), allow_pickle=False)
        write_json(temporary / "problems.json", index)


def finish_store(folder: Path, shards: Iterable[Path], identity: dict[str, Any]) -> None:
    """Puts complete shards and their manifest in place as one folder."""
    with replacing_folder(folder) as temporary:
        digests = {}
        for shard in shards:
            shutil.copytree(shard, temporary / shard.name)
            for file in sorted((temporary / shard.name).iterdir()):
                digests[f"{shard.name}/{file.name}"] = file_digest(file)
        write_json(temporary / "manifest.json", {"format": FORMAT, "identity": identity, "files": digests})


class LogitStore:
    """Read access to a finished store."""

    def __init__(self, folder: Path, expected: dict[str, Any]) -> None:
        """Opens a store and checks every file against the manifest.

        `expected` holds the entries of the manifest's identity that the caller depends on.

        Raises:
            TeacherLogitsError: the store is missing, damaged, or was made from something else.
        """
        self.folder = folder
        manifest = self._manifest()
        for key, value in expected.items():
            if (found := manifest["identity"].get(key)) != value:
                raise TeacherLogitsError(
                    f"{folder} was captured with {key} = {found!r}, but this run needs {value!r}; {REMEDY}"
                )
        self.temperatures: list[float] = manifest["identity"]["temperatures"]
        self._check_files(manifest["files"])
        self._arrays: dict[str, dict[str, np.ndarray]] = {}
        self._places: dict[str, tuple[str, dict[str, Any]]] = {}
        for shard in sorted({name.split("/")[0] for name in manifest["files"]}):
            self._arrays[shard] = {
                name: np.load(folder / shard / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS
            }
            for entry in json.loads((folder / shard / "problems.json").read_text(encoding="utf-8")):
                self._places[entry["id"]] = (shard, entry)

    def _manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TeacherLogitsError(f"{path} is missing; {REMEDY}") from error
        except ValueError as error:
            raise TeacherLogitsError(f"{path} is not valid JSON; {REMEDY}") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise TeacherLogitsError(f"{path} is not of format {FORMAT}; {REMEDY}")
        return manifest

    def _check_files(self, digests: dict[str, str]) -> None:
        for name, digest in digests.items():
            path = self.folder / name
            if not path.exists():
                raise TeacherLogitsError(f"{path} is missing although the manifest lists it; {REMEDY}")
            if file_digest(path) != digest:
                raise TeacherLogitsError(f"{path} is damaged or was altered (its digest differs); {REMEDY}")

    def require_temperature(self, temperature: float) -> int:
        """The position of a temperature on the store's grid.

        Raises:
            TeacherLogitsError: the store holds no tail masses for it.
        """
        if temperature not in self.temperatures:
            raise TeacherLogitsError(
                f"{self.folder} holds the temperatures {self.temperatures}, not {temperature}; "
                "add it to teacher_logits.temperatures in params.yaml or change training.temperature"
            )
        return self.temperatures.index(temperature)

    def require(self, problems: Iterable[EncodedProblem]) -> None:
        """Checks that every problem is in the store with the very tokens it has now.

        Raises:
            TeacherLogitsError: a problem is missing or was captured with other tokens.
        """
        for problem in problems:
            self._place(problem)

    def _place(self, problem: EncodedProblem) -> tuple[str, dict[str, Any]]:
        if problem.id not in self._places:
            raise TeacherLogitsError(f"{self.folder} holds no logits for problem {problem.id!r}; {REMEDY}")
        shard, entry = self._places[problem.id]
        if entry["digest"] != token_digest(problem):
            raise TeacherLogitsError(f"{self.folder} holds logits for other tokens of problem {problem.id!r}; {REMEDY}")
        return shard, entry

    def targets(self, problems: Sequence[EncodedProblem], temperature: float) -> TeacherTargets:
        """The teacher's targets for the completion tokens of `problems`, one problem after the other."""
        column = self.require_temperature(temperature)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS}
        for problem in problems:
            shard, entry = self._place(problem)
            rows = slice(entry["row"], entry["row"] + entry["rows"])
            for name in ARRAYS:
                parts[name].append(self._arrays[shard][name][rows])
        token_ids_NK, offsets_NK, log_tails_NT, log_probs_N = (
            torch.from_numpy(np.concatenate(parts[name])) for name in ARRAYS
        )
        return restore(token_ids_NK, offsets_NK, log_tails_NT[:, column], log_probs_N, temperature)


def restore(
    token_ids_NK: Tensor, offsets_NK: Tensor, log_tail_N: Tensor, log_prob_N: Tensor, temperature: float
) -> TeacherTargets:
    """Targets at one temperature: the top k share the mass the tail leaves, in proportion to their softened logits."""
    log_head_N = torch.log(-torch.expm1(log_tail_N))
    log_probs_NK = torch.log_softmax(offsets_NK.float() / temperature, dim=1) + log_head_N[:, None]
    return TeacherTargets(token_ids_NK.long(), log_probs_NK, log_tail_N, log_prob_N)


def token_digest(problem: EncodedProblem) -> str:
    """A digest of a problem's prompt and completion tokens."""
    return digest_of([problem.prompt_ids, problem.completion_ids])[:32]
