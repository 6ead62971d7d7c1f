"""Rows to train on: lengths and repetitions of a file's words, or made ones."""

import gzip
import json
import statistics

import pytest

from benchmarks import rows
from benchmarks.shapes import SHAPES, alphabet


def test_a_word_is_a_character_and_the_same_word_the_same(tmp_path):
    path = tmp_path / "pairs.jsonl.gz"
    lines = [{"prompt": "a b, a", "chosen": "c a", "rejected": ""}, {"prompt": [{"role": "user", "content": "d e"}],
             "responses": ["x " * 500, "y"]}]  # fmt: skip
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    (prompt, (chosen, rejected)), (turns, (long, _)) = rows.of_file(path, SHAPES["story"], 2, 2)
    assert (len(prompt), len(chosen), len(rejected), len(turns), len(long)) == (4, 2, 1, 2, 128)
    assert prompt[0] == prompt[3] == chosen[1]
    assert set(prompt + long) <= set(alphabet(512).characters)
    with pytest.raises(SystemExit, match="2 rows with 2 answers, 3 are needed"):
        rows.of_file(path, SHAPES["story"], 3, 2)


def test_made_rows_are_ragged_and_fit():
    made = rows.made(SHAPES["S"], 200, 2)
    assert made == rows.made(SHAPES["S"], 200, 2)
    lengths = [len(prompt) + len(text) for prompt, answers in made for text in answers]
    assert max(lengths) <= 256
    assert 40 < statistics.median(lengths) < 160
    assert statistics.pstdev(lengths) > 30
