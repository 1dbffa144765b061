"""Where answers end: at every token that teacher, student or their tokenizers name, and at no other.

The models follow a script: each token has one successor. Theirs is a right answer, the end of a turn, then a second
turn with a wrong answer.
"""

import json

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from pipeline.capture.settings import SolutionParams
from pipeline.capture.solutions import sample_solutions
from pipeline.common.errors import DataError
from pipeline.language_models.generation import generate_answers
from pipeline.language_models.loading import (
    end_token_ids,
    load_encoder,
    load_model,
    load_student,
    model_identity,
    save_student,
)
from pipeline.language_models.processes import Processes
from pipeline.language_models.settings import GenerationParams
from pipeline.mini.models import END, build_tokenizer
from pipeline.problems.grading import Grader
from pipeline.problems.record import Problem

RIGHT, WRONG, TURN = "\\boxed{7}", "\\boxed{9}", "<turn>"
SCRIPT = {"\n": RIGHT, RIGHT: TURN, TURN: WRONG, WRONG: END, END: END, "?": END}
PROBLEM = Problem("p", "Compute $3+4$.", RIGHT, 1, "Algebra", "7", "pool")


def scripted_tokenizer(eos=END):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (RIGHT, WRONG)])
    tokenizer.add_tokens([TURN], special_tokens=True)
    tokenizer.eos_token = eos
    return tokenizer


def scripted_model(tokenizer):
    """Hidden states are the last token alone, and each output row is the hidden state that it follows."""
    torch.manual_seed(0)
    size, width = len(tokenizer), 128
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=size,
            hidden_size=width,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, width))
        model.lm_head.weight.zero_()
        for token, successor in SCRIPT.items():
            last, following = (tokenizer.encode(t, add_special_tokens=False)[0] for t in (token, successor))
            model.lm_head.weight[following, last] = 1.0
    return model


@pytest.fixture
def pair(tmp_path, models):
    """Writes teacher and student; each is told by names of tokens where its answers end, and may have its own eos."""

    def build(teacher, student, teacher_eos=END, **changes):
        for role, ends, eos in (("teacher", teacher, teacher_eos), ("student", student, END)):
            tokenizer = scripted_tokenizer(eos)
            model = scripted_model(tokenizer)
            ids = tokenizer.convert_tokens_to_ids(ends)
            model.generation_config = GenerationConfig(eos_token_id=ids[0] if len(ids) == 1 else ids or None)
            model.save_pretrained(tmp_path / role)
            tokenizer.save_pretrained(tmp_path / role)
        return models(teacher=str(tmp_path / "teacher"), student=str(tmp_path / "student"), **changes)

    return build


def answers(model, encoder, *texts):
    prompts = [encoder.encode_prompt(text) for text in texts]
    return generate_answers(model, encoder.tokenizer, prompts, GenerationParams(batch_size=8, max_new_tokens=6))


@pytest.mark.parametrize(
    ("teacher", "student", "teacher_eos", "of_teacher", "of_student"),
    [
        ([END], [END], END, RIGHT + WRONG, RIGHT + WRONG),
        ([END, TURN], [END, TURN], END, RIGHT, RIGHT),
        ([TURN], [], END, RIGHT, RIGHT),
        ([END, TURN], [END], END, RIGHT, RIGHT),  # the student learns to end where the teacher does
        ([], [], TURN, RIGHT, RIGHT),
        ([END], [END, TURN], END, RIGHT + WRONG, RIGHT),  # the teacher does not end where a student may
    ],
)
def test_each_model_ends_at_its_own_tokens_and_a_student_at_its_teachers_too(
    pair, teacher, student, teacher_eos, of_teacher, of_student
):
    models = pair(teacher, student, teacher_eos)
    encoder = load_encoder(models)
    assert answers(load_model(models, "teacher"), encoder, "1+1") == [of_teacher]
    assert answers(load_model(models, "student"), encoder, "1+1") == [of_student]


def test_rows_of_a_batch_may_end_at_different_tokens(pair):
    models = pair([END, TURN], [END], prompt="{problem}")
    encoder = load_encoder(models)
    assert answers(load_model(models, "teacher"), encoder, "1\n", "1?", "12\n", "?") == [RIGHT, "", RIGHT, ""]


def test_a_model_without_a_generation_config_ends_where_its_config_says(pair, tmp_path):
    models = pair([TURN], [END])
    turn = scripted_tokenizer().convert_tokens_to_ids(TURN)
    (tmp_path / "teacher/generation_config.json").unlink()
    config = json.loads((tmp_path / "teacher/config.json").read_text())
    (tmp_path / "teacher/config.json").write_text(json.dumps(config | {"eos_token_id": [turn]}))
    assert end_token_ids(models, "teacher") == [1, turn]


def test_a_teacher_that_ends_its_turn_solves_what_it_solves(pair, tmp_path):
    models = pair([END, TURN], [END])
    params = SolutionParams(attempts=1, temperature=0.01, max_new_tokens=6, batch_size=4, seed=0)
    found = sample_solutions(
        [PROBLEM], lambda: load_model(models, "teacher"), load_encoder(models), params, tmp_path / "work", Processes()
    )
    assert [p.solution for p in found.problems] == [RIGHT]
    with Grader(5.0, 1) as grader:
        assert not grader.grade([("7", RIGHT + WRONG)])[0].correct  # or the rest of the script would not matter


def test_a_saved_student_ends_where_it_did_here_also_in_the_hands_of_transformers(pair, tmp_path):
    models = pair([END, TURN], [END])
    encoder, student = load_encoder(models), load_model(models, "student")
    save_student(student, encoder.tokenizer, tmp_path / "saved")
    assert answers(load_student(tmp_path / "saved", models), encoder, "1+1") == [RIGHT]
    model, tokenizer = (kind.from_pretrained(tmp_path / "saved") for kind in (AutoModelForCausalLM, AutoTokenizer))
    output = model.generate(**tokenizer("1+1\n", return_tensors="pt"), max_new_tokens=6)
    assert tokenizer.decode(output[0]) == "1+1\n" + RIGHT + TURN


def test_a_model_whose_ends_change_is_another_one(pair, tmp_path):
    before = model_identity(pair([END], [END]), "teacher")
    assert model_identity(pair([END], [END]), "teacher") == before
    assert model_identity(pair([END, TURN], [END]), "teacher") != before


def test_a_solution_that_would_end_in_its_middle_is_refused(pair):
    encoder = load_encoder(pair([END, "7"], [END]))
    assert encoder.encode_prompt("7")  # a problem may hold it
    with pytest.raises(DataError, match=r"problem 'p' has '7' in its solution, at which the models end an answer"):
        encoder.encode(Problem("p", "?", "$3+4=7$", 1, "Algebra", "7", "pool"))


CHATS = {
    "chatml": ("{% for m in messages %}[{{ m.role }}]{{ m.content }}<turn>\n{% endfor %}", TURN),
    "bare": ("{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}", END),
    "end token": ("{% for m in messages %}[{{ m.role }}]{{ m.content }} {{ eos_token }}{% endfor %}", END),
    "keeps no answers": ("{{ messages[0].content }}<turn>", END),
}


@pytest.mark.parametrize("name", CHATS)
def test_a_chats_completion_ends_as_the_template_ends_a_turn_where_models_end_there(pair, tmp_path, name):
    template, end = CHATS[name]
    for ends, expected in (([END, TURN], end), ([END], END)):
        models = pair(ends, [END], chat_template=True)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / "student")
        completion = load_encoder(models).encode(PROBLEM).completion_ids.tolist()
        assert completion == tokenizer.convert_tokens_to_ids([RIGHT, expected])
