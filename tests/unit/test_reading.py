import bz2
import datetime
import gzip
import json
import lzma
import zipfile

import pytest

from pipeline.common.errors import DataError, ParamsError
from pipeline.preparation.reading import read_records, read_split
from pipeline.preparation.records import (
    SUBJECTS,
    RawRecord,
    drop_test_problems,
    normalised,
    proper_subject,
    select,
    to_problem,
)
from pipeline.problems.record import Problem

GOOD = {"problem": "What is $1+1$?\n", "solution": "It is $\\boxed{2}$.\n\n", "level": "Level 3", "type": "Algebra"}

TURNS = [{"role": "user", "content": GOOD["problem"]}, {"role": "assistant", "content": GOOD["solution"]}]
CHAT = {"problem": "DROP", "solution": "DROP", "messages": TURNS}


def record(**changes):
    fields = GOOD | changes
    return RawRecord(
        "FILE, line 7", "train/FILE:7", {name: value for name, value in fields.items() if value != "DROP"}, "FILE"
    )


def write_lines(path, *lines):
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


def test_a_good_record_becomes_a_problem():
    assert to_problem(record()) == Problem(
        "train/FILE:7", "What is $1+1$?", "It is $\\boxed{2}$.", 3, "Algebra", "2", "FILE"
    )


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_a_chat_of_user_and_assistant_is_a_problem_and_its_solution(system):
    assert to_problem(record(**CHAT | {"messages": [*system, *TURNS]})) == to_problem(record())


def test_problem_and_solution_come_before_messages():
    assert to_problem(record(messages="whatever")) == to_problem(record())


@pytest.mark.parametrize("level", ["Level 4", "level 4", "4", 4, " Level 4\n"])
def test_levels_as_text_and_number(level):
    assert to_problem(record(level=level)).level == 4


def test_a_record_s_own_source_comes_before_the_file_it_is_in():
    assert to_problem(record()).source == "FILE"
    assert to_problem(record(source=None)).source == "FILE"
    assert to_problem(record(source=" amc ")).source == "amc"
    with pytest.raises(DataError, match="field 'source' is a JSON number, not a string"):
        to_problem(record(source=3))


def test_several_files_and_folders_are_read_one_after_the_other_and_their_problems_know_where_from(tmp_path):
    first = write_lines(tmp_path / "a.jsonl", GOOD | {"problem": "1"}, GOOD | {"problem": "2"})
    second = write_lines(tmp_path / "b.jsonl", GOOD | {"problem": "2 "}, GOOD | {"problem": "3", "source": "web"})
    for folder, text in (("old", "4"), ("new", "5")):
        (tmp_path / folder / "algebra").mkdir(parents=True)
        (tmp_path / folder / "algebra/1.json").write_text(json.dumps(GOOD | {"problem": text}))
    read = read_split([first, second, tmp_path / "old", tmp_path / "new"], "train")
    assert [(p.id, p.problem, p.source) for p in read.problems] == [
        ("train/a.jsonl:1", "1", "a.jsonl"),
        ("train/a.jsonl:2", "2", "a.jsonl"),
        ("train/b.jsonl:2", "3", "web"),
        ("train/old/algebra/1.json", "4", "old"),
        ("train/new/algebra/1.json", "5", "new"),
    ]
    assert read.dropped["duplicate"] == 1
    assert read_split([tmp_path / "old"], "train").problems[0].id == "train/algebra/1.json"


def test_files_of_the_same_name_are_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_lines(tmp_path / folder / "a.jsonl", GOOD)
    with pytest.raises(ParamsError, match=r"data.path.train lists 2 files or folders of the name a.jsonl"):
        read_split([tmp_path / "one/a.jsonl", tmp_path / "two/a.jsonl"], "train")


def test_unique_id_and_answer_are_used_where_they_are_given():
    problem = to_problem(record(unique_id="test/algebra/1.json", answer=" two ", solution="no box here"))
    assert (problem.id, problem.answer) == ("test/algebra/1.json", "two")
    problem = to_problem(record(unique_id=None, answer=None))
    assert (problem.id, problem.answer) == ("train/FILE:7", "2")


@pytest.mark.parametrize(
    ("given", "proper"),
    [
        ("counting_and_probability", "Counting & Probability"),
        ("counting_&_probability", "Counting & Probability"),
        ("Counting & Probability", "Counting & Probability"),
        ("number_theory", "Number Theory"),
        ("algebra", "Algebra"),
        ("intermediate_algebra", "Intermediate Algebra"),
        ("Physics of C++", "Physics of C++"),
        ("代数", "代数"),
    ],
)
def test_subjects(given, proper):
    assert proper_subject(given) == proper
    assert to_problem(record(type="DROP", subject=given)).subject == proper


def test_every_proper_subject_stands_for_itself():
    assert [proper_subject(name) for name in SUBJECTS] == list(SUBJECTS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"level": "Level ?"}, "unknown_level"),
        ({"solution": "It is 2."}, "no_boxed_answer"),
        ({"solution": "It is $\\boxed{2"}, "no_boxed_answer"),
        ({"solution": "It is $\\boxed{ }$."}, "empty_boxed_answer"),
        ({"answer": " "}, "empty_boxed_answer"),
    ],
)
def test_known_bad_records_are_dropped_with_a_reason(changes, reason):
    assert to_problem(record(**changes)) == reason
    split = select([record(), record(**changes)])
    assert len(split.problems) == 1
    assert {name: count for name, count in split.dropped.items() if count} == {reason: 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"problem": "DROP"}, "'problem' is missing"),
        ({"problem": 3}, "'problem' is a JSON number"),
        ({"problem": " \n"}, "'problem' is empty"),
        ({"problem": "\ud800"}, "'problem' holds half a surrogate"),
        ({"solution": "DROP"}, "'solution' is missing"),
        ({"solution": ["a"]}, "'solution' is a JSON array"),
        ({"solution": None}, "'solution' is a JSON null"),
        ({"type": "DROP"}, "'type' (or 'subject') is missing"),
        ({"type": True}, "'type' is a JSON boolean"),
        ({"type": ""}, "'type' is empty"),
        ({"subject": "Geometry"}, "'type' and 'subject' disagree"),
        ({"level": "DROP"}, "'level' is missing"),
        ({"level": None}, "'level' is null"),
        ({"level": True}, "'level' is true"),
        ({"level": 3.0}, "'level' is 3.0"),
        ({"level": 6}, "'level' is 6"),
        ({"level": "Level three"}, "'level' is \"Level three\""),
        ({"answer": 2}, "'answer' is a JSON number"),
        ({"unique_id": 12}, "'unique_id' is a JSON number"),
        ({"answer": b"2"}, "'answer' is of the type bytes, not a string"),
        ({"level": datetime.date(2026, 1, 1)}, "'level' is \"2026-01-01\""),
        ({"problem": "DROP", "question": "?", "prompt": "?"}, "is missing; add it, or rename one of question, prompt"),
        (CHAT | {"messages": "hello"}, "'messages' is no list of objects; give it a role and a content"),
        (CHAT | {"messages": []}, "'messages' holds what nobody said; keep one problem of user and its solution of"),
        (CHAT | {"messages": TURNS * 2}, "'messages' holds what user, assistant, user, assistant said"),
        (CHAT | {"messages": TURNS[:1]}, "'messages' holds what user said"),
        (CHAT | {"messages": [TURNS[0], {"role": "assistant", "content": ["x"]}]}, "a content that is a JSON array"),
        (CHAT | {"messages": [TURNS[0], {"role": "assistant", "content": " "}]}, "'solution' is empty"),
    ],
)
def test_malformed_records_name_place_and_field(changes, words):
    with pytest.raises(DataError) as caught:
        to_problem(record(**changes))
    assert str(caught.value).startswith("FILE, line 7: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"problem": "a', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"1" * 5000, "not valid JSON"),
        (b'{"problem": "\xff"}', "byte 14 is not UTF-8; save the file as UTF-8"),
        (b"[1, 2]", "the record is a JSON array, not an object"),
        (b"null", "the record is a JSON null"),
    ],
)
def test_malformed_lines_name_file_and_line(tmp_path, line, words):
    path = write_lines(tmp_path / "bad.jsonl", GOOD, b"", line)
    with pytest.raises(DataError) as caught:
        read_split([path], "train")
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert words in str(caught.value)


def test_plain_and_gzipped_lines_read_alike_with_ids_by_line(tmp_path):
    plain = write_lines(tmp_path / "a.jsonl", GOOD, b"  ", GOOD | {"problem": "Zwölf?"})
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [r.id for r in read_records(plain, "train")] == ["train/a.jsonl:1", "train/a.jsonl:3"]
    assert [r.fields for r in read_records(plain, "test")] == [r.fields for r in read_records(packed, "test")]


ROWS = [GOOD | {"problem": f'What is ${n}$?\n"Zwölf", {n}'} for n in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def as_csv(delimiter):
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, [*ROWS[0], "answer"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The same rows as parquet, as Arrow, and as a dataset and a dict of datasets saved to disk."""
    import datasets

    folder = tmp_path_factory.mktemp("tables")
    datasets.disable_progress_bars()
    rows, others = datasets.Dataset.from_list(ROWS), datasets.Dataset.from_list(ROWS[:1])
    rows.to_parquet(folder / "a.parquet")
    rows.save_to_disk(folder / "saved")
    datasets.DatasetDict(train=rows, test=others).save_to_disk(folder / "splits")
    datasets.DatasetDict(all=rows).save_to_disk(folder / "single")
    datasets.enable_progress_bars()
    (folder / "a.arrow").write_bytes((folder / "saved/data-00000-of-00001.arrow").read_bytes())
    return folder


def zipped(name, content):
    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/", "")
            archive.writestr(name, content)
            archive.writestr("__MACOSX/folder/._a.jsonl", "x")

    return write


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("bom.jsonl", b"\xef\xbb\xbf" + LINES),
        ("crlf.jsonl", LINES.replace(b"\n", b"\r\n")),
        ("a.json", LINES),
        ("array.json", json.dumps(ROWS, indent=1).encode()),
        ("array_bom.JSON", b"\xef\xbb\xbf " + json.dumps(ROWS).encode()),
        ("a.csv", as_csv(",")),
        ("bom.CSV", b"\xef\xbb\xbf" + as_csv(",")),
        ("a.tsv", as_csv("\t")),
        ("a.jsonl.GZ", gzip.compress(LINES)),
        ("a.csv.Gz", gzip.compress(as_csv(","))),
        ("misnamed.jsonl", gzip.compress(LINES)),
        ("a.jsonl.bz2", bz2.compress(LINES)),
        ("a.json.xz", lzma.compress(json.dumps(ROWS).encode())),
        ("a.ZIP", zipped("folder/a.jsonl", LINES)),
        ("array.zip", zipped("array.JSON", json.dumps(ROWS).encode())),
        ("csv.zip", zipped("folder/a.csv", as_csv(","))),
    ],
)
def test_every_kind_of_file_holds_the_same_records(tmp_path, name, content):
    path = tmp_path / name
    content(path) if callable(content) else path.write_bytes(content)
    found = list(read_records(path, "train"))
    assert [r.fields for r in found] == ROWS
    assert {r.source for r in found} == {name}
    assert len({r.id for r in found}) == len(ROWS)
    assert all(r.id.startswith(f"train/{name}:") and str(path) in r.where for r in found)


@pytest.mark.parametrize("name", ["a.parquet", "a.PARQUET", "x [1] *.parquet", "a.arrow", "no_ending", "saved"])
def test_tables_that_datasets_reads_hold_the_same_records(tables, tmp_path, name):
    path = tables / name
    if not path.exists():
        path = tmp_path / name
        path.write_bytes((tables / "a.parquet").read_bytes())
    found = list(read_records(path, "train"))
    assert [r.fields for r in found] == ROWS
    assert [r.id for r in found] == [f"train/{name}:{n}" for n in (1, 2, 3)]
    assert "row 3" in found[-1].where


def test_packed_tables_are_read(tables, tmp_path):
    table = (tables / "a.parquet").read_bytes()
    zipped("in [1]/a.parquet", table)(tmp_path / "a.zip")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(table))
    for name in ("a.zip", "a.parquet.gz"):
        assert [r.fields for r in read_records(tmp_path / name, "train")] == ROWS


def test_of_several_splits_saved_to_disk_the_one_of_the_name_is_read(tables):
    assert [r.fields for r in read_records(tables / "splits", "train")] == ROWS
    assert [r.fields for r in read_records(tables / "splits", "test")] == ROWS[:1]
    assert [r.fields for r in read_records(tables / "single", "train")] == ROWS
    assert [r.fields for r in read_records(tables / "splits/test", "train")] == ROWS[:1]
    with pytest.raises(
        DataError, match=r"splits holds the splits train, test and no target; set data.path.target to on"
    ):
        list(read_records(tables / "splits", "target"))


def test_chats_of_a_table_are_read(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list([{"messages": TURNS, "level": 3, "type": "algebra"}]).to_parquet(tmp_path / "a.parquet")
    datasets.enable_progress_bars()
    (problem,) = read_split([tmp_path / "a.parquet"], "train").problems
    assert (problem.problem, problem.answer, problem.source) == ("What is $1+1$?", "2", "a.parquet")


def test_damaged_tables_are_one_sentence(tables, tmp_path):
    (tmp_path / "cut.parquet").write_bytes((tables / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut.parquet is not a whole parquet file \(Parquet magic bytes not found"):
        list(read_records(tmp_path / "cut.parquet", "train"))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match=r"saved is not a whole dataset as save_to_disk writes it .*; save it again"):
        list(read_records(tmp_path / "saved", "train"))


def test_an_empty_cell_of_a_table_is_a_missing_field(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('problem,solution,level,subject,answer\n"1+1?",\\boxed{2},3,Algebra,\n2?,,3,Algebra,2\n')
    first, second = read_records(path, "train")
    assert to_problem(first).answer == "2"
    with pytest.raises(DataError, match=r"a.csv, line 3: field 'solution' is missing; add it$"):
        to_problem(second)


def test_a_cut_or_foreign_gzip_file_is_an_error(tmp_path):
    whole = gzip.compress(json.dumps(GOOD).encode() * 50)
    for name, content in (("cut.jsonl.gz", whole[:-12]), ("foreign.jsonl.gz", b"not gzip")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} is not a whole gzip file"):
            list(read_records(tmp_path / name, "train"))


def test_the_folder_tree_reads_in_the_order_of_its_numbers(tmp_path):
    for name in ("geometry/10", "geometry/2", "algebra/7"):
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(GOOD | {"problem": name}), encoding="utf-8")
    problems = read_split([tmp_path], "test").problems
    assert [p.id for p in problems] == ["test/algebra/7.json", "test/geometry/2.json", "test/geometry/10.json"]
    (tmp_path / "geometry/3.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"geometry/3\.json: not valid JSON"):
        read_split([tmp_path], "test")


def test_missing_path_and_empty_folder_are_errors(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(read_records(tmp_path / "none.jsonl", "train"))
    with pytest.raises(DataError, match=r"holds no SUBJECT/NUMBER\.json"):
        list(read_records(tmp_path, "train"))


def test_duplicates_are_found_through_white_space_but_figures_count():
    texts = ["Find $x$.", "Find  $x$.\n", "Find $x$. [asy]a[/asy]", "Find $x$. [asy]b[/asy]"]
    records = [RawRecord("f", f"id{i}", GOOD | {"problem": text}, "f") for i, text in enumerate(texts)]
    split = select(records)
    assert [p.id for p in split.problems] == ["id0", "id2", "id3"]
    assert split.dropped["duplicate"] == 1


def test_train_problems_of_the_test_split_are_dropped():
    train = select([RawRecord("f", f"train{i}", GOOD | {"problem": f"Number\n{i}?"}, "f") for i in range(3)])
    test = select([RawRecord("f", "test1", GOOD | {"problem": "Number  1?"}, "f")])
    cleaned = drop_test_problems(train, test)
    assert [p.id for p in cleaned.problems] == ["train0", "train2"]
    assert cleaned.dropped["also_in_test"] == 1


def test_one_id_for_two_problems_is_an_error():
    records = [RawRecord(f"f, line {i}", "x", GOOD | {"problem": f"{i}", "unique_id": "same"}, "f") for i in (1, 2)]
    with pytest.raises(DataError, match="f, line 2: field 'unique_id' repeats 'same' of f, line 1"):
        select(records)


def test_normalised_evens_out_every_white_space():
    assert normalised(" a\n\tb  c ") == "a b c"
