"""What a finished run says of itself."""

from pathlib import Path

import pytest

from plaudit.records.results import Result
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


def test_a_sick_run_is_said_to_be_one_before_its_model_is_named(tmp_path: Path) -> None:
    findings = [
        {"rule": "kl_far", "level": "alarm", "until": None},
        {"rule": "ratio_high", "level": "alarm", "until": 4},
        {"rule": "clip_high", "level": "warning", "until": None},
    ]
    ill = {"model": "model", "health": {"level": "alarm", "findings": findings}}
    assert as_text("ppo", tmp_path, ill) == [
        "not to be relied on before this is mended: alarm (kl_far)",
        f"model: {tmp_path}/model",
    ]
    assert as_text("pipeline", tmp_path, {"health": {"level": "warning", "stages": {"sft": "warning"}}}) == [
        "read this before what follows: warning (sft)"
    ]
    for level in ("healthy", "notice"):
        assert as_text("sft", tmp_path, {"health": {"level": level, "findings": []}}) == []


@kills(
    "runs/outcome.py", old='"up" else min', new='"down" else min', why="the worst run of a sweep is taken for the best"
)
@pytest.mark.parametrize(
    ("kind", "measure", "values", "best"),
    [
        ("reward", "held_out_accuracy_over_pairs", (0.5, 0.7), "b"),
        ("sft", "held_out_loss_over_tokens", (1.5, 1.7), "a"),
        ("ppo", "score_over_responses", (1.0, 2.0), ""),
    ],
)
def test_a_sweep_names_its_best_run_and_what_comes_next(
    tmp_path: Path, kind: str, measure: str, values: tuple[float, float], best: str
) -> None:
    folders = {name: str(tmp_path / f"0{i}-{name}") for i, name in enumerate("ab", start=1)}
    for folder in folders.values():
        Run.create(Path(folder), kind, {}).close()
    results = [
        {**Result(measure=measure, subject="model", value=x).to_plain(), "stage": name}
        for name, x in zip("ab", values, strict=True)
    ]
    told = as_text("pipeline", tmp_path, {"format": 2, "results": results, "sweep": folders})
    if not best:
        assert told == ["next: plaudit init compare, and name the runs' models in its `policies`"]
    else:
        assert told[0] == f"best by {measure_of(measure).title}: {best} ({values['ab'.index(best)]:g})"
        assert told[1].startswith("next: plaudit ") and f"{folders[best]}/model" in told[1]
