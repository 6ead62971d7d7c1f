"""Figures by hand numbers: which curves, which points, which levels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.report import figures, panels
from plaudit.report.collect import RunData, collect
from tests.report.folders import (
    ppo_lines,
    reward_lines,
    rollout_rows,
    sample_rows,
    sft_lines,
    write_pipeline,
    write_run,
)


def run_of(folder: Path, stage: str, lines: list[dict], **more: object) -> RunData:
    return collect(write_run(folder, stage, lines=lines, **more))


def titled(made: list[figures.Figure], title: str) -> figures.Figure:
    (found,) = [figure for figure in made if figure.title == title]
    return found


@given(
    ys=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=300),
    limit=st.integers(4, 60),
)
def test_thinning_keeps_ends_extremes_and_order(ys: list[float | None], limit: int) -> None:
    xs = list(range(100, 100 + len(ys)))
    kept_xs, kept_ys = figures.thin(xs, ys, limit)
    assert len(kept_xs) <= limit
    assert kept_xs == sorted(set(kept_xs))
    assert (kept_xs[0], kept_xs[-1]) == (xs[0], xs[-1])
    assert all(ys[x - 100] == y for x, y in zip(kept_xs, kept_ys, strict=True))
    known, kept = [y for y in ys if y is not None], [y for y in kept_ys if y is not None]
    if known:
        assert (min(kept), max(kept)) == (min(known), max(known))


def test_thinning_keeps_every_lone_spike() -> None:
    ys = [0.0] * 50_000
    for spike in (777, 25_000, 49_000):
        ys[spike] = 1.0
    xs, thinned = figures.thin(range(50_000), ys)
    assert len(xs) <= 2000
    assert [x for x, y in zip(xs, thinned, strict=True) if y] == [777, 25_000, 49_000]


def test_thinning_leaves_a_gap_where_nothing_was_known() -> None:
    ys: list[float | None] = [1.0] * 100 + [None] * 100 + [2.0] * 100
    _, thinned = figures.thin(range(300), ys, 40)
    assert None in thinned


def test_smoothing_by_hand() -> None:
    assert figures.smooth([1.0, 2.0, 3.0, 10.0, None, 4.0], 3) == pytest.approx([1.5, 2.0, 5.0, 6.5, None, 4.0])
    assert figures.smooth([1.0, 3.0], 9) == pytest.approx([2.0, 2.0])
    assert figures.smooth([None, None], 3) == [None, None]


def test_a_far_spike_does_not_spoil_the_mean_elsewhere() -> None:
    smoothed = figures.smooth([1e20] + [1.0] * 9, 3)
    assert smoothed[2:] == pytest.approx([1.0] * 8, rel=1e-12)


def test_training_and_held_out_loss_share_a_figure(tmp_path: Path) -> None:
    line = {"step": 1, "sft/loss_over_tokens": 3.0, "sft/held_out_loss_over_tokens": 3.5}
    run = run_of(tmp_path / "r", "sft", [line])
    loss = titled(figures.curves("sft", [run]), "Loss")
    assert loss.keys == ("sft/loss_over_tokens", "sft/held_out_loss_over_tokens")
    assert [(trace["name"], trace["y"]) for trace in loss.plot["data"]] == [("loss", [3.0]), ("held-out loss", [3.5])]
    assert loss.plot["layout"]["yaxis"]["title"]["text"] == "nats/token"
    assert "loss: 3 at step 1" in loss.alt


def test_every_metric_is_drawn_once_unknown_ones_folded() -> None:
    keys = ["ppo/score_over_responses", "ppo/brand_new_number", "ppo/part/tone_over_responses", "ppo/seconds_sample"]
    arranged = panels.arrange([*keys, *keys])
    assert sorted(key for _, taken in arranged for key in taken) == sorted(keys)
    new = next(panel for panel, taken in arranged if "ppo/brand_new_number" in taken)
    assert (new.title, new.folded) == ("brand new number", True)
    assert arranged[0][1] == ("ppo/score_over_responses",)


def test_every_declared_metric_has_a_panel() -> None:
    from plaudit.telemetry.register import MEASURES

    drawn = [f"ppo/{key}" for key, measure in MEASURES.items() if measure.panel]
    assert [panel.title for panel, _ in panels.arrange(drawn) if not panel.pattern] == []


def test_runs_are_laid_over_each_other_by_name(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, "ppo", [{"step": 1, "ppo/kl_coef": x}]) for name, x in (("a<b>", 1.0), ("c", 2.0))]
    (figure,) = figures.curves("ppo", runs)
    assert [(trace["name"], trace["y"]) for trace in figure.plot["data"]] == [("a&lt;b&gt;", [1.0]), ("c", [2.0])]
    assert len({trace["line"]["color"] for trace in figure.plot["data"]}) == 2
    assert figure.plot["layout"]["showlegend"] is True


def test_long_curves_are_thinned_and_smoothed(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r", "sft", sft_lines(5000))
    raw, mean, held_out, *_ = titled(figures.curves("sft", [run]), "Loss").plot["data"]
    assert len(raw["x"]) <= 2000 and len(mean["x"]) <= 2000
    assert raw["opacity"] < 1 and "opacity" not in mean and mean["hoverinfo"] == "skip"
    assert raw["showlegend"] is False and mean["name"] == "loss"
    assert len(held_out["x"]) == 100
    assert max(mean["y"]) - min(mean["y"]) < max(raw["y"]) - min(raw["y"])


def test_levels_stand_at_their_values_with_their_names(tmp_path: Path) -> None:
    pipeline = collect(write_pipeline(tmp_path / "p"))
    sft, reward, ppo = pipeline.stages[1:4]
    accuracy = titled(figures.curves("reward", [reward]), "Accuracy").plot
    assert {line["name"]: line["y"] for line in accuracy["data"][2:]} == {
        "floor: 0.5": [0.5, 0.5],
        "ceiling: 0.783": [0.783, 0.783],
    }
    assert accuracy["data"][2]["x"] == [0, 89]
    labels = {note["text"]: note for note in accuracy["layout"]["annotations"]}
    assert labels["ceiling: 0.783"]["xanchor"] == "left"  # the curve begins far below it
    assert labels["floor: 0.5"]["xanchor"] == "right"
    answers = titled(figures.curves("sft", [sft]), "Loss of a whole answer").plot
    assert [note["text"] for note in answers["layout"]["annotations"]] == [
        "floor: 29.1",
        "ceiling, the demonstrator's own: 6.92",
    ]
    objective = titled(figures.curves("ppo", [ppo]), "Objective").plot
    assert [note["text"] for note in objective["layout"]["annotations"]] == ["J_ref: 0.02", "J*: 1.83"]
    assert titled(figures.curves("ppo", [ppo]), "Score").plot["layout"]["annotations"] == []


def test_the_frontier_is_score_against_the_root_of_kl(tmp_path: Path) -> None:
    kls = {1: -0.01, 2: 4.0, 3: 9.0, 4: None}
    score, distance = "ppo/score_over_responses", "ppo/kl_ref_over_responses"
    lines = [{"step": step, distance: kl, score: step / 2} for step, kl in kls.items()]
    figure = figures.frontier([run_of(tmp_path / "r", "ppo", [*lines, {"step": 5, score: 9.0}])])
    (trace,) = figure.plot["data"]
    assert trace["x"] == [0.0, 2.0, 3.0]
    assert trace["y"] == [0.5, 1.0, 1.5]
    assert trace["marker"]["color"] == trace["customdata"] == [1, 2, 3]
    axis = figure.plot["layout"]["coloraxis"]
    assert (axis["cmin"], axis["cmax"]) == (1, 3)


def test_the_frontier_tells_judge_truth_and_runs_apart(tmp_path: Path) -> None:
    a, b = (run_of(tmp_path / name, "ppo", ppo_lines(5)) for name in "ab")
    sft = run_of(tmp_path / "s", "sft", sft_lines(5))
    alone = figures.frontier([sft, a]).plot["data"]
    assert [trace["marker"]["symbol"] for trace in alone[:3]] == ["circle", "diamond-open", "square"]
    assert [trace["name"] for trace in alone[3:]] == ["score", "true score", "held-out score"]
    both = figures.frontier([a, b]).plot["data"]
    assert len({trace["marker"]["symbol"] for trace in both[:6]}) == 6
    assert figures.frontier([sft]) is None


def test_a_frontier_of_many_points_is_thinned(tmp_path: Path) -> None:
    lines = ppo_lines(5001)
    lines[1234]["ppo/score_over_responses"] = 99.0
    trace = figures.frontier([run_of(tmp_path / "r", "ppo", lines)]).plot["data"][0]
    assert len(trace["x"]) <= 2000
    assert max(trace["y"]) == 99.0 and trace["customdata"][-1] == 5001


def test_the_distribution_counts_shares_in_common_bins(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "before": "b", "after": "a", "score_before": before, "score_after": after}
        for before, after in [(0.0, 3.0), (0.0, 3.0), (0.0, 0.0), (1.5, None)]
    ]
    (figure,) = figures.distributions([run_of(tmp_path / "r", "compare", [], samples=rows)])
    before, after = figure.plot["data"]
    assert before["name"] == "before: mean 0.375, n = 4"
    assert after["name"] == "after: mean 2, n = 3"
    assert before["x"] == after["x"]
    assert (before["y"][0], before["y"][15], sum(before["y"])) == (0.75, 0.25, 1.0)
    assert (after["y"][0], after["y"][-1]) == pytest.approx((1 / 3, 2 / 3))


def test_distributions_by_policy_and_from_rollouts(tmp_path: Path) -> None:
    samples = [*sample_rows(20), *({**row, "policy": "control"} for row in sample_rows(20))]
    made = figures.distributions([run_of(tmp_path / "c", "compare", [], samples=samples)])
    assert [figure.title for figure in made] == [
        f"{kind} before and after · {policy}" for policy in ("ppo", "control") for kind in ("Scores", "True scores")
    ]
    rollouts = {1: rollout_rows(9), 8: rollout_rows(9)}
    (figure,) = figures.distributions([run_of(tmp_path / "r", "ppo", [], rollouts=rollouts)])
    assert figure.plot["data"][1]["name"].startswith("iteration 8: mean")
    assert figures.distributions([run_of(tmp_path / "one", "ppo", [], rollouts={1: rollout_rows(9)})]) == []


def test_equal_scores_and_huge_ones_make_a_figure(tmp_path: Path) -> None:
    for name, score in (("equal", 1.0), ("huge", 1.7e308)):
        words = {"prompt": "p", "before": "b", "after": "a"}
        rows = [{**words, "score_before": x, "score_after": score} for x in (-score, score)]
        (figure,) = figures.distributions([run_of(tmp_path / name, "compare", [], samples=rows)])
        assert sum(figure.plot["data"][0]["y"]) == 1.0


def test_plotly_accepts_every_figure(tmp_path: Path) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    runs = list(collect(write_pipeline(tmp_path / "p")).stages)
    more = run_of(tmp_path / "q", "reward", reward_lines())
    made = figures.curves("sft", [runs[1]]) + figures.curves("ppo", [runs[3]])
    made += figures.curves("reward", [runs[2], more]) + figures.distributions(runs) + [figures.frontier(runs)]
    assert len(made) > 20
    for figure in made:
        graph_objects.Figure(figure.plot)  # raises ValueError for a property that plotly doesn't know


def test_panels_are_there_only_for_what_was_logged(tmp_path: Path) -> None:
    """Options that are off log nothing, and leave no empty axes."""
    quiet = run_of(tmp_path / "quiet", "ppo", [{"step": 1, "ppo/kl_coef": 0.1}])
    assert [figure.title for figure in figures.curves("ppo", [quiet])] == ["Weight of the KL"]
    keys = ["ptx_loss_over_tokens", "kl_loss_over_tokens", "trust_kl_coef", "kl_sampler_over_tokens"]
    loud = run_of(tmp_path / "loud", "ppo", [{"step": 1, **{f"ppo/{key}": 0.1 for key in keys}}])
    assert [figure.title for figure in figures.curves("ppo", [loud])] == [
        "KL in the loss",
        "Loss on pre-training text",
        "Weight of the trust region's KL",
        "KL of sampler and trainer",
    ]
