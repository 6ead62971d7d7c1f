"""Learning from files that stay on disk: every row as often as its weight says, exact on resume, memory flat."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from plaudit.data.options import DataConfig
from plaudit.data.stream import RowStream
from plaudit.errors import UserError
from plaudit.runs.folder import Run
from plaudit.training import order
from plaudit.training.dry_run import dry_run
from plaudit.training.policy import ptx
from plaudit.training.policy.options import Ptx
from plaudit.training.sft import sft
from plaudit.training.streaming import StreamedMixture
from tests.faults import stages
from tests.faults.test_resume import assert_same, stopped
from tests.kills import kills
from tests.training.tiny import jsonl, language, model_folder


@kills("training/order.py", old="if position < size:", new="if position <= size:", why="a position beyond the rows")
@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 100])
def test_a_shuffle_without_a_list_is_a_permutation(size):
    first, second = ([order.shuffled(i, size, 0, "shuffle", epoch) for i in range(size)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(size))
    assert size < 16 or first != second


def test_every_number_comes_to_every_position_alike():
    seen = Counter(order.shuffled(0, 5, seed, "x") for seed in range(2000))
    assert all(400 - 90 < seen[i] < 400 + 90 for i in range(5))  # 5 standard deviations of √(2000 · 0.2 · 0.8)


@kills(
    "training/streaming.py",
    old='order.shuffled(rest % size, size, seed, "weight", source, epoch)',
    new="rest % size",
    why="a weight of one half shows the same half in every epoch",
)
def test_weights_count_rows_exactly_and_fractions_are_drawn_anew(tmp_path):
    one = jsonl(tmp_path / "one.jsonl", [{"text": f"a{i}"} for i in range(5)])
    two = jsonl(tmp_path / "two.jsonl", [{"text": f"b{i}"} for i in range(8)])
    streams = tuple(RowStream(DataConfig(path=path)) for path in (one, two))
    mixture = StreamedMixture(streams=streams, weights=(2.0, 0.5), encode=lambda rows: [])
    halves = set()
    for epoch in range(4):
        seen = Counter(row.text for i in range(mixture.per_epoch) for row in mixture.at(i, 0, epoch))
        assert {text: seen[text] for text in seen if text[0] == "a"} == {f"a{i}": 2 for i in range(5)}
        half = frozenset(text for text in seen if text[0] == "b")
        assert (len(half), max(seen[text] for text in half)) == (4, 1)
        halves.add(half)
    assert len(halves) > 1


def test_a_stopped_run_goes_on_exactly(tmp_path):
    held_out = DataConfig(path=jsonl(tmp_path / "held.jsonl", [{"prompt": "ab", "completion": "ba"}]))
    config = replace(stages.sft(tmp_path), streaming=True, held_out=(held_out,), held_out_fraction=0.0)
    stages.train("sft", config, tmp_path / "whole")
    assert stopped("sft", config, tmp_path / "run", 4)
    stages.train("sft", config, tmp_path / "run")
    assert_same(tmp_path / "whole", tmp_path / "run")
    Path(config.data[0].path).write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    with Run.open(tmp_path / "run") as run, pytest.raises(UserError, match="changed since the run"):
        sft(config, run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out_fraction": 0.1}, "held_out_fraction: a share of files"),
        ({"held_out_fraction": 0.0, "too_long": "drop"}, "too_long: streaming counts"),
    ],
)
def test_what_needs_all_rows_is_refused(tmp_path, options, message):
    config = replace(stages.sft(tmp_path), streaming=True, **options)
    with pytest.raises(UserError, match=message):
        sft(config, Run.memory("sft", config))


def test_a_dry_run_looks_at_the_first_rows(tmp_path, caplog):
    config = replace(stages.sft(tmp_path), streaming=True, held_out_fraction=0.0)
    dry_run("sft", config)
    assert "8 optimiser steps" in caplog.text  # 24 rows by 7, twice


def test_text_beside_ppo_is_drawn_by_the_position_a_window_at_a_time(tmp_path):
    path = jsonl(tmp_path / "text.jsonl", [{"text": letter * 40} for letter in "abcdefg"])
    config = Ptx(data=(DataConfig(path=path),), rows=3, max_length=8, streaming=True)
    tongue = language(model_folder(tmp_path / "m"))
    one, two = (ptx.load(config, Run.memory("ppo", {}), tongue, seed=0) for _ in range(2))
    steps = [one.at(step) for step in range(14)]
    assert steps == [two.at(step) for step in range(14)]
    rows = [tuple(ids) for step in steps for _, ids in step]
    assert all(len(ids) <= 8 for ids in rows)
    letters = [Counter(max(ids, key=ids.count) for ids in rows[begin : begin + 7]) for begin in range(0, 42, 7)]
    assert all(set(count.values()) == {1} for count in letters)  # every pass has every text once


@kills(
    "training/streaming.py",
    old="(position + ahead) % self.per_epoch",
    new="position",
    why="a row that is nothing as tokens ends the run",
)
def test_a_row_that_teaches_nothing_gives_its_place_to_the_next(tmp_path):
    path = jsonl(tmp_path / "text.jsonl", [{"text": letter * 4} for letter in "abcdefgh"])
    stream = RowStream(DataConfig(path=path))

    def encode(rows):
        return [([1], [ord(row.text[0])]) for row in rows if row.text[0] in "ae"]

    mixture = StreamedMixture(streams=(stream,), weights=(1.0,), encode=encode)
    texts = ptx.Texts(stream=mixture, coef=1.0, per_step=2)
    drawn = [ids for step in range(8) for ids in texts.at(step)]
    assert len(drawn) == 16
    assert {chr(ids[0]) for _, ids in drawn} == {"a", "e"}
    config = replace(stages.sft(tmp_path), minibatch_size=1)
    assert all(len(mixture.minibatch(config, 0, index)) == 1 for index in range(8))
    nothing = replace(mixture, encode=lambda rows: [])
    with pytest.raises(UserError, match=r"text\.jsonl: no row is left to learn from"):
        nothing.minibatch(config, 0, 0)


@kills(
    "tokens/encode.py",
    old="        warned |= own\n",
    new="        pass\n",
    why="the same warning at every step of a stream",
)
def test_what_is_to_be_warned_of_is_said_once_a_file(tmp_path, caplog):
    paths = [jsonl(tmp_path / f"{name}.jsonl", [{"text": "ab</s>ab"}] * 6) for name in "ab"]
    config = Ptx(data=tuple(DataConfig(path=path) for path in paths), rows=3, max_length=8, streaming=True)
    texts = ptx.load(config, Run.memory("ppo", {}), language(model_folder(tmp_path / "m")), seed=0)
    for step in range(8):
        texts.at(step)
    told = [record.getMessage() for record in caplog.records if "spell control tokens" in record.getMessage()]
    assert len(told) == 2
    assert all(any(Path(path).name in line for line in told) for path in paths)
    assert all(line.startswith("rows spell control tokens of the tokenizer (</s>; first") for line in told)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Peak resident memory of looking a file through and reading rows of it, 3 MB against 300 MB."""
    code = (
        "import resource, sys\n"
        "from plaudit.data.options import DataConfig\n"
        "from plaudit.data.stream import RowStream\n"
        "stream = RowStream(DataConfig(path=sys.argv[1]))\n"
        "for i in range(0, len(stream), len(stream) // 200): stream.rows(i)\n"
        "print(len(stream), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = {}
    for rows in (3_000, 300_000):
        path = tmp_path / f"{rows}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": f"{i} " + "word " * 200}) + "\n" for i in range(rows))
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.split())
        assert count == rows
        peaks[rows] = peak * 1024
    assert (tmp_path / "300000.jsonl").stat().st_size > 300e6
    assert peaks[300_000] - peaks[3_000] < 8e6
