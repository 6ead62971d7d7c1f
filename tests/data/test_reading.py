"""Bytes become rows with their places; every damaged file or line is named (faults 25 and 26)."""

import gzip
import hashlib
import io
import json
import sys
import types
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plaudit.data import reading
from plaudit.data.options import DataConfig
from plaudit.data.reading import BLANK_LINE, open_source
from plaudit.data.sources import load
from plaudit.data.turns import RowError
from plaudit.errors import UserError
from plaudit.records.text import Kind
from tests.data.files import write, write_bytes
from tests.kills import kills

GOOD = b'{"text": "one"}\n{"text": "two"}\n'


def packed(data: bytes) -> bytes:
    """Without the time of day: two workers must name the same tests."""
    return gzip.compress(data, mtime=0)


def texts(folder, data: bytes, name: str = "rows.jsonl", **options) -> list[str]:
    loaded = load(DataConfig(path=write_bytes(folder, data, name), **options), Kind.TEXT)
    return [row.text for row in loaded.rows]


def reason(folder, line: bytes) -> str:
    """Why the second of three lines is bad; the others are sound."""
    path = write_bytes(folder, b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    first, second, third = open_source(path).items
    assert first.raw == {"text": "a"}
    assert third.raw == {"text": "b"}
    assert second.where == f"{path}:2"
    assert isinstance(second.raw, RowError)
    return f"{second.raw.column}: {second.raw.reason}"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl", GOOD),
        ("rows.jsonl", GOOD.rstrip()),
        ("rows.jsonl", GOOD.replace(b"\n", b"\r\n")),
        ("rows.jsonl", b"\xef\xbb\xbf" + GOOD),
        ("rows.jsonl", b"\n" + GOOD + b"  \n\n"),
        ("ROWS.JSONL", GOOD),
        ("rows.ndjson", GOOD),
        ("rows.jsonl.gz", packed(GOOD)),
        ("rows.jsonl.gz", packed(GOOD[:16]) + packed(GOOD[16:])),
        ("rows.jsonl.gz", packed(GOOD) + b"\0" * 8),
        ("rows.jsonl", packed(GOOD)),
        ("rows.json", b'[{"text": "one"}, {"text": "two"}]'),
        ("rows.json", b'\xef\xbb\xbf\n[\n  {"text":\n "one"},\n  {"text": "two"}\n]\n'),
        ("rows.json", GOOD),
        ("rows.json.gz", packed(b'[{"text": "one"},{"text": "two"}]')),
    ],
)
def test_every_container(tmp_path, name, data):
    assert texts(tmp_path, data, name) == ["one", "two"]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "rows.parquet")
    rows = [{"prompt": "q", "responses": [{"text": "a", "score": 1.0}, {"text": "b", "score": 2.0}]}] * 2
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    loaded = load(DataConfig(path=path), Kind.RANKING)
    assert [row.ranks for row in loaded.rows] == [(2, 1), (2, 1)]
    assert [row.where for row in loaded.rows] == [f"{path} row 1", f"{path} row 2"]


def test_text_is_checked_in_parquet_too(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "rows.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}, {"text": "b\0"}]), path)
    with pytest.raises(UserError, match=r"rows.parquet row 2: column `text` holds a NUL character at position 1"):
        load(DataConfig(path=path), Kind.TEXT)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = write_bytes(tmp_path, b"PAR1", "rows.parquet")
    with pytest.raises(UserError, match=r"rows.parquet: reading parquet needs pyarrow: pip install pyarrow"):
        load(DataConfig(path=path), Kind.TEXT)


def test_a_broken_parquet_file(tmp_path):
    path = write_bytes(tmp_path, b"PAR1 nothing", "rows.parquet")
    with pytest.raises(UserError, match=r"rows.parquet: is not a parquet file that can be read"):
        load(DataConfig(path=path), Kind.TEXT)


def test_text_comes_through_unchanged(tmp_path):
    odd = "e\u0301 é \u2028 line \u0085 \ud83d\ude00 ﬁ  \t \\n ".encode("utf-16", "surrogatepass").decode("utf-16")
    assert texts(tmp_path, json.dumps({"text": odd}).encode() + b"\n", "ascii.jsonl") == [odd]
    assert texts(tmp_path, json.dumps({"text": odd}, ensure_ascii=False).encode() + b"\n", "utf8.jsonl") == [odd]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"text": "a"},', "-: not valid JSON at character 14: a comma after the object; JSON Lines has none"),
        (b'{"text": "a",}', "-: not valid JSON at character 14: a comma before a closing bracket"),
        (b'{"text": ["a",]}', "-: not valid JSON at character 15: a comma before a closing bracket"),
        (b'{"text": "a"', "-: not valid JSON at character 13: Expecting ',' delimiter"),
        (b'{"text": "a"} {"text": "b"}', "-: not valid JSON at character 15: Extra data"),
        (b"{'text': 'a'}", "-: not valid JSON at character 2: Expecting property name enclosed in double quotes"),
        (b"{", "-: not valid JSON at character 2: the object must stand on one line"),
        (b'["text"]', "-: a row must be an object {...}, not a list"),
        (b'"text"', "-: a row must be an object {...}, not a string"),
        (b"null", "-: a row must be an object {...}, not null"),
        (b'{"text": "a", "text": "b"}', "text: stands twice in one object"),
        (b'{"text": "caf\xe9"}', "-: byte 14 of the line (0xe9) is not UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "-: byte 11 of the line (0xed) is not UTF-8"),
        (b'{"text": "a\\ud800b"}', "text: holds a lone surrogate \\ud800 at position 1"),
        (b'{"text": [{"x": "\\uDC00"}]}', "text: holds a lone surrogate \\udc00 at position 0"),
        (b'{"text": "a\\u0000"}', "text: holds a NUL character at position 1"),
        (b'{"text": "a\0"}', "-: holds a NUL byte"),
        (b'{"te\\u0000xt": "a"}', "te\0xt: holds a NUL character at position 2"),
        (b'{"text": ' + b"9" * 5000 + b"}", "-: not JSON that can be read"),
        (b'{"text": ' + b"[" * 100_000 + b"}", "-: not JSON that can be read"),
    ],
    ids=range(20),
)
def test_a_bad_line_is_named_with_its_reason(tmp_path, line, expected):
    assert reason(tmp_path, line).startswith(expected)


def test_a_fifty_megabyte_line_is_a_line(tmp_path):
    long = "x" * 50_000_000
    assert texts(tmp_path, b'{"text": "' + long.encode() + b'"}\n{"text": "b"}\n') == [long, "b"]


def test_blank_lines_are_passed_over_and_counted(tmp_path):
    path = write_bytes(tmp_path, b'\n{"text": "a"}\n \r\n{"text": "b"}\n\n')
    loaded = load(DataConfig(path=path), Kind.TEXT)
    assert [row.where for row in loaded.rows] == [f"{path}:2", f"{path}:4"]
    assert loaded.counted == {BLANK_LINE: 3}


def test_the_lines_of_a_json_list(tmp_path):
    path = write_bytes(tmp_path, b'[\n{"text": "a"},\n\n{"text":\n "b"}, {"text": "c"}]', "rows.json")
    assert [row.where for row in load(DataConfig(path=path), Kind.TEXT).rows] == [
        f"{path}:2 (item 0)",
        f"{path}:4 (item 1)",
        f"{path}:5 (item 2)",
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[{"text": "a"},\n]', None),
        (b'[\n{"text": "a"}\n{"text": "b"}]', "rows.json:3: a comma or the closing ] is missing"),
        (b'[\n{"text": "a",}]', "rows.json:2: not valid JSON at character 16: a comma before a closing bracket"),
        (b'[{"text": "a"}', "rows.json:1: a comma or the closing ] is missing"),
        (b'[{"text": "a"}]\nmore', "rows.json:2: something follows the list"),
        (b'[{"text": "a"},\n{"text": "b", "text": "c"}]', "rows.json:2: text: stands twice"),
        (b'[{"text": "a"},\n{"text": "\xe9"}]', "rows.json:2: byte 0xe9 is not UTF-8"),
        (b'[{"text": "a"},\n3]', "rows.json:2 (item 1): a row must be an object"),
        (b'[{"text": "a"},\n{"text": "\\ud800"}]', "rows.json:2 (item 1): column `text` holds a lone surrogate"),
        (b'{\n"text": "a"}', "rows.json:1: not valid JSON at character 2: the object must stand on one line"),
    ],
)
def test_a_broken_json_list(tmp_path, data, expected):
    if expected is None:  # a comma after the last item harms nothing
        assert texts(tmp_path, data, "rows.json") == ["a"]
        return
    with pytest.raises(UserError) as caught:
        texts(tmp_path, data, "rows.json")
    assert expected in str(caught.value)


def test_bad_items_of_a_sound_json_list_can_be_skipped(tmp_path):
    data = b'[{"text": "a"},\n3]'
    assert texts(tmp_path, data, "rows.json", on_bad_row="skip", max_bad_fraction=0.5) == ["a"]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("rows.jsonl", b"", "holds no rows"),
        ("rows.jsonl", b"\n\n", "holds no rows"),
        ("rows.json", b"[]", "holds no rows"),
        ("rows.jsonl.gz", packed(GOOD)[:-9], "the gzip data is cut short"),
        ("rows.jsonl.gz", packed(GOOD) + b"tail", "the gzip data is damaged"),
        ("rows.jsonl.gz", packed(GOOD)[:-8] + b"\0" * 8, "the gzip data is damaged"),
        ("rows.jsonl", GOOD.decode().encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("rows.txt", b"text\na", "not .txt"),
        ("rows", b"text\na", "not a name without an ending"),
        ("notes.txt.gz", b"text", 'Plain text becomes .jsonl with one {"text": "..."} a line'),
    ],
    ids=range(10),
)
def test_a_file_that_cannot_be_used(tmp_path, name, data, expected):
    with pytest.raises(UserError) as caught:
        texts(tmp_path, data, name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert expected in str(caught.value)


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(UserError, match=r"none.jsonl: no such file"):
        load(DataConfig(path=str(tmp_path / "none.jsonl")), Kind.TEXT)
    with pytest.raises(UserError, match="the folder has no file that can be read"):
        load(DataConfig(path=str(tmp_path)), Kind.TEXT)
    with pytest.raises(UserError, match="can't be read"):
        load(DataConfig(path="a\0b.jsonl"), Kind.TEXT)


def test_the_fingerprint_is_the_files_own_sha256(tmp_path):
    zipped = packed(GOOD)
    path = write_bytes(tmp_path, zipped, "rows.jsonl.gz")
    assert load(DataConfig(path=path), Kind.TEXT).fingerprint == hashlib.sha256(zipped).hexdigest()
    path = write(tmp_path, [{"text": "a"}])
    assert load(DataConfig(path=path, limit=1), Kind.TEXT).fingerprint == (
        hashlib.sha256(b'{"text": "a"}\n').hexdigest()
    )


# -------------------------------------------------------------------------------------------------------------- hub


def test_a_hub_name_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"hub:some/name: hub names need .*pip install"):
        load(DataConfig(path="hub:some/name"), Kind.TEXT)


def fake_datasets(monkeypatch, rows):
    asked = []

    def load_dataset(name, *, split):
        asked.append((name, split))
        if isinstance(rows, Exception):
            raise rows
        return iter(rows)

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_a_hub_name_is_read_with_its_split(monkeypatch):
    asked = fake_datasets(monkeypatch, [{"text": "a"}, {"text": "b"}])
    loaded = load(DataConfig(path="hub:some/name"), Kind.TEXT)
    assert [(row.text, row.where) for row in loaded.rows] == [
        ("a", "hub:some/name row 1"),
        ("b", "hub:some/name row 2"),
    ]
    again = load(DataConfig(path="hub:some/name:test"), Kind.TEXT)
    assert asked == [("some/name", "train"), ("some/name", "test")]
    assert loaded.fingerprint == again.fingerprint
    fake_datasets(monkeypatch, [{"text": "a"}, {"text": "c"}])
    assert load(DataConfig(path="hub:some/name"), Kind.TEXT).fingerprint != loaded.fingerprint


def test_what_the_hub_says_reaches_the_user(monkeypatch):
    fake_datasets(monkeypatch, ConnectionError("no route"))
    with pytest.raises(UserError, match=r"hub:some/name: ConnectionError: no route"):
        load(DataConfig(path="hub:some/name"), Kind.TEXT)


@pytest.mark.parametrize("text", [b'{"prompt": "a"}\n{"prompt": "b"}\n', b'[{"prompt": "a"}, {"prompt": "b"}]'])
def test_standard_input_is_a_file_that_can_be_read_again(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(text)))
    reading._standard_input.cache_clear()
    for _ in range(2):
        assert [item.raw["prompt"] for item in open_source("-").items] == ["a", "b"]
    reading._standard_input.cache_clear()


@kills("data/reading.py", old=" if item is not None}", new="}", why="a tool call has the arguments of all other tools")
def test_a_tables_objects_have_the_fields_that_they_were_written_with(tmp_path):
    calls = [[{"name": "find", "arguments": {"names": ["a"]}}], [{"name": "add", "arguments": {"x": 1, "y": 0}}]]
    table = pa.table({"calls": calls, "score": pa.array([Decimal("0.5"), None]), "none": [None, 1]})
    pq.write_table(table, tmp_path / "rows.parquet")
    first, second = [item.raw for item in open_source(str(tmp_path / "rows.parquet")).items]
    assert [first["calls"], second["calls"]] == calls
    assert (first["score"], type(first["score"]), second["score"], first["none"]) == (0.5, float, None, None)
