"""The teacher-logit cache knows what it is: every mismatch and every damage is named."""

import json
import os

import numpy as np
import pytest
import torch

from pipeline.common.errors import TeacherLogitsError
from pipeline.language_models.prompts import EncodedProblem, Encoder
from pipeline.logit_store.store import CapturedProblem, LogitStore, finish_store, store_identity, write_shard
from pipeline.logit_store.top_k import top_k_rows
from pipeline.mini.models import build_tokenizer
from tests.conftest import ROOT

CPU = torch.device("cpu")
IDENTITY = {"teacher": "big", "tokenizer": "t0", "scheme": "top_k", "temperatures": [1.0, 3.0]}


def encoded(name, prompt_ids, completion_ids):
    return EncodedProblem(name, np.array(prompt_ids, np.int32), np.array(completion_ids, np.int32), False)


PROBLEMS = [encoded(f"p{i}", [1, 2], range(3, 4 + i)) for i in range(6)]


def captured(problem):
    n = len(problem.completion_ids)
    rows = np.empty(n, top_k_rows(3, 2, 100))
    rows["token_ids"] = len(problem.id) + n
    rows["offsets"] = [0, -1.25, -2.5]
    rows["log_tails"] = [np.log(0.25), np.log(0.5)]
    rows["log_prob"] = -np.arange(n)
    return CapturedProblem(problem.id, problem.digest, rows)


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        write_shard(tmp_path / f"work/shard-{number:05d}", [captured(p) for p in PROBLEMS[2 * number : 2 * number + 2]])
    finish_store(tmp_path / "store", sorted((tmp_path / "work").iterdir()), IDENTITY, "train", [])
    return tmp_path / "store"


def test_problems_come_back_in_any_order_across_shards(folder):
    store = LogitStore(folder, {"teacher": "big"})
    chosen = [PROBLEMS[5], PROBLEMS[0], PROBLEMS[3]]
    targets = store.targets(chosen, 3.0, CPU)
    assert targets.token_ids_NK[:, 0].tolist() == [8] * 6 + [3] + [6] * 4
    assert targets.log_prob_N.tolist() == [0, -1, -2, -3, -4, -5, 0, 0, -1, -2, -3]
    assert torch.allclose(targets.log_tail_N.exp(), torch.tensor(0.5))
    head = np.exp(np.array([0, -1.25, -2.5]) / 3)
    assert targets.log_probs_NK[0].exp().tolist() == pytest.approx((0.5 * head / head.sum()).tolist(), rel=1e-5)


def test_only_the_rows_asked_for_are_read(folder, monkeypatch):
    read = []
    original = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *a: read.append(original(*a)) or read[-1])
    LogitStore(folder, {}).targets([PROBLEMS[4], PROBLEMS[1]], 1.0, CPU)
    bytes_per_row = top_k_rows(3, 2, 100).itemsize
    assert read == [5 * bytes_per_row, 2 * bytes_per_row]


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (
            lambda f: (f / "shard-00001/rows.npy").unlink(),
            "shard-00001/rows.npy is missing although the manifest lists it",
        ),
        (
            lambda f: (f / "manifest.json").unlink(),
            "manifest.json is missing; run `dvc repro --force --single-item prepare teacher_logits`",
        ),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json is not valid JSON"),
        (lambda f: (f / "manifest.json").write_text('{"format": 99}'), "manifest.json is not of format 5"),
        (
            lambda f: _flip_last_byte(f / "shard-00002/rows.npy"),
            "shard-00002/rows.npy is damaged or was altered",
        ),
        (lambda f: _truncate(f / "shard-00000/rows.npy"), "shard-00000/rows.npy is damaged or was altered"),
        (
            lambda f: (f / "shard-00000/problems.json").write_text("[]"),
            "shard-00000/problems.json is damaged or was altered",
        ),
    ],
)
def test_damage_is_found_when_the_store_is_opened(folder, attack, sentence):
    attack(folder)
    with pytest.raises(TeacherLogitsError, match=sentence):
        LogitStore(folder, {})


def _flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-4])


def test_another_identity_is_refused_by_name(folder):
    with pytest.raises(TeacherLogitsError, match="captured with tokenizer = 't0', but this run needs 't1'"):
        LogitStore(folder, {"teacher": "big", "tokenizer": "t1"})


@pytest.mark.parametrize(
    "change", [{"prompt": "Q: {problem}\n"}, {"chat_template": True}, {"max_tokens": 99}, {"dtype": "bfloat16"}]
)
def test_another_way_to_ask_is_another_identity(monkeypatch, encoder, change):
    monkeypatch.chdir(ROOT)
    expected = store_identity(encoder())
    assert expected == store_identity(encoder(device="cuda", threads=7, student_layers=1))
    assert store_identity(encoder(**change)) == expected | change


def test_another_teacher_or_tokenizer_is_another_identity(monkeypatch, tiny_model, encoder, tmp_path):
    monkeypatch.chdir(ROOT)
    expected = store_identity(encoder())
    tiny_model().save_pretrained(tmp_path)
    other = store_identity(encoder(teacher=str(tmp_path)))
    assert {key for key in expected if other[key] != expected[key]} == {"teacher"}
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["more"])
    other = store_identity(Encoder(tokenizer, encoder().models))
    assert {key for key in expected if other[key] != expected[key]} == {"tokenizer"}


def test_a_problem_it_does_not_hold_is_refused(folder):
    with pytest.raises(TeacherLogitsError, match="holds no logits for problem 'stranger'"):
        LogitStore(folder, {}).require([encoded("stranger", [1], [2])])


@pytest.mark.parametrize("changed", [encoded("p1", [1, 2], [3, 9]), encoded("p1", [1], [3, 4])])
def test_a_problem_whose_tokens_changed_is_refused(folder, changed):
    store = LogitStore(folder, {})
    store.require([PROBLEMS[1]])
    with pytest.raises(TeacherLogitsError, match="holds logits for other tokens of problem 'p1'"):
        store.targets([changed], 1.0, CPU)


def test_a_temperature_off_the_grid_is_refused(folder):
    with pytest.raises(
        TeacherLogitsError, match=r"holds the temperatures \[1.0, 3.0\], not 2.0; add it to teacher_logits"
    ):
        LogitStore(folder, {}).require_temperature(2.0)


def test_a_new_store_replaces_the_old_one_whole(folder, tmp_path):
    finish_store(folder, [tmp_path / "work/shard-00000"], IDENTITY | {"teacher": "bigger"}, "train", [])
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "shard-00000", "train.jsonl"]
    assert json.loads((folder / "manifest.json").read_text())["identity"]["teacher"] == "bigger"
