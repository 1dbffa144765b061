r"""Puts problems to a trained student, and to the teacher beside it.

python -m pipeline.ask --run rl-0 '$h(x)=x+23$. Find $h(29)$.'              the student's answer
python -m pipeline.ask --run rl-0 --teacher '$h(x)=x+23$. Find $h(29)$.'    the teacher's below it
python -m pipeline.ask --run rl-0 - < problems.txt              a problem on each line

Single quotes keep the shell from reading $3. A command, not a stage: prompt, model and generation are the evaluation's.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from transformers.utils import logging as transformers_logging

from pipeline.common.errors import DataError
from pipeline.common.params import ParamsFile
from pipeline.common.paths import TEACHER, UNTRAINED_STUDENT
from pipeline.common.stage import exit_on_error
from pipeline.evaluation.answers import answer, load
from pipeline.evaluation.settings import EvaluationParams
from pipeline.evaluation.vllm_engine import require_vllm
from pipeline.language_models.loading import load_encoder
from pipeline.language_models.processes import join_processes
from pipeline.language_models.settings import GenerationParams, ModelsParams
from pipeline.problems.record import Problem
from pipeline.publishing.students import require_student

REFERENCES = (UNTRAINED_STUDENT, TEACHER)


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for: who answers, METHOD-SEED or a reference, and what they are asked."""

    names: list[str]
    problems: list[str]


@dataclass(frozen=True)
class Params:
    """What the answers depend on."""

    models: ModelsParams
    generation: GenerationParams
    evaluation: EvaluationParams


def read_params(file: ParamsFile) -> Params:
    return Params(
        file.scale_section("models", ModelsParams),
        file.scale_section("generation", GenerationParams),
        file.scale_section("evaluation", EvaluationParams),
    )


@exit_on_error
def main() -> None:
    """Prints every answer to every problem."""
    asked, params = parse_arguments(), read_params(ParamsFile())
    if (run := asked.names[0]) not in REFERENCES:
        require_student(run, REFERENCES)
    transformers_logging.set_verbosity_error()  # of a text that is too long it says more than the sentence below
    join_processes(params.models)
    if params.evaluation.engine == "vllm":
        require_vllm(params.models)
    encoder = load_encoder(params.models)
    problems = [Problem(f"number {i}", text, "", 1, "", "", "asked") for i, text in enumerate(asked.problems, start=1)]
    for problem in problems:
        length = len(encoder.encode(problem).prompt_ids)  # refuses characters that the tokenizer cannot write
        if length > params.models.max_tokens:
            raise DataError(
                f"problem {problem.id} has {length} tokens as a prompt, more than models.max_tokens, "
                f"{params.models.max_tokens}, which students are trained with; shorten it"
            )
    answers = [
        answer(name, load(name, params.models), encoder, problems, params.evaluation, params.generation)
        for name in asked.names
    ]
    for problem, *texts in zip(asked.problems, *answers, strict=True):
        lines = [f"{name}: {text}" for name, text in zip(asked.names, texts, strict=True)]
        print("\n".join([problem, *lines, ""] if len(problems) > 1 else lines))


def parse_arguments() -> Arguments:
    """Reads the command line, and the standard input where the problem is `-`.

    Raises:
        DataError: there is no problem, or more than one run.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run",
        required=True,
        action="append",
        metavar="METHOD-SEED",
        help="which student, for example rl-0; or untrained_student or teacher",
    )
    parser.add_argument("--teacher", action="store_true", help="let the teacher answer too")
    parser.add_argument("problem", nargs="+", help="a problem's text; - reads one from each line of the standard input")
    args = parser.parse_args()
    if len(args.run) > 1:
        raise DataError("there are several --run; give one, and call again for another")
    texts = [line for text in args.problem for line in (sys.stdin.read().splitlines() if text == "-" else [text])]
    problems = [text for text in texts if text.strip()]
    if not problems:
        raise DataError("there is no problem to solve: give one after the options, or one on each line after a -")
    return Arguments([*args.run, TEACHER] if args.teacher else args.run, problems)


if __name__ == "__main__":
    main()
