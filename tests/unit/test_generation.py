"""Batched greedy answers are those of one prompt at a time."""

import torch
from transformers import AutoModelForCausalLM

from pipeline.language_models.generation import generate_answers
from pipeline.params import GenerationParams
from tests.conftest import ROOT


def test_batching_and_padding_do_not_change_an_answer(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(ROOT / "models/mini/student").eval()
    prompts = [tokenizer.encode(text) for text in ("Solve $x+3=5$.\n", "$9$ mod $4$?\n", "Compute $3+4-5+6$.\n", "?\n")]
    together = generate_answers(model, tokenizer, prompts, GenerationParams(batch_size=3, max_new_tokens=9))
    for prompt, answer in zip(prompts, together, strict=True):
        ids = list(prompt)
        for _ in range(9):  # greedy, one token at a time, without a cache
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert answer == tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
    assert len(set(together)) > 1


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
