"""Result files come back as the rows that were written, or one sentence says what is wrong and what to do."""

import json
import math
from dataclasses import asdict, replace

import pytest

from pipeline.common.errors import ResultsError
from pipeline.results.files import read_csv, read_record, read_rows, write_csv, write_record, write_rows
from pipeline.results.rows import (
    ArmStep,
    CurvePoint,
    EvaluationCost,
    Prediction,
    Provenance,
    TrainingCost,
    TrainingRecord,
)

PROVENANCE = Provenance({"torch": "2.9.1", "numpy": "2.3.5"}, {"teacher": "12fd25f7", "student": None})
CURVE = [CurvePoint(0, 0, 0, 0.0, 0.125, 0.5, None), CurvePoint(10, 80, 7200, 7200.0, 0.3, 0.25, 1.75)]
PREDICTION = Prediction(
    id="a/1",
    level=3,
    subject="Algebra",
    output="so \u2028 it\u0085 is\r\n\\boxed{é}",
    gold="9",
    answer=None,
    correct=False,
    minerva_correct=False,
    teacher_correct=True,
    agrees=False,
    timed_out=False,
    tokens=8,
    kl=0.1 + 0.2,
    top1_matches=6,
    calibration_gaps=[0.1, -0.2],
)
RECORD = TrainingRecord(
    method="rl", seed=0, steps=40, examples=320, tokens=28_800, grading_timeouts=0, validation_problems=250
)
TRAINED = TrainingCost("rl-0", 1, None, False, seconds=12.5, peak_memory_bytes=2**33, provenance=PROVENANCE)
EVALUATED = EvaluationCost("rl-0", 420, "transformers", 12.5, 2**33, PROVENANCE)


def refusal(read, path, kind):
    """The sentence with which a file is refused."""
    with pytest.raises(ResultsError) as caught:
        read(path, kind)
    message = str(caught.value)
    assert str(path) in message
    assert "run `dvc repro` to make it" in message
    assert "\n" not in message
    return message


def test_a_csv_comes_back_with_none_for_empty_cells(tmp_path):
    write_csv(tmp_path / "a.csv", CurvePoint, CURVE)
    assert (tmp_path / "a.csv").read_bytes() == (
        b"step,examples,tokens,compute,validation_accuracy,validation_kl,loss\n"
        b"0,0,0,0,0.125,0.5,\n10,80,7200,7200,0.3,0.25,1.75\n"
    )
    table = read_csv(tmp_path / "a.csv", CurvePoint)
    rows = [CurvePoint(**row) for row in table.to_dict("records")]
    assert math.isnan(rows[0].loss)
    assert [replace(rows[0], loss=None), rows[1]] == CURVE


def test_numbers_in_a_csv_have_six_significant_digits(tmp_path):
    write_csv(tmp_path / "a.csv", CurvePoint, [CurvePoint(1_234_567, 0, 0, 0.0, 1 / 3, 2 / 3, 1e-9 / 3)])
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "1234567,0,0,0,0.333333,0.666667,3.33333e-10"


@pytest.mark.parametrize(
    "arm", ["NA", "null", "None", "7", "Algebra, I", 'the "rest"', "代数", "Counting & Probability/5"]
)
def test_an_arm_keeps_its_name_whatever_it_is_called(tmp_path, arm):
    write_csv(tmp_path / "a.csv", ArmStep, [ArmStep(0, arm, 0.5, None, None, None, 3)])
    table = read_csv(tmp_path / "a.csv", ArmStep)
    assert table["arm"].tolist() == [arm]
    assert table[["q_value", "reward"]].isna().all(axis=None)


def test_a_column_more_or_another_order_do_not_matter_to_a_csv(tmp_path):
    header = "new,loss,validation_kl,validation_accuracy,compute,tokens,examples,step\n"
    (tmp_path / "a.csv").write_text(header + "x,2.5,0.7,0.3,95,90,8,1\n")
    table = read_csv(tmp_path / "a.csv", CurvePoint)
    assert list(table) == ["step", "examples", "tokens", "compute", "validation_accuracy", "validation_kl", "loss"]
    assert table.iloc[0].tolist() == [1, 8, 90, 95, 0.3, 0.7, 2.5]


HEADER = "step,arm,probability,q_value,standard_error,reward,count\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", " is not a CSV file ("),
        (HEADER + "0,a,0.5,,,,1\n" + "0,b,0.5,,,,1,7,7\n", " is not a CSV file ("),
        (HEADER.replace("arm,", "") + "0,0.5,,,,1\n", " has no column arm;"),
        (HEADER.replace(",count", "") + "0,a,0.5,,,\n", " has no column count;"),
        (HEADER + "0,a,0.5,,,,1\n1,b,0.\n", ": column count must hold a whole number in every row;"),
        (HEADER + "0,a,,,,,1\n", ": column probability must hold a number in every row;"),
        (HEADER + "0,a,half,,,,1\n", ": column probability must hold a number in every row;"),
        (HEADER + "0,a,nan,,,,1\n", ": column probability must hold a number in every row;"),
        (HEADER + "0,a,True,,,,1\n", ": column probability must hold a number in every row;"),
        (HEADER + "0,a,0.5,,,,1.5\n", ": column count must hold a whole number in every row;"),
        (HEADER + "0,a,0.5,,,,inf\n", ": column count must hold a whole number in every row;"),
        (HEADER + "0,a,0.5,,,none,1\n", ": column reward must hold a number or nothing in every row;"),
        (HEADER + "0,,0.5,,,,1\n", ": column arm must hold a text in every row;"),
    ],
)
def test_a_csv_with_a_fault_is_refused_by_its_column(tmp_path, text, sentence):
    (tmp_path / "a.csv").write_text(text)
    assert f"a.csv{sentence}" in refusal(read_csv, tmp_path / "a.csv", ArmStep)


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [PREDICTION, replace(PREDICTION, id="b", answer="7", kl=0.0)]
    write_rows(tmp_path / "a.jsonl", rows)
    assert read_rows(tmp_path / "a.jsonl", Prediction) == rows
    assert len((tmp_path / "a.jsonl").read_bytes().split(b"\n")) == 3


@pytest.mark.parametrize(
    ("record", "kind"), [(RECORD, TrainingRecord), (TRAINED, TrainingCost), (EVALUATED, EvaluationCost)]
)
def test_a_record_comes_back_as_it_was_written(tmp_path, record, kind):
    write_record(tmp_path / "a.json", record)
    assert read_record(tmp_path / "a.json", kind) == record


def without(name):
    return lambda row: {key: value for key, value in row.items() if key != name}


FAULTS = [
    (without("subject"), "(subject: field required)"),
    (without("calibration_gaps"), "(calibration_gaps: field required)"),
    (lambda row: row | {"level": "3"}, "(level: input should be a valid integer)"),
    (lambda row: row | {"level": 3.5}, "(level: input should be a valid integer)"),
    (lambda row: row | {"correct": 1}, "(correct: input should be a valid boolean)"),
    (lambda row: row | {"kl": None}, "(kl: input should be a valid number)"),
    (lambda row: row | {"kl": math.nan}, "(kl: input should be a finite number)"),
    (lambda row: row | {"calibration_gaps": [0.5, "x"]}, "(calibration_gaps.1: input should be a valid number)"),
    (lambda row: row | {"answer": 7}, "(answer: input should be a valid string)"),
    (lambda row: [row], "(input should be "),
]


@pytest.mark.parametrize(("change", "sentence"), FAULTS)
def test_a_row_with_a_fault_is_refused_by_its_line_and_field(tmp_path, change, sentence):
    lines = [asdict(PREDICTION), asdict(PREDICTION), change(asdict(PREDICTION))]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    message = refusal(read_rows, tmp_path / "a.jsonl", Prediction)
    assert "a.jsonl:3 is not a valid Prediction" in message
    assert sentence in message


@pytest.mark.parametrize("line", ["", "{", '{"id": "x"', "null", "not json"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_broken_line_is_refused_by_its_number(tmp_path, line, number):
    lines = [json.dumps(asdict(PREDICTION))] * 3
    lines[number - 1] = line
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    assert f"a.jsonl:{number} is not a valid Prediction" in refusal(read_rows, tmp_path / "a.jsonl", Prediction)


def test_a_file_that_was_cut_in_the_middle_of_a_line_is_refused(tmp_path):
    write_rows(tmp_path / "a.jsonl", [PREDICTION] * 2)
    (tmp_path / "a.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes()[:-30])
    assert "a.jsonl:2 is not a valid Prediction" in refusal(read_rows, tmp_path / "a.jsonl", Prediction)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("processes"), "(processes: field required)"),
        (without("provenance"), "(provenance: field required)"),
        (lambda record: record | {"processes": "1"}, "(processes: input should be a valid integer)"),
        (lambda record: record | {"seconds": None}, "(seconds: input should be a valid number)"),
        (lambda record: record | {"provenance": {"versions": {}}}, "(provenance.commits: field required)"),
        (
            lambda record: record | {"provenance": {"versions": {"torch": 2}, "commits": {}}},
            "(provenance.versions.torch: input should be a valid string)",
        ),
    ],
)
def test_a_record_with_a_fault_is_refused_by_its_field(tmp_path, change, sentence):
    (tmp_path / "a.json").write_text(json.dumps(change(asdict(TRAINED))))
    message = refusal(read_record, tmp_path / "a.json", TrainingCost)
    assert "TrainingCost" in message
    assert sentence in message


@pytest.mark.parametrize(
    ("read", "kind"), [(read_csv, CurvePoint), (read_rows, Prediction), (read_record, TrainingRecord)]
)
def test_a_file_that_cannot_be_read_is_named_with_what_makes_it(tmp_path, read, kind):
    path = tmp_path / "a.file"
    assert refusal(read, path, kind) == f"{path} is missing; run `dvc repro` to make it"
    path.write_bytes(b"step,\xff\n")
    assert "cannot be read ('utf-8' codec can't decode byte 0xff" in refusal(read, path, kind)
    path.unlink()
    path.mkdir()
    assert "cannot be read (" in refusal(read, path, kind)


def test_nothing_that_is_no_number_is_written(tmp_path):
    for write, what in (
        (write_rows, [replace(PREDICTION, kl=math.inf)]),
        (write_record, replace(TRAINED, seconds=math.nan)),
    ):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(tmp_path / "a", what)
    assert list(tmp_path.iterdir()) == []
