"""Several runs side by side: what differs, and what came of it."""

from __future__ import annotations

from pathlib import Path

from plaudit.report.collect import collect
from plaudit.report.runs_table import OPTIONS, differences, runs_tables
from tests.report.folders import write_pipeline, write_run


def test_only_options_that_differ_are_compared() -> None:
    configs = [{"seed": 1, "kl": {"coef": 0.1}, "lr": 1e-5}, {"seed": 1, "kl": {"coef": 0.2}, "extra": "x"}]
    assert dict(differences(configs)) == {
        "kl.coef": ("0.1", "0.2"), "lr": ("1e-05", None), "extra": (None, "x"),
    }  # fmt: skip
    assert differences(configs[:1] * 2) == ()


def test_runs_with_what_differs_and_where_their_curves_ended(tmp_path: Path) -> None:
    def run(name: str, coef: float, score: float, **more: object) -> object:
        lines = [{"step": 3, "ppo/score_over_responses": score, "ppo/eos_over_responses": 0.5, "ppo/grad_norm": 1.0}]
        return collect(write_run(tmp_path / name, "ppo", config={"kl": {"coef": coef}, **more}, lines=lines))

    (table,) = runs_tables([run("a", 0.1, 1.25), run("b", 0.2, 0.75)])
    assert (table.title, table.options) == ("2 runs of ppo", ("kl.coef",))
    assert table.numbers == (("score_over_responses", ""), ("eos_over_responses", ""))  # no optimiser's affairs
    assert [(line.name, line.options, line.numbers) for line in table.lines] == [
        ("a", ("0.1",), ("1.25", "50.0%")),
        ("b", ("0.2",), ("0.75", "50.0%")),
    ]
    many = {f"option_{i}": i for i in range(9)}
    (wide,) = runs_tables([run("c", 0.1, 1.0), run("d", 0.2, 1.0, **many)])
    assert (len(wide.options), wide.left_out) == (OPTIONS, 10 - OPTIONS)


def test_pipelines_show_the_results_of_what_they_compared(tmp_path: Path) -> None:
    pipelines = [collect(write_pipeline(tmp_path / str(seed), seed=seed)) for seed in (0, 1)]
    (table,) = runs_tables(pipelines)
    assert (table.title, table.options) == ("2 pipelines", ("seed",))
    assert table.numbers[:3] == (
        ("judge_score_over_prompts", "ppo"),
        ("kl_baseline_over_prompts", "ppo"),
        ("win_rate_over_prompts", "ppo"),
    )
    assert table.lines[0].numbers[:3] == ("1.62", "6.5", "81.0%")


def test_one_of_a_kind_needs_no_table(tmp_path: Path) -> None:
    assert runs_tables([collect(write_run(tmp_path / "a", "ppo")), collect(write_run(tmp_path / "b", "sft"))]) == ()
