"""lm-evaluation-harness at its boundary: what it is asked, and what of its table becomes results."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from plaudit.cli import main
from plaudit.cli.tasks import names_of
from plaudit.evaluation.tasks import table_results
from tests.kills import kills
from tests.training.tiny import model_folder, results

TABLE = {
    "results": {
        "quiz": {"alias": "quiz", "sample_len": 8, "acc,none": 0.5, "acc_stderr,none": 0.1, "exact,strict": 0.25,
                 "exact_stderr,strict": "N/A"},
        "text": {"word_perplexity,none": 12.0, "word_perplexity_stderr,none": "N/A"},
    },
    "higher_is_better": {"quiz": {"acc": True, "exact": True}, "text": {"word_perplexity": False}},
    "n-samples": {"quiz": {"original": 9, "effective": 8}},
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for the package: every call of it."""
    calls: list[dict[str, Any]] = []
    harness, manager = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.tasks")
    vars(harness)["simple_evaluate"] = lambda **options: calls.append(options) or TABLE
    vars(harness)["__version__"] = "0"
    vars(manager)["TaskManager"] = lambda include_path: types.SimpleNamespace(all_tasks=["quiz", "text"])
    monkeypatch.setitem(sys.modules, "lm_eval", harness)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", manager)
    return calls


@kills(
    "evaluation/tasks.py",
    old="directions.get(metric, True) is not False",
    new="True",
    why="more perplexity counts as better",
)
def test_every_number_of_the_table_is_a_result_with_its_interval_and_direction():
    found = {one.part: one for one in table_results("ppo", TABLE)}
    assert found.keys() == {"quiz acc", "quiz exact (strict)", "text word_perplexity"}
    accuracy = found["quiz acc"]
    assert (accuracy.value, accuracy.low, accuracy.high, accuracy.count) == (
        0.5, pytest.approx(0.304), pytest.approx(0.696), 8,
    )  # fmt: skip
    assert found["quiz exact (strict)"].low is None
    assert accuracy.measure == "task_score_over_documents"
    assert found["text word_perplexity"].measure == "task_loss_over_documents"


def test_the_command_asks_for_each_model_and_shows_the_table(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for run in ("sft", "ppo"):
        model_folder(tmp_path / run / "model")
    assert main(["eval", "tasks", "sft/model", "ppo/model", "--tasks", "quiz, text", "--limit", "8"]) == 0
    assert [call["model_args"]["pretrained"] for call in asked] == ["sft/model", "ppo/model"]
    assert (asked[0]["tasks"], asked[0]["limit"], asked[0]["num_fewshot"]) == (["quiz", "text"], 8, None)
    assert [one.subject for one in results(Path("runs/tasks"))] == ["sft"] * 3 + ["ppo"] * 3
    assert "task, quiz acc" in capsys.readouterr().out
    Path("tasks.yaml").write_text("policies: {one: sft/model}\ntasks: [quiz]\n", encoding="utf-8")
    assert main(["eval", "tasks", "tasks.yaml", "--out", "runs/again"]) == 0
    assert asked[-1]["tasks"] == ["quiz"]


def test_mistakes_are_told(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "m")
    for arguments, message in {
        (): "name a model and tasks",
        ("m",): "tasks",
        ("m", "--tasks", "quizz"): "the harness knows no task 'quizz'",
        ("./gone", "--tasks", "quiz"): "no folder './gone'",
    }.items():
        assert main(["eval", "tasks", *arguments]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["eval", "tasks", "m", "--tasks", "quiz"]) == 2
    assert "pip install 'plaudit[lm-eval]'" in capsys.readouterr().err
    assert asked == []


def test_a_runs_model_is_called_by_the_run():
    assert names_of(["runs/a/model", "b/best", "hub/c"]) == {"a": "runs/a/model", "b": "b/best", "c": "hub/c"}
    assert list(names_of(["x/a/model", "y/a/model"])) == ["x/a/model", "y/a/model"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_real_harness_on_a_task_of_this_machine(tmp_path, monkeypatch):
    """Where the extra is installed: a local task file and data set, no network."""
    pytest.importorskip("lm_eval")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    model_folder(tmp_path / "m")
    rows = [{"question": "abc", "choices": ["d", "e"], "label": i % 2} for i in range(8)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("own").mkdir()
    Path("own/task.yaml").write_text(
        f"task: own_quiz\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\n"
        "doc_to_choice: '{{choices}}'\ndoc_to_target: label\n",
        encoding="utf-8",
    )
    assert main(["eval", "tasks", "m", "--tasks", "own_quiz", "--include", "own"]) == 0
    accuracy = next(one for one in results(Path("runs/tasks")) if one.part == "own_quiz acc")
    assert (accuracy.value, accuracy.count) == (0.5, 8)
