"""Reading problem files: JSONL, JSON, CSV, parquet, Arrow, MATH's folder tree, and what `datasets` saved to disk.

A file may be packed: gzip, bzip2, xz or zip. What a file is, its first bytes tell, and else the ending of its name, in
any case.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import glob
import gzip
import io
import json
import lzma
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import IO, Any

from tqdm import tqdm

from pipeline.common.errors import DataError, ParamsError, one_line
from pipeline.preparation.records import RawRecord, SourceSplit, select

EXPECTED = "a JSONL, CSV or parquet file, a folder of SUBJECT/NUMBER.json or a dataset saved to disk"
SAVED_DATASET = ("dataset_dict.json", "state.json", "dataset_info.json")  # what save_to_disk writes
BOM = codecs.BOM_UTF8
TABLES = (".parquet", ".arrow")
PACKINGS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zip": "zip"}
MAGIC = {  # the first bytes of a file, and the ending that they stand for
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"PK\x03\x04": ".zip",
}
NOT_READ = {
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar", ".zst"), "unpack it and name what it holds"),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "save the table as CSV"),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".npy", ".npz", ".db", ".sqlite"), "save the records as JSONL"),
}

Numbered = tuple[str, int, Any]  # where a record is, for people; its number in the file; its fields


@dataclass(frozen=True)
class Kind:
    """The endings that stand for what a file holds and for how it is packed, and which file of a zip archive it is."""

    ending: str
    packing: str = ""
    member: str = ""


def read_split(paths: Sequence[Path], split: str) -> SourceSplit:
    """Reads and checks one split, of which all problems of one path come before those of the next.

    Raises:
        DataError: a file cannot be read, a record is malformed, or ids of two records are the same.
        ParamsError: two paths have the same name.
    """
    names = Counter(path.name for path in paths)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise ParamsError(
            f"data.path.{split} lists {names[repeated[0]]} files or folders of the name {repeated[0]}, after which ids "
            "and sources of problems are named; rename all but one"
        )
    prefixes = [f"{split}/{path.name}" if len(paths) > 1 and path.is_dir() else split for path in paths]
    records = chain.from_iterable(map(read_records, paths, repeat(split), prefixes))
    return select(tqdm(records, desc=f"read {', '.join(names)}", unit=" records", mininterval=1))


def read_records(path: Path, split: str, prefix: str | None = None) -> Iterator[RawRecord]:
    """The raw records of a file, of a folder tree SUBJECT/NUMBER.json or of a saved dataset, in a stable order.

    Their ids start with `prefix`, by default the split; their source is the name of the file, or of the whole folder.

    Raises:
        DataError: the path does not exist, or what it names cannot be read.
    """
    prefix = prefix or split
    if path.is_dir():
        is_saved = any((path / name).exists() for name in SAVED_DATASET)
        yield from _read_saved_dataset(path, split, prefix) if is_saved else _read_tree(path, prefix)
    elif path.exists():
        for where, number, fields in _numbered(path):
            yield RawRecord(where, f"{prefix}/{path.name}:{number}", fields, path.name)
    else:
        raise DataError(f"{path} does not exist; set data.path to {EXPECTED}")


def _numbered(path: Path) -> Iterator[Numbered]:
    """Every record of a file; the number is that of its line in JSONL and CSV, of its row or place elsewhere.

    Raises:
        DataError: the file cannot be read, or is of a kind that is not read.
    """
    try:
        kind = kind_of(path)
        if kind.ending in TABLES:
            yield from _read_table(path, kind)
        else:
            with _opened(path, kind) as file:
                yield from READERS.get(kind.ending, _read_lines)(path, file)
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's word, and not that of what unpacks
            raise _unreadable(path, error) from error
        packing = PACKINGS.get(_ending_by_content(path) or path.suffix.lower(), "readable")
        raise DataError(f"{path} is not a whole {packing} file ({one_line(error)}); fetch it again") from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror}); check the file and its permissions")


def kind_of(path: Path) -> Kind:
    """What a file is.

    Raises:
        DataError: it is of a kind that is not read. OSError, BadZipFile: it cannot be read.
    """
    name = PurePath(path.name.lower())
    outer = PurePath(name.stem) if name.suffix in PACKINGS else name  # data.tar, data.tar.gz
    if outer.suffix in NOT_READ:
        raise DataError(f"{path} is a {outer.suffix} file, which is not read; {NOT_READ[outer.suffix]}")
    ending = _ending_by_content(path) or name.suffix
    if ending == ".zip":
        member = _only_member(path)
        return Kind(PurePath(member.lower()).suffix, ending, member)
    if ending in PACKINGS:
        return Kind(outer.suffix, ending)
    return Kind(ending)


def _ending_by_content(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(max(map(len, MAGIC)))
    return next((ending for magic, ending in MAGIC.items() if start.startswith(magic)), None)


def _only_member(path: Path) -> str:
    """The one file that a zip archive holds, but for what macOS adds."""
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    entries = [e for e in entries if not any(part.startswith((".", "__MACOSX")) for part in PurePath(e.filename).parts)]
    names = [entry.filename for entry in entries]
    if len(entries) != 1:
        some = ", ".join(names[:3] + ["…"] * (len(names) > 3)) or "none"
        raise DataError(
            f"{path} holds {len(names)} files ({some}) and must hold one; unpack it and set data.path to {EXPECTED}"
        )
    if entries[0].flag_bits & 1:
        raise DataError(f"{path} is encrypted; unpack it and name the file that it holds")
    if PurePath(names[0].lower()).suffix in PACKINGS:
        raise DataError(f"{path} holds another packed file, {names[0]}; unpack it and name that file")
    return names[0]


@contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[IO[bytes]]:
    openers: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    if kind.packing == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(kind.member) as file:
            yield file
    else:
        with openers.get(kind.packing, lambda plain: plain.open("rb"))(path) as file:
            yield file


def _read_lines(path: Path, file: IO[bytes]) -> Iterator[Numbered]:
    """JSONL."""
    for number, line in enumerate(file, start=1):
        if line.strip():  # blank lines, such as a last one, say nothing
            where = f"{path}, line {number}"
            yield where, number, _parse_json(line, where)


def _read_json(path: Path, file: IO[bytes]) -> Iterator[Numbered]:
    """An array of records; JSONL is often called .json too."""
    content = file.read()
    if content.removeprefix(BOM).lstrip().startswith(b"["):
        for number, fields in enumerate(_parse_json(content, str(path)), start=1):
            yield f"{path}, record {number}", number, fields
    else:
        yield from _read_lines(path, io.BytesIO(content))


def _read_csv(path: Path, file: IO[bytes], delimiter: str = ",") -> Iterator[Numbered]:
    """A table whose first line names the fields; an empty cell is a field that is missing."""
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if None in cells:
                    raise DataError(
                        f"{where}: there are more cells than names in the first line; quote commas in texts"
                    )
                yield where, reader.line_num, {name: cell for name, cell in cells.items() if cell}
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}, after line {reader.line_num}: not valid CSV in UTF-8 ({one_line(error)}); export it again"
            ) from error


def _read_tsv(path: Path, file: IO[bytes]) -> Iterator[Numbered]:
    return _read_csv(path, file, "\t")


READERS: dict[str, Callable[[Path, IO[bytes]], Iterator[Numbered]]] = {
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
}


def _read_table(path: Path, kind: Kind) -> Iterator[Numbered]:
    """The rows of a parquet or Arrow file; streamed, so that `datasets` keeps no copy in its cache."""
    import datasets  # noqa: PLC0415  (slow to import, and few files need it)

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it logs, the error below says
    builder = kind.ending.removeprefix(".")
    with _unpacked(path, kind) as plain:
        try:
            files = [glob.escape(str(plain.resolve()))]
            rows = datasets.load_dataset(builder, data_files=files, split="train", streaming=True)
            for number, fields in enumerate(rows, start=1):
                yield f"{path}, row {number}", number, fields
        except Exception as error:  # the library raises anything
            raise DataError(
                f"{path} is not a whole {builder} file ({one_line(error)}); write or fetch it again"
            ) from error


@contextmanager
def _unpacked(path: Path, kind: Kind) -> Iterator[Path]:
    """A file that is read from its end, as tables are; where it is packed, a temporary copy."""
    if not kind.packing:
        yield path
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / f"table{kind.ending}"
        with _opened(path, kind) as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file)
        yield copy


def _read_saved_dataset(folder: Path, split: str, prefix: str) -> Iterator[RawRecord]:
    """The rows of a dataset that save_to_disk wrote; of several splits that of the name, or the only one."""
    import datasets  # noqa: PLC0415  (slow to import, and few folders need it)

    try:
        saved = datasets.load_from_disk(str(folder))
        rows = {"": saved} if isinstance(saved, datasets.Dataset) else dict(saved)
        if len(rows) > 1 and split not in rows:
            raise DataError(
                f"{folder} holds the splits {', '.join(rows)} and no {split}; set data.path.{split} to one of them, "
                f"such as {folder / next(iter(rows))}"
            )
        name = split if split in rows else next(iter(rows))
        for number, fields in enumerate(rows[name], start=1):
            yield RawRecord(f"{folder / name}, row {number}", f"{prefix}/{folder.name}:{number}", fields, folder.name)
    except DataError:
        raise
    except Exception as error:  # the library raises anything
        raise DataError(
            f"{folder} is not a whole dataset as save_to_disk writes it ({one_line(error)}); save it again"
        ) from error


def _read_tree(folder: Path, prefix: str) -> Iterator[RawRecord]:
    def order(path: Path) -> tuple[str, int, str]:
        return path.parent.name, int(path.stem) if path.stem.isdecimal() else -1, path.name

    paths = sorted(folder.glob("*/*.json"), key=order)
    if not paths:
        raise DataError(
            f"{folder} holds no SUBJECT/NUMBER.json files; set data.path to the folder that holds the "
            "subjects, such as MATH/train, or to the files themselves"
        )
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        name = path.relative_to(folder).as_posix()
        yield RawRecord(str(path), f"{prefix}/{name}", _parse_json(content, str(path)), folder.name)


def _parse_json(content: bytes, where: str) -> Any:
    """One JSON value, which may begin with a byte-order mark.

    Raises:
        DataError: it is not one.
    """
    try:
        return json.loads(content.removeprefix(BOM).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:  # ValueError: broken JSON, or a number of thousands of digits
        raise DataError(f"{where}: not valid JSON ({error}); correct or remove the record") from error
