import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import local_inputs, prepare
from pipeline.common.errors import DataError
from pipeline.common.paths import LOCAL_INPUTS
from pipeline.contents.noticed import require_models_noticed, require_noticed
from tests.conftest import ROOT

NAMES = ["problems", "student", "student_tokenizer", "teacher", "teacher_tokenizer"]
MODEL = {
    "config.json": "{}",
    "tokenizer.json": "{}",
    "model-1.safetensors": "one",
    "model-2.safetensors": "two",
    "model.safetensors.index.json": "{}",
}


def set_params(data, **models):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["scales"]["mini"]["data"] |= data
    values["scales"]["mini"]["models"] |= models
    Path("params.yaml").write_text(yaml.safe_dump(values))


def write_folder(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a local teacher, student and data, all of them named in params.yaml."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_folder(tmp_path / "teacher", MODEL)
    write_folder(folder / "student", MODEL)
    write_folder(folder, {"train.jsonl": "a", "MATH/algebra/1.json": "b", "test.jsonl": "c", "target.jsonl": "d"})
    paths = {"train": ["train.jsonl", "MATH"], "test": "test.jsonl", "target": "target.jsonl"}
    everything = {"subjects": None, "levels": None}
    set_params(
        {"source": "path", "path": paths, "target": everything}, teacher=str(tmp_path / "teacher"), student="student"
    )
    return folder


def written():
    local_inputs.main()
    files = {path.stem: path.read_bytes() for path in LOCAL_INPUTS.iterdir()}
    assert sorted(files) == NAMES
    return files


def test_every_local_path_has_a_digest(workplace):
    found = {name: list(json.loads(content)) for name, content in written().items()}
    teacher = [str(workplace.parent / "teacher")]
    assert found == {
        "problems": ["train.jsonl", "MATH", "test.jsonl", "target.jsonl"],
        "teacher": teacher,
        "teacher_tokenizer": teacher,
        "student": ["student"],
        "student_tokenizer": ["student"],
    }


@pytest.mark.parametrize(
    ("changed", "differ"),
    [
        ("train.jsonl", {"problems"}),
        ("test.jsonl", {"problems"}),
        ("target.jsonl", {"problems"}),
        ("MATH/algebra/1.json", {"problems"}),
        ("MATH/geometry/2.json", {"problems"}),
        ("../teacher/model-2.safetensors", {"teacher"}),
        ("../teacher/config.json", {"teacher", "teacher_tokenizer"}),
        ("../teacher/additional_chat_templates/tool.jinja", {"teacher", "teacher_tokenizer"}),
        ("student/model-1.safetensors", {"student"}),
        ("student/model.safetensors.index.json", {"student"}),
        ("student/tokenizer.json", {"student", "student_tokenizer"}),
        ("student/merges.txt", {"student", "student_tokenizer"}),
        ("student/README.md", set()),
        ("student/pytorch_model.bin", set()),
        ("student/.git", set()),
        ("student/checkpoint-500/model.safetensors", set()),
        ("MATH/.cache/1.json", set()),
        ("other.jsonl", set()),
    ],
)
def test_a_change_of_a_file_shows_where_it_is_read(workplace, changed, differ):
    before = written()
    write_folder(workplace, {changed: "x"})
    after = written()
    assert {name for name in NAMES if before[name] != after[name]} == differ


@pytest.mark.parametrize(
    ("changed", "noticed"),
    [
        ("train.jsonl", {"problems"}),
        ("../teacher/model-2.safetensors", {"teacher"}),
        ("student/tokenizer.json", {"student", "student_tokenizer"}),
        ("student/README.md", set()),
    ],
)
def test_a_stage_that_is_run_alone_refuses_what_dvc_was_not_told(workplace, changed, noticed):
    """As with `dvc repro --single-item`, where DVC would credit the result to what was there before."""
    written()
    write_folder(workplace, {changed: "x"})
    models = {"teacher": str(workplace.parent / "teacher"), "student": "student"}
    looks = {"problems": lambda: require_noticed("problems", [Path("train.jsonl"), Path("MATH")])} | {
        name: lambda name=name: require_models_noticed({name: models[name.removesuffix("_tokenizer")]})
        for name in NAMES[1:]
    }
    for name, look in looks.items():
        if name in noticed:
            with pytest.raises(
                DataError, match=r"is not what DVC knows of it by data/local_inputs/\w+\.json; run `dvc"
            ):
                look()
        else:
            look()
    written()
    for look in looks.values():
        look()


@pytest.mark.parametrize("name", ["/models/none", "../none", "~/none", "./none", "models/mini/studnt"])
def test_a_model_folder_that_is_not_there_is_one_sentence(workplace, capsys, name):
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["scales"]["mini"]["models"]["student"] = name
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit):
        local_inputs.main()
    said = f"error: the student {name!r} is no folder; set models.student to one, or to a name on the hub\n"
    assert capsys.readouterr().err == said


def test_models_of_the_hub_and_a_project_that_dvc_never_saw_are_not_looked_at(workplace):
    require_models_noticed({"student": "student", "teacher": "HuggingFaceTB/SmolLM2-135M"})
    written()
    require_models_noticed({"teacher": "HuggingFaceTB/SmolLM2-135M"})


def test_prepare_refuses_a_changed_file(workplace, capsys):
    written()
    Path("train.jsonl").write_text("other")
    with pytest.raises(SystemExit):
        prepare.main()
    assert "error: train.jsonl is not what DVC knows of it" in capsys.readouterr().err


def test_a_file_that_goes_shows_and_one_that_is_written_again_does_not(workplace):
    before = written()
    os.utime("train.jsonl", (1, 1))
    Path("test.jsonl").write_text("c")
    shutil.copytree("student", "copy")
    shutil.rmtree("student")
    Path("copy").rename("student")
    assert written() == before
    Path("student/model-1.safetensors").rename("student/model-3.safetensors")
    assert written()["student"] != before["student"]


def test_a_change_behind_a_link_shows(workplace):
    write_folder(workplace, {"blobs/1": "old"})
    Path("student/model-1.safetensors").unlink()
    Path("student/model-1.safetensors").symlink_to("../blobs/1")
    before = written()
    Path("blobs/1").write_text("new")
    assert written()["student"] != before["student"]


def test_only_what_has_changed_is_read_again(workplace, monkeypatch):
    from dvc_data.hashfile import hash as hashing

    read, original = [], hashing._hash_file

    def noting(path, *rest, **named):
        read.append(Path(path).name)
        return original(path, *rest, **named)

    monkeypatch.setattr(hashing, "_hash_file", noting)
    written()
    assert len(read) == 2 * len(MODEL) + 4
    read.clear()
    written()
    assert read == []
    Path("student/config.json").write_text('{"changed": 1}')
    written()
    assert read == ["config.json"]


def test_a_missing_data_file_is_one_sentence(workplace, capsys):
    before = written()
    Path("test.jsonl").unlink()
    with pytest.raises(SystemExit):
        local_inputs.main()
    assert capsys.readouterr().err.startswith(
        "error: test.jsonl does not exist; bring it back, or set `data` in params"
    )
    assert {path.stem: path.read_bytes() for path in LOCAL_INPUTS.iterdir()} == before


def test_a_local_folder_in_the_place_of_a_hub_dataset_is_looked_into(workplace):
    set_params({"source": "hub", "hub": {"name": "MATH", "revision": "main"}}, teacher="student", student="student")
    before = written()
    assert list(json.loads(before["problems"])) == ["MATH"]
    Path("MATH/algebra/1.json").write_text("changed")
    assert written()["problems"] != before["problems"]


@pytest.mark.parametrize(
    ("data", "models"),
    [
        ({}, {}),
        ({"source": "hub"}, {"teacher": "Qwen/Qwen2-1.5B", "student": "Qwen/Qwen2-0.5B"}),
    ],
    ids=["mini", "hub"],
)
def test_the_mini_models_and_the_hub_cost_nothing(tmp_path, monkeypatch, data, models):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mini").symlink_to(ROOT / "models/mini")
    set_params(data, **models)
    script = (
        "import sys; from pipeline import local_inputs; local_inputs.main()\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'dvc', 'dvc_data', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "params.yaml names no local file or model but the mini ones\n[]\n"
    assert {path.name: path.read_text() for path in LOCAL_INPUTS.iterdir()} == {
        f"{name}.json": "{}\n" for name in NAMES
    }
    assert not (tmp_path / "checkpoints/contents").exists()
