"""Stage `pretrain`: trains the mini scale's teacher and student from scratch on generated problems.

The stage is frozen, its models are kept in git; `dvc repro --single-item --force pretrain` after
`dvc unfreeze pretrain` makes them again. The teacher sees whole problems. The student sees mostly worked
solutions without their statements (`statement_share`): it knows the arithmetic and learns from the teacher
what to do with it, which is what distillation is to transfer.
"""

from __future__ import annotations

from dataclasses import asdict

import torch

from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.code import code_digest
from pipeline.checkpoints.versions import versions
from pipeline.common.files import replacing_folder
from pipeline.common.locks import only_one
from pipeline.common.params import ParamsFile
from pipeline.common.paths import MINI_MODELS
from pipeline.common.stage import exit_on_error
from pipeline.mini.models import build_tokenizer
from pipeline.mini.pretraining import train
from pipeline.mini.settings import PretrainParams


@exit_on_error
def main() -> None:
    """Trains and saves both models."""
    params = read_params(ParamsFile())
    with only_one("pretrain"):
        torch.set_num_threads(params.threads)
        tokenizer = build_tokenizer()
        made_by = {"code": code_digest("pipeline.pretrain"), "versions": versions()}
        for role, model_params in (("teacher", params.teacher), ("student", params.student)):
            identity = {"params": asdict(model_params), "seed": params.seed} | made_by
            checkpoint = Checkpoint(f"pretrain-{role}", identity)
            model = train(role, model_params, params.seed, tokenizer, checkpoint)
            with replacing_folder(MINI_MODELS / role) as folder:
                model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
            checkpoint.delete()


def read_params(file: ParamsFile) -> PretrainParams:
    return file.section("pretrain", PretrainParams)


if __name__ == "__main__":
    main()
