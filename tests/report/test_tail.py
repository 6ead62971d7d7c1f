"""Files that grow: only what is new is read, half a line waits, another file begins anew."""

import itertools
import json
import os
from pathlib import Path

import pytest

from plaudit.report.tail import Tail, sampled
from tests.kills import kills


def write(path: Path, steps, how: str = "w") -> None:
    with path.open(how, encoding="utf-8") as file:
        file.writelines(json.dumps({"step": step, "word": "é\x00"}) + "\n" for step in steps)


def steps_of(lines) -> list[int]:
    return [line["step"] for line in lines]


@kills("report/tail.py", old="self.offset += len(whole)", new="self.offset += len(raw)", why="half a line is lost")
def test_only_new_whole_lines_are_read(tmp_path):
    path = tmp_path / "m.jsonl"
    tail = Tail(path)
    assert tail.read() == ([], False)
    write(path, range(3))
    assert steps_of(tail.read()[0]) == [0, 1, 2]
    assert tail.read() == ([], False)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 3')
    assert tail.read() == ([], False) and tail.at_end
    with path.open("a", encoding="utf-8") as file:
        file.write('}\n[1]\nnonsense\n{"step": 4}\n')
    lines, anew = tail.read()
    assert (steps_of(lines), anew, tail.bad) == ([3, 4], False, 2)


def test_long_files_come_in_pieces_and_texts_are_clean(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, range(500))
    tail, steps = Tail(path), []
    for _ in range(1000):
        lines, anew = tail.read(limit=100)
        assert not anew
        steps += steps_of(lines)
        assert all(line["word"] == "é␀" for line in lines)
        if tail.at_end:
            break
        assert 0 < tail.share <= 1
    assert steps == list(range(500))


def replaced(path: Path) -> None:
    write(path.with_suffix(".new"), [7])
    os.replace(path.with_suffix(".new"), path)


def rewritten(path: Path) -> None:
    """In the same file, and longer than it was."""
    write(path, [7, *range(100, 300)])


@pytest.mark.parametrize("change", [lambda path: write(path, [7]), replaced, rewritten])
@kills("report/tail.py", old="== self._before", new="== self._before or True", why="a rewritten file would be mixed up")
def test_a_truncated_or_replaced_file_is_read_anew(tmp_path, change):
    path = tmp_path / "m.jsonl"
    write(path, range(20))
    tail = Tail(path)
    tail.read()
    change(path)
    lines, anew = tail.read()
    assert anew and lines[0]["step"] == 7
    path.unlink()
    assert tail.read() == ([], True)
    write(path, [1])
    assert steps_of(tail.read()[0]) == [1]


def test_a_few_lines_of_all_of_it_with_both_ends(tmp_path):
    path = tmp_path / "m.jsonl"
    write(path, range(20_000))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 20000')
    steps = steps_of(sampled(path, 20))
    assert steps[0] == 0 and steps[-1] == 19_999 and steps == sorted(set(steps))
    assert 15 <= len(steps) <= 21
    assert max(b - a for a, b in itertools.pairwise(steps)) < 3000
    write(path, range(9))
    assert steps_of(sampled(path, 3)) == list(range(9))
    assert sampled(tmp_path / "none", 3) == []
