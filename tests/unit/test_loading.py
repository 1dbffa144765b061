"""Loading, shrinking and identifying models."""

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from pipeline.common.errors import ModelError
from pipeline.language_models.loading import (
    keep_layers,
    load_encoder,
    load_model,
    model_commit,
    model_identity,
    save_student,
    tokenizer_digest,
    vocabulary_size,
)
from tests.conftest import ROOT


def test_kept_layers_are_evenly_spaced_with_first_and_last(tiny_model):
    model = tiny_model(layers=7)
    layers = list(model.model.layers)
    keep_layers(model, 3)
    assert list(model.model.layers) == [layers[0], layers[3], layers[6]]
    assert model.config.num_hidden_layers == 3
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1, 2]


def test_a_shrunk_student_survives_saving_and_still_generates(tiny_model, tmp_path, models):
    model = tiny_model(layers=5)
    model.save_pretrained(tmp_path)
    student = load_model(models(student=str(tmp_path), student_layers=2), "student")
    student.save_pretrained(tmp_path / "small")
    again = load_model(models(student=str(tmp_path / "small")), "student")
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(student(input_ids=ids).logits, again(input_ids=ids).logits)
    cached = again.generate(ids, max_new_tokens=6, do_sample=False)
    plain = again.generate(ids, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(cached, plain)


def test_more_layers_than_there_are_is_refused(tiny_model):
    with pytest.raises(ModelError, match=r"models.student_layers is 9, but the student has only 2 layers"):
        keep_layers(tiny_model(layers=2), 9)


def test_a_model_that_is_nowhere_is_refused_with_a_remedy(models):
    with pytest.raises(
        ModelError, match=r"the teacher 'no/where' cannot be loaded: .*set models.teacher to a local folder"
    ):
        load_model(models(teacher="no/where"), "teacher")


def test_decoding_settings_a_model_ships_with_do_not_reach_greedy_answers(tiny_model, tmp_path, models):
    model = tiny_model()
    model.generation_config.repetition_penalty = 1.7
    model.save_pretrained(tmp_path)
    assert load_model(models(teacher=str(tmp_path)), "teacher").generation_config.repetition_penalty is None


def test_a_student_without_a_config_is_refused(tokenizer, tmp_path, models):
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"a model folder with a config\.json"):
        load_encoder(models(student=str(tmp_path), teacher=str(ROOT / "models/mini/teacher")))


def test_a_local_models_identity_follows_its_weights(tiny_model, tmp_path, models):
    tiny_model(seed=1).save_pretrained(tmp_path)
    first = model_identity(models(teacher=str(tmp_path)), "teacher")
    tiny_model(seed=2).save_pretrained(tmp_path)
    assert model_identity(models(teacher=str(tmp_path)), "teacher") != first
    assert model_commit(models(teacher=str(tmp_path)), "teacher") is None


def test_a_tokenizers_digest_follows_its_rules_and_its_chat_template(tokenizer):
    from pipeline.mini.models import build_tokenizer

    other = build_tokenizer()
    assert tokenizer_digest(other) == tokenizer_digest(tokenizer)
    other.chat_template = "{{ messages }}"
    with_template = tokenizer_digest(other)
    other.add_tokens(["more"])
    assert len({tokenizer_digest(tokenizer), with_template, tokenizer_digest(other)}) == 3


def with_rows(tiny_model, tokenizer, folder, rows):
    model = tiny_model(seed=rows)
    model.resize_token_embeddings(rows)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_embeddings_padded_to_different_sizes_share_the_smaller_one(tiny_model, tokenizer, tmp_path, models):
    small, large = (with_rows(tiny_model, tokenizer, tmp_path / str(rows), rows) for rows in (104, 128))
    for teacher, student in ((small, large), (large, small)):
        pair = models(teacher=teacher, student=student)
        assert vocabulary_size(pair) == 104
        shared = load_encoder(pair)
        assert len(shared.tokenizer) == 102
        assert shared.models == pair


def test_a_vocabulary_that_an_output_layer_does_not_cover_is_refused(tiny_model, tokenizer, tmp_path, models):
    folder = with_rows(tiny_model, tokenizer, tmp_path / "short", 101)
    with pytest.raises(ModelError, match=r"token 101 of the shared vocabulary has no output logit: .* have 101 in com"):
        load_encoder(models(student=folder))


def test_a_model_that_does_more_to_its_logits_is_refused(tokenizer, tmp_path, models):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=102,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.5,
    )
    torch.manual_seed(0)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"Gemma2ForCausalLM\) does more than one matrix product"):
        load_model(models(student=str(tmp_path)), "student")


def test_a_hub_models_commit_is_part_of_its_identity(monkeypatch, models):
    from types import SimpleNamespace

    from pipeline.language_models import loading

    seen = []

    def from_pretrained(name, revision, **_):
        seen.append((name, revision))
        return SimpleNamespace(_commit_hash="c0ffee" if revision is None else revision)

    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", from_pretrained)
    assert model_identity(models(teacher="org/big"), "teacher") == {
        "name": "org/big",
        "commit": "c0ffee",
        "files": None,
    }
    pinned = models(teacher="org/big", teacher_revision="abc")
    assert model_identity(pinned, "teacher")["commit"] == model_commit(pinned, "teacher") == "abc"
    assert seen == [("org/big", None), ("org/big", "abc"), ("org/big", "abc")]


def test_a_hub_that_names_no_commit_is_refused_with_a_remedy(monkeypatch, models):
    from types import SimpleNamespace

    from pipeline.language_models import loading

    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", lambda *_, **__: SimpleNamespace())
    with pytest.raises(ModelError, match=r"names no commit for the teacher 'org/big'; set models.teacher_revision"):
        model_commit(models(teacher="org/big"), "teacher")


def test_results_are_stamped_with_the_installed_versions_and_both_models_commits(monkeypatch, models):
    from importlib.metadata import version
    from types import SimpleNamespace

    from pipeline.language_models import loading
    from pipeline.language_models.provenance import provenance_of

    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", lambda *_, **__: SimpleNamespace(_commit_hash="c0ffee"))
    found = provenance_of(models(teacher="org/big", student=str(ROOT / "models/mini/student")))
    assert found.commits == {"teacher": "c0ffee", "student": None}
    assert {"torch", "transformers"} <= set(found.versions)
    assert found.versions == {name: version(name) for name in found.versions}


def test_teacher_and_student_must_share_their_vocabulary(tiny_model, tmp_path, models):
    from pipeline.mini.models import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["more"])
    folder = with_rows(tiny_model, tokenizer, tmp_path, 103)
    with pytest.raises(ModelError, match=r"\(102 tokens\) and student .* \(103 tokens\) have different vocabularies"):
        load_encoder(models(teacher=str(ROOT / "models/mini/teacher"), student=folder))


def test_a_saved_student_says_to_answer_greedily_up_to_any_token_that_ended_its_answers(
    tokenizer, tiny_model, tmp_path
):
    model = tiny_model()
    model.config.eos_token_id = model.generation_config.eos_token_id = 7
    model.generation_config.repetition_penalty = 1.7
    save_student(model, tokenizer, tmp_path)
    saved = GenerationConfig.from_pretrained(tmp_path)
    assert (saved.eos_token_id, saved.pad_token_id) == ([tokenizer.eos_token_id, 7], tokenizer.pad_token_id)
    assert saved.do_sample is False
    assert saved.repetition_penalty is None


def test_a_saved_students_tokenizer_is_the_same_and_everyone_may_read_the_folder(tiny_model, tmp_path):
    from pipeline.mini.models import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    save_student(tiny_model(), tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer_digest(again) == tokenizer_digest(tokenizer)
    assert (again.eos_token_id, again.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert {oct(f.stat().st_mode & 0o444) for f in tmp_path.iterdir()} == {"0o444"}
