"""A stream's rows by number are the rows that reading the whole gives, whatever the file."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plaudit.data.check import check
from plaudit.data.clean import prompt_key
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.stream import RowStream, head
from plaudit.errors import UserError
from plaudit.records.text import Kind
from tests.data.files import write, write_bytes
from tests.kills import kills

TALK = [{"role": role, "content": f"{role} {i}"} for i in range(2) for role in ("user", "assistant")]


def lines() -> Iterator[bytes]:
    """More than two blocks of rows, with blank lines, conversations and empty answers between."""
    for i in range(45):
        yield json.dumps({"prompt": f"p{i}é", "completion": f"c{i}" if i % 7 else ""}).encode()
        if i % 5 == 0:
            yield b""
        if i % 11 == 0:
            yield json.dumps({"messages": TALK}).encode()


TABLE = (b'p%d,"c\n%d, ""x"""\n' % (i, i) + b"\n" * (i % 3 == 0) for i in range(40))
FILES = {
    "rows.jsonl": b"\xef\xbb\xbf" + b"\r\n".join(lines()),
    "rows.csv": b"prompt,completion\n" + b"".join(TABLE),
}


def flat(stream: RowStream) -> list[object]:
    numbers = sorted(range(len(stream)), key=lambda number: (number * 7) % 13)  # in no order
    rows = {number: stream.rows(number) for number in numbers}
    return [row for number in sorted(rows) for row in rows[number]]


@kills(
    "data/stream.py",
    old="itertools.islice(filter(None, every), skip, None)",
    new="itertools.islice(every, skip, None)",
    why="a blank line counts as a row where a block is read, and not where rows are counted",
)
@pytest.mark.parametrize("name", FILES)
def test_rows_by_number_are_the_rows_of_the_file(tmp_path, name):
    config = DataConfig(path=write_bytes(tmp_path, FILES[name], name))
    stream, whole = RowStream(config), load(config, Kind.DEMONSTRATION, Kind.TEXT)
    assert flat(stream) == list(whole.rows)
    assert len(whole.rows) > 2 * 16
    assert stream.fingerprints == whole.fingerprints
    assert str(stream).startswith(f"{len(stream)} rows of demonstration data, streamed")


def test_a_folder_is_one_stream_and_columns_may_be_renamed(tmp_path):
    (tmp_path / "d").mkdir()
    for part in range(3):
        rows = [{"q": f"{part} {i}", "a": "x"} for i in range(10)]
        write(tmp_path / "d", rows, f"{part}.jsonl")
    config = DataConfig(path=str(tmp_path / "d"), columns={"q": "prompt", "a": "completion"})
    stream = RowStream(config)
    assert flat(stream) == list(load(config, Kind.DEMONSTRATION).rows)
    assert stream.fingerprints.keys() == {str(tmp_path / "d"), *(str(tmp_path / "d" / f"{n}.jsonl") for n in range(3))}


def test_limit_skipped_rows_and_measured_prompts_are_counted(tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(40)]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode().replace(b'"p20"', b"20")
    config = DataConfig(path=write_bytes(tmp_path, data), on_bad_row="skip", max_bad_fraction=0.1)
    measured = {prompt_key(row) for row in load(DataConfig(path=config.path, limit=3), Kind.DEMONSTRATION).rows}
    stream = RowStream(config, measured)
    assert (len(stream), len(stream.bad), stream.shared) == (39, 1, 3)
    assert flat(stream) == list(load(config, Kind.DEMONSTRATION).rows)
    assert len(RowStream(DataConfig(path=config.path, limit=5))) == 5
    with pytest.raises(UserError, match=r"rows\.jsonl:21: column `prompt`"):
        RowStream(DataConfig(path=config.path))


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("r.json", b"[]", {}, "streaming reads .jsonl"),
        ("r.jsonl.gz", b"", {}, "streaming reads .jsonl"),
        ("r.jsonl", b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n', {}, "holds comparison rows; streaming reads"),
        ("r.jsonl", b'{"text": "a"}\n', {"accept": ("a",)}, "accept, answers and min_gap"),
        ("r.jsonl", b"", {}, "none of its first 1000 rows can be read"),
        ("r.csv", b"", {}, "the header can't be read"),
        ("r.jsonl", b'{"text": "a"}\n', {"columns": {"x": "prompt"}}, "renames 'x', which no row has"),
    ],
)
def test_what_cannot_be_streamed_is_refused(tmp_path, name, data, options, message):
    with pytest.raises(UserError) as error:
        RowStream(DataConfig(path=write_bytes(tmp_path, data, name), **options))
    assert message in str(error.value)


def test_no_source_but_files():
    for path in ("hub:a/b", "-", "label://x"):
        with pytest.raises(UserError, match="streaming reads files"):
            RowStream(DataConfig(path=path))


def test_a_file_that_changes_is_noticed(tmp_path):
    path = Path(write(tmp_path, [{"text": f"text {i}"} for i in range(20)]))
    stream = RowStream(DataConfig(path=str(path)))
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match="changed while it was read"):
        stream.rows(3)


def test_its_head_and_data_check_look_at_it(tmp_path):
    path = write(tmp_path, [{"text": f"text {i}"} for i in range(1200)] + [{"text": 5}])
    assert len(load(head(DataConfig(path=path)), Kind.TEXT).rows) == 1000
    (report,) = check([path], streaming=True).files
    assert (report.rows, report.kind, [row.where for row in report.bad]) == (1200, "text", [f"{path}:1201"])
