"""Fixtures that several test files share."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach the network


@pytest.fixture(scope="session")
def tokenizer():
    from pipeline.language_models.mini import build_tokenizer

    return build_tokenizer()


@pytest.fixture
def tiny_model(tokenizer):
    """A randomly initialised Qwen2 of one layer; the same at every call."""
    import torch

    from pipeline.language_models.mini import MiniShape, build_model

    def build(seed=0, layers=1):
        torch.manual_seed(seed)
        return build_model(
            MiniShape(hidden_size=16, layers=layers, heads=2, kv_heads=1, feed_forward_size=24), tokenizer
        )

    return build


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that looks like the project to a stage, with the real params and models; the working directory."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copytree(ROOT / "models/mini", tmp_path / "models/mini")
    monkeypatch.chdir(tmp_path)
    return tmp_path
