import gzip
import json
import os
from pathlib import Path

import pytest

from pipeline.problems.boxed import braces_balance, last_boxed

CASES = {
    r"so $x=\boxed{5}$.": "5",
    r"\fbox{7}": "7",
    r"$\boxed 9$.": "9",
    r"\boxed 12 is it": "12",
    r"\boxed" "\n{ 4 }": "4",
    r"\boxed{\frac{1}{\sqrt{2}}}": r"\frac{1}{\sqrt{2}}",
    r"\boxed{1} then \boxed{2}": "2",
    r"\boxed{1} then \fbox{3} and {x}": "3",
    r"\boxed{1} then \boxed 2$": "2",
    r"\boxed{\fbox{5}}": "5",
    r"\boxed{1} and \boxed{\{3, 4\}}": r"\{3, 4\}",
    r"\boxed{\left\{ x \right\}}": r"\left\{ x \right\}",
    r"\boxed{}": "",
    r"\boxed{ }": "",
    r"\boxed{3} and \boxed{}": "3",
    r"\boxed{} and \boxed{ }": "",
    r"\boxed{3} in \boxed{ \fbox{} }": r"\fbox{}",
    "\\boxed{9\\ }": "9\\ ",
    "\\boxed{9\\\\ }": "9\\\\",
    r"{ stray \boxed{6}": "6",
    r"} stray } \boxed{6}": "6",
    r"{{\boxed{6}}}}": "6",
    r"line \\\boxed{8}": "8",
    r"\boxed{4} but \boxed{5": "4",
    r"\boxed{{5}": None,
    r"\boxed{5\}": None,
    r"\boxed": None,
    r"\boxed $": None,
    r"\boxed\frac{1}{2}": None,
    r"\boxedness{5}": None,
    r"\\boxed{5}": None,
    "the answer is 5": None,
    "": None,
}


@pytest.mark.parametrize(("text", "expected"), CASES.items(), ids=CASES)
def test_last_boxed(text, expected):
    assert last_boxed(text) == expected


HOSTILE = {
    "opening": (r"\boxed" + "{" * 10_000_000, None),
    "closing": ("}" * 10_000_000 + r"\boxed{1}", "1"),
    "alternating": (r"\boxed{" + "{}" * 1_000_000, None),
    "deep": (r"\boxed{" + "{" * 5_000_000 + "}" * 5_000_001, "{" * 5_000_000 + "}" * 5_000_000),
    "unclosed boxes": (r"\boxed{" * 300_000, None),
    "nested boxes": (r"\boxed{" * 300_000 + "9" + "}" * 300_000, "9"),
    "space": (r"\boxed" + " " * 10_000_000, None),
    "backslashes": ("\\" * 1_000_001, None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_ends_with_the_right_answer(name):
    text, expected = HOSTILE[name]
    assert last_boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "balance"),
    [("", True), ("{}", True), ("{{}", False), ("}{", False), (r"\{", True), (r"\\{", False), ("{" * 10**6, False)],
)
def test_braces_balance(text, balance):
    assert braces_balance(text) is balance


@pytest.fixture(scope="module")
def real_math() -> Path:
    if not (folder := os.environ.get("MATH_DIR")):
        pytest.skip("MATH_DIR is not set: it names a folder with train.jsonl.gz and math500.jsonl.gz")
    return Path(folder)


def test_boxes_of_real_math_are_balanced_and_as_published(real_math):
    with gzip.open(real_math / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        boxes = [last_boxed(json.loads(line)["solution"]) for line in file]
    assert len(boxes) == 7500
    assert None not in boxes
    assert boxes.count("") == 2
    assert all(map(braces_balance, boxes))
    with gzip.open(real_math / "math500.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    assert len(records) == 500
    assert [r["unique_id"] for r in records if last_boxed(r["solution"]) != r["answer"]] == []
