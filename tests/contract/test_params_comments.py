"""params.yaml explains every parameter, also after `dvc exp run -S` has written into it."""

import re
import shutil

import yaml
from dvc.utils.hydra import apply_overrides

from tests.conftest import ROOT


def comments(path):
    return sorted(line.strip() for line in re.findall(r"#.*", path.read_text(encoding="utf-8")))


def test_lists_that_are_replaced_take_no_comment_with_them(tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    before = comments(path)
    for methods, seeds, replays in (("[rl,traditional]", "[0]", "[rl_permuted]"), ("[random]", "[1,2]", "[]")):
        apply_overrides(
            str(path),
            [
                f"methods={methods}",
                f"seeds={seeds}",
                f"replays={replays}",
                "scale=smollm2",
                "launch=torchrun",
                "scales.mini.data.target.subjects=[Algebra]",
                "scales.mini.teacher_logits.temperatures=[1.0,3.0]",
            ],
        )
        assert yaml.safe_load(path.read_text())["methods"] == yaml.safe_load(methods)
        assert comments(path) == before
