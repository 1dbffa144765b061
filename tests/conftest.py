"""Fixtures that several test files share."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach the network
os.environ["OMP_NUM_THREADS"] = "1"  # beside other work, threads that wait for each other made tests ten times slower


@pytest.fixture(scope="session")
def tokenizer():
    from pipeline.mini.models import build_tokenizer

    return build_tokenizer()


@pytest.fixture
def tiny_model(tokenizer):
    """A randomly initialised Qwen2 of one layer; the same at every call."""
    import torch

    from pipeline.mini.models import MiniShape, build_model

    def build(seed=0, layers=1):
        torch.manual_seed(seed)
        return build_model(
            MiniShape(hidden_size=16, layers=layers, heads=2, kv_heads=1, feed_forward_size=24), tokenizer
        )

    return build


def builder_of(section, kind):
    """Builds a section of the mini scale with some values changed."""
    import yaml

    from pipeline.common.params import checked

    values = yaml.safe_load((ROOT / "params.yaml").read_text())["scales"]["mini"][section]
    return lambda **changes: checked(values | changes, kind, section)


@pytest.fixture(scope="session")
def models():
    from pipeline.language_models.settings import ModelsParams

    return builder_of("models", ModelsParams)


@pytest.fixture(scope="session")
def capture_params():
    from pipeline.capture.settings import TeacherLogitsParams

    return builder_of("teacher_logits", TeacherLogitsParams)


@pytest.fixture(scope="session")
def encoder(tokenizer, models):
    """Builds the mini scale's encoder with some settings of `models` changed."""
    from pipeline.language_models.prompts import Encoder

    return lambda **changes: Encoder(tokenizer, models(**changes))


def make_project(folder):
    """Makes a folder look like the project to a stage, with the real models.

    Its params are the real ones, except for what experiments change most and tests depend on.
    """
    import yaml

    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values |= {"scale": "mini", "seeds": [0, 1, 2]}
    values["curricula"]["rl"] |= {"arms": "level_subject", "reward": "multi_objective"}
    rewards = values["curricula"]["rl"]["rewards"]
    rewards["multi_objective"]["weights"] = {"confidence_gap": 0.5, "target_similarity": 0.5}
    rewards["target_similarity"] = {"problems": 20, "first": 1, "every": 4}
    values["scales"]["mini"]["data"] |= {
        "source": "mini_math",
        "mini_math": {"spoiled": [], "skew": 0.0},
        "target": {"subjects": None, "levels": None},
        "train_size": 2100,
        "probe_size": 105,
        "validation_size": 210,
        "test_size": 420,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    (folder / "models").mkdir()
    shutil.copytree(ROOT / "models/mini", folder / "models/mini")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own; the working directory."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
