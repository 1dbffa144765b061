"""Control tokens: text that names one stays text, and a text begins as its tokenizer begins one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GemmaConfig, GemmaTokenizer, LlamaConfig, LlamaTokenizer

from pipeline.common.errors import DataError, ModelError
from pipeline.language_models.control_tokens import beginning_of
from pipeline.language_models.loading import load_encoder
from pipeline.language_models.prompts import Encoder
from pipeline.mini.models import build_tokenizer
from pipeline.problems.record import Problem

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
START, TURN = "<|im_start|>", "<|im_end|>"


def chat_tokenizer():
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([START, TURN], special_tokens=True)
    tokenizer.chat_template = CHATML
    return tokenizer


def problem(text, solution):
    return Problem("p", text, solution, 1, "Algebra", "2", "pool")


NAMES = [f"{TURN}", f"a {START} and{TURN}{TURN}.", "<end>", "x<pad>y<unknown>", f"\\boxed{{{TURN}}}", "<<end>>"]


@pytest.mark.parametrize("text", NAMES)
def test_a_solution_that_names_control_tokens_is_written_letter_by_letter(text, models):
    tokenizer = chat_tokenizer()
    *solution, end = Encoder(tokenizer, models()).encode(problem("1+1?", text)).completion_ids.tolist()
    assert end == tokenizer.eos_token_id
    assert not set(solution) & set(tokenizer.all_special_ids + tokenizer.convert_tokens_to_ids([START, TURN]))
    assert tokenizer.decode(solution) == text
    assert solution == tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([START, TURN, "<end>", "<|im_", "end|>", "\\frac", "\\boxed", "{", " ", "\n", "1", "<"]))
)
def test_whatever_a_text_is_made_of_it_is_read_back(models, pieces):
    text, tokenizer = "".join(pieces), chat_tokenizer()
    tokens = Encoder(tokenizer, models()).encode_text(text)
    assert tokenizer.decode(tokens) == text
    assert not {1, 0, 2, 102, 103} & set(tokens)


@pytest.mark.parametrize("text", NAMES)
@pytest.mark.parametrize("chat", [False, True])
def test_a_prompts_own_control_tokens_are_themselves_and_a_problems_are_text(text, chat, models):
    tokenizer = chat_tokenizer()
    prompt = "{problem} Go." if chat else f"{START}{{problem}} Go.{TURN}"
    tokens = Encoder(tokenizer, models(prompt=prompt, chat_template=chat)).encode_prompt(text)
    if chat:
        before, after = f"{START}user\n", f" Go.{TURN}\n{START}assistant\n"
    else:
        before, after = START, f" Go.{TURN}"

    def written(part, *, as_text):
        return tokenizer.encode(part, add_special_tokens=False, split_special_tokens=as_text)

    assert tokens == written(before, as_text=False) + written(text, as_text=True) + written(after, as_text=False)


@pytest.mark.parametrize("chat", [False, True])
def test_other_prompts_are_what_the_tokenizer_makes_of_them(chat, models):
    tokenizer, text = chat_tokenizer(), "Compute $\\frac{1}{2} < 3$."
    expected = tokenizer.encode(f"{START}user\n{text}{TURN}\n{START}assistant\n" if chat else f"{text}\n")
    assert Encoder(tokenizer, models(chat_template=chat)).encode_prompt(text) == expected


def test_an_end_token_is_a_control_token_whatever_the_tokenizer_calls_it(models):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([AddedToken(TURN, special=False, normalized=False)])
    turn = tokenizer.convert_tokens_to_ids(TURN)
    assert turn in Encoder(tokenizer, models()).encode(problem("1+1?", f"2{TURN}")).completion_ids
    solution = Encoder(tokenizer, models(), frozenset([turn])).encode(problem("1+1?", f"2{TURN}")).completion_ids
    assert turn not in solution
    assert tokenizer.decode(solution[:-1]) == f"2{TURN}"


def test_a_control_token_that_is_the_only_way_to_write_its_word_is_refused(models):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["$"], special_tokens=True)  # in the vocabulary already: its word is one token either way
    with pytest.raises(DataError, match=r"a problem has '\$' in its text, which this tokenizer cannot tell from"):
        Encoder(tokenizer, models()).encode(problem("1+1?", "$2$"))


# --- how a text begins


def folder_of(kind, folder):
    """A folder as published: a tokenizer class with its special tokens, and the config that makes it found."""
    letters = ["▁", "\n", *"0123456789+?$"]
    if kind == "Llama":
        special, tokenizer_class, config = ["<unk>", "<s>", "</s>"], LlamaTokenizer, LlamaConfig
    else:
        special, tokenizer_class, config = ["<pad>", "<eos>", "<bos>", "<unk>"], GemmaTokenizer, GemmaConfig
    vocabulary = {token: i for i, token in enumerate([*special, *letters])}
    tokenizer_class(vocab=vocabulary, merges=[], add_bos_token=True).save_pretrained(folder)
    config().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["Llama", "Gemma"])
def test_a_prompt_begins_with_bos_where_the_tokenizer_begins_so_and_a_completion_does_not(kind, tmp_path, models):
    tokenizer = folder_of(kind, tmp_path)
    encoded = Encoder(tokenizer, models(prompt="{problem}?")).encode(problem("1+1", "2"))
    assert encoded.prompt_ids[0] == tokenizer.bos_token_id
    assert encoded.prompt_ids.tolist() == tokenizer("1+1?").input_ids
    assert encoded.completion_ids.tolist() == [
        *tokenizer.encode("2", add_special_tokens=False),
        tokenizer.eos_token_id,
    ]


def test_a_chat_begins_as_its_template_says(tmp_path, models):
    tokenizer = folder_of("Gemma", tmp_path)
    for template in ("{{ bos_token }}{{ messages[0].content }}", "{{ messages[0].content }}"):
        tokenizer.chat_template = template
        prompt = Encoder(tokenizer, models(prompt="{problem}?", chat_template=True)).encode_prompt("1")
        assert prompt.count(tokenizer.bos_token_id) == template.count("bos_token")


def test_several_tokens_may_begin_a_text_and_what_ends_one_is_left_to_the_completion():
    tokenizer = build_tokenizer()
    assert beginning_of(tokenizer) == []
    special = [("<pad>", 0), ("<end>", 1), ("<unknown>", 2)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<pad> <unknown> $A <end>", special_tokens=special
    )
    assert beginning_of(tokenizer) == [0, 2]


def test_teacher_and_student_that_begin_a_text_differently_are_refused_without_a_chat_template(
    tiny_model, tmp_path, models
):
    for role in ("teacher", "student"):
        tokenizer = build_tokenizer()
        tokenizer.chat_template = "{{ messages[0].content }}"
        if role == "teacher":
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single="<end> $A", special_tokens=[("<end>", 1)]
            )
        tiny_model().save_pretrained(tmp_path / role)
        tokenizer.save_pretrained(tmp_path / role)
    pair = {role: str(tmp_path / role) for role in ("teacher", "student")}
    with pytest.raises(ModelError, match=r"begins a text with <end> and student .* with no token of its own"):
        load_encoder(models(**pair))
    assert load_encoder(models(**pair, chat_template=True)).encode_prompt("1") == [*build_tokenizer().encode("1\n")]
