"""Tables of text, folders and globs: the same rows in the same order, each named by its own file."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from plaudit.data.check import check
from plaudit.data.options import DataConfig
from plaudit.data.reading import open_source
from plaudit.data.sources import load
from plaudit.doctor.paths import check_paths
from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Kind, Ranking, Verdict
from plaudit.runs.folder import Run
from plaudit.training.options import SFTConfig
from plaudit.training.state import load_data
from tests.data.files import write, write_bytes
from tests.kills import kills

TABLE = 'prompt,completion,note\r\n12,"a, ""b""\nc",x\r\n\r\nhow?,y,\r\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.csv", TABLE.encode()),
        ("rows.csv", b"\xef\xbb\xbf" + TABLE.replace("\r\n", "\n").encode()),
        ("rows.tsv", TABLE.replace("12,", "12\t").replace(",x", "\tx").replace("?,y,", "?\ty\t")
            .replace("prompt,completion,", "prompt\tcompletion\t").encode()),
        ("rows.csv.gz", gzip.compress(TABLE.encode(), mtime=0)),
    ],
)  # fmt: skip
def test_a_table_is_read_as_it_stands(tmp_path, name, data):
    loaded = load(DataConfig(path=write_bytes(tmp_path, data, name)), Kind.DEMONSTRATION)
    (first, second) = loaded.rows
    assert isinstance(first, Demonstration)
    assert (first.prompt.text, first.response.replace("\r", "")) == ("12", 'a, "b"\nc')
    assert (second.prompt.text, second.response) == ("how?", "y")
    lines = [row.where.rpartition(":")[2] for row in loaded.rows]
    assert lines == ["2", "5"]  # where each begins: the first has two lines, and a blank one follows
    assert loaded.counted["blank"] == 1


@kills(
    "data/sources.py", old="    if source.is_text:\n", new="    if False:\n", why="a CSV's scores and labels stay texts"
)
def test_numbers_and_lists_are_told_by_their_columns_after_renaming(tmp_path):
    table = 'question,answers,ranks\n5,"[""a"", ""b""]","[2, 1]"\n'
    config = DataConfig(
        path=write_bytes(tmp_path, table.encode(), "r.csv"), columns={"question": "prompt", "answers": "responses"}
    )
    (row,) = load(config, Kind.RANKING).rows
    assert isinstance(row, Ranking)
    assert (row.prompt.text, row.responses, row.ranks) == ("5", ("a", "b"), (2, 1))
    verdicts = b"prompt,response,label\na,b,True\na,c,0\n"
    rows = load(DataConfig(path=write_bytes(tmp_path, verdicts, "v.csv")), Kind.VERDICT).rows
    assert [row.label for row in rows if isinstance(row, Verdict)] == [True, False]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"prompt,completion\na,b\nc\nd,e,f\n", "r.csv:3: has 1 cells, the header has 2"),
        (b'prompt,completion\na,b\n"c"d,e\n', "r.csv:3: not a sound record"),
        (b'prompt,completion\na,"b\nc,d\n', "r.csv:2: not a sound record"),
        (b"prompt,prompt\na,b\n", "r.csv:1: the header has the column 'prompt' twice"),
        (b"prompt,completion\na,\xff\n", "r.csv:2: byte 0xff is not UTF-8"),
        (b"prompt,completion\n", "holds no rows"),
        (b"\xff\xfep\x00", "is UTF-16"),
        (b"prompt,completion\na,b\0\n", "r.csv:2: column `completion` holds a NUL"),
    ],
)
def test_a_damaged_table_is_named_by_line(tmp_path, table, message):
    with pytest.raises(UserError) as error:
        load(DataConfig(path=write_bytes(tmp_path, table, "r.csv")), Kind.DEMONSTRATION)
    assert message in str(error.value)


# --------------------------------------------------------------------------------------------------- folders and globs


@pytest.fixture
def folder(tmp_path) -> Path:
    """Files whose order by name is not that of their making, and some that are no data."""
    (tmp_path / "d" / "deeper").mkdir(parents=True)
    for name in ("b10", "b9", "a"):
        write(tmp_path / "d", [{"prompt": name, "completion": "x"}], f"{name}.jsonl")
    write_bytes(tmp_path / "d", b"prompt,completion\nt,1\n", "table.csv")
    write(tmp_path / "d", [{"prompt": "hidden", "completion": "x"}], ".hidden.jsonl")
    write(tmp_path / "d" / "deeper", [{"prompt": "deep", "completion": "x"}], "z.jsonl")
    write_bytes(tmp_path / "d", b"# cards are no data", "README.md")
    return tmp_path / "d"


@pytest.mark.parametrize(
    ("pattern", "prompts"),
    [
        ("", ["a", "b10", "b9", "t"]),
        ("b*.jsonl", ["b10", "b9"]),
        ("**/*.jsonl", ["a", "b10", "b9", "deep"]),
        ("[ab].jsonl", ["a"]),
    ],
)
def test_the_files_come_in_the_order_of_their_names(folder, pattern, prompts):
    loaded = load(DataConfig(path=str(folder / pattern) if pattern else str(folder)), Kind.DEMONSTRATION)
    assert [row.prompt.text for row in loaded.rows if isinstance(row, Demonstration)] == prompts
    assert loaded.rows[0].where == f"{folder}/{prompts[0]}.jsonl:1"


def test_a_name_with_brackets_is_a_name(tmp_path):
    path = write(tmp_path, [{"prompt": "a", "completion": "b"}], "rows[1].jsonl")
    assert len(load(DataConfig(path=path), Kind.DEMONSTRATION).rows) == 1


def test_a_bad_row_is_named_by_its_own_file(folder):
    write_bytes(folder, b'{"prompt": "a", "completion": "b"}\n{"prompt": 5}\n', "c.jsonl")
    with pytest.raises(UserError, match=r"d/c\.jsonl:2: column"):
        load(DataConfig(path=str(folder)), Kind.DEMONSTRATION)
    (report,) = check([str(folder)]).files
    assert [row.where for row in report.bad] == [f"{folder}/c.jsonl:2"]


def test_nothing_that_can_be_read_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder has no file that can be read"):
        open_source(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="no file matches"):
        open_source(str(tmp_path / "*.csv"))
    with pytest.raises(UserError, match=r"data\.0\.path: .*\*\.csv: no such file"):
        check_paths(SFTConfig(data=(DataConfig(path=str(tmp_path / "*.csv")),)))


@kills(
    "data/sources.py",
    old="fingerprints={config.path: source.fingerprint, **source.files}",
    new="fingerprints=dict(source.files)",
    why="a file that came into a folder isn't noticed on resume",
)
def test_each_file_stands_in_the_provenance_and_a_new_one_is_noticed(folder, tmp_path):
    source = DataConfig(path=str(folder))
    with Run.create(tmp_path / "run", "sft", {}) as run:
        load_data(run, [source], Demonstration)
        hashes = run.provenance["data"]
        with run.checkpoint(1):
            pass
    files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("[a-z]*.[jc]s*")}
    assert {name: hashes[name] for name in files} == files
    assert set(hashes) == {str(folder), *files}
    write(folder, [{"prompt": "new", "completion": "x"}], "new.jsonl")
    with Run.open(tmp_path / "run") as run, pytest.raises(UserError, match="changed since the run"):
        load_data(run, [source], Demonstration)


def test_data_check_shows_each_file(folder):
    report = check([str(folder)])
    (one,) = report.files
    assert (one.rows, len(one.files), json.loads(report.to_json())["files"][0]["files"]) == (4, 4, one.files)
    assert f"{one.files[str(folder / 'a.jsonl')]}  {folder / 'a.jsonl'}" in report.to_text()
