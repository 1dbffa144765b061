"""Answers against transformers' own `generate`, one prompt at a time, and the softmax that they are drawn from."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GenerationConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from pipeline.common.errors import ModelError
from pipeline.language_models import generation
from pipeline.language_models.generation import ENDED_SHARE, Sampling, generate_answers
from pipeline.language_models.settings import GenerationParams
from pipeline.mini.problems import LEVELS, TASKS, generate_distinct
from tests.conftest import ROOT


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices gain nothing from more, and beside other work they lose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def student():
    return AutoModelForCausalLM.from_pretrained(ROOT / "models/mini/student").eval()


@pytest.fixture(scope="module")
def prompts(tokenizer):
    """One problem of every subject and level: 35 prompts."""
    cells = [generate_distinct(subject, level, 1, random.Random(5)) for subject in TASKS for level in LEVELS]
    return [tokenizer.encode(problem.problem + "\n") for cell in cells for problem in cell]


def peer(model, tokenizer, prompts, max_new_tokens):
    """Greedy answers of transformers' `generate`, all prompts in one batch."""
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=tokenizer.eos_token_id
    )
    output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)


@pytest.fixture
def shapes(student, monkeypatch):
    """The shapes of the token ids that the student is called with."""
    seen, forward = [], student.base_model.forward

    def recording(**inputs):
        seen.append(tuple(inputs["input_ids"].shape))
        return forward(**inputs)

    monkeypatch.setattr(student.base_model, "forward", recording)
    return seen


@pytest.mark.parametrize("name", ["student", "teacher"])
@pytest.mark.parametrize("batch_size", [35, 9])
def test_the_answers_are_those_of_transformers(name, batch_size, tokenizer, prompts):
    model = AutoModelForCausalLM.from_pretrained(ROOT / "models/mini" / name).eval()
    expected = peer(model, tokenizer, prompts, 96)
    assert len({len(tokenizer.encode(answer)) for answer in expected}) > 10  # sequences end at many different times
    assert generate_answers(model, tokenizer, prompts, GenerationParams(batch_size, 96)) == expected


def test_an_answer_does_not_depend_on_the_other_rows(student, tokenizer, prompts):
    together = generate_answers(student, tokenizer, prompts, GenerationParams(35, 96))
    for i in range(0, 35, 7):
        assert generate_answers(student, tokenizer, [prompts[i]], GenerationParams(1, 96)) == [together[i]]


def test_batching_and_padding_do_not_change_an_answer(student, tokenizer):
    texts = ("Solve $x+3=5$.\n", "$9$ mod $4$?\n", "Compute $3+4-5+6$.\n", "?\n", "Compute $" + "1+" * 90 + "1$.\n")
    prompts = [tokenizer.encode(text) for text in texts]
    together = generate_answers(student, tokenizer, prompts, GenerationParams(batch_size=4, max_new_tokens=9))
    for prompt, answer in zip(prompts, together, strict=True):
        ids = list(prompt)
        for _ in range(9):  # greedy, one token at a time, without a cache
            with torch.no_grad():
                ids.append(int(student(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert answer == tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
    assert len(set(together)) > 1


def test_sequences_that_have_ended_leave_the_batch_and_nothing_is_computed_twice(student, tokenizer, prompts, shapes):
    answers = generate_answers(student, tokenizer, prompts, GenerationParams(35, 96))
    lengths = [min(96, len(tokenizer.encode(answer)) + 1) for answer in answers]  # with the end token
    read, decoded = [s for s in shapes if s[1] > 1], [s for s in shapes if s[1] == 1]
    assert shapes == read + decoded
    assert sum(rows for rows, _ in read) == 35
    assert len(decoded) == max(lengths) - 1
    for step, (rows, _) in enumerate(decoded, start=1):
        still_open = sum(length > step for length in lengths)
        assert still_open <= rows
        assert rows - still_open < ENDED_SHARE * rows


def test_prompts_are_read_in_parts_of_similar_length(student, tokenizer, prompts, shapes, monkeypatch):
    monkeypatch.setitem(generation.PROMPT_TOKENS, "cpu", 10**6)
    whole = generate_answers(student, tokenizer, prompts, GenerationParams(35, 96))
    assert shapes[0] == (35, max(map(len, prompts)))
    shapes.clear()
    monkeypatch.setitem(generation.PROMPT_TOKENS, "cpu", 200)
    assert generate_answers(student, tokenizer, prompts, GenerationParams(35, 96)) == whole
    read = [s for s in shapes if s[1] > 1]
    assert sum(rows for rows, _ in read) == 35
    assert all(rows * tokens <= 200 for rows, tokens in read)
    assert sum(rows * tokens for rows, tokens in read) < 1.15 * sum(map(len, prompts))


@pytest.mark.parametrize("settings", [{"attn_implementation": "eager"}, {"use_sliding_window": True, "window": 4}])
def test_other_kinds_of_attention_give_the_answers_of_transformers(settings, tokenizer, prompts):
    torch.manual_seed(0)
    window = settings.pop("window", None)
    config = Qwen2Config(
        vocab_size=102,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        max_window_layers=1,
        eos_token_id=tokenizer.eos_token_id,
        **settings,
    )
    model = Qwen2ForCausalLM(config).eval()
    assert model.config._attn_implementation == settings.get("attn_implementation", "sdpa")
    assert ("sliding_attention" in model.config.layer_types) == (window is not None)
    expected = peer(model, tokenizer, prompts, 24)
    assert len(set(expected)) > 10
    assert generate_answers(model, tokenizer, prompts, GenerationParams(35, 24)) == expected


def test_a_model_that_reads_the_mask_of_real_tokens_itself_gets_it(tokenizer, prompts):
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=102, hidden_size=32, n_layer=2, n_head=4, eos_token_id=tokenizer.eos_token_id, bos_token_id=None
    )
    model = BloomForCausalLM(config).eval()
    calls, forward = [], model.base_model.forward

    def without_positions(**inputs):  # Bloom has none: it counts tokens from their mask
        calls.append(inputs["attention_mask"].ndim)
        del inputs["position_ids"]
        return forward(**inputs)

    model.base_model.forward = without_positions
    assert len(generate_answers(model, tokenizer, prompts, GenerationParams(35, 4))) == 35
    assert set(calls) == {2}


def test_positions_are_counted_from_the_start_of_each_prompt(student, tokenizer, monkeypatch):
    seen, forward = [], student.base_model.forward

    def recording(**inputs):
        positions, mask = inputs["position_ids"], inputs["attention_mask"]
        # of the tokens given, not of those in the cache; the ready masks of later steps hold 0 for a real token
        real_BT = mask[:, -positions.shape[1] :] == 1 if mask.ndim == 2 else mask[:, 0, 0, -1:] == 0
        seen.append([row[real].tolist() for row, real in zip(positions, real_BT, strict=True)])
        return forward(**inputs)

    monkeypatch.setattr(student.base_model, "forward", recording)
    generate_answers(student, tokenizer, [[5, 6], [5, 6, 7, 8]], GenerationParams(2, 2))
    assert seen == [[[0, 1, 2, 3], [0, 1]], [[4], [2]]]


def test_an_answer_that_does_not_end_is_cut(student, tokenizer, prompts, shapes):
    whole = generate_answers(student, tokenizer, prompts, GenerationParams(35, 96))
    shapes.clear()
    cut = generate_answers(student, tokenizer, prompts, GenerationParams(35, 4))
    assert [tokenizer.encode(answer) for answer in cut] == [tokenizer.encode(answer)[:4] for answer in whole]
    assert sum(tokens == 1 for _, tokens in shapes) == 3  # the prompts give the first of the four


def test_an_answer_ends_at_the_end_token(tiny_model, tokenizer):
    model = tiny_model().eval()
    with torch.no_grad():  # every hidden state now points at the end token
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight[:] = 0.01
        model.model.embed_tokens.weight[tokenizer.eos_token_id] = 1.0
    answers = generate_answers(model, tokenizer, [[5, 6, 7]], GenerationParams(batch_size=1, max_new_tokens=5))
    assert answers == [""]


def test_no_prompts_have_no_answers(student, tokenizer):
    assert generate_answers(student, tokenizer, [], GenerationParams(4, 8)) == []


@pytest.mark.parametrize("temperature", [0.7, 1.6])
def test_tokens_are_drawn_from_the_softmax(temperature, student, tokenizer):
    prompt = tokenizer.encode("What is $7-2$")
    drawn = generate_answers(
        student, tokenizer, [prompt] * 6000, GenerationParams(2000, 1), sampling=Sampling(temperature, seed=3)
    )
    with torch.no_grad():
        logits = student(input_ids=torch.tensor([prompt])).logits[0, -1].double()

    def p_value(temperature):
        expected = Counter()
        for token, share in enumerate(torch.softmax(logits / temperature, 0).tolist()):
            expected[tokenizer.decode([token], skip_special_tokens=True)] += 6000 * share
        common = [text for text, count in expected.items() if count >= 5]
        seen = Counter(drawn)
        observed = np.array([seen[text] for text in common] + [6000 - sum(seen[text] for text in common)])
        shares = np.array([expected[text] for text in common] + [6000 - sum(expected[text] for text in common)])
        assert len(common) >= 3
        return chisquare(observed, shares).pvalue

    assert p_value(temperature) > 0.01
    assert p_value(temperature * 1.3) < 1e-6


def test_draws_depend_on_the_seed_and_on_nothing_else(student, tokenizer, prompts):
    def draw(seed):
        return generate_answers(
            student, tokenizer, prompts[:8] * 2, GenerationParams(4, 12), sampling=Sampling(1.5, seed)
        )

    torch.manual_seed(1)
    first, state = draw(0), torch.get_rng_state()
    torch.manual_seed(2)
    torch.rand(5)
    assert draw(0) == first
    assert draw(1) != first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # nothing was taken from the global generator


def test_batches_draw_differently(student, tokenizer, prompts):
    same = [prompts[0]] * 8
    drawn = generate_answers(student, tokenizer, same, GenerationParams(4, 12), sampling=Sampling(1.5, 0))
    assert drawn[:4] != drawn[4:]


def test_a_temperature_near_zero_is_greedy(student, tokenizer, prompts):
    drawn = generate_answers(student, tokenizer, prompts, GenerationParams(35, 20), sampling=Sampling(1e-4, 0))
    assert drawn == generate_answers(student, tokenizer, prompts, GenerationParams(35, 20))


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]


def limit_memory(model, monkeypatch, rows, error=OUT_OF_MEMORY[0]):
    """From now on the model runs out of memory after the prompts of a batch of more than `rows` rows."""
    forward = model.base_model.forward

    def limited(**inputs):
        if len(inputs["input_ids"]) > rows and inputs["past_key_values"].get_seq_length() > 0:
            raise error
        return forward(**inputs)

    monkeypatch.setattr(model.base_model, "forward", limited)


def test_a_batch_that_does_not_fit_into_memory_is_halved(student, tokenizer, prompts, monkeypatch, capsys):
    expected = generate_answers(student, tokenizer, prompts, GenerationParams(35, 96))
    sampling = Sampling(1.0, 0)
    in_eights = generate_answers(student, tokenizer, prompts, GenerationParams(8, 96), sampling=sampling)
    limit_memory(student, monkeypatch, rows=10)
    assert generate_answers(student, tokenizer, prompts, GenerationParams(35, 96)) == expected
    assert capsys.readouterr().err.splitlines() == [
        "the memory is too small for 35 prompts at once; now 17",
        "the memory is too small for 17 prompts at once; now 8",
    ]
    drawn = generate_answers(student, tokenizer, prompts, GenerationParams(35, 96), sampling=sampling)
    assert drawn == in_eights  # what was drawn for a batch that failed leaves no trace


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_memory_runs_out_in_several_ways(student, tokenizer, prompts, monkeypatch, capsys, error):
    limit_memory(student, monkeypatch, rows=3, error=error)
    generate_answers(student, tokenizer, prompts[:4], GenerationParams(4, 2))
    assert capsys.readouterr().err == "the memory is too small for 4 prompts at once; now 2\n"


def test_another_error_is_not_taken_for_it(student, tokenizer, prompts, monkeypatch):
    limit_memory(student, monkeypatch, rows=3, error=RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        generate_answers(student, tokenizer, prompts[:4], GenerationParams(4, 2))


def test_a_single_prompt_that_does_not_fit_is_an_error(student, tokenizer, prompts, monkeypatch):
    limit_memory(student, monkeypatch, rows=0)
    with pytest.raises(ModelError, match=r"too small for one prompt of \d+ tokens and 96 new ones; lower generation"):
        generate_answers(student, tokenizer, prompts[:4], GenerationParams(4, 96))
