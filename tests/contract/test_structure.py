"""The house: who may import whom, and how large a function may grow."""

import ast
import statistics

import pytest

from tests.conftest import ROOT

STAGES = ("local_inputs", "prepare", "pretrain", "teacher_logits", "curriculum_code", "train", "evaluate", "report")
COMMANDS = ("ask", "publish", "watch", "compare", "experiments")
# A package imports only packages of the lines above its own.
LAYERS = (
    ("common",),
    ("registry", "problems", "checkpoints", "results", "contents", "live_log"),
    ("arms", "language_models", "mini", "preparation"),
    ("bandit", "replay", "logit_store", "sources"),
    ("curricula", "capture", "distillation"),
    ("analysis", "evaluation", "probe"),
    ("training", "report_page"),
    ("publishing", "watching", "comparing", "params_check"),
    (*STAGES, *COMMANDS),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
MOST_PARAMETERS, MOST_LINES, MEDIAN_LINES = 7, 60, 10
FILES = sorted((ROOT / "pipeline").glob("**/*.py"))


def part_of(module):
    """The package, or the module on its own, that a module such as pipeline.common.files belongs to."""
    return module.split(".")[1] if "." in module else None


def imported_parts(file):
    """The parts of `pipeline` that a file imports, with the names taken from them."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((part_of(a.name), None) for a in node.names if a.name.startswith("pipeline."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pipeline":
            if node.module == "pipeline":
                yield from ((a.name, None) for a in node.names)
            else:
                yield from ((part_of(node.module), a.name) for a in node.names)


def functions():
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_every_part_has_its_layer():
    folder = ROOT / "pipeline"
    parts = {f.stem for f in folder.glob("*.py")} | {f.parent.name for f in folder.glob("*/__init__.py")}
    assert parts - {"__init__"} == set(LAYER)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_packages_import_downwards_only(file):
    own = file.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
    for part, _ in imported_parts(file):
        if own not in (part, "__init__"):
            assert LAYER[part] < LAYER[own], f"{file} imports {part}, which stands beside or above {own}"


@pytest.mark.parametrize("folder", ["benchmarks", "tests"])
def test_nobody_takes_functions_out_of_stages(folder):
    """Tests run whole stages; what else they or a benchmark need of one belongs into a package."""
    for file in (ROOT / folder).glob("**/*.py"):
        taken = [(part, name) for part, name in imported_parts(file) if part in STAGES]
        if folder == "tests":
            taken = [(part, name) for part, name in taken if name is not None]
        assert not taken, f"{file.relative_to(ROOT)} imports {taken}"


def test_no_function_takes_more_than_seven_parameters():
    for name, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([a for a in arguments if a.arg not in ("self", "cls", "ctx")])
        assert count <= MOST_PARAMETERS, f"{name} takes {count} parameters"


def test_functions_are_short():
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node in functions()}
    longest = max(lengths, key=lengths.get)
    assert lengths[longest] <= MOST_LINES, f"{longest} has {lengths[longest]} lines"
    assert statistics.median(lengths.values()) <= MEDIAN_LINES
