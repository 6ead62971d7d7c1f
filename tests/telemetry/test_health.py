"""Rules of health on series of numbers: what fires, when, and what stays silent."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from plaudit.records.results import Result
from plaudit.telemetry.health import HEALTHY, Level, Monitor, Trend, diagnose, verdict, worst
from plaudit.telemetry.health_rules import RESULT_RULES, RULES
from plaudit.telemetry.register import MEASURES
from tests.architecture.repo import ROOT
from tests.kills import kills

N = 30
WELL = {
    "score_over_responses": [0.1, 0.4, 0.3, 0.6, 0.5, 0.8, 0.9, 0.8, 1.0, 1.1] + [1.1, 1.2] * 10,
    "score_std_over_responses": [1.2] * N,
    "objective_over_responses": [0.1, 0.3, 0.3, 0.5, 0.4, 0.7, 0.8, 0.7, 0.9, 1.0] + [1.0, 1.1] * 10,
    "kl_ref_over_responses": [0.0, -0.05] + [0.02 * i for i in range(N - 2)],
    "length_over_responses": [20.0, 19.0] * 15,
    "eos_over_responses": [0.98] * N,
    "entropy_over_tokens": [0.32 - 0.003 * i for i in range(N)],
    "abstained_over_responses": [0.0] * N,
    "repetition_over_responses": [0.05] * N,
    "clip_fraction_over_tokens": [0.02] * N,
    "ratio_max": [1.3] * 15 + [7.7] + [1.2] * 14,
    "explained_variance": [0.0, -0.2, -0.1, 0.0, 0.1, -0.1, 0.1, 0.2, 0.1, 0.2] + [0.3, -0.1] * 10,
    "value_over_tokens": [0.0, 0.01] + [0.1] * (N - 2),
    "kl_sampler_over_tokens": [1e-6] * N,
    "skipped_updates": [0.0] * N,
}
"""A healthy PPO run of thirty iterations."""
TRAINING = {"loss_over_tokens": [6.0 - 0.15 * i for i in range(N)], "skipped_updates": [0.0] * N}
RISING = [0.1 * i for i in range(N)]
FALLING = [3.0 - 0.1 * i for i in range(N)]


def noisy(series: Sequence[float]) -> list[float]:
    return [x + (0.05 if i % 2 else -0.05) for i, x in enumerate(series)]


def fired(stage: str, series: Mapping[str, Sequence[float]], config: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Rule → the step at which it fired first, of those that hold at the end."""
    monitor = Monitor(stage, config or {})
    told = 0
    for i in range(max(map(len, series.values()))):
        told += len(monitor.see(i + 1, {key: xs[i] for key, xs in series.items() if i < len(xs)}))
    assert told == len(monitor.findings)  # each once
    return {one.rule: one.since or 0 for one in monitor.findings.values() if one.until is None}


SICK: dict[str, tuple[dict[str, Sequence[float]], int]] = {
    "kl_far": ({"kl_ref_over_responses": [0.0, 20.0, 39.0, 41.0] + [45.0] * 26}, 4),
    "kl_negative": ({"kl_ref_over_responses": [0.0, 0.2] + [-0.2] * 28}, 7),
    "ratio_high": ({"ratio_max": [1.5] * 27 + [321.0, 1.2, 1.1]}, 28),
    "clip_high": ({"clip_fraction_over_tokens": [0.1, 0.4, 0.1] + [0.4] * 27}, 5),
    "entropy_collapsed": ({"entropy_over_tokens": [0.3] * 10 + [0.02] * 20}, 17),
    "critic_blind": ({"explained_variance": [0.1] * 5 + [-0.2] * 25}, 15),
    "answers_cut": ({"eos_over_responses": [0.0] * N}, 2),
    "answers_grow": ({"length_over_responses": [20.0] * 10 + [50.0] * 20}, 14),
    "answers_vanish": ({"length_over_responses": [20.0] * 10 + [2.0] * 20}, 15),
    "answers_repeat": ({"repetition_over_responses": [0.1] * 10 + [0.9] * 20}, 13),
    "scores_alike": ({"score_over_responses": [1.0] * N, "score_std_over_responses": [0.0] * N}, 2),
    "judge_abstains": ({"abstained_over_responses": [0.0, 0.5, 0.1] + [0.5] * 27}, 5),
    "part_fails": ({"part_failed/rule_over_responses": [0.0] * 5 + [0.2] * 25}, 7),
    "judge_reads_part": ({"part_cut/judge_over_responses": [0.0] * 5 + [0.2] * 25}, 7),
    "judge_beyond_training": ({"part_beyond/judge_over_responses": [0.0] * 5 + [0.6] * 25}, 8),
    "part_falls": ({"part/second_over_responses": noisy(FALLING)}, 10),
    "second_judge_falls": (
        {"held_out_part/truth_over_prompts": noisy(FALLING), "held_out_score_over_prompts": noisy(RISING)},
        10,
    ),
    "score_bought": ({"objective_over_responses": noisy(FALLING), "score_over_responses": noisy(RISING)}, 10),
    "score_falls": ({"score_over_responses": noisy(FALLING)}, 10),
    "scores_off_zero": ({"score_over_responses": [5.0, 5.1, 5.0], "value_over_tokens": [0.0] * 3}, 1),
    "sampler_differs": ({"kl_sampler_over_tokens": [0.02] * N}, 2),
    "steps_skipped": ({"skipped_updates": [0.0] * 9 + [1.0] * 21}, 10),
}
PARTS = {"rewards": [{"name": "first", "weight": 1.0}, {"function": "f.py:second", "weight": 0.0}]}


@pytest.mark.parametrize("rule", SICK)
def test_each_sickness_of_ppo_is_named_and_nothing_else(rule: str) -> None:
    series, step = SICK[rule]
    short = {key: xs[: min(map(len, series.values()))] for key, xs in WELL.items()}
    assert fired("ppo", {**short, **series}, PARTS) == {rule: step}


TRAINED: dict[str, tuple[str, dict[str, Sequence[float]], int]] = {
    "loss_rises": ("sft", {"loss_over_tokens": [6.0] * 12 + [8.5] * 18}, 16),
    "held_out_loss_rises": ("sft", {"held_out_loss_over_tokens": [6.0, 1.0, 0.9, 1.0, 0.94, 0.96, 0.97]}, 7),
    "end_not_learned": ("sft", {"held_out_end_over_answers": [0.0, 0.02, 0.01, 0.03]}, 4),
    "rows_left_out": ("sft", {"left_out_over_rows": [0.8]}, 1),
    "rows_cut": ("sft", {"cut_over_rows": [0.8]}, 1),
    "pair_loss_rises": ("reward", {"loss_over_rows": [0.7] * 10 + [2.0] * 20}, 12),
    "judge_overfits": (
        "reward",
        {"held_out_accuracy_over_pairs": [0.6, 0.65, 0.62], "accuracy_over_pairs": [0.6, 0.95, 0.99, 0.99]},
        3,
    ),
    "judge_surer_than_right": ("reward", {"held_out_loss_over_prompts": [0.6, 0.7, 0.8]}, 3),
}


@pytest.mark.parametrize("rule", TRAINED)
def test_each_sickness_of_sft_and_of_reward_models(rule: str) -> None:
    stage, series, step = TRAINED[rule]
    well = TRAINING if stage == "sft" else {"skipped_updates": [0.0] * 3}
    assert fired(stage, {**well, **series}) == {rule: step}


@kills(
    "telemetry/health_rules.py",
    old="explained.last <= 0.0 < spread.last",
    new="explained.last <= 0.5 < spread.last",
    why="a critic that explains a third of the returns is called blind",
)
def test_the_healthy_are_healthy() -> None:
    assert (
        fired("ppo", {**WELL, "part/first_over_responses": RISING, "part/second_over_responses": RISING}, PARTS) == {}
    )
    assert fired("sft", {**TRAINING, "held_out_loss_over_tokens": [6.0, 1.0, 0.9, 0.91, 0.93]}) == {}
    assert fired("sft", {**TRAINING, "held_out_end_over_answers": [0.0, 0.0, 0.0, 0.9]}) == {}
    assert fired("reward", {"held_out_loss_over_prompts": [0.7, 0.6], "held_out_accuracy_over_pairs": [0.5, 0.8]}) == {}


def test_what_is_meant_is_no_sickness() -> None:
    """A part of negative weight should fall; a control learns nothing; centred scores need no other zero."""
    falling = {**WELL, "part/second_over_responses": noisy(FALLING)}
    assert fired("ppo", falling, {"rewards": [{"name": "first"}, {"name": "second", "weight": -1.0}]}) == {}
    assert fired("ppo", {"part/only_over_responses": noisy(FALLING), **WELL}, {"rewards": [{"name": "only"}]}) == {}
    assert fired("reward", {"held_out_loss_over_prompts": [0.8, 0.9]}, {"shuffle_labels": True}) == {}
    off = {**WELL, "score_over_responses": [5.0] * N, "value_over_tokens": [0.0] * N}
    helped = ({"critic_warmup": 2}, {"shaping": {"normalise": {"kind": "running"}}}, {"advantage": {"gae_lambda": 1.0}})
    for config in helped:
        assert "scores_off_zero" not in fired("ppo", {key: xs[:3] for key, xs in off.items()}, config)
    brief = [0.06, 0.12, 0.31, 0.25, 0.37, 0.56, 0.56, 0.75, 0.56]  # learns to end
    assert fired("ppo", {"eos_over_responses": brief}) == {}


def test_the_critics_warm_up_is_waited_for() -> None:
    blind = {"explained_variance": [-0.5] * N, "score_std_over_responses": [1.0] * N}
    assert fired("ppo", blind) == {"critic_blind": 15}
    assert fired("ppo", blind, {"critic_warmup": 6}) == {"critic_blind": 21}


def test_a_sickness_may_be_over() -> None:
    monitor = Monitor("ppo", {})
    for step, x in enumerate([0.5, 0.5, 0.5, 0.1, 0.1, 0.5, 0.5], start=1):
        monitor.see(step, {"clip_fraction_over_tokens": x})
        if step == 5:
            (finding,) = monitor.findings.values()
            assert (finding.since, finding.until) == (2, 4)
            assert worst([finding]) is None and verdict([finding]) == "health: healthy; no longer: clip_high"
    (finding,) = monitor.findings.values()
    assert (finding.since, finding.until, finding.value) == (2, None, 0.5)
    assert verdict([finding]).startswith("health: warning — the clip cuts off 50 % of the tokens: most of")


def test_the_worst_is_named_first() -> None:
    lines = [{"step": i, "ppo/kl_ref_over_responses": 164.0, "ppo/length_over_responses": 48, "ppo/ratio_max": 321.0,
              "ppo/clip_fraction_over_tokens": None, "other": 1.0} for i in (1, 2, 3)]  # fmt: skip
    findings = list(diagnose("ppo", {}, lines).findings.values())
    said = verdict([findings[1], findings[0]])
    assert worst(findings) is Level.ALARM
    first, second, third = said.split("\n")
    assert first == "health: alarm, 2 findings" and "probability ratio reached 321" in third
    assert second.startswith("  alarm — the KL to the reference is 164 nats a response")
    assert said.index("[kl_far]") < said.index("[ratio_high]")
    assert verdict([]) == f"health: {HEALTHY}"
    json.dumps([finding.to_plain() for finding in findings], allow_nan=False)


def pair_result(value: float, **more: Any) -> Result:
    return Result(measure="held_out_accuracy_over_pairs", subject="judge", value=value, **more)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([pair_result(0.77, low=0.7, high=0.8, floor=0.5), pair_result(0.71, role="floor")], []),
        ([pair_result(0.6, high=0.7, floor=0.5), pair_result(0.71, role="floor")], ["judge_below_floor"]),
        ([pair_result(0.5, high=0.6, floor=0.5)], ["judge_below_floor"]),
        ([pair_result(1.0, floor=0.5), pair_result(1.0, role="floor")], []),
        ([pair_result(0.3, high=0.4, floor=0.5)], ["judge_opposite"]),
        (
            [pair_result(0.99, floor=0.5), Result(measure="held_out_accuracy_over_pairs", subject="longer wins",
                                                  value=0.95, role="floor")],
            ["one_side_longer"],
        ),
        ([Result(measure="calibration_error_over_pairs", subject="j", value=0.3, facts={"has_scale": 1.0})],
         ["judge_miscalibrated"]),
        ([Result(measure="calibration_error_over_pairs", subject="j", value=0.3, facts={"has_scale": 0.0})], []),
    ],
)  # fmt: skip
def test_what_the_results_show(results: list[Result], expected: list[str]) -> None:
    monitor = Monitor("reward_eval", {})
    assert [finding.rule for finding in monitor.conclude(results)] == expected
    assert Monitor("reward", {"shuffle_labels": True}).conclude(results) == []


def test_a_resumed_run_knows_what_it_knew() -> None:
    lines = [{"step": i + 1, **{f"ppo/{key}": xs[i] for key, xs in WELL.items()}} for i in range(N)]
    lines[20]["ppo/ratio_max"] = 50.0
    whole = diagnose("ppo", PARTS, lines)
    parts = diagnose("ppo", PARTS, lines[:23])
    for line in lines[23:]:
        parts.see(line["step"], {key.removeprefix("ppo/"): x for key, x in line.items() if key != "step"})
    assert parts.findings == whole.findings and whole.findings["ratio_high", "ratio_max"].until == 26


def test_a_step_costs_the_same_however_long_the_run() -> None:
    monitor = Monitor("ppo", PARTS)
    line = {key: xs[0] for key, xs in WELL.items()}

    def seconds() -> float:
        began = time.process_time()
        for step in range(1000):
            monitor.see(step, line)
        return time.process_time() - began

    first, _, _, last = (seconds() for _ in range(4))
    assert last < 3 * first and last < 1.0  # a millisecond a step would be much


def test_a_trend_tells_movement_from_noise() -> None:
    still, moving = Trend(), Trend()
    for i in range(40):
        still.add((-1.0) ** i)
        moving.add(0.3 * i + (-1.0) ** i)
    assert abs(still.moved) < 1.0 < 4.0 < moving.moved
    assert moving.first == pytest.approx(sum(0.3 * i + (-1.0) ** i for i in range(3)) / 3)


def test_rules_speak_of_declared_measures_and_have_names_of_their_own() -> None:
    assert {key for rule in (*RULES, *RESULT_RULES) for key in rule.keys} <= MEASURES.keys()
    names = [rule.name for rule in (*RULES, *RESULT_RULES)]
    assert len(set(names)) == len(names)
    assert {*SICK, *TRAINED} | {rule.name for rule in RESULT_RULES} == set(names)


def table() -> str:
    """The rules as docs/health.md has them."""
    rows = ["| rule | stage | measure | holds where it is | what it says; what to do | source |", "|" + "---|" * 6]
    for rule in (*RULES, *RESULT_RULES):
        keys = "; ".join(f"`{key}`" for key in rule.keys)
        says = f"{rule.says.replace('{now}', '…').replace('{', '*').replace('}', '*')}. **{rule.do}**"
        stages = ", ".join(rule.stages)
        rows.append(f"| {rule.level} `{rule.name}` | {stages} | {keys} | {rule.when} | {says} | {rule.source} |")
    return "\n".join(rows) + "\n"


def test_the_documentation_has_every_rule() -> None:
    told = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")
    assert told.partition("\n\n| rule |")[1] and told.endswith(table()), "end docs/health.md with what `table` gives"
