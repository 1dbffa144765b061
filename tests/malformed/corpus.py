"""Broken inputs, each with what the user must be told. `arrange` breaks a sound project in the working directory."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.registry import names_in

GOOD = {"problem": "What is $1+1$?", "solution": "It is $\\boxed{2}$.", "level": "Level 1", "type": "Algebra"}
TRAIN = ("train", "--method", "rl", "--seed", "0")


@dataclass(frozen=True)
class Broken:
    """A fault, the stage that meets it, and parts of the one sentence that tells of it."""

    name: str
    arrange: Callable[[], Any]
    command: tuple[str, ...]
    sentence: tuple[str, ...]


def broken(name: str, arrange: Callable[[], Any], command: tuple[str, ...] | str, *sentence: str) -> Broken:
    """A case; a stage without arguments may be given as text."""
    return Broken(name, arrange, (command,) if isinstance(command, str) else command, sentence)


def change_params(change: Callable[[dict[str, Any]], Any]) -> None:
    """Applies `change` to the values of params.yaml."""
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    change(values)
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def setting(key: str, value: Any) -> Callable[[], None]:
    """Sets the value at a dotted key; a key that begins with a dot is one of the mini scale."""
    *folders, last = (f"scales.mini{key}" if key.startswith(".") else key).split(".")

    def arrange() -> None:
        def change(values: dict[str, Any]) -> None:
            for part in folders:
                values = values[part]
            values[last] = value

        change_params(change)

    return arrange


def tail_draws(**changes: Any) -> Callable[[], None]:
    """Has top_k_tail_draws keep the teacher's logits, with these changes to the section."""

    def arrange() -> None:
        for name, value in {"scheme": "top_k_tail_draws", **changes}.items():
            setting(f".teacher_logits.{name}", value)()

    return arrange


def read_from(path: str) -> None:
    """Has prepare read local files."""
    setting(".data.source", "path")()
    setting(".data.path.train", path)()


def line(content: bytes | dict[str, Any], name: str = "train.jsonl") -> Callable[[], None]:
    """A file whose second line is the content."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()

    def arrange() -> None:
        Path(name).write_bytes(json.dumps(GOOD).encode() + b"\n" + text + b"\n")
        read_from(name)

    return arrange


def field(**changes: Any) -> Callable[[], None]:
    """A second record with other fields; DROP leaves one out."""
    return line({k: v for k, v in (GOOD | {"problem": "Other?"} | changes).items() if v != "DROP"})


def file(name: str, content: bytes) -> Callable[[], None]:
    """A whole file."""

    def arrange() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
        read_from(name)

    return arrange


def zipped(*names: str) -> Callable[[], None]:
    """A zip archive of files that hold no records."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "no record")
    return file("t.zip", content.getvalue())


def records(count: int, **changes: Any) -> bytes:
    """Distinct sound records as JSONL."""
    lines = [json.dumps(GOOD | {"problem": f"What is $1+{i}$?"} | changes) for i in range(count)]
    return "\n".join(lines).encode()


def also(*arrangements: Callable[[], Any]) -> Callable[[], None]:
    """One after the other."""

    def arrange() -> None:
        for one in arrangements:
            one()

    return arrange


def tree(name: str, content: bytes) -> Callable[[], None]:
    """MATH's folder tree with one file of the content."""

    def arrange() -> None:
        for path, data in (("MATH/train/algebra/1.json", json.dumps(GOOD).encode()), (name, content)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(data)
        read_from("MATH/train")

    return arrange


def model(change: Callable[[Path], Any], role: str = "student") -> Callable[[], None]:
    """A copy of a mini model that is then damaged."""

    def arrange() -> None:
        folder = Path("broken_model")
        shutil.copytree(f"models/mini/{role}", folder)
        change(folder)
        setting(f".models.{role}", "broken_model")()

    return arrange


def cut(path: Path, share: float) -> None:
    """Leaves the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def edit_json(path: Path, **changes: Any) -> None:
    """Changes entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


LINES = [
    broken("cut JSON", line(b'{"problem": "a'), "prepare", "train.jsonl, line 2: not valid JSON", "correct or remove"),
    broken("no JSON", line(b"What is 1+1?"), "prepare", "train.jsonl, line 2: not valid JSON"),
    broken("trailing comma", line(b'{"problem": "a",}'), "prepare", "line 2: not valid JSON"),
    broken("single quotes", line(b"{'problem': 'a'}"), "prepare", "line 2: not valid JSON"),
    broken("two records in a line", line(b"{}{}"), "prepare", "line 2: not valid JSON (Extra data"),
    broken("deeply nested", line(b"[" * 100_000), "prepare", "line 2: not valid JSON"),
    broken("endless number", line(b"1" * 5000), "prepare", "line 2: not valid JSON"),
    broken(
        "a list", line(b"[1, 2]"), "prepare", "line 2: the record is a JSON array, not an object", "make it one with"
    ),
    broken("null", line(b"null"), "prepare", "line 2: the record is a JSON null"),
    broken("a text", line(b'"x"'), "prepare", "line 2: the record is a JSON string"),
    broken("a number", line(b"7"), "prepare", "line 2: the record is a JSON number"),
    broken("Latin-1", line(b'{"problem": "\xe9"}'), "prepare", "line 2: byte 14 is not UTF-8; save the file as UTF-8"),
    broken("cut UTF-8", line(b'{"problem": "\xc3"}'), "prepare", "line 2: byte 14 is not UTF-8"),
    broken("null bytes", line(b"\0" * 40), "prepare", "line 2: not valid JSON"),
    broken("a BOM alone", line(b"\xef\xbb\xbf"), "prepare", "line 2: not valid JSON"),
    broken("half a BOM", line(b"\xef\xbb{}"), "prepare", "line 2: byte 1 is not UTF-8"),
]
FIELDS = [
    broken("no problem", field(problem="DROP"), "prepare", "train.jsonl, line 2: field 'problem' is missing; add it"),
    broken(
        "problem a number", field(problem=3), "prepare", "field 'problem' is a JSON number, not a string; correct it"
    ),
    broken("problem null", field(problem=None), "prepare", "field 'problem' is a JSON null"),
    broken(
        "other names",
        field(problem="DROP", solution="DROP", question="?", response="?"),
        "prepare",
        "field 'problem' is missing; add it, or rename one of question, response",
    ),
    broken(
        "a chat of many turns",
        field(problem="DROP", solution="DROP", messages=[{"role": "user", "content": "?"}] * 2),
        "prepare",
        "field 'messages' holds what user, user said; keep one problem of user and its solution of assistant",
    ),
    broken("problem empty", field(problem=" \n"), "prepare", "field 'problem' is empty; fill it in or remove"),
    broken("half a surrogate", field(problem="\ud800"), "prepare", "field 'problem' holds half a surrogate pair"),
    broken("no solution", field(solution="DROP"), "prepare", "field 'solution' is missing"),
    broken("solution a list", field(solution=["a"]), "prepare", "field 'solution' is a JSON array"),
    broken("solution an object", field(solution={}), "prepare", "field 'solution' is a JSON object"),
    broken("solution empty", field(solution=""), "prepare", "field 'solution' is empty"),
    broken("no subject", field(type="DROP"), "prepare", "field 'type' (or 'subject') is missing; add it"),
    broken("subject true", field(type=True), "prepare", "field 'type' is a JSON boolean"),
    broken("subject empty", field(type=""), "prepare", "field 'type' is empty"),
    broken("two subjects", field(subject="Geometry"), "prepare", "fields 'type' and 'subject' disagree", "keep one"),
    broken("no level", field(level="DROP"), "prepare", "field 'level' is missing"),
    broken("level null", field(level=None), "prepare", "field 'level' is null; use 1 to 5"),
    broken("level true", field(level=True), "prepare", "field 'level' is true"),
    broken("level 3.0", field(level=3.0), "prepare", "field 'level' is 3.0"),
    broken("level 0", field(level=0), "prepare", "field 'level' is 0"),
    broken("level 6", field(level=6), "prepare", "field 'level' is 6"),
    broken("level in words", field(level="Level three"), "prepare", "field 'level' is \"Level three\""),
    broken("answer a number", field(answer=2), "prepare", "field 'answer' is a JSON number"),
    broken("id a number", field(unique_id=12), "prepare", "field 'unique_id' is a JSON number"),
    broken(
        "one id twice",
        file("t.jsonl", b"\n".join(json.dumps(GOOD | {"problem": p, "unique_id": "x"}).encode() for p in "ab")),
        "prepare",
        "t.jsonl, line 2: field 'unique_id' repeats 'x' of t.jsonl, line 1; give every problem its own",
    ),
    broken(
        "an endless answer",
        also(file("t.jsonl", records(200, answer="1" * 5000)), setting(".data.train_size", None)),
        "prepare",
        "cannot be graded: it has 5000 characters",
        "correct or remove the record",
    ),
    broken(
        "braces without a partner",
        also(file("t.jsonl", records(200, answer="{1")), setting(".data.train_size", None)),
        "prepare",
        "cannot be graded: it has braces without a partner ('{1')",
    ),
    broken(
        "an answer without a letter or digit",
        also(file("t.jsonl", records(200, answer="???")), setting(".data.train_size", None)),
        "prepare",
        "has no letter or digit ('???'); correct or remove",
    ),
]
FILES = [
    broken("no train file", lambda: read_from("none.jsonl"), "prepare", "none.jsonl does not exist; set data.path to"),
    broken("no path", setting(".data.source", "path"), "prepare", "data.path.train is null; set it to a JSONL, CSV or"),
    broken("an empty file", file("t.jsonl", b""), "prepare", "the source has no problems; add records"),
    broken("blank lines only", file("t.jsonl", b"\n \n\n"), "prepare", "the source has no problems; add records"),
    broken("only unusable records", file("t.jsonl", records(9, solution="2")), "prepare", "has no problems"),
    broken("not gzip", file("t.jsonl.gz", b"nothing of the kind"), "prepare", "t.jsonl.gz is not a whole gzip file"),
    broken(
        "a cut gzip file",
        file("t.jsonl.gz", gzip.compress(records(200))[:-12]),
        "prepare",
        "t.jsonl.gz is not a whole gzip file",
        "fetch it again",
    ),
    broken("cut gzip without its name", file("t.jsonl", gzip.compress(records(9))[:-9]), "prepare", "not a whole gzip"),
    broken(
        "not zip", file("t.ZIP", b"nothing of the kind"), "prepare", "t.ZIP is not a whole zip file", "fetch it again"
    ),
    broken("not xz", file("t.jsonl.xz", b"nothing of the kind"), "prepare", "t.jsonl.xz is not a whole xz file"),
    broken(
        "not bzip2", file("t.jsonl.bz2", b"nothing of the kind"), "prepare", "t.jsonl.bz2 is not a whole bzip2 file"
    ),
    broken("an empty zip", zipped(), "prepare", "t.zip holds 0 files (none) and must hold one; unpack it and set data"),
    broken(
        "a zip of several", zipped("a.jsonl", "b.jsonl"), "prepare", "holds 2 files (a.jsonl, b.jsonl) and must hold"
    ),
    broken("a zip of a zip", zipped("a.zip"), "prepare", "t.zip holds another packed file, a.zip; unpack it and name"),
    broken("a broken line in a zip", zipped("a.jsonl"), "prepare", "t.zip, line 1: not valid JSON"),
    broken("a tar", file("t.tar.gz", b""), "prepare", "t.tar.gz is a .tar file, which is not read; unpack it and name"),
    broken(
        "a workbook", file("t.xlsx", b"PK"), "prepare", "t.xlsx is a .xlsx file, which is not read; save the table as"
    ),
    broken(
        "a pickle", file("t.pkl", b"\x80\x04."), "prepare", "t.pkl is a .pkl file, which is not read; save the records"
    ),
    broken(
        "not parquet", file("t.parquet", b"nothing"), "prepare", "t.parquet is not a whole parquet file", "fetch it"
    ),
    broken("parquet's beginning", file("t.jsonl", b"PAR1" * 9), "prepare", "t.jsonl is not a whole parquet file"),
    broken(
        "half a saved dataset",
        also(file("saved/state.json", b"{}"), lambda: read_from("saved")),
        "prepare",
        "saved is not a whole dataset as save_to_disk writes it",
        "save it again",
    ),
    broken(
        "UTF-16", file("t.jsonl", records(9).decode().encode("utf-16")), "prepare", "t.jsonl, line 1: byte 1 is not"
    ),
    broken(
        "a cut JSON array", file("t.json", b"[\n" + records(1) + b",\n"), "prepare", "t.json: not valid JSON (Expecting"
    ),
    broken("an array of arrays", file("t.json", b"[[1]]"), "prepare", "t.json, record 1: the record is a JSON array"),
    broken("a CSV file", file("t.csv", b"problem,solution\na,b\n"), "prepare", "t.csv, line 2: field 'type' (or"),
    broken("CSV with semicolons", file("t.csv", b"problem;level\na;1\n"), "prepare", "or rename one of problem;level"),
    broken(
        "CSV with a cell too many", file("t.csv", b"problem\na,b\n"), "prepare", "line 2: there are more cells than"
    ),
    broken(
        "CSV in Latin-1", file("t.csv", b"problem\n\xe9\n"), "prepare", "t.csv, after line 0: not valid CSV in UTF-8"
    ),
    broken("CSV with an open quote", file("t.csv", b'problem\n"a\n'), "prepare", "t.csv, after line 1: not valid CSV"),
    broken(
        "an empty folder",
        also(lambda: Path("nothing").mkdir(), lambda: read_from("nothing")),
        "prepare",
        "nothing holds no SUBJECT/NUMBER.json files; set data.path to the folder that holds the subjects",
    ),
    broken(
        "the folder above",
        also(tree("MATH/train/algebra/2.json", b"{}"), lambda: read_from("MATH")),
        "prepare",
        "MATH holds no SUBJECT/NUMBER.json files",
    ),
    broken("a broken file in the tree", tree("MATH/train/a/7.json", b"{"), "prepare", "train/a/7.json: not valid JSON"),
    broken("a foreign file in the tree", tree("MATH/train/a/7.json", b"{}"), "prepare", "7.json: field 'problem' is"),
    broken(
        "a folder in the place of a file of the tree",
        also(tree("MATH/train/a/7.json", b""), lambda: Path("MATH/train/a/8.json").mkdir()),
        "prepare",
        "MATH/train/a/7.json: not valid JSON",
    ),
    broken(
        "more problems asked for than there are",
        also(file("t.jsonl", records(50)), setting(".data.test_size", 60)),
        "prepare",
        "data.test_size 60, data.validation_size ",
        "the source has 50; lower the sizes, and leave some problems to train on",
    ),
    broken(
        "no test split",
        also(file("t.jsonl", records(50)), setting(".data.test_size", None)),
        "prepare",
        "data.test_size is null and the source has no test split; say how many",
    ),
    broken(
        "a broken test file",
        also(
            file("t.jsonl", records(50)), lambda: Path("u.jsonl").write_text("{"), setting(".data.path.test", "u.jsonl")
        ),
        "prepare",
        "u.jsonl, line 1: not valid JSON",
    ),
]
PARAMS = [
    broken(
        "no params.yaml", lambda: Path("params.yaml").unlink(), "prepare", "params.yaml cannot be read", "top folder"
    ),
    broken("no YAML", lambda: Path("params.yaml").write_text("a: ["), "prepare", "params.yaml is not valid YAML"),
    broken("tabs", lambda: Path("params.yaml").write_text("a:\n\tb: 1"), "prepare", "params.yaml is not valid YAML"),
    broken(
        "params a list", lambda: Path("params.yaml").write_text("- 1"), "prepare", "params.yaml must hold a mapping"
    ),
    broken("params empty", lambda: Path("params.yaml").write_text(""), "prepare", "params.yaml must hold a mapping"),
    broken(
        "params not UTF-8", lambda: Path("params.yaml").write_bytes(b"a: \xff"), "prepare", "params.yaml is not UTF-8"
    ),
    broken("no scale", lambda: change_params(lambda v: v.pop("scale")), "prepare", "scale is missing", "add it there"),
    broken(
        "unknown scale", setting("scale", "maxi"), "prepare", "scales.maxi.data is missing ('maxi' is not one of: mini"
    ),
    broken(
        "scale a number", setting("scale", 3), "prepare", "params.yaml: scale: input should be a valid string (it is 3)"
    ),
    broken("no data", lambda: change_params(lambda v: v["scales"]["mini"].pop("data")), "prepare", "data is missing"),
    broken(
        "unknown key", setting(".data.trian_size", 70), "prepare", "scales.mini.data.trian_size: there is no such key"
    ),
    broken(
        "unknown source",
        setting(".data.source", "web"),
        "prepare",
        f"unknown source 'web'; pipeline/sources has {', '.join(names_in('pipeline.sources'))}",
    ),
    broken(
        "negative size", setting(".data.test_size", -35), "prepare", "data.test_size: ", "greater than 0 (it is -35)"
    ),
    broken("odd size", setting(".data.train_size", 71), "prepare", "data.train_size is 71", "70 is the nearest"),
    broken(
        "endless size", setting(".data.train_size", 35 * 10**6), "prepare", "mini_math does not hold", "lower data."
    ),
    broken("size true", setting(".data.test_size", True), "prepare", "data.test_size: ", "(it is True)"),
    broken("size a text", setting(".data.test_size", "35"), "prepare", "data.test_size: ", "(it is '35')"),
    broken("seed a float", setting(".data.seed", 0.5), "prepare", "data.seed: ", "(it is 0.5)"),
    broken("prompt without a slot", setting(".models.prompt", "Solve:"), "teacher_logits", "needs the slot {problem}"),
    broken("no such template", setting(".models.chat_template", True), "teacher_logits", "the tokenizer has none"),
    broken("max_tokens 0", setting(".models.max_tokens", 0), "teacher_logits", "models.max_tokens: ", "greater than 0"),
    broken("max_tokens tiny", setting(".models.max_tokens", 2), "teacher_logits", "models.max_tokens"),
    broken("no CUDA", setting(".models.device", "cuda"), "teacher_logits", "torch finds no CUDA device; set it to cpu"),
    broken("unknown device", setting(".models.device", "tpu"), "teacher_logits", "models.device: ", "(it is 'tpu')"),
    broken("threads 0", setting(".models.threads", 0), "teacher_logits", "models.threads: ", "greater than 0"),
    broken(
        "top_k 0", setting(".teacher_logits.top_k", 0), "teacher_logits", "teacher_logits.top_k: ", "greater than 0"
    ),
    broken("draws 10^6", setting(".teacher_logits.draws", 10**6), "teacher_logits", "teacher_logits.draws: ", "65536"),
    broken(
        "no temperature", setting(".teacher_logits.temperatures", []), "teacher_logits", "temperatures: ", "at least 1"
    ),
    broken("without 1.0", setting(".teacher_logits.temperatures", [2.0]), "teacher_logits", "must hold 1.0, at which"),
    broken(
        "draws at a temperature of no tail",
        tail_draws(draw_temperatures=[1.0, 1.5]),
        "teacher_logits",
        "draw_temperatures holds 1.5, which is not among teacher_logits.temperatures; add it",
    ),
    broken(
        "draws twice at a temperature",
        tail_draws(draw_temperatures=[2.0, 1.0, 2.0]),
        "teacher_logits",
        "draw_temperatures holds 2.0 twice; take one out",
    ),
    broken(
        "more draws than tokens",
        tail_draws(draws=500),
        "teacher_logits",
        "top_k and draws are 516 together, more than the vocabulary of 102; lower them",
    ),
    broken("temperature 0", setting(".teacher_logits.temperatures", [1.0, 0.0]), "teacher_logits", "temperatures.1: "),
    broken("temperature NaN", setting(".teacher_logits.temperatures", [1.0, float("nan")]), "teacher_logits", "finite"),
    broken(
        "unknown scheme",
        setting(".teacher_logits.scheme", "best"),
        "teacher_logits",
        "scheme: ",
        "'top_k', 'random_draws' or 'top_k_tail_draws'",
    ),
    broken("rate as text", setting(".training.learning_rate", "fast"), TRAIN, "learning_rate: ", "(it is 'fast')"),
    broken("rate negative", setting(".training.learning_rate", -0.1), TRAIN, "learning_rate: ", "greater than 0"),
    broken("rate infinite", setting(".training.learning_rate", float("inf")), TRAIN, "learning_rate: ", "finite"),
    broken("batch 0", setting(".training.batch_size", 0), TRAIN, "training.batch_size: ", "greater than 0 (it is 0)"),
    broken("batch 8.0", setting(".training.batch_size", 8.0), TRAIN, "training.batch_size: ", "valid integer"),
    broken("batch null", setting(".training.batch_size", None), TRAIN, "training.batch_size: ", "(it is None)"),
    broken("weight 1.5", setting(".training.distillation_weight", 1.5), TRAIN, "distillation_weight: ", "less than or"),
    broken("tail mass 2", setting(".training.most_tail_mass", 2.0), TRAIN, "most_tail_mass: ", "less than or equal"),
    broken("jsd_beta 1", setting(".training.jsd_beta", 1.0), TRAIN, "training.jsd_beta: ", "less than 1"),
    broken("unknown divergence", setting(".training.divergence", "chi2"), TRAIN, "'forward_kl', 'reverse_kl' or 'jsd'"),
    broken("no epochs", setting(".training.epochs", 0), TRAIN, "training.epochs: ", "greater than 0"),
    broken("tau 0", setting("curricula.rl.tau", 0.0), TRAIN, "curricula.rl.tau: ", "greater than 0"),
    broken("alpha 2", setting("curricula.rl.alpha", 2.0), TRAIN, "curricula.rl.alpha: ", "less than or equal to 1"),
    broken(
        "epsilon 2", setting("curricula.rl.epsilon", 2.0), TRAIN, "curricula.rl.epsilon: ", "less than or equal to 1"
    ),
    broken("unknown arms", setting("curricula.rl.arms", "author"), TRAIN, "curricula.rl.arms: ", "(it is 'author')"),
    broken(
        "no such curriculum",
        lambda: None,
        ("train", "--method", "zigzag", "--seed", "0"),
        "unknown curriculum 'zigzag'",
    ),
    broken("a path as curriculum", lambda: None, ("train", "--method", "../x", "--seed", "0"), "unknown curriculum"),
    broken(
        "a curriculum not in params", lambda: change_params(lambda v: v["curricula"].pop("rl")), TRAIN, "curricula.rl"
    ),
    broken("methods empty", setting("methods", []), "report", "methods is empty; name at least one"),
    broken("methods twice", setting("methods", ["rl", "rl"]), "report", "methods", "twice"),
    broken("seeds empty", setting("seeds", []), "report", "seeds is empty; name at least one"),
    broken("seeds twice", setting("seeds", [0, 0]), "report", "seeds", "twice"),
    broken("seeds texts", setting("seeds", ["a"]), "report", "seeds.0: ", "valid integer"),
    broken("confidence 95", setting("report.confidence", 95), "report", "report.confidence: ", "less than 1"),
    broken("resamples 0", setting("report.resamples", 0), "report", "report.resamples: ", "greater than 0"),
]
MODELS = [
    broken("no such model", setting(".models.teacher", "no/such"), "teacher_logits", "'no/such' cannot be loaded"),
    broken("no config", model(lambda f: (f / "config.json").unlink()), "teacher_logits", "student 'broken_model'"),
    broken("a broken config", model(lambda f: (f / "config.json").write_text("{")), "teacher_logits", "'broken_model'"),
    broken(
        "an unknown kind", model(lambda f: edit_json(f / "config.json", model_type="x9")), "teacher_logits", "'broken_"
    ),
    broken(
        "no tokenizer", model(lambda f: (f / "tokenizer.json").unlink()), "teacher_logits", "student 'broken_model'"
    ),
    broken("a broken tokenizer", model(lambda f: cut(f / "tokenizer.json", 0.5)), "teacher_logits", "'broken_model'"),
    broken(
        "no weights", model(lambda f: (f / "model.safetensors").unlink(), "teacher"), "teacher_logits", "safetensors"
    ),
    broken(
        "pickled weights",
        model(lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "teacher"),
        "teacher_logits",
        "the teacher 'broken_model' cannot be loaded: it is neither a local folder with a safetensors model",
    ),
    broken(
        "cut weights",
        model(lambda f: cut(f / "model.safetensors", 0.5), "teacher"),
        "teacher_logits",
        "the weights of the teacher 'broken_model' are damaged or are not those of its config.json",
    ),
    broken(
        "empty weights",
        model(lambda f: cut(f / "model.safetensors", 0), "teacher"),
        "teacher_logits",
        "the weights of the teacher 'broken_model' are damaged",
        "fetch the model again",
    ),
    broken(
        "code of its own",
        model(
            lambda f: edit_json(f / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}, model_type="evil")
        ),
        "teacher_logits",
        "'broken_model'",
    ),
    broken(
        "another shape",
        model(lambda f: edit_json(f / "config.json", hidden_size=80), "teacher"),
        "teacher_logits",
        "the weights of the teacher 'broken_model' are damaged or are not those of its config.json",
    ),
    broken(
        "a file as model", setting(".models.teacher", "params.yaml"), "teacher_logits", "'params.yaml' cannot be loaded"
    ),
    broken("more layers than there are", setting(".models.student_layers", 99), TRAIN, "student has only"),
]
CASES = [*LINES, *FIELDS, *FILES, *PARAMS, *MODELS]
