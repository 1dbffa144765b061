"""Settings of `models` that look right and are not."""

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from pipeline.common.errors import ParamsError
from pipeline.common.params import ParamsFile
from pipeline.language_models.settings import ModelsParams
from tests.conftest import ROOT


def prompt_after(override, project):
    """The prompt that `dvc exp run -S` leaves in params.yaml, as a stage reads it."""
    apply_overrides(project / "params.yaml", [f"scales.mini.models.prompt={override}"])
    return ParamsFile().scale_section("models", ModelsParams).prompt


@pytest.mark.parametrize(
    ("override", "letter"),
    [
        (r"'{problem}\n'", "n"),
        (r'"{problem}\n"', "n"),
        (r"'Q: {problem}\n\nA:'", "n"),
        (r"'{problem}\nanswer:'", "n"),
        (r"'{problem}\tthen'", "t"),
        (r"'{problem}\r\n'", "r"),
        (r"'\\neq {problem}\n'", "n"),
    ],
)
def test_a_backslash_and_a_letter_instead_of_a_line_break_are_refused(override, letter, project):
    with pytest.raises(ParamsError, match=rf"mini\.models\.prompt: it holds a backslash and the letter {letter} where"):
        prompt_after(override, project)


@pytest.mark.parametrize(
    "text",
    [
        "{problem}\n",  # as the message says: Enter inside the quotes
        "Q: {problem}\n\nA:\t",
        r"{problem} Put it in \boxed{}.",
        r"{problem} Use \nu, \neq, \text{ or }, \times and \rightarrow.",
        r"{problem} \\next",  # LaTeX's line break
    ],
)
def test_line_breaks_and_latex_are_taken_as_they_are(text, project):
    assert prompt_after(f"'{text}'", project) == text


def test_the_projects_own_prompts_hold_no_escapes():
    for scale, values in yaml.safe_load((ROOT / "params.yaml").read_text())["scales"].items():
        assert "\\n" not in values["models"]["prompt"], scale


@pytest.mark.parametrize("day", ["26 Jul 2024", "2024-02-30", ""])
def test_a_day_that_is_none_is_refused(day, models):
    with pytest.raises(ParamsError, match=rf"models\.chat_date: it must be a day such as 2024-07-26 \(it is '{day}'\)"):
        models(chat_date=day)
