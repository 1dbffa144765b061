"""Memory: of a step at a real vocabulary, and of a run as its problems grow in number."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

STEP = """
import resource, sys
import numpy as np, torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from pipeline.distillation.loss import LossSettings, distillation_loss
from pipeline.language_models.batches import pad_examples, predicting_states
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.fields import StoredRows, put_ids
from pipeline.logit_store.top_k import TopK, top_k_rows
torch.set_num_threads(2)
torch.manual_seed(0)
V, T, B, K = 151_936, 512, 8, 32
student = Qwen2ForCausalLM(Qwen2Config(
    vocab_size=V, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, tie_word_embeddings=True)).eval()
rng = np.random.default_rng(0)
ids = rng.integers(V, size=(B, T)).astype(np.int32)
batch = pad_examples([EncodedProblem(str(i), row[:64], row[64:], cut=False) for i, row in enumerate(ids)])
N = len(batch.labels_N)
token_ids = torch.from_numpy(rng.permuted(np.arange(V))[:N * K].reshape(N, K) if N * K <= V else
    rng.integers(V // K, size=(N, 1)) * K + np.arange(K))
offsets = -torch.rand(N, K).sort(dim=1).values
rows = np.empty(N, top_k_rows(K, 1, V))
put_ids(rows, token_ids)
rows["offsets"], rows["log_tails"], rows["log_prob"] = offsets, -2, -1
teacher = TopK.restore(StoredRows(rows), 0, 1.0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[1] == "fused":
    loss, _ = distillation_loss(predicting_states(student, batch), student.lm_head.weight, batch.labels_N, teacher,
        LossSettings(1.0, 1.0, "forward_kl", 0.5), N)
else:  # the same loss from all logits of all tokens
    logits = student(input_ids=batch.input_ids_BT, use_cache=False).logits
    log_q = torch.log_softmax(logits, -1).flatten(0, 1)[batch.predicting_N].gather(1, teacher.token_ids_NK)
    log_q = torch.cat([log_q, torch.log1p(-log_q.exp().sum(1, keepdim=True))], 1)
    log_p = torch.cat([teacher.log_probs_NK, teacher.log_tail_N[:, None]], 1)
    loss = (log_p.exp() * (log_p - log_q)).sum() / N
loss.backward()
gradient = torch.cat([p.grad.flatten() for p in student.parameters()]).norm()
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, loss.item(), gradient.item())
"""


def run_step(path):
    done = subprocess.run(
        [sys.executable, "-c", STEP, path], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
    )
    before, peak, loss, gradient = map(float, done.stdout.split())
    return peak, peak - before, loss, gradient


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is measured in other units elsewhere")
def test_a_step_at_a_vocabulary_of_151936_needs_under_a_quarter_of_the_dense_paths_memory():
    fused, fused_rise, loss, gradient = run_step("fused")
    dense, dense_rise, dense_loss, dense_gradient = run_step("dense")
    print(f"peak of the process in KiB: fused {fused:.0f}, dense {dense:.0f}; rise {fused_rise:.0f}, {dense_rise:.0f}")
    assert loss == pytest.approx(dense_loss, rel=1e-4)
    assert gradient == pytest.approx(dense_gradient, rel=1e-3)
    assert fused < dense / 4  # the whole process, with Python and torch themselves


READ_STORE = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from pipeline.language_models.prompts import EncodedProblem
from pipeline.logit_store.top_k import top_k_rows
from pipeline.logit_store.store import CapturedProblem, LogitStore, finish_store, write_shard
problems = [EncodedProblem(f"p{i}", np.array([1], np.int32), np.full(2000, i, np.int32), cut=False) for i in range(240)]
rows = np.zeros(2000, top_k_rows(32, 1, 151_936))
rows["log_tails"] = -1
for number in range(24):
    write_shard(Path(f"work/shard-{number:05d}"), [
        CapturedProblem(p.id, p.digest, rows) for p in problems[10 * number:10 * number + 10]])
finish_store(Path("store"), sorted(Path("work").iterdir()), {"scheme": "top_k", "temperatures": [1.0]}, "train", [])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = LogitStore(Path("store"), {})
for p in problems:
    store.targets([p], 1.0, torch.device("cpu"))
size = sum(f.stat().st_size for f in Path("store").glob("*/*")) // 1024
print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is measured in other units elsewhere")
def test_reading_a_store_does_not_bring_it_into_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", READ_STORE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    size, rise = map(int, done.stdout.split())
    assert size > 60_000  # KiB
    assert rise < size / 8
