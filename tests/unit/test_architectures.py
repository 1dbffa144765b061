"""Families of models as docs/models.md lists them: accepted only if a batch says what its texts say alone."""

import re

import pytest
import torch
from families import tiny
from recording import record
from transformers import AutoModelForCausalLM, GenerationConfig

from pipeline.common.errors import ModelError
from pipeline.language_models import generation, graph_decoding
from pipeline.language_models.architectures import require_readable
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.layers import keep_layers
from pipeline.language_models.loading import load_encoder, load_model, save_student, vocabulary_size
from pipeline.language_models.settings import GenerationParams
from tests.conftest import ROOT

ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
ACCEPTED, REFUSED = (
    ROW.findall(part) for part in (ROOT / "docs/models.md").read_text().split("Families that are refused")
)
HEAD, STATE = "does more than one matrix product", "answers prompts in a batch otherwise than alone"


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices gain nothing from more, and beside other work they lose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shrink(model):
    keep_layers(model, 3)
    require_readable(model, "it")


@pytest.mark.parametrize(("family", "with_fewer_layers"), ACCEPTED)
def test_a_family_that_the_docs_accept_is_read_in_all_ways(family, with_fewer_layers, monkeypatch):
    model = tiny(family)
    require_readable(model, "it")
    recordings = []
    with monkeypatch.context() as on_a_gpu:
        on_a_gpu.setattr(generation, "GRAPHS_ON", ("cpu",))
        on_a_gpu.setattr(graph_decoding, "STRETCH", 2)
        on_a_gpu.setattr(graph_decoding, "recorded", record(recordings))
        require_readable(model, "it")
    assert len(recordings) in (0, 2)
    assert not any(recording.asked() for recording in recordings)
    if with_fewer_layers == "no":
        with pytest.raises(ModelError):
            shrink(model)
    else:
        shrink(model)


@pytest.mark.parametrize(("family", "why"), REFUSED)
def test_a_family_that_the_docs_refuse_is_refused_for_the_reason_they_give(family, why):
    said = HEAD if "logits" in why else STATE if "state where" in why or "same" in why else "cannot be read in batches"
    with pytest.raises(
        ModelError, match=rf"^the student 'x' \(\w+\) {said}.*; choose a model of a family that docs/mod"
    ):
        require_readable(tiny(family), "the student 'x'")


def test_a_cap_that_small_logits_stay_below_is_seen():
    model = tiny("gemma2")
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(1e-3)
    with pytest.raises(ModelError, match=HEAD):
        require_readable(model, "it")


def test_the_docs_have_the_families_that_people_bring():
    assert {"llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3", "smollm3", "gpt_neox", "lfm2"} <= {
        family for family, _ in ACCEPTED
    }
    assert {"mamba", "mamba2", "rwkv", "llama4", "gemma2"} <= {family for family, _ in REFUSED}


@pytest.mark.parametrize("family", ["gpt_neox", "smollm3", "lfm2"])
def test_a_student_of_fewer_layers_is_the_same_when_it_is_saved_and_loaded(family, tokenizer, tmp_path, models):
    model = tiny(family)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    student = load_model(models(student=str(tmp_path), student_layers=3), "student")
    save_student(student, tokenizer, tmp_path / "small")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    assert torch.equal(again(input_ids=ids).logits, student(input_ids=ids).logits)
    assert not torch.allclose(tiny(family)(input_ids=ids).logits, again(input_ids=ids).logits)
    assert again.config.num_hidden_layers == 3


@pytest.mark.parametrize("family", ["lfm2", "nemotron_h"])
def test_answers_of_models_with_other_states_are_those_of_transformers(family, tokenizer):
    model = tiny(family)
    prompts = [[5 + i * 7 % 90 for i in range(start, start + length)] for start, length in ((0, 9), (20, 4), (40, 6))]
    settings = GenerationConfig(max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=1)
    expected = []
    for prompt in prompts:
        output = model.generate(torch.tensor([prompt]), generation_config=settings)
        expected.append(tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True))
    assert len(set(expected)) == 3
    assert generate_answers(model, tokenizer, prompts, GenerationParams(3, 12)) == expected


def test_a_row_that_has_ended_may_stay_for_a_while(monkeypatch):
    """As rows do where the host seldom looks."""
    monkeypatch.setitem(generation.LOOK_EVERY, "cpu", 2)
    for family in ("llama", "qwen2", "lfm2"):
        require_readable(tiny(family), "it")


def test_a_row_that_leaves_the_batch_takes_its_own_state_with_it():
    """As a cache would fail that forgets, or keeps the wrong, rows."""
    model = tiny("lfm2")
    require_readable(model, "it")
    forward = model.base_model.forward

    def mixed_up(**inputs):
        cache = inputs.get("past_key_values")
        if cache is not None and len(inputs["input_ids"]) == 2 and inputs["input_ids"].shape[1] == 1:
            cache.reorder_cache(torch.tensor([1, 0]))
        return forward(**inputs)

    model.base_model.forward = mixed_up
    with pytest.raises(ModelError, match=STATE):
        require_readable(model, "it")


def test_a_model_that_sees_later_tokens_is_refused():
    model = tiny("qwen2")
    forward = model.base_model.forward

    def looks_ahead(**inputs):
        output = forward(**inputs)
        if len(inputs["input_ids"]) > 1:
            output.last_hidden_state = output.last_hidden_state.flip(1)
        return output

    model.base_model.forward = looks_ahead
    with pytest.raises(ModelError, match="is not causal"):
        require_readable(model, "it")


def test_rounding_in_bfloat16_is_no_fault():
    for family in ("llama", "qwen3_moe", "lfm2"):
        require_readable(tiny(family).bfloat16(), "it")
    with pytest.raises(ModelError, match=HEAD):
        require_readable(tiny("cohere").bfloat16(), "it")


def test_layers_without_which_nothing_is_left_to_attend_with_are_missed_in_a_sentence(tokenizer, tmp_path, models):
    tiny("lfm2").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"the student '.*' of 2 layers \(Lfm2ForCausalLM\) cannot be read in batches"):
        load_model(models(student=str(tmp_path), student_layers=2), "student")


def test_a_config_that_cannot_say_which_layers_were_kept_is_refused():
    with pytest.raises(ModelError, match=r"student_layers does not work with JambaForCausalLM.*; set it to null, or"):
        keep_layers(tiny("jamba"), 3)


@pytest.mark.parametrize("family", ["llama4", "gemma3"])
def test_a_model_that_also_sees_has_the_vocabulary_of_its_text_part(family, tokenizer, tmp_path, models):
    tiny(family).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    both = models(teacher=str(tmp_path), student=str(tmp_path))
    assert vocabulary_size(both) == 102
    assert load_encoder(both).encode_prompt("1") == tokenizer.encode("1\n")
