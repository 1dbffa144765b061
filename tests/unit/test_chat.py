"""Chat templates: on a fixed day, and with a sentence where they fail."""

import datetime

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from pipeline.common.errors import ModelError
from pipeline.language_models.chat import pinned, rendered_question
from pipeline.language_models.loading import load_encoder, load_tokenizer
from pipeline.language_models.prompts import Encoder
from pipeline.mini.models import build_tokenizer
from tests.conftest import ROOT

DAY = datetime.date(2024, 7, 26)
LLAMA = (  # as Llama 3.2's begins
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "?" %}{%- endif %}{%- endif %}'
    "Today: {{ date_string }}\n{% for m in messages %}{{ m.content }}{% endfor %}"
)
CLOCKS = [
    LLAMA,
    "\n{{ strftime_now('%Y-%m-%d') }}\n{{ messages[0].content }}",
    "  {% if true %}\n{{ strftime_now('%A, %-d %B, %H:%M:%S') }}{% endif %} {{ messages[0].content }}",
    "{%- macro day() %}{{ strftime_now('%j of %Y') }}{% endmacro -%}\n{{ day() }} {{ messages[0].content }}",
    "{% set year = strftime_now('%Y') | int %}{{ year + 1 }} {{ messages[0].content }}",
    "{% generation %}{{ strftime_now('%x %%') }}{% endgeneration %}{{ messages[0].content }}",
]


@pytest.fixture
def clock(monkeypatch):
    """Sets the time that transformers reads."""

    def set_to(year, month, day):
        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(year, month, day)

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)

    return set_to


def with_template(template):
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", CLOCKS)
def test_a_pinned_template_says_on_every_day_what_it_says_on_its_own(template, clock):
    clock(2024, 7, 26)
    expected = rendered_question(with_template(template), "1+1?")
    assert expected.endswith("1+1?")
    clock(2031, 12, 3)
    assert rendered_question(with_template(template), "1+1?") != expected
    assert rendered_question(with_template(pinned(template, DAY)), "1+1?") == expected


def test_a_template_that_does_not_ask_for_the_day_and_one_that_is_pinned_stay_as_they_are():
    assert pinned("{{ messages }}", DAY) == "{{ messages }}"
    assert pinned(pinned(LLAMA, DAY), datetime.date(2031, 12, 3)) == pinned(LLAMA, DAY)


def test_prompts_follow_chat_date_and_not_the_clock_and_a_saved_tokenizer_keeps_it(tiny_model, tmp_path, models, clock):
    tiny_model().save_pretrained(tmp_path / "student")
    with_template(LLAMA).save_pretrained(tmp_path / "student")

    def prompt(day):
        chosen = models(student=str(tmp_path / "student"), chat_template=True, chat_date=day)
        encoder = load_encoder(chosen)
        return encoder.tokenizer.decode(encoder.encode_prompt("1+1?"))

    clock(2031, 12, 3)
    assert prompt("2024-07-26") == "Today: 26 Jul 2024\n1+1?\n"
    clock(2032, 1, 1)
    assert prompt("2024-07-26") == "Today: 26 Jul 2024\n1+1?\n"
    assert prompt("2025-02-01") == "Today: 01 Feb 2025\n1+1?\n"

    load_tokenizer(models(student=str(tmp_path / "student")), "student").save_pretrained(tmp_path / "saved")
    rendered = AutoTokenizer.from_pretrained(tmp_path / "saved").apply_chat_template(
        [{"role": "user", "content": "1+1?\n"}], tokenize=False
    )
    assert rendered == "Today: 26 Jul 2024\n1+1?\n"


def test_each_of_several_templates_is_pinned(tmp_path, tiny_model, models):
    tiny_model().save_pretrained(tmp_path)
    with_template({"default": LLAMA, "tool_use": CLOCKS[1]}).save_pretrained(tmp_path)
    templates = load_tokenizer(models(student=str(tmp_path)), "student").chat_template
    assert templates == {"default": pinned(LLAMA, DAY), "tool_use": pinned(CLOCKS[1], DAY)}


def test_another_day_is_another_cache(models):
    from pipeline.logit_store.store import store_identity

    mini = {role: str(ROOT / f"models/mini/{role}") for role in ("teacher", "student")}
    first, second = (
        store_identity(Encoder(build_tokenizer(), models(**mini, chat_date=day)))
        for day in ("2024-07-26", "2025-02-01")
    )
    assert first != second


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no users here') }}", "{{ messages[0].content + 1 }}", "{{ nowhere.at.all }}", "{% if %}"],
)
def test_a_template_that_fails_is_one_sentence(template, models):
    with pytest.raises(ModelError, match=r"chat template fails on a single question \(.+\); mend it, or set models"):
        Encoder(with_template(template), models(chat_template=True)).encode_prompt("1+1?")
