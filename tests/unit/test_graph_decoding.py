"""Decoding in memory that never moves against decoding with a growing cache; graphs themselves need a GPU.

benchmarks/gpu_check.py has the same checks there. test_architectures.py tries every family.
"""

import contextlib
import random
from dataclasses import dataclass

import pytest
import torch
from families import tiny
from recording import Recording, record
from transformers import AutoModelForCausalLM

from pipeline.language_models import generation, graph_decoding
from pipeline.language_models.caches import growing_cache
from pipeline.language_models.decoding import Stop, float32_head, next_logits
from pipeline.language_models.generation import Sampling, complete_batch, generate_answers, pad_left, read_prompts
from pipeline.language_models.graph_decoding import WAIT, can_be_recorded
from pipeline.language_models.settings import GenerationParams
from pipeline.mini.problems import LEVELS, TASKS, generate_distinct
from tests.conftest import ROOT


@pytest.fixture
def recordings(monkeypatch):
    """From now on a CPU decodes as a GPU does; the recordings that were made."""
    made = []
    monkeypatch.setattr(generation, "GRAPHS_ON", ("cpu",))
    monkeypatch.setattr(graph_decoding, "recorded", record(made))
    return made


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices gain nothing from more, and beside other work they lose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    """One problem of every subject and level: 35 prompts."""
    cells = [generate_distinct(subject, level, 1, random.Random(5)) for subject in TASKS for level in LEVELS]
    return [tokenizer.encode(problem.problem + "\n") for cell in cells for problem in cell]


@pytest.fixture(scope="module")
def student():
    return AutoModelForCausalLM.from_pretrained(ROOT / "models/mini/student").eval()


def answers_of(model, tokenizer, prompts, new_tokens, monkeypatch, **changes):
    """The answers with a growing cache, as a CPU gives them."""
    with monkeypatch.context() as patch:
        patch.setattr(generation, "GRAPHS_ON", ())
        return generate_answers(model, tokenizer, prompts, GenerationParams(35, new_tokens), **changes)


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_the_answers_are_those_of_a_growing_cache(name, tokenizer, prompts, recordings, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(ROOT / "models/mini" / name).eval()
    expected = answers_of(model, tokenizer, prompts, 96, monkeypatch)
    assert len({len(tokenizer.encode(answer)) for answer in expected}) > 10
    monkeypatch.setattr(graph_decoding, "STRETCH", 2 * WAIT)
    assert generate_answers(model, tokenizer, prompts, GenerationParams(35, 96)) == expected
    assert len(recordings) == 3
    assert generate_answers(model, tokenizer, prompts, GenerationParams(9, 96)) == expected


def is_recorded(model):
    cache = growing_cache(model)
    with torch.inference_mode():
        read_prompts(model, float32_head(model), cache, [[5, 6, 7]], 0)
    return can_be_recorded(model, cache)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_family_whose_layers_all_see_all_tokens_is_recorded(family):
    model = tiny(family)
    assert is_recorded(model)
    model.config.rope_parameters["rope_type"] = "dynamic"  # whose forward pass looks at the length
    assert not is_recorded(model)


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text", "bloom", "gpt2", "lfm2", "deepseek_v3"])
def test_sliding_windows_and_other_caches_or_positions_are_not_recorded(family):
    assert not is_recorded(tiny(family))


def test_draws_are_those_of_a_growing_cache_while_no_row_leaves(student, tokenizer, prompts, recordings, monkeypatch):
    sampling = Sampling(1.5, seed=3)
    expected = answers_of(student, tokenizer, prompts[:6], 6, monkeypatch, sampling=sampling)
    found = generate_answers(student, tokenizer, prompts[:6], GenerationParams(35, 6), sampling=sampling)
    assert found == expected
    assert len(recordings) == 1


def test_the_host_looks_at_the_rows_every_few_tokens_and_rows_leave_between_stretches(
    student, tokenizer, prompts, recordings, monkeypatch
):
    monkeypatch.setattr(graph_decoding, "STRETCH", 2 * WAIT)
    lengths = [len(tokenizer.encode(a)) + 1 for a in answers_of(student, tokenizer, prompts, 96, monkeypatch)]
    looks, rows = Recording(), []
    decode_stretch = graph_decoding.decode_stretch

    def watched(read_token, cache, inputs, logits_BV, *others):
        rows.append(len(logits_BV))
        with looks:
            return decode_stretch(read_token, cache, inputs, logits_BV, *others)

    monkeypatch.setattr(graph_decoding, "decode_stretch", watched)
    generate_answers(student, tokenizer, prompts, GenerationParams(35, 96))
    assert rows == [35, sum(n > 2 * WAIT for n in lengths), sum(n > 4 * WAIT for n in lengths)]
    assert len(set(rows)) == 3
    assert looks.asked() == -(-max(lengths) // WAIT) > 4


def test_all_rows_ended_is_the_end(student, tokenizer, prompts, recordings, monkeypatch):
    expected = answers_of(student, tokenizer, prompts, 300, monkeypatch)
    longest = max(len(tokenizer.encode(answer)) + 1 for answer in expected)
    assert 3 * WAIT < longest < graph_decoding.STRETCH
    calls, keep_newest = [], graph_decoding.FixedCache.keep_newest
    monkeypatch.setattr(graph_decoding.FixedCache, "keep_newest", lambda cache: (calls.append(1), keep_newest(cache)))
    assert generate_answers(student, tokenizer, prompts, GenerationParams(35, 300)) == expected
    assert len(calls) == -(-longest // WAIT) * WAIT - 1


def test_a_place_that_is_still_free_is_not_looked_at(student, tokenizer, prompts, recordings, monkeypatch):
    expected = answers_of(student, tokenizer, prompts, 40, monkeypatch)
    original = graph_decoding.FixedCache.__init__

    def with_rubbish(self, read, new_tokens):
        original(self, read, new_tokens)
        self._sides_SBHLD[:, :, :, self.filled :] = 1e3

    monkeypatch.setattr(graph_decoding.FixedCache, "__init__", with_rubbish)
    assert generate_answers(student, tokenizer, prompts, GenerationParams(35, 40)) == expected


def test_a_cache_that_does_not_fit_halves_the_batch(student, tokenizer, prompts, recordings, monkeypatch, capsys):
    expected = answers_of(student, tokenizer, prompts, 40, monkeypatch)
    original = graph_decoding.FixedCache.__init__

    def small(self, read, new_tokens):
        if len(read.layers[0].keys) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        original(self, read, new_tokens)

    monkeypatch.setattr(graph_decoding.FixedCache, "__init__", small)
    assert generate_answers(student, tokenizer, prompts, GenerationParams(35, 40)) == expected
    assert capsys.readouterr().err == "the memory is too small for 35 prompts at once; now 17\n"


def test_float32_logits_are_the_models_own_to_the_bit(student, tokenizer, prompts):
    input_ids_BT, mask_BT = pad_left(prompts[:3], tokenizer.pad_token_id)
    positions_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
    with torch.inference_mode():
        found = next_logits(student, float32_head(student), growing_cache(student), input_ids_BT, mask_BT, positions_BT)
        whole = student(input_ids=input_ids_BT, attention_mask=mask_BT, position_ids=positions_BT, logits_to_keep=1)
    assert torch.equal(found, whole.logits[:, 0])


def test_a_stop_that_is_met_at_once(student, recordings):
    with torch.inference_mode():
        found = complete_batch(student, [[5, 6], [7]], 0, Stop([3], 40), lambda logits_BV: torch.full((2,), 3))
    assert found == [[], []]


class FakeCuda:
    """Stands in for torch.cuda's streams and graphs; `events` says what happened, and on which stream."""

    def __init__(self):
        self.events, self.stream_now, self.made = [], "main", 0

    def current_stream(self, device):
        return Waiting(self, "main")

    def Stream(self, device):
        self.made += 1
        return Waiting(self, f"side {self.made}")

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.stream_now = self.stream_now, stream.name
        try:
            yield
        finally:
            self.stream_now = before

    def CUDAGraph(self):
        return self

    def replay(self):
        self.events.append(("replay", self.stream_now))

    @contextlib.contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        before, self.stream_now = self.stream_now, stream.name
        self.events.append(("record", self.stream_now))
        yield  # where a recording breaks off, torch's own leaves its stream behind
        self.stream_now = before


@dataclass(frozen=True)
class Waiting:
    cuda: FakeCuda
    name: str

    def wait_stream(self, other):
        self.cuda.events.append((f"{self.name} waits for", other.name))


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    for name in ("current_stream", "Stream", "stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    graph_decoding.recording_stream.cache_clear()
    yield fake
    graph_decoding.recording_stream.cache_clear()


def test_all_recordings_are_made_on_one_stream(cuda):
    for _ in range(2):
        repeat = graph_decoding.recorded(lambda: cuda.events.append(("work", cuda.stream_now)), torch.device("cuda"))
        once = [
            ("side 1 waits for", "main"),
            ("work", "side 1"),
            ("main waits for", "side 1"),
            ("record", "side 1"),
            ("work", "side 1"),
        ]
        assert cuda.events == once
        repeat()
        assert cuda.events == [*once, ("replay", "main")]
        cuda.events.clear()
    assert cuda.made == 1


@pytest.mark.parametrize("calls", [1, 2])
def test_a_recording_that_breaks_off_leads_back_to_the_stream_before(cuda, calls):
    countdown = iter(range(1, calls + 1))

    def work():
        if next(countdown) == calls:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        graph_decoding.recorded(work, torch.device("cuda"))
    assert cuda.stream_now == "main"
    assert ("main waits for", "side 1") in cuda.events
