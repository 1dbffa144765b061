import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.common.errors import DataError, ParamsError
from pipeline.preparation.settings import DataParams, TargetParams
from pipeline.problems.record import SPLITS
from pipeline.sources.hub import Params, read

SOURCE = Params("someone/problems", "v1")
ALL = DataParams(
    source="hub",
    target=TargetParams(subjects=None, levels=None),
    train_size=None,
    probe_size=1,
    validation_size=1,
    test_size=None,
    seed=0,
)


def row(text):
    return {"problem": text, "solution": "$\\boxed{1}$", "level": "Level 1", "type": "Algebra"}


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the `datasets` package that holds two configs and notes how it was called."""
    contents = {
        "algebra": {"train": [row("a0"), row("a1"), row("a2")], "test": [row("t0")]},
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


def from_train(splits):
    """Id and text of every problem that came out of the dataset's train split, in the order of their ids."""
    return sorted((p.id, p.problem) for p in [*splits["train"], *splits["probe"], *splits["validation"]])


def test_all_configs_are_concatenated_at_the_revision(hub):
    prepared = read(SOURCE, ALL)
    assert from_train(prepared.splits) == [
        ("train/algebra/0.json", "a0"),
        ("train/algebra/1.json", "a1"),
        ("train/algebra/2.json", "a2"),
        ("train/geometry/0.json", "g0"),
    ]
    assert len(prepared.splits["validation"]) == 1
    assert [(p.id, p.problem) for p in prepared.splits["test"]] == [
        ("test/algebra/0.json", "t0"),
        ("test/geometry/0.json", "t1"),
    ]
    assert prepared.dropped["train"]["also_in_test"] == 1
    assert prepared.dropped["test"]["also_in_test"] == 0
    assert hub.calls == [
        ("someone/problems", {"revision": "v1"}),
        ("someone/problems", "algebra", {"revision": "v1"}),
        ("someone/problems", "geometry", {"revision": "v1"}),
    ]


def test_without_a_test_split_test_problems_are_held_out_of_train(hub):
    for splits in hub.contents.values():
        del splits["test"]
    with pytest.raises(ParamsError, match=r"data.test_size is null and the source has no test split"):
        read(SOURCE, ALL)
    prepared = read(SOURCE, replace(ALL, test_size=2))
    assert [len(prepared.splits[split]) for split in SPLITS] == [1, 1, 1, 2]
    everything = sorted([*from_train(prepared.splits), *((p.id, p.problem) for p in prepared.splits["test"])])
    assert [text for _, text in everything] == ["a0", "a1", "a2", "g0", "t0"]
    assert set(prepared.dropped) == {"train"}


def test_a_dataset_without_train_split_is_an_error(hub):
    for splits in hub.contents.values():
        del splits["train"]
    with pytest.raises(DataError, match="someone/problems on the hub has no train split"):
        read(SOURCE, ALL)


def test_a_malformed_row_is_named(hub):
    del hub.contents["geometry"]["train"][1]["level"]
    with pytest.raises(DataError, match="someone/problems, config geometry, split train, row 1: field 'level' is miss"):
        read(SOURCE, ALL)


@pytest.mark.parametrize(
    "error",
    [ConnectionError("cannot\nreach it."), FileNotFoundError("no such dataset"), ValueError("bad config"), OSError()],
)
def test_any_failure_of_the_hub_is_one_sentence_with_a_remedy(hub, error):
    def fail(*_, **__):
        raise error

    hub.module.load_dataset = fail
    with pytest.raises(DataError) as caught:
        read(SOURCE, ALL)
    message = str(caught.value)
    assert message.startswith("dataset someone/problems (revision v1) cannot be loaded from the hub (")
    assert "data.source=path" in message
    assert "\n" not in message


def test_the_real_library_offline_ends_in_the_same_sentence(tmp_path):
    script = (
        "from pipeline.sources.hub import *\n"
        "from pipeline.preparation.settings import TargetParams\n"
        "data = DataParams('hub', TargetParams(None, None), None, 1, 1, None, 0)\n"
        "try: read(Params('EleutherAI/hendrycks_math', 'main'), data)\n"
        "except DataError as error: print(error)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("dataset EleutherAI/hendrycks_math (revision main) cannot be loaded from the hub (")
    assert "data.source=path" in done.stdout
