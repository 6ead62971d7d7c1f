"""What a finished run says of itself."""

from pathlib import Path

import pytest

from plaudit.runs.folder import Run
from plaudit.runs.outcome import as_text
from plaudit.stages import RUNS
from plaudit.telemetry.register import measure_of
from tests.kills import kills


@kills(
    "runs/outcome.py",
    old="(first_step, first), (last_step, last) = known[0], known[-1]",
    new="(first_step, first), (last_step, last) = known[-1], known[0]",
    why="what was gained is told as lost",
)
def test_the_model_the_way_and_the_next_command(tmp_path: Path) -> None:
    folder = tmp_path / "ppo"
    with Run.create(folder, "ppo", {}) as run:
        for step, score in enumerate((0.25, 0.5, 1.5), start=1):
            run.log(step, {"score_over_responses": score, "kl_ref_over_responses": score / 10})
        with run.save_model() as made:
            (made / "weights").write_bytes(b"1")
        run.finish({"format": 2, "results": []})
        told = run.summary
    assert told["model"] == "model" and told["next"] == "plaudit inspect RUN"
    assert told["first_to_last"]["score_over_responses"] == {
        "first": 0.25,
        "last": 1.5,
        "first_step": 1,
        "last_step": 3,
    }
    assert as_text("ppo", folder, told) == [
        f"model: {folder}/model",
        "score: 0.25 → 1.5 (iteration 1 to 3)",
        "KL to the reference: 0.025 → 0.15 (iteration 1 to 3)",
        f"next: plaudit inspect {folder}",
    ]


def test_the_best_policy_is_named_where_one_was_kept(tmp_path: Path) -> None:
    best = {"iteration": 4, "objective": 1.25, "stopped_early": True}
    assert as_text("ppo", tmp_path, {"model": "model", "best": "best", "best_policy": best})[1:] == [
        f"best: {tmp_path}/best",
        "best on held-out prompts: iteration 4, objective 1.25; nothing better came, and the run ended",
    ]
    none = {"iteration": 0, "objective": None, "stopped_early": False}
    assert as_text("ppo", tmp_path, {"model": "model", "best_policy": none}) == [f"model: {tmp_path}/model"]


def test_a_pipeline_names_the_models_of_its_stages(tmp_path: Path) -> None:
    for name in ("02-ppo", "01-sft", "03-compare/x"):
        (tmp_path / name / "model").mkdir(parents=True)
    assert as_text("pipeline", tmp_path, {}) == [f"model: {tmp_path}/01-sft/model", f"model: {tmp_path}/02-ppo/model"]


def test_what_there_is_not_is_left_out(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        run.finish({"format": 2})
        assert run.summary == {"format": 2}
    assert as_text("sft", tmp_path, {}) == []


@pytest.mark.parametrize(
    "stage", [stage for stage in RUNS.values() if stage.main_measures], ids=lambda stage: stage.name
)
def test_main_measures_are_declared_and_curves(stage: object) -> None:
    assert all(measure_of(key).panel for key in stage.main_measures)  # type: ignore[attr-defined]
