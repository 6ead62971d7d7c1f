"""`plaudit generate` and `plaudit score`: the same numbers as Python's calls, and mistakes before a model loads."""

import json
from pathlib import Path
from typing import Any

import pytest

import plaudit as pl
from plaudit.cli import main
from plaudit.models.reward import loading
from plaudit.rollouts import sampler
from tests.kills import kills
from tests.training.tiny import jsonl, model_folder

PROMPTS = ["ab", "ba", "ab"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(model_folder(tmp_path / "model", spread=0.2))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@kills(
    "api/models.py",
    old="                draws[row.prompt.id] += 1\n",
    new="                pass\n",
    why="several answers to one prompt are the same",
)
def test_a_file_of_prompts_is_answered_as_python_would(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(Path("p.jsonl"), [{"prompt": text, "solution": str(i)} for i, text in enumerate(PROMPTS)])
    options = ["--sampling.max_new_tokens", "6", "--temperature", "0.9", "--seed", "3", "--batch_size", "2"]
    assert main(["generate", model, "p.jsonl", "--prompt", "aa", "--samples", "2", *options]) == 0
    out = lines(capsys.readouterr().out)
    asked = [text for text in ["aa", *PROMPTS] for _ in range(2)]
    python = pl.Policy.load(model).generate(asked, max_new_tokens=6, temperature=0.9, seed=3, batch_size=2)
    assert [row["prompt"] for row in out] == asked and [row["response"] for row in out] == python
    assert len(set(python)) > 3 and {row["finish"] for row in out} <= {"eos", "length"}
    assert [row.get("solution") for row in out] == [None, None, "0", "0", "1", "1", "2", "2"]


def test_cut_answers_are_counted_and_the_file_is_kept(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", model, "--prompt", "ab", "--greedy", "--max_new_tokens=1", "--out", "to/a.jsonl"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and len(lines(Path("to/a.jsonl").read_text(encoding="utf-8"))) == 1
    assert "1 of 1 answers (100 %) were cut by the limit of 1 tokens" in shown.err
    assert main(["generate", model, "--prompt", "ab", "--out", "to/a.jsonl"]) == 2
    assert "to/a.jsonl exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "name a model"),
        (["generate", "model"], "nothing to answer"),
        (["generate", "model", "gone.jsonl"], "gone.jsonl: no such file"),
        (["generate", "tiny", "--prompt", "a"], "'tiny' has no weights yet"),
        (["generate", "model", "--prompt", "a", "--max_tokens", "3"], "did you mean 'max_new_tokens'?"),
        (
            ["generate", "model", "--prompt", "a", "--greedy", "--samples", "2"],
            "1 with greedy",
        ),
        (["generate", "model", "--prompt", "a", "--max_new_tokens", "9999"], "leave no room for 9999 new tokens"),
        (["generate", "run", "--prompt", "a"], "did you mean 'run/model'?"),
        (["score", "repetition"], "name a judge and a file"),
        (["score", "repetition", "prompts.jsonl"], "prompts.jsonl"),
        (["score", "repetitoin", "rows.jsonl"], "repetitoin"),
        (["score", "rules.py:shrot", "rows.jsonl"], "short"),
        (["score", "model", "rows.jsonl"], "no reward model"),
        (["score", "rules.py:with_key", "rows.jsonl"], "rows.jsonl:1: the scorer 'with_key' needs the column 'key'"),
    ],
)
def test_mistakes_are_told_before_a_model_loads(
    model: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    jsonl(Path("rows.jsonl"), [{"prompt": "a", "response": "b"}])
    jsonl(Path("prompts.jsonl"), [{"prompt": "a"}])
    Path("rules.py").write_text(
        "def short(completions):\n    return [0.0]\n\n\ndef with_key(completions, key):\n    ...\n"
    )
    Path("run").mkdir()
    Path("run/model").symlink_to(Path(model).resolve())
    for module, name in ((sampler, "sample"), (loading, "load_reward_model")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a model was loaded"))
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and "Traceback" not in shown.err


def test_a_function_scores_each_answer_of_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rules.py").write_text(
        "def longer(completions, key):\n    return [None if k == 'x' else len(c) for c, k in zip(completions, key)]\n"
    )
    rows = [
        {"prompt": "a", "responses": ["bb", "c"], "ranks": [1, 2], "key": "k"},
        {"prompt": [{"role": "user", "content": "a"}], "responses": ["dddd", "c"], "ranks": [2, 1], "key": "x"},
    ]
    jsonl(Path("rows.jsonl"), rows)
    assert main(["score", "rules.py:longer", "rows.jsonl", "--rows_per_batch", "1"]) == 0
    shown = capsys.readouterr()
    assert lines(shown.out) == [
        {"prompt": "a", "responses": ["bb", "c"], "scores": [2.0, 1.0]},
        {"prompt": rows[1]["prompt"], "responses": ["dddd", "c"], "scores": [None, None]},
    ]
    assert "4 answers scored, mean 1.5; the judge abstains on 2" in shown.err


def test_columns_that_a_judge_reads_are_not_said_to_be_unused(capsys: pytest.CaptureFixture[str]) -> None:
    jsonl(Path("answers.jsonl"), [{"prompt": "1 + 1", "response": "2", "solution": "2"}])
    assert main(["score", "numeric_match", "answers.jsonl"]) == 0
    shown = capsys.readouterr()
    assert lines(shown.out)[0]["score"] == 1.0 and "not used" not in shown.err


def test_what_generate_wrote_is_scored_as_python_would(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": text, "chosen": text, "rejected": text * 2} for text in ("ab", "ba", "bb", "aa")]
    pl.reward(model, rows, out="judge", epochs=1, minibatch_size=4, held_out_fraction=0)
    capsys.readouterr()
    assert main(["generate", model, "--prompt", "ab", "--prompt", "b", "--max_new_tokens=4", "--out", "a.jsonl"]) == 0
    assert main(["score", "judge/model", "a.jsonl"]) == 0
    out = lines(capsys.readouterr().out)
    texts = [(row["prompt"], row["response"]) for row in lines(Path("a.jsonl").read_text(encoding="utf-8"))]
    assert [(row["prompt"], row["response"]) for row in out] == texts
    python = pl.RewardModel.load("judge/model").score(*map(list, zip(*texts, strict=True)))
    assert [row["score"] for row in out] == pytest.approx(python)


def test_a_judge_that_compares_scores_a_row_among_its_answers(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": text, "chosen": text, "rejected": text * 2} for text in ("ab", "ba", "bb", "aa")]
    pl.reward(model, rows, out="judge", objective="pair", epochs=1, minibatch_size=4, held_out_fraction=0)
    jsonl(Path("rows.jsonl"), rows)
    capsys.readouterr()
    assert main(["score", "judge/model", "rows.jsonl"]) == 0
    shown = capsys.readouterr()
    assert "4 rows are scored among their own answers (log-odds, mean 0 in a row), 0 lone answers" in shown.err
    assert all(sum(row["scores"]) == pytest.approx(0, abs=1e-5) and any(row["scores"]) for row in lines(shown.out))
    jsonl(Path("lone.jsonl"), [{"prompt": "ab", "response": "a"}])
    assert main(["score", "judge/model", "lone.jsonl"]) == 2
    assert "lone.jsonl:1: the scorer 'reward_model' needs the column 'references'" in capsys.readouterr().err
    jsonl(Path("lone.jsonl"), [{"prompt": "ab", "response": "a", "references": ["b"]}])
    assert main(["score", "judge/model", "lone.jsonl"]) == 0
    assert "0 rows are scored among their own answers" in capsys.readouterr().err
