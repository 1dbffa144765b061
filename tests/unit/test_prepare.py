import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline import prepare
from pipeline.common.files import file_digest
from pipeline.common.params import ParamsFile
from pipeline.preparation.records import DROP_REASONS
from pipeline.problems.record import SPLITS, read_problems
from pipeline.registry import names_in
from pipeline.sources import mini_math

ROOT = Path(__file__).parents[2]
OUTPUTS = [
    "data/prepared/probe.jsonl",
    "data/prepared/test.jsonl",
    "data/prepared/train.jsonl",
    "data/prepared/validation.jsonl",
    "metrics/prepare.json",
]
NONE = dict.fromkeys(DROP_REASONS, 0)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder with a copy of params.yaml in which to run the stage."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_data(**changes):
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["scales"][params["scale"]]["data"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def use_files(train, test, *, target=None, train_size=None, validation_size=2, test_size=None):
    set_data(
        source="path",
        target={"subjects": None, "levels": None},
        path={
            name: None if file is None else str(file)
            for name, file in {"train": train, "test": test, "target": target}.items()
        },
        train_size=train_size,
        probe_size=1,
        validation_size=validation_size,
        test_size=test_size,
    )


def write_records(path, *changes):
    good = {"solution": "\\boxed{1}", "level": 2, "type": "geometry"}
    path.write_text(
        "".join(json.dumps(good | {"problem": f"{path.stem} {i}"} | change) + "\n" for i, change in enumerate(changes)),
        encoding="utf-8",
    )
    return path


def files():
    return sorted(
        str(p)
        for p in Path().rglob("*")
        if p.is_file() and p.suffix in {".jsonl", ".json", ".tmp"} and p.parts[0] in {"data", "metrics"}
    )


def metrics():
    return json.loads(Path("metrics/prepare.json").read_text(encoding="utf-8"))


def test_mini_math_is_prepared_and_counted(workplace):
    prepare.main()
    assert files() == OUTPUTS
    data = prepare.read_params(ParamsFile()).source.data
    found = metrics()
    assert (found["scale"], found["source"]) == ("mini", "mini_math")
    assert {s: found["splits"][s]["problems"] for s in SPLITS} == {
        "train": data.train_size,
        "probe": data.probe_size,
        "validation": data.validation_size,
        "test": data.test_size,
    }
    texts = Counter()
    for split in SPLITS:
        problems, counts = read_problems(split), found["splits"][split]
        texts.update(p.problem for p in problems)
        assert counts["by_level"] == {str(k): v for k, v in sorted(Counter(p.level for p in problems).items())}
        assert counts["by_subject"] == dict(Counter(p.subject for p in problems))
        assert counts["digest"] == file_digest(Path(f"data/prepared/{split}.jsonl"))
        assert counts["compared_as_text"] == 0
    assert set(texts.values()) == {1}


def test_the_same_params_give_the_same_bytes(workplace):
    prepare.main()
    first = {name: file_digest(Path(name)) for name in OUTPUTS}
    prepare.main()
    assert {name: file_digest(Path(name)) for name in OUTPUTS} == first


def test_the_stage_reads_only_the_data_section(workplace):
    file = ParamsFile()
    prepare.read_params(file)
    assert file.keys_read == {"scale", "scales.mini.data"}
    assert files() == []


def test_the_stage_runs_as_a_module_without_heavy_imports(workplace):
    script = (
        "import sys, runpy; runpy.run_module('pipeline.prepare', run_name='__main__')\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'datasets', 'sympy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n"
    assert files() == OUTPUTS


def test_local_files_are_prepared_and_dropped_records_counted(workplace):
    train = write_records(
        workplace / "a.jsonl",
        *[{}] * 5,
        {"level": "Level ?"},
        {"solution": "\\boxed{}"},
        {"solution": "none"},
        {"problem": "a 0\n"},
        {"problem": "b  1"},
        {"solution": "\\boxed{\\text{neither}}"},
    )
    use_files(train, write_records(workplace / "b.jsonl", {}, {}, {"level": "Level ?"}))
    prepare.main()
    assert metrics()["dropped"] == {
        "train": NONE
        | {"unknown_level": 1, "no_boxed_answer": 1, "empty_boxed_answer": 1, "duplicate": 1, "also_in_test": 1},
        "test": NONE | {"unknown_level": 1},
    }
    assert {s: len(read_problems(s)) for s in SPLITS} == {"train": 3, "probe": 1, "validation": 2, "test": 2}
    assert sum(metrics()["splits"][s]["compared_as_text"] for s in SPLITS) == 1
    assert {p.subject for s in SPLITS for p in read_problems(s)} == {"Geometry"}


def test_a_test_split_is_held_out_where_there_is_none(workplace):
    use_files(write_records(workplace / "a.jsonl", *[{}] * 10), None, test_size=3)
    prepare.main()
    assert {s: len(read_problems(s)) for s in SPLITS} == {"train": 4, "probe": 1, "validation": 2, "test": 3}


def test_a_file_of_target_problems_gives_all_splits_but_the_pool(workplace):
    pool = write_records(workplace / "a.jsonl", *[{}] * 5, {"problem": "b 0"})
    target = write_records(workplace / "b.jsonl", *[{"type": "Algebra"}] * 4)
    use_files(pool, None, target=target, validation_size=2, test_size=1)
    prepare.main()
    assert {s: len(read_problems(s)) for s in SPLITS} == {"train": 5, "probe": 1, "validation": 2, "test": 1}
    assert {(s, p.subject) for s in SPLITS for p in read_problems(s)} == {
        ("train", "Geometry"),
        *((s, "Algebra") for s in SPLITS if s != "train"),
    }
    assert sum(metrics()["dropped"]["train"].values()) == 1
    assert set(metrics()["dropped"]) == {"train", "target"}


def test_a_pool_of_several_files_and_what_its_problems_came_from(workplace):
    first = write_records(workplace / "a.jsonl", *[{}] * 3)
    second = write_records(workplace / "b.jsonl", *[{}] * 3, {"problem": "a 0"})
    use_files(first, None, target=write_records(workplace / "c.jsonl", *[{}] * 3), validation_size=1, test_size=1)
    set_data(path={"train": [str(first), str(second)], "test": None, "target": "c.jsonl"})
    prepare.main()
    assert Counter(p.source for p in read_problems("train")) == {"a.jsonl": 3, "b.jsonl": 3}
    assert {p.source for p in read_problems("probe")} == {"c.jsonl"}
    assert metrics()["dropped"]["train"]["duplicate"] == 1


def spoil_two_targets(workplace):
    use_files(workplace / "a.jsonl", None, target=workplace / "b.jsonl", test_size=1)
    set_data(target={"subjects": None, "levels": [2]})
    return "data.path.target names a file of target problems and data.target subjects or levels"


def spoil_target(workplace):
    set_data(target={"subjects": ["Topology"], "levels": None})
    return "data.target.subjects names 'Topology', of which the data holds no problem; choose from Algebra, Counting"


def spoil_line(workplace):
    use_files(write_records(workplace / "a.jsonl", *[{}] * 5, {"level": "Level 9"}), None, test_size=1)
    return "a.jsonl, line 6: field 'level' is \"Level 9\""


def spoil_gold(workplace):
    use_files(write_records(workplace / "a.jsonl", *[{}] * 5, {"answer": "\\frac{1"}), None, test_size=1)
    return "the answer of problem train/a.jsonl:6 cannot be graded"


def spoil_size(workplace):
    set_data(train_size=None)
    return "data.train_size is null"


def spoil_path(workplace):
    use_files(workplace / "nowhere.jsonl", None, test_size=1)
    return "nowhere.jsonl does not exist"


def spoil_source(workplace):
    set_data(source="path")
    return "data.path.train is null"


def spoil_source_name(workplace):
    set_data(source="web")
    return f"unknown source 'web'; pipeline/sources has {', '.join(names_in('pipeline.sources'))}"


def spoil_source_key(workplace):
    use_files(write_records(workplace / "a.jsonl", *[{}] * 5), None, test_size=1)
    set_data(path={"train": "a.jsonl", "tset": None, "target": None})
    return "params.yaml: scales.mini.data.path.tset: there is no such key; mend its spelling or remove it"


def spoil_another_sources_key(workplace):
    set_data(hub={"name": "someone/problems", "revision": 7})
    return "params.yaml: scales.mini.data.hub.revision: input should be a valid string (it is 7)"


def spoil_key_of_all_sources(workplace):
    set_data(seeed=1)
    return "params.yaml: scales.mini.data.seeed: "


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_two_targets,
        spoil_target,
        spoil_line,
        spoil_gold,
        spoil_size,
        spoil_path,
        spoil_source,
        spoil_source_name,
        spoil_source_key,
        spoil_another_sources_key,
        spoil_key_of_all_sources,
    ],
)
@pytest.mark.parametrize("prepared_before", [True, False])
def test_bad_input_is_one_sentence_and_leaves_the_outputs_as_they_were(workplace, capsys, spoil, prepared_before):
    if prepared_before:
        prepare.main()
    before = {name: file_digest(Path(name)) for name in files()}
    words = spoil(workplace)
    with pytest.raises(SystemExit) as caught:
        prepare.main()
    assert caught.value.code == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert words in message
    assert {name: file_digest(Path(name)) for name in files()} == before


def test_a_source_that_is_not_used_need_not_be_in_params(workplace):
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    data = params["scales"]["mini"]["data"]
    del data["hub"], data["path"]
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    source = prepare.read_params(ParamsFile()).source
    assert (source.data.source, source.params) == ("mini_math", mini_math.Params(spoiled=[], skew=0.0))


def test_a_failure_between_two_files_leaves_the_outputs_as_they_were(workplace, monkeypatch):
    prepare.main()
    before = {name: file_digest(Path(name)) for name in files()}
    write = prepare.write_problems

    def fail_at_last(split, problems, folder):
        if split == SPLITS[-1]:
            raise OSError("no space left on device")
        write(split, problems[:5], folder)

    monkeypatch.setattr(prepare, "write_problems", fail_at_last)
    with pytest.raises(OSError, match="no space left"):
        prepare.main()
    assert {name: file_digest(Path(name)) for name in files()} == before
    assert os.listdir("data") == ["prepared"]


@pytest.mark.slow
def test_the_whole_of_real_math_is_prepared(workplace):
    if not (folder := os.environ.get("MATH_DIR")):
        pytest.skip("MATH_DIR is not set: it names a folder with train.jsonl.gz and math500.jsonl.gz")
    use_files(Path(folder) / "train.jsonl.gz", Path(folder) / "math500.jsonl.gz", validation_size=500)
    start = time.monotonic()
    prepare.main()
    assert time.monotonic() - start < 60
    found = metrics()
    sizes = {"train": 6994, "probe": 1, "validation": 500, "test": 500}
    assert {s: found["splits"][s]["problems"] for s in SPLITS} == sizes
    assert found["dropped"]["train"] == NONE | {"unknown_level": 2, "empty_boxed_answer": 2, "duplicate": 1}
    assert sum(found["splits"][s]["compared_as_text"] for s in SPLITS) == 91  # choices, names, days
    assert read_problems("test")[0].id == "test/precalculus/807.json"
