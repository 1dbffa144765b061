"""Checkpoints: exact, atomic, and never those of something else."""

import pytest
import torch

from pipeline import checkpoint as checkpoint_module
from pipeline.checkpoint import Checkpoint, code_digest, load_optimizer_tensors, optimizer_tensors

TENSORS = {"a": torch.tensor([1.0, float("inf"), -0.0]), "b": torch.arange(6).reshape(2, 3), "empty": torch.zeros(0, 4)}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    Checkpoint("x", {"p": 1}, tmp_path).save(TENSORS, {"step": 7, "value": 0.1 + 0.2})
    tensors, state = Checkpoint("x", {"p": 1}, tmp_path).load()
    assert state == {"step": 7, "value": 0.1 + 0.2}
    assert {n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in tensors.items()} == {
        n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in TENSORS.items()
    }


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


def test_code_digest_follows_the_code(monkeypatch, tmp_path):
    (tmp_path / "pipeline/distillation").mkdir(parents=True)
    monkeypatch.setattr(checkpoint_module, "__file__", str(tmp_path / "pipeline/checkpoint.py"))
    (tmp_path / "pipeline/distillation/a.py").write_text("x = 1\n")
    before = code_digest()
    assert before == code_digest()
    (tmp_path / "pipeline/distillation/a.py").write_text("x = 2\n")
    assert code_digest() != before


def test_a_finished_run_deletes_checkpoints_of_earlier_params_but_not_of_other_runs(tmp_path):
    for name, identity in (("train-rl-1", {"tau": 1}), ("train-rl-1", {"tau": 2}), ("train-rl-10", {"tau": 1})):
        Checkpoint(name, identity, tmp_path).save(TENSORS, {})
    Checkpoint("train-rl-1", {"tau": 2}, tmp_path).delete()
    assert [f.name[:12] for f in tmp_path.iterdir()] == ["train-rl-10-"]
