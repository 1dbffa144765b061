"""Answers in bfloat16: one precision from the weights to the key-value cache, logits in float32, no cast per token."""

import pytest
import torch
from recording import Recording, record

from pipeline.common.paths import TEACHER, UNTRAINED_STUDENT
from pipeline.evaluation.answers import load
from pipeline.language_models import generation, graph_decoding
from pipeline.language_models.decoding import Stop, float32_head
from pipeline.language_models.generation import complete_batch
from pipeline.language_models.loading import in_precision, load_model, precision
from pipeline.language_models.processes import Processes
from pipeline.language_models.settings import GenerationParams
from pipeline.training import validation as validation_module
from pipeline.training.validation import Validation, ValidationSet
from tests.conftest import ROOT

CASTS = {"_to_copy", "to", "float", "copy_"}
PROMPTS = [[5, 6, 7, 8, 9], [10, 11, 12], [13, 14]]
END = 3


@pytest.fixture
def in_bfloat16(models, monkeypatch):
    monkeypatch.chdir(ROOT)
    return models(dtype="bfloat16")


@pytest.fixture(params=["growing cache", "fixed cache"])
def cache_of_a_device(request, monkeypatch):
    if request.param == "fixed cache":
        monkeypatch.setattr(generation, "GRAPHS_ON", ("cpu",))
        monkeypatch.setattr(graph_decoding, "recorded", record([]))


def random_picks(seen):
    """Takes the place of a token picker: tokens that do not end, whatever the logits, which are kept in `seen`."""

    def pick(logits_BV):
        seen.append(logits_BV.clone())
        return torch.arange(len(logits_BV)) + 20 + len(seen) % 50

    return pick


def complete(model, tokens, seen=None):
    return complete_batch(model, PROMPTS, 0, Stop([END], tokens), random_picks([] if seen is None else seen))


def test_a_student_answers_from_a_copy_that_is_cast_once(in_bfloat16):
    student = load_model(in_bfloat16, "student")
    before = {name: p.clone() for name, p in student.named_parameters()}
    answering = in_precision(student, in_bfloat16)
    assert {p.dtype for p in answering.parameters()} == {torch.bfloat16}
    assert {name: p.shape for name, p in answering.named_parameters()} == {n: p.shape for n, p in before.items()}
    for name, p in answering.named_parameters():
        assert torch.equal(p, before[name].bfloat16())
        assert not p.requires_grad
    assert answering.get_output_embeddings().weight is answering.get_input_embeddings().weight
    assert {b.dtype for b in answering.buffers()} == {torch.float32}  # rotary frequencies, as in a model that is loaded
    for name, p in student.named_parameters():
        assert torch.equal(p, before[name])
        assert p.requires_grad
    own = {p.data_ptr() for p in student.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in answering.parameters())


def test_a_model_that_is_in_its_precision_is_not_copied(in_bfloat16, models):
    teacher, student = load_model(in_bfloat16, "teacher"), load_model(models(), "student")
    assert in_precision(teacher, in_bfloat16) is teacher
    assert in_precision(student, models()) is student


def test_weights_that_transformers_keeps_in_float32_stay_so(in_bfloat16):
    student = load_model(in_bfloat16, "student")
    student._keep_in_fp32_modules_strict = {"input_layernorm"}
    found = {name: p.dtype for name, p in in_precision(student, in_bfloat16).named_parameters()}
    in_float32 = {name for name, dtype in found.items() if dtype == torch.float32}
    assert in_float32 == {f"model.layers.{i}.input_layernorm.weight" for i in range(2)}
    assert set(found.values()) == {torch.float32, torch.bfloat16}


@pytest.mark.parametrize("name", [TEACHER, UNTRAINED_STUDENT])
def test_every_model_is_evaluated_in_the_precision_of_the_params(name, in_bfloat16, models):
    assert load(name, in_bfloat16).dtype == torch.bfloat16
    assert load(name, models()).dtype == torch.float32


@pytest.mark.parametrize("name", [TEACHER, UNTRAINED_STUDENT])
def test_keys_and_values_are_in_bfloat16_and_logits_in_float32(name, in_bfloat16, cache_of_a_device, monkeypatch):
    model, cached, logits = load(name, in_bfloat16), set(), []
    forward = model.base_model.forward

    def watched(**inputs):
        output = forward(**inputs)
        cached.update(side.dtype for layer in inputs["past_key_values"].layers for side in (layer.keys, layer.values))
        cached.add(output.last_hidden_state.dtype)
        return output

    monkeypatch.setattr(model.base_model, "forward", watched)
    complete(model, 6, logits)
    assert cached == {torch.bfloat16}
    assert {seen.dtype for seen in logits} == {torch.float32}
    for seen in logits:
        assert (seen.bfloat16().float() != seen).float().mean() > 0.9


def test_float32_logits_are_the_product_that_bfloat16_would_round(in_bfloat16):
    model = load(TEACHER, in_bfloat16)
    hidden_BTH = torch.randn(40, 3, model.config.hidden_size, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode():
        found = float32_head(model)(hidden_BTH)
        rounded = model.get_output_embeddings()(hidden_BTH)[:, -1].float()
    expected = hidden_BTH[:, -1].double() @ model.get_output_embeddings().weight.double().T
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (rounded - expected).abs().max() > 1e-3 * expected.abs().max()


def casts_of_weights(model, run):
    """How often a whole weight is cast or copied meanwhile."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    recording = Recording()
    with recording:
        run()
    return sum(
        func.overloadpacket.__name__ in CASTS
        and any(isinstance(a, torch.Tensor) and a.untyped_storage().data_ptr() in weights for a in args)
        for func, args, _, _ in recording.operations
    )


@pytest.mark.parametrize("name", [TEACHER, UNTRAINED_STUDENT])
def test_no_weight_is_cast_for_a_token(name, in_bfloat16, cache_of_a_device):
    model = load(name, in_bfloat16)
    few, many = (casts_of_weights(model, lambda n=n: complete(model, n)) for n in (3, 9))
    assert few == many == 1  # lm_head's, once in a batch, on a CPU alone


def test_casts_of_weights_would_be_seen(in_bfloat16):
    student = load_model(in_bfloat16, "student")

    def under_autocast(tokens):
        with precision(in_bfloat16, keep_casts=False):
            complete(student, tokens)

    few, many = (casts_of_weights(student, lambda n=n: under_autocast(n)) for n in (3, 9))
    assert many - few >= 6 * 2 * 7  # of 6 tokens, 2 layers and 7 matrices in each


def test_a_validation_answers_and_is_held_against_the_teacher_in_one_precision(
    encoder, in_bfloat16, models, monkeypatch
):
    seen = []
    monkeypatch.setattr(validation_module, "generate_answers", lambda model, *_: seen.append(model) or [])
    monkeypatch.setattr(validation_module, "observe", lambda model, *_: seen.append(model) or one_token())

    class NoGrader:
        def grade(self, pairs):
            return []

    problems = ValidationSet([], [], None)
    for params, copied in ((in_bfloat16, True), (models(), False)):
        seen.clear()
        student = load_model(params, "student")
        asked = encoder(dtype=params.dtype)
        validation = Validation(problems, asked, GenerationParams(1, 1), NoGrader(), Processes())
        monkeypatch.setattr(validation, "_problems", 1)
        assert validation.measure(student).kl_per_token == 2.0
        assert seen[0] is seen[1]
        assert (seen[0] is student) == (not copied)
        assert str(seen[0].dtype) == f"torch.{params.dtype}"
        assert student.dtype == torch.float32


def one_token():
    from types import SimpleNamespace

    import numpy as np

    return [(None, SimpleNamespace(divergence_N=np.array([2.0])))]
