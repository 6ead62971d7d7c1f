"""The real model beside the figure: rows held apart, a sound pipeline, its points and its table."""

import json

import pytest

from benchmarks import real_model, win_rate_figure
from benchmarks.win_rate_tables import END, REAL_BEGIN, filled_real
from plaudit.config.load import load_config
from plaudit.pipeline import PipelineConfig, plan
from tests.benchmarks.test_win_rate_over_sizes import seeds
from tests.training.tiny import jsonl


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.setattr(real_model, "PARTS", dict(zip(real_model.PARTS, (6, 2, 3, 4), strict=True)))
    rows = [{"prompt": f"question {i}", "context": "", "response": f"answer {i}"} for i in range(16)]
    rows += [{"prompt": "long", "response": "a" * 241}, {"prompt": "where", "context": "a page", "response": "there"}]
    return jsonl(tmp_path / "dolly.jsonl", rows)


def test_no_prompt_stands_in_two_files_and_long_rows_in_none(rows, tmp_path):
    for folder in ("a", "b"):
        real_model.divide(str(rows), tmp_path / folder)
    written = {name: (tmp_path / "a" / f"{name}.jsonl").read_text(encoding="utf-8") for name in real_model.PARTS}
    assert written == {name: (tmp_path / "b" / f"{name}.jsonl").read_text(encoding="utf-8") for name in written}
    lines = [json.loads(line) for text in written.values() for line in text.splitlines()]
    prompts = [line["prompt"] for line in lines]
    assert len(set(prompts)) == len(prompts) == 15
    assert {"long", "where"}.isdisjoint(prompts)
    assert all(line.get("response", "answer").startswith("answer") for line in lines)
    assert '"response"' not in written["held_out_prompts"]


def test_too_few_rows_are_told(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(real_model, "PARTS", {"demonstrations": 17})
    with pytest.raises(SystemExit, match="16 short rows without a context; 17 are needed"):
        real_model.divide(str(rows), tmp_path / "rows")


def test_the_launcher_gives_every_path(tmp_path):
    added = real_model.paths("MODEL", tmp_path, "VOTES", "COMPARISONS")
    stages = {
        stage.name: stage.config for stage in plan(load_config(PipelineConfig, real_model.CONFIG, added), tmp_path)
    }
    text = repr(list(stages.values()))
    assert "rows/" not in text.replace(str(tmp_path), "")
    assert "models/smollm2" not in text
    assert (stages["reward"].data[0].path, stages["judge"].data[0].path) == ("VOTES", "COMPARISONS")
    assert stages["compare"].policies["prompted"] == "MODEL"


def made() -> dict:
    one = {"win_rate": [0.6, 0.5, 0.7], "length_controlled": [0.55, 0.45, 0.65], "own_win_rate": [0.8, 0.7, 0.9],
           "score": [1.5, 1.0, 2.0], "kl": [3.25, 3.0, 3.5]}  # fmt: skip
    return {"parameters": 134_500_000, "prompts": 200, "seconds": 5400.0, "peak_memory_bytes": 3 * 2**30,
            "accuracy": {"judge": [0.61, 0.55, 0.67], "reward": [0.65, 0.6, 0.7]}, "sft_score": [0.5, 0.25, 0.75],
            "policies": {"prompted": one | {"win_rate": [0.25, 0.2, 0.3]}, "ppo": one}}  # fmt: skip


def test_its_points_stand_unconnected_with_the_judges_own_accuracy():
    numbers = win_rate_figure.gathered(seeds(), form="quick")
    alone, drawn = win_rate_figure.figure(numbers), win_rate_figure.figure(numbers, made())
    assert "134 M, real" in drawn
    assert "agrees with people in 61% of pairs" in drawn
    assert drawn.count("<polyline") == alone.count("<polyline")
    assert drawn.count("<polygon") == alone.count("<polygon") + 2


def test_its_table_has_wins_time_and_memory():
    page = filled_real(f"a\n{REAL_BEGIN}\nold\n{END}\nb", made())
    assert "134.5 M parameters, 200 prompts, 1.5 hours, 3.0 GiB at most" in page
    assert "judge agrees with its people in 0.61 (0.55 to 0.67)" in page
    assert "| as it comes | 0.25 (0.20 to 0.30) | 0.55" in page
    assert page.startswith("a\n")
    assert page.endswith(f"{END}\nb")
