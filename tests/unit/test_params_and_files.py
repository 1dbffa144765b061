"""params.yaml, seeds, and files that are whole or not there."""

import dataclasses
import importlib
import json
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import is_pydantic_dataclass

from pipeline.analysis.settings import ReportParams
from pipeline.checkpoints.code import modules_in
from pipeline.common.errors import ParamsError
from pipeline.common.files import digest_of, read_jsonl, replacing_file, replacing_folder, write_json, write_jsonl
from pipeline.common.params import ParamsFile, Positive, Share, checked, is_strict, settings
from pipeline.common.seeding import derive, numpy_rng, python_rng
from pipeline.curricula.rl import Params
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
        ("report: {threshold_share: 0.3, confidence: 0.95, resamples: 10}", "report.seed: field required"),
        ("report: {threshold_share: 0.3, confidence: 0.95, resamples: 10, seed: 0, speed: 1}", "report.speed: "),
        (
            "report: {threshold_share: 30, confidence: 0.95, resamples: 10, seed: 0}",
            r"less than or equal to 1 \(it is 30\)",
        ),
        (
            "report: {threshold_share: 0.3, confidence: 0.95, resamples: 1.5, seed: 0}",
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


@settings
class Window:
    """A section inside a section."""

    width: float
    shares: list[Share]


@settings
class Plan:
    """A section as the stages have them."""

    steps: Positive
    note: str | Annotated[list[str], Field(min_length=1)] | None
    windows: dict[str, Window]


PLAN = {"steps": 3, "note": None, "windows": {"a": {"width": 2, "shares": [0.5, 1]}}}


def test_a_section_is_a_frozen_dataclass_all_the_way_down():
    plan = checked(PLAN, Plan, "params.yaml: plan")
    assert plan == Plan(steps=3, note=None, windows={"a": Window(width=2.0, shares=[0.5, 1.0])})
    assert dataclasses.asdict(plan) == PLAN
    for section, name in ((plan, "steps"), (plan.windows["a"], "width")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, name, 1)


def changed(**changes):
    return PLAN | changes


def window(**changes):
    return changed(windows={"a": {"width": 2, "shares": [0.5]} | changes})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (changed(speed=1), r"^plan.speed: there is no such key; mend its spelling or remove it$"),
        (window(speed=1), r"^plan.windows.a.speed: there is no such key; mend its spelling or remove it$"),
        ({"steps": 3, "windows": {}}, "^plan.note: field required$"),
        (
            {"steps": 3, "note": None, "window": {}},
            "^plan.window: there is no such key; mend its spelling or remove it$",
        ),
        (changed(steps="3"), r"^plan.steps: .* valid integer \(it is '3'\)$"),
        (changed(steps=3.0), r"^plan.steps: .* valid integer \(it is 3.0\)$"),
        (changed(steps=True), r"^plan.steps: .* valid integer \(it is True\)$"),
        (changed(steps=0), r"^plan.steps: .* greater than 0 \(it is 0\)$"),
        (changed(note=3), r"^plan.note: input should be a valid string, or a list \(it is 3\)$"),
        (changed(note=[3]), r"^plan.note.0: .* valid string \(it is 3\)$"),
        (changed(windows=[]), r"^plan.windows: input should be a mapping \(it is \[\]\)$"),
        (changed(windows={"a": 2}), r"^plan.windows.a: input should be a mapping \(it is 2\)$"),
        (window(width="2"), r"^plan.windows.a.width: .* valid number \(it is '2'\)$"),
        (window(width=True), r"^plan.windows.a.width: .* valid number \(it is True\)$"),
        (window(shares=[0.5, 1.5]), r"^plan.windows.a.shares.1: .* less than or equal to 1 \(it is 1.5\)$"),
        (window(shares=0.5), r"^plan.windows.a.shares: input should be a list \(it is 0.5\)$"),
    ],
)
def test_a_section_refuses_what_it_does_not_name_and_values_of_other_types(value, sentence):
    with pytest.raises(ParamsError, match=sentence):
        checked(value, Plan, "plan")


class Lenient(BaseModel):
    """Takes "3" for a number and keys that it does not know."""

    size: int


class Careful(BaseModel):
    """As strict as a section, but no dataclass: its values could not be compared, copied and fingerprinted alike."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    size: int


@pytest.mark.parametrize("inner", [Lenient, Careful, list[Lenient], dict[str, Lenient | None]])
def test_a_section_with_a_model_inside_is_not_strict(inner):
    section = settings(type("Section", (), {"__annotations__": {"inner": inner}}))
    assert not is_strict(section)
    assert is_strict(settings(type("Section", (), {"__annotations__": {"inner": list[Window] | None}})))


def test_every_section_of_the_project_is_strict():
    modules = [importlib.import_module(name) for name in modules_in("pipeline")]
    sections = {kind for module in modules for kind in vars(module).values() if is_pydantic_dataclass(kind)}
    assert {ReportParams, Params} <= sections
    assert [section for section in sections if not is_strict(section)] == []


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
