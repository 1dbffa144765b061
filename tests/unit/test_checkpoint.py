"""Checkpoints: exact, atomic, and never those of something else."""

import importlib.util
import shutil
import subprocess
import sys

import pytest
import torch

from pipeline.checkpoints import checkpoint as checkpoint_module
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.checkpoints.code import code_digest, import_closure, modules_in
from pipeline.mini.pretraining import load_optimizer_tensors, optimizer_tensors
from pipeline.registry import names_in
from tests.conftest import ROOT

TENSORS = {"a": torch.tensor([1.0, float("inf"), -0.0]), "b": torch.arange(6).reshape(2, 3), "empty": torch.zeros(0, 4)}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    Checkpoint("x", {"p": 1}, tmp_path).save(TENSORS, {"step": 7, "value": 0.1 + 0.2})
    tensors, state = Checkpoint("x", {"p": 1}, tmp_path).load()
    assert state == {"step": 7, "value": 0.1 + 0.2}
    assert {n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in tensors.items()} == {
        n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in TENSORS.items()
    }


def test_what_comes_back_is_aligned_as_new_tensors_are_so_that_products_round_alike(tmp_path):
    for length in range(0, 64, 8):
        checkpoint = Checkpoint("x", {"p": 1}, tmp_path)
        checkpoint.save(TENSORS, {"text": "." * length})
        tensors, _ = checkpoint.load()
        assert [tensors[name].data_ptr() % 64 for name in ("a", "b")] == [0, 0]


def test_another_identity_does_not_find_it_and_is_told_what_differs(tmp_path, capsys):
    made_from = {"params": {"lr": 0.1, "arms": (1, 2)}, "code": "abc"}
    Checkpoint("x", made_from, tmp_path).save(TENSORS, {})
    assert Checkpoint("x", made_from | {"params": {"lr": 0.2, "arms": (1, 2)}, "data": "d"}, tmp_path).load() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "state.safetensors is of other data, params.lr; starting from the beginning" in line
    assert Checkpoint("y", made_from, tmp_path).load() is None
    assert capsys.readouterr().err == ""


def test_a_damaged_checkpoint_of_something_else_is_said_to_be_damaged(tmp_path, capsys):
    other = Checkpoint("x", {"p": 1}, tmp_path)
    other.save(TENSORS, {})
    other.path.write_bytes(b"nothing")
    assert Checkpoint("x", {"p": 2}, tmp_path).load() is None
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:5],
        lambda _: b"",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data.replace(b'\\"step\\": 7', b'\\"step\\": 8'),
    ],
)
def test_a_damaged_file_is_ignored_and_said_so(tmp_path, damage, capsys):
    checkpoint = Checkpoint("x", {}, tmp_path)
    checkpoint.save(TENSORS, {"step": 7})
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))
    assert checkpoint.load() is None
    assert "is damaged" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    checkpoint = Checkpoint("x", {}, tmp_path)
    checkpoint.save(TENSORS, {"step": 1})

    def half_written(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint_module, "save_file", half_written)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(TENSORS, {"step": 2})
    assert checkpoint.load()[1] == {"step": 1}
    assert [f.name for f in checkpoint.folder.iterdir()] == ["state.safetensors"]


def test_delete_removes_it(tmp_path):
    checkpoint = Checkpoint("x", {}, tmp_path)
    checkpoint.save(TENSORS, {})
    checkpoint.delete()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["AdamW", "Muon"])
def test_an_optimizer_goes_on_exactly_as_it_would_have(kind):
    def train(parameter, optimizer, steps):
        for step in steps:
            (parameter.sin() * (step + 1)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    def fresh():
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        return parameter, getattr(torch.optim, kind)([parameter], lr=0.1)

    whole, whole_optimizer = fresh()
    train(whole, whole_optimizer, range(9))
    first, first_optimizer = fresh()
    train(first, first_optimizer, range(4))
    second, second_optimizer = fresh()
    load_optimizer_tensors(
        second_optimizer, "o", {k: v.clone() for k, v in optimizer_tensors(first_optimizer, "o").items()}
    )
    second.data.copy_(first.data)
    train(second, second_optimizer, range(4, 9))
    assert torch.equal(whole, second)


MADE_UP = {
    "pipeline/__init__.py": "",
    "pipeline/start.py": "import os\nimport pipeline.a.deep as d\nfrom pipeline.b import thing, module\n",
    "pipeline/a/__init__.py": "from pipeline import of_a_package\n",
    "pipeline/a/deep.py": "def late():\n    from pipeline.only_late import x\n",
    "pipeline/a/other.py": "",
    "pipeline/b/__init__.py": "thing = 1\n",
    "pipeline/b/module.py": "import pipeline.start\n",  # round in a circle
    "pipeline/b/thing_else.py": "",
    "pipeline/of_a_package.py": "",
    "pipeline/only_late.py": "from elsewhere.pipeline import unrelated\n",
    "pipeline/unrelated.py": "from pipeline.start import everything\n",
}


def test_the_closure_of_a_module_is_what_it_imports_and_what_that_imports(tmp_path):
    for name, text in MADE_UP.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    closure = {f.relative_to(tmp_path).as_posix() for f in import_closure(["pipeline.start"], tmp_path)}
    outside = {"pipeline/a/other.py", "pipeline/b/thing_else.py", "pipeline/unrelated.py"}
    assert closure == set(MADE_UP) - outside
    both = import_closure(["pipeline.a.other", "pipeline.b.thing_else"], tmp_path)
    assert {f.relative_to(tmp_path).as_posix() for f in both} == {
        *("pipeline/__init__.py", "pipeline/a/__init__.py", "pipeline/of_a_package.py", "pipeline/a/other.py"),
        *("pipeline/b/__init__.py", "pipeline/b/thing_else.py"),
    }
    assert modules_in("pipeline.b", tmp_path) == ["pipeline.b", "pipeline.b.module", "pipeline.b.thing_else"]


@pytest.mark.parametrize("module", ["pipeline.prepare", "pipeline.train"])
def test_the_closure_is_what_python_loads(module):
    code = (
        f"import sys, {module}\n"
        "print(*(m.__file__ for name, m in sys.modules.items() if name.split('.')[0] == 'pipeline'), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(map(str, import_closure([module])))


@pytest.fixture
def copied(tmp_path):
    """A copy of the package, and its own `code_digest`."""
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    spec = importlib.util.spec_from_file_location("copied_code", tmp_path / "pipeline/checkpoints/code.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tmp_path, module.code_digest


def test_the_code_digest_depends_on_every_file_of_the_closure_and_on_no_other(copied):
    folder, digest = copied
    before = digest("pipeline.prepare")
    assert before == code_digest("pipeline.prepare")  # wherever the project lies
    inside = import_closure(["pipeline.prepare"], folder)
    outside = set(folder.glob("pipeline/**/*.py")) - inside
    assert len(inside) > 10
    assert len(outside) > 10
    for file in outside:
        file.write_text("raise SystemExit")
    (folder / "pipeline/common/new.py").write_text("")
    assert digest("pipeline.prepare") == before
    seen = {before}
    for file in inside:
        text = file.read_text()
        file.write_text(text + "# changed\n")
        seen.add(digest("pipeline.prepare"))
        file.write_text(text)
    assert len(seen) == 1 + len(inside)
    assert digest("pipeline.prepare") == before


def test_the_code_digest_follows_a_file_that_moves(copied):
    folder, digest = copied
    before = digest("pipeline.registry")
    shutil.move(folder / "pipeline/registry.py", folder / "pipeline/registry2.py")
    assert digest("pipeline.registry2") != before


@pytest.mark.parametrize("method", names_in("pipeline.curricula"))
def test_a_run_depends_on_all_of_its_own_curriculum_and_on_no_others(method):
    closure = import_closure(["pipeline.train", *modules_in(f"pipeline.curricula.{method}")])
    folders = {f.relative_to(ROOT / "pipeline/curricula").parts[0]: f for f in closure if "curricula" in f.parts}
    assert set(folders) == {"__init__.py", method}
    assert set((ROOT / "pipeline/curricula" / method).glob("**/*.py")) <= closure


def test_a_finished_run_deletes_checkpoints_of_earlier_params_but_not_of_other_runs(tmp_path):
    for name, identity in (("train-rl-1", {"tau": 1}), ("train-rl-1", {"tau": 2}), ("train-rl-10", {"tau": 1})):
        Checkpoint(name, identity, tmp_path).save(TENSORS, {})
    Checkpoint("train-rl-1", {"tau": 2}, tmp_path).delete()
    assert [f.name[:12] for f in tmp_path.iterdir()] == ["train-rl-10-"]


def test_a_module_that_is_not_there_has_no_digest():
    with pytest.raises(ModuleNotFoundError, match=r"pipeline\.trian: no such module"):
        code_digest("pipeline.trian")
