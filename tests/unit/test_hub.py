import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipeline.common.errors import DataError
from pipeline.common.params import HubSource
from pipeline.sources.hub import read_hub

SOURCE = HubSource("someone/problems", "v1")


def row(text):
    return {"problem": text, "solution": "$\\boxed{1}$", "level": "Level 1", "type": "Algebra"}


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the `datasets` package that holds two configs and notes how it was called."""
    contents = {
        "algebra": {"train": [row("a0"), row("a1")], "test": [row("t0")]},
        "geometry": {"train": [row("g0"), row("t0")], "test": [row("t1")], "extra": [{}]},
    }
    calls = []

    def get_dataset_config_names(name, **options):
        calls.append((name, options))
        return list(contents)

    def load_dataset(name, config, **options):
        calls.append((name, config, options))
        return contents[config]

    stand_in = SimpleNamespace(get_dataset_config_names=get_dataset_config_names, load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", stand_in)
    return SimpleNamespace(contents=contents, calls=calls, module=stand_in)


def test_all_configs_are_concatenated_at_the_revision(hub):
    train, test = read_hub(SOURCE)
    assert [(p.id, p.problem) for p in train.problems] == [
        ("train/algebra/0.json", "a0"),
        ("train/algebra/1.json", "a1"),
        ("train/geometry/0.json", "g0"),
    ]
    assert [p.problem for p in test.problems] == ["t0", "t1"]
    assert train.dropped["also_in_test"] == 1
    assert hub.calls == [
        ("someone/problems", {"revision": "v1"}),
        ("someone/problems", "algebra", {"revision": "v1"}),
        ("someone/problems", "geometry", {"revision": "v1"}),
    ]


def test_a_dataset_without_test_split_says_so_and_one_without_train_is_an_error(hub):
    for splits in hub.contents.values():
        del splits["test"]
    train, test = read_hub(SOURCE)
    assert test is None
    assert len(train.problems) == 4
    for splits in hub.contents.values():
        del splits["train"]
    with pytest.raises(DataError, match="someone/problems on the hub has no train split"):
        read_hub(SOURCE)


def test_a_malformed_row_is_named(hub):
    del hub.contents["geometry"]["train"][1]["level"]
    with pytest.raises(DataError, match="someone/problems, config geometry, split train, row 1: field 'level' is miss"):
        read_hub(SOURCE)


@pytest.mark.parametrize(
    "error",
    [ConnectionError("cannot\nreach it."), FileNotFoundError("no such dataset"), ValueError("bad config"), OSError()],
)
def test_any_failure_of_the_hub_is_one_sentence_with_a_remedy(hub, error):
    def fail(*_, **__):
        raise error

    hub.module.load_dataset = fail
    with pytest.raises(DataError) as caught:
        read_hub(SOURCE)
    message = str(caught.value)
    assert message.startswith("dataset someone/problems (revision v1) cannot be loaded from the hub (")
    assert "data.source=path" in message
    assert "\n" not in message


def test_the_real_library_offline_ends_in_the_same_sentence(tmp_path):
    script = (
        "from pipeline.sources.hub import *\n"
        "try: read_hub(HubSource('EleutherAI/hendrycks_math', 'main'))\n"
        "except DataError as error: print(error)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("dataset EleutherAI/hendrycks_math (revision main) cannot be loaded from the hub (")
    assert "data.source=path" in done.stdout
