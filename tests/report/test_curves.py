"""Curves by hand numbers: which share a figure, which levels stand across them, when an axis is logarithmic."""

from __future__ import annotations

from pathlib import Path

import pytest

from plaudit.report import curves, measures
from plaudit.report.collect import RunData, collect
from plaudit.report.figures import Figure
from tests.kills import kills
from tests.report.folders import sft_lines, summary, write_pipeline, write_run


def run_of(folder: Path, stage: str, lines: list[dict], **more: object) -> RunData:
    return collect(write_run(folder, stage, lines=lines, **more))


def drawn(*runs: RunData) -> dict[str, Figure]:
    return {figure.title: figure for figure in curves.curves(runs, runs)}


def test_smoothing_by_hand() -> None:
    assert curves.smooth([1.0, 2.0, 3.0, 10.0, None, 4.0], 3) == pytest.approx([1.5, 2.0, 5.0, 6.5, None, 4.0])
    assert curves.smooth([1.0, 3.0], 9) == pytest.approx([2.0, 2.0])
    assert curves.smooth([None, None], 3) == [None, None]


def test_a_far_spike_does_not_spoil_the_mean_elsewhere() -> None:
    smoothed = curves.smooth([1e20] + [1.0] * 9, 3)
    assert smoothed[2:] == pytest.approx([1.0] * 8, rel=1e-12)


def test_training_and_held_out_loss_share_a_figure(tmp_path: Path) -> None:
    line = {"step": 1, "sft/loss_over_tokens": 3.0, "sft/held_out_loss_over_tokens": 3.5}
    loss = drawn(run_of(tmp_path / "r", "sft", [line]))["Loss"]
    assert loss.keys == ("loss_over_tokens", "held_out_loss_over_tokens")
    assert [(trace["name"], trace["y"]) for trace in loss.plot["data"]] == [
        ("loss per token", [3.0]),
        ("held-out loss per token", [3.5]),
    ]
    assert loss.plot["layout"]["yaxis"]["title"]["text"] == "nats/token"
    assert "loss per token: 3 at step 1" in loss.alt


def test_every_measure_is_drawn_once_unknown_ones_folded() -> None:
    keys = ["score_over_responses", "brand_new_number", "part/tone_over_responses", "seconds_sample"]
    arranged = measures.arrange([*keys, *keys])
    assert sorted(key for _, taken in arranged for key in taken) == sorted(keys)
    new = next(panel for panel, taken in arranged if "brand_new_number" in taken)
    assert (new.title, new.folded) == ("brand new number", True)
    assert arranged[0][1] == ("score_over_responses",)


def test_runs_are_laid_over_each_other_by_name(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, "ppo", [{"step": 1, "ppo/kl_coef": x}]) for name, x in (("a<b>", 1.0), ("c", 2.0))]
    (figure,) = drawn(*runs).values()
    assert [(trace["name"], trace["y"], trace["meta"]) for trace in figure.plot["data"]] == [
        ("a&lt;b&gt;", [1.0], 0),
        ("c", [2.0], 1),
    ]
    assert len({trace["line"]["color"] for trace in figure.plot["data"]}) == 2
    assert figure.plot["layout"]["showlegend"] is True


def test_traces_name_their_run_among_all_runs_of_the_report(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, "x", [{"step": 1, "x/kl_coef": 1.0}]) for name in "abc"]
    (figure,) = curves.curves(runs[2:], runs)
    assert [trace["meta"] for trace in figure.plot["data"]] == [2]


def test_long_curves_are_thinned_and_smoothed(tmp_path: Path) -> None:
    raw, mean, held_out, *_ = drawn(run_of(tmp_path / "r", "sft", sft_lines(5000)))["Loss"].plot["data"]
    assert len(raw["x"]) <= 2000 and len(mean["x"]) <= 2000
    assert raw["opacity"] < 1 and "opacity" not in mean and mean["hoverinfo"] == "skip"
    assert raw["showlegend"] is False and mean["name"] == "loss per token"
    assert len(held_out["x"]) == 100
    assert max(mean["y"]) - min(mean["y"]) < max(raw["y"]) - min(raw["y"])


def levels(figure: Figure) -> dict[str, float]:
    layout = figure.plot["layout"]
    heights = [shape["y0"] for shape in layout["shapes"]]
    return {note["text"]: height for note, height in zip(layout["annotations"], heights, strict=True)}


def test_levels_stand_at_their_values_with_their_names(tmp_path: Path) -> None:
    _, sft, reward, ppo, _ = collect(write_pipeline(tmp_path / "p")).stages
    accuracy = drawn(reward)["Accuracy"]
    assert levels(accuracy) == {"floor: 50.0%": 0.5, "ceiling: 78.3%": 0.783, "longer wins: 55.0%": 0.55}
    labels = {note["text"]: note for note in accuracy.plot["layout"]["annotations"]}
    assert labels["ceiling: 78.3%"]["xanchor"] == "left"  # the curve begins far below it
    assert labels["floor: 50.0%"]["xanchor"] == "right"
    assert levels(drawn(sft)["Loss of a whole answer"]) == {"floor: 29.1": 29.1, "ceiling: 6.92": 6.92}
    assert levels(drawn(ppo)["Score"]) == {}


def test_an_optimum_on_other_prompts_is_no_level_of_training(tmp_path: Path) -> None:
    """J* of the comparison's prompts: the objective on training's own may lie above it."""
    stages = collect(write_pipeline(tmp_path / "p")).stages
    assert any(result.ceiling == 1.83 for result in stages[4].results)
    assert levels(drawn(*stages)["Objective"]) == {}


@kills(
    "report/curves.py",
    old="if about.curve not in keys or about.curve not in run.series:",
    new="if about.curve not in keys and not about.panel:",
    why="a floor stands across a curve of another measure",
)
def test_a_verdict_models_floor_hangs_on_its_own_curve(tmp_path: Path) -> None:
    """Rows, not pairs: the two accuracies are different measures with curves of their own."""
    line = {"step": 1, "reward/held_out_accuracy_over_rows": 0.8, "reward/held_out_accuracy_over_pairs": 0.9}
    found = [{"measure": "held_out_accuracy_over_rows", "subject": "reward model", "value": 0.8, "floor": 0.6}]
    verdicts = run_of(tmp_path / "v", "reward", [line], summary=summary(found))
    assert levels(drawn(verdicts)["Accuracy"]) == {"floor: 60.0%": 0.6}
    del line["reward/held_out_accuracy_over_rows"]
    pairs = run_of(tmp_path / "p", "reward", [line], summary=summary(found))
    assert levels(drawn(pairs)["Accuracy"]) == {}


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ([548.0, 3.0, 1.5, 1.4, 1.4, 1.3], True),
        ([100.0, 80.0, 60.0, 40.0, 20.0, 1.0], False),  # falls evenly: a line tells it best
        ([6.0, 0.4, 0.3, 0.3], False),  # less than two decades
        ([548.0, 3.0, 1.5, 0.0], False),
        ([], False),
    ],
)
def test_axes_are_logarithmic_where_a_linear_one_would_hide_the_curve(values: list[float], logarithmic: bool) -> None:
    assert curves.spans_decades(values) is logarithmic


def test_a_logarithmic_axis_has_its_labels_at_exponents(tmp_path: Path) -> None:
    lines = [{"step": i, "sft/held_out_nll_over_answers": x} for i, x in enumerate((1000.0, 10.0, 9.0, 9.0, 9.0))]
    found = [{"measure": "held_out_nll_over_answers", "subject": "SFT", "value": 9.0, "ceiling": 1.0}]
    run = run_of(tmp_path / "r", "sft", lines, summary=summary(found))
    layout = drawn(run)["Loss of a whole answer"].plot["layout"]
    assert (layout["yaxis"]["type"], layout["shapes"][0]["y0"], layout["annotations"][0]["y"]) == ("log", 1.0, 0.0)


@pytest.mark.parametrize(("stage", "name"), [("ppo", "iteration"), ("sft", "step"), ("of another version", "step")])
def test_steps_are_called_as_the_stage_counts_them(tmp_path: Path, stage: str, name: str) -> None:
    (figure,) = drawn(run_of(tmp_path / "r", stage, [{"step": 1, "x/kl_coef": 1.0}])).values()
    assert figure.plot["layout"]["xaxis"]["title"]["text"] == name


def test_panels_are_there_only_for_what_was_logged(tmp_path: Path) -> None:
    """Options that are off log nothing, and leave no empty axes."""
    quiet = run_of(tmp_path / "quiet", "ppo", [{"step": 1, "ppo/kl_coef": 0.1}])
    assert list(drawn(quiet)) == ["Weight of the KL"]
    keys = ["ptx_loss_over_tokens", "kl_loss_over_tokens", "trust_kl_coef", "kl_sampler_over_tokens"]
    loud = run_of(tmp_path / "loud", "ppo", [{"step": 1, **{f"ppo/{key}": 0.1 for key in keys}}])
    assert list(drawn(loud)) == [
        "KL in the loss",
        "Loss on pre-training text",
        "Weight of the trust region's KL",
        "KL of sampler and trainer",
    ]
