"""params.yaml, seeds, and files that are whole or not there."""

import json

import pytest

from pipeline.analysis.settings import ReportParams
from pipeline.common.errors import ParamsError
from pipeline.common.files import digest_of, read_jsonl, replacing_file, replacing_folder, write_json, write_jsonl
from pipeline.common.params import ParamsFile
from pipeline.common.seeding import derive, numpy_rng, python_rng
from tests.conftest import ROOT


def test_sections_come_back_as_frozen_dataclasses_and_are_remembered():
    file = ParamsFile(ROOT / "params.yaml")
    report = file.section("report", ReportParams)
    assert 0 < report.confidence < 1
    with pytest.raises(AttributeError):
        report.confidence = 0.5
    assert file.keys_read == {"report"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1", "must hold a mapping"),
        ("report: {target_accuracy: 0.3, confidence: 0.95, resamples: 10}", "report.seed: field required"),
        ("report: {target_accuracy: 0.3, confidence: 0.95, resamples: 10, seed: 0, speed: 1}", "report.speed: "),
        (
            "report: {target_accuracy: 30, confidence: 0.95, resamples: 10, seed: 0}",
            r"less than or equal to 1 \(it is 30\)",
        ),
        (
            "report: {target_accuracy: 0.3, confidence: 0.95, resamples: 1.5, seed: 0}",
            r"report.resamples: .* \(it is 1.5\)",
        ),
        ("report: 7", "report: "),
        ("other: {}", "report is missing"),
    ],
)
def test_wrong_params_are_one_sentence_that_names_file_and_key(tmp_path, text, sentence):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=sentence) as caught:
        ParamsFile(tmp_path / "params.yaml").section("report", ReportParams)
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-05", "+1e-5", ".1e-4", "0.00001"])
def test_numbers_are_read_as_dvc_writes_them(tmp_path, text):
    (tmp_path / "params.yaml").write_text(f"rate: {text}\nbig: 1e3\nday: 2024-01-01\nname: 1e-5x\n")
    file = ParamsFile(tmp_path / "params.yaml")
    assert file.section("rate", float) == 1e-5
    assert file.section("big", float) == 1000
    assert file.section("day", str) == "2024-01-01"
    assert file.section("name", str) == "1e-5x"


def test_a_missing_params_file_says_where_to_run_from(tmp_path):
    with pytest.raises(ParamsError, match="run from the project's top folder"):
        ParamsFile(tmp_path / "params.yaml")


def test_streams_differ_in_every_coordinate_and_repeat_exactly():
    keys = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", "1"), (0, "a", 1, 2), (0, "a", 12), (0, "a1", 2)]
    assert len({derive(*key) for key in keys}) == len(keys)
    assert derive(3, "arms", 7) == derive(3, "arms", 7)
    assert python_rng(0, "x").random() == python_rng(0, "x").random()
    assert numpy_rng(0, "x", 5).random(3).tolist() == numpy_rng(0, "x", 5).random(3).tolist()


def test_derived_seeds_are_the_same_on_every_machine():
    assert derive(0, "arms", 0) == 3676777568144853872


def fail_after_writing(path):
    path.write_text("half")
    raise RuntimeError("disk full")


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"), replacing_file(path) as temporary:
        fail_after_writing(temporary)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_failed_folder_leaves_the_old_one_and_no_debris(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/old").write_text("1")
    with pytest.raises(RuntimeError, match="disk full"), replacing_folder(tmp_path / "d") as temporary:
        fail_after_writing(temporary / "new")
    assert [str(f.relative_to(tmp_path)) for f in tmp_path.glob("**/*") if f.is_file()] == ["d/old"]


def test_a_finished_folder_replaces_the_old_one_whole(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/old").write_text("1")
    with replacing_folder(tmp_path / "d") as temporary:
        (temporary / "new").write_text("2")
    assert [str(f.relative_to(tmp_path)) for f in tmp_path.glob("**/*") if f.is_file()] == ["d/new"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_a_number(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": value})
    assert not (tmp_path / "a.json").exists()


def test_jsonl_keeps_every_character(tmp_path):
    rows = [{"t": "a\u2028b\u0085c\nd\r\n\\boxed{é}"}, {"t": ""}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read_jsonl(tmp_path / "a.jsonl") == rows
    assert len((tmp_path / "a.jsonl").read_bytes().split(b"\n")) == 3


def test_digest_ignores_key_order_only():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of(json.loads('{"b": [1, 2], "a": 1}'))
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})
