"""A reward function that hangs, ends its process or returns NaN at row 17: PPO goes on by the chosen policy, or stops
with the row's name (faults 13–16)."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.records.text import Prompt
from plaudit.scoring.options import FunctionConfig
from tests.training.scripted import config, run
from tests.training.tiny import jsonl, metrics, rollouts

JUDGE = """
import math, os

def hangs(completions, trouble):
    while any(trouble):
        pass
    return [1.0] * len(completions)

def exits(completions, trouble):
    if any(trouble):
        os._exit(0)
    return [1.0] * len(completions)

def nan(completions, trouble):
    return [math.nan if bad else 1.0 for bad in trouble]

def matrix(completions, trouble):
    import numpy as np
    return np.ones((len(completions), 1))
"""
PROMPTS = [a + b + c for a in "abc" for b in "abc" for c in "abc"][:24]
BAD = Prompt.of_text(PROMPTS[17])


def chosen(folder: Path, function: str, **options):
    (folder / "faulty.py").write_text(JUDGE, encoding="utf-8")
    rows = [{"prompt": prompt, "trouble": prompt == BAD.text} for prompt in PROMPTS]
    judge = FunctionConfig(function=f"{folder / 'faulty.py'}:{function}", timeout=0.4, **options)
    return replace(
        config(folder, prompts_per_iteration=len(PROMPTS), iterations=1, epochs=1, minibatches=1),
        prompts=(DataConfig(path=jsonl(folder / "rows.jsonl", rows)),),
        rewards=(judge,),
    )


CASES = [
    ("hangs", r"gave no answer within 0\.4 s and was killed \(in .*faulty\.py:5 in hangs\)"),
    ("exits", "ended its process with exit code 0"),
    ("nan", "returned nan, which is no finite"),
]


@pytest.mark.parametrize(("function", "words"), CASES)
def test_training_goes_on_without_the_row(tmp_path, capsys, function, words):
    folder = run(tmp_path, chosen(tmp_path, function, on_error="abstain"))
    (line,) = metrics(folder)
    assert line["ppo/abstained_over_responses"] == pytest.approx(1 / 24)
    assert line["ppo/score_over_responses"] == 1.0
    assert all(value == value for value in line.values())
    assert re.search(rf"reward function '{function}': row \d+ \(prompt {BAD.id} .*{words}", capsys.readouterr().err)


@pytest.mark.parametrize(("function", "words"), CASES)
def test_training_goes_on_with_the_fixed_value(tmp_path, function, words):
    folder = run(tmp_path, chosen(tmp_path, function, on_error="value", error_value=-5.0))
    said = {row["prompt"]: row["score"] for row in rollouts(folder, 1)}
    assert said == {prompt: -5.0 if prompt == BAD.text else 1.0 for prompt in PROMPTS}


@pytest.mark.parametrize(("function", "words"), CASES)
def test_by_default_training_stops_and_names_function_and_row(tmp_path, function, words):
    with pytest.raises(UserError, match=rf"reward function '{function}': row \d+ \(prompt {BAD.id} .*{words}"):
        run(tmp_path, chosen(tmp_path, function))


def test_a_matrix_is_never_broadcast(tmp_path):
    with pytest.raises(UserError, match=r"'matrix' must return one number .* 24 completions, not an array of shape"):
        run(tmp_path, chosen(tmp_path, "matrix", on_error="abstain"))
