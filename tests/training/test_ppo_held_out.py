"""PPO watches itself on held-out prompts: what it trains on stays, the best policy is kept, patience ends it."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import StopRequested, UserError
from plaudit.records.tensors import Scores
from plaudit.runs.folder import Run
from plaudit.training.options import OptimConfig
from plaudit.training.policy import held_out
from plaudit.training.policy.config import Evaluation
from plaudit.training.policy.held_out import Measured, Watch, is_due, watched
from plaudit.training.policy.loop import ppo
from plaudit.training.policy.metrics import results
from plaudit.training.policy.options import FixedKL, Returns
from plaudit.training.policy.participants import HeldOut
from tests.kills import kills
from tests.training.scripted import config, judge, run
from tests.training.tiny import jsonl, metrics, weights

SCORE, OBJECTIVE = "ppo/held_out_score_over_prompts", "ppo/held_out_objective_over_prompts"


def evaluation(folder, **options) -> Evaluation:
    path = jsonl(folder / "held-out.jsonl", [{"prompt": "b"}, {"prompt": "ac"}])
    return Evaluation(prompts=(DataConfig(path=path),), **{"every": 1, "samples": 3, **options})


def timeless(lines: list[dict]) -> list[dict]:
    return [{k: v for k, v in line.items() if "seconds" not in k and k != "time"} for line in lines]


@kills(
    "training/policy/held_out.py",
    old="    part_metrics(participants.scorer)",
    new="    participants.scorer",
    why="answers to held-out prompts are counted among the next iteration's",
)
@kills(
    "training/policy/held_out.py",
    old="mean_score - config.kl.coef * mean_kl",
    new="mean_score + config.kl.coef * mean_kl",
    why="leaving the reference is rewarded",
)
def test_watching_changes_nothing_that_is_trained_and_says_what_it_saw(tmp_path):
    """`shy` abstains now and then, which is counted; the truth is another judge of the same answers."""
    chosen = {"function": "shy", "iterations": 2, "kl": FixedKL(coef=0.5)}
    blind = metrics(run(tmp_path, config(tmp_path, **chosen), "blind"))
    truth = {"truth": (judge(tmp_path, "letters"),)}
    seeing = run(tmp_path, config(tmp_path, **chosen, evaluation=evaluation(tmp_path, samples=5, **truth)), "seeing")
    first, *lines = metrics(seeing)
    assert first["step"] == 0 and all(key.startswith("ppo/held_out_") for key in first if "/" in key)
    same = [{k: v for k, v in line.items() if "held_out" not in k} for line in timeless(lines)]
    assert same == timeless(blind)
    assert first["ppo/held_out_kl_ref_over_prompts"] == pytest.approx(0.0, abs=1e-5)
    for line in (first, *lines):
        expected = line[SCORE] - 0.5 * line["ppo/held_out_kl_ref_over_prompts"]
        assert line[OBJECTIVE] == pytest.approx(expected, abs=1e-6)
        assert -4 <= line["ppo/held_out_part/letters_over_prompts"] <= 4
    summary = json.loads((seeing / "summary.json").read_text(encoding="utf-8"))
    found = {result["measure"]: result for result in summary["results"]}
    assert found["held_out_score_over_prompts"]["value"] == lines[-1][SCORE]
    assert found["held_out_score_over_prompts"]["floor"] == first[SCORE]
    better = max(lines, key=lambda line: line[OBJECTIVE])
    best = {"iteration": better["step"], "objective": better[OBJECTIVE], "stopped_early": False}
    assert summary["best_policy"] == best
    samples = [json.loads(line) for line in (seeing / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [sample["prompt"] for sample in samples] == ["b", "ac"]
    assert all({"before", "after", "score_before", "score_after", "kl"} <= sample.keys() for sample in samples)
    assert weights(seeing / "best").keys() == weights(seeing / "model").keys()


def test_a_run_that_was_stopped_while_it_measured_goes_on_exactly(tmp_path, monkeypatch, capsys):
    """The signal comes in the measurement after the second iteration."""
    chosen = config(tmp_path, iterations=3, save_every=100, evaluation=evaluation(tmp_path, patience=5))
    whole, asked, measure = run(tmp_path, chosen, "whole"), [], held_out.measure

    def stopping(*args) -> Measured:
        asked.append(1)
        if len(asked) == 3:
            raise StopRequested(15)
        return measure(*args)

    monkeypatch.setattr(held_out, "measure", stopping)
    with pytest.raises(StopRequested):
        run(tmp_path, chosen, "stopped")
    with Run.open(tmp_path / "stopped") as again:
        ppo(chosen, again)
    assert "ppo: going on from checkpoint 000008, iteration 2\n" in capsys.readouterr().err
    assert timeless(metrics(tmp_path / "stopped")) == timeless(metrics(whole))
    for name in ("model", "best"):
        one, other = weights(whole / name), weights(tmp_path / "stopped" / name)
        assert all(bool((one[key] == other[key]).all()) for key in one)
    texts = [(folder / "samples.jsonl").read_text(encoding="utf-8") for folder in (whole, tmp_path / "stopped")]
    assert texts[0] == texts[1]


@kills(
    "training/policy/held_out.py",
    old="objective > watch.best)",
    new="objective < watch.best)",
    why="the worst policy is kept",
)
@kills(
    "training/policy/held_out.py",
    old="0 < config.evaluation.patience <= self.since_best",
    new="0 < config.evaluation.patience < self.since_best",
    why="one measurement too many",
)
def test_the_best_is_kept_and_patience_ends_it(tmp_path, monkeypatch):
    """Objectives by script. NaN, where all judges abstain, is never the best."""
    saved, chosen = [], config(tmp_path, evaluation=evaluation(tmp_path, patience=2))
    monkeypatch.setattr(held_out.state, "save_policy", lambda *_: saved.append(1))
    memory, watch, over = Run.memory("ppo", {}), Watch(), []
    participants = type("Nobody", (), {"loaded": None})
    for iteration, objective in enumerate([9.0, math.nan, 1.0, 3.0, 2.0, 3.0]):
        seen = Measured(metrics={"held_out_objective_over_prompts": objective})
        monkeypatch.setattr(held_out, "measure", lambda *_, now=seen: now)
        watch, _ = watched(participants, chosen, memory, watch, iteration)
        over.append(watch.is_over(chosen))
    assert (watch.best, watch.best_iteration, len(saved)) == (3.0, 3, 2)
    assert over == [False, False, False, False, False, True]
    assert not watch.is_over(replace(chosen, evaluation=evaluation(tmp_path)))


def test_a_run_that_lost_its_patience_ends_whole(tmp_path):
    still = OptimConfig(learning_rate=0.0, schedule="constant")
    chosen = config(tmp_path, iterations=9, optim=still, evaluation=evaluation(tmp_path, patience=2, every=2))
    folder = run(tmp_path, chosen)
    assert [line["step"] for line in metrics(folder)] == list(range(7))  # of equals the first is the best
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["best_policy"]["stopped_early"] and summary["best_policy"]["iteration"] == 2
    assert (folder / "model").is_dir()
    with Run.open(folder) as again:
        ppo(replace(chosen, evaluation=evaluation(tmp_path, patience=3, every=2)), again)
    assert [line["step"] for line in metrics(folder)] == list(range(9))


def test_it_is_due_every_n_iterations_and_at_the_end(tmp_path):
    def due(iterations: int, **options) -> list[int]:
        chosen = config(tmp_path, iterations=iterations, evaluation=evaluation(tmp_path, **options))
        return [i for i in range(1, iterations + 1) if is_due(i, chosen)]

    assert due(7, every=3) == [3, 6, 7]
    assert due(40, every=0) == list(range(4, 41, 4))
    assert not is_due(1, config(tmp_path))


def test_prompts_that_are_too_long_are_refused_or_left_out_and_counted(tmp_path, capsys):
    rows = [{"prompt": "abc" * 40}, {"prompt": "a"}, {"prompt": "b" * 200}]
    source = (DataConfig(path=jsonl(tmp_path / "long.jsonl", rows)),)
    short = {"sampling": SamplingConfig(max_new_tokens=4), "iterations": 1}
    with pytest.raises(UserError, match=r"2 prompt\(s\) leave no room .* say too_long: drop"):
        run(tmp_path, replace(config(tmp_path, **short), prompts=source))
    folder = run(tmp_path, replace(config(tmp_path, too_long="drop", **short), prompts=source), "dropped")
    assert "long.jsonl: 2 of 3 prompts left out (no room for 4 new tokens" in capsys.readouterr().err
    assert len(metrics(folder)) == 1
    with pytest.raises(UserError, match="1 prompt"):
        alone = (DataConfig(path=jsonl(tmp_path / "alone.jsonl", rows[:1])),)
        run(tmp_path, replace(config(tmp_path, too_long="drop", **short), prompts=alone), "none")


@pytest.mark.parametrize("idle", ["value_coef", "value_clip_range"])
def test_what_a_critic_alone_would_use_is_refused_without_one(tmp_path, idle):
    with pytest.raises(ValueError, match=f"{idle}: without a critic"):
        config(tmp_path, critic=None, advantage=Returns(), **{idle: 0.3})


@kills(
    "training/policy/metrics.py",
    old='line["step"] == best]',
    new='line["step"] != best]',
    why="another policy's numbers stand for what lies in best/",
)
def test_what_lies_in_best_has_its_own_numbers_in_the_table(tmp_path):
    lines = [{"step": i, SCORE: score, OBJECTIVE: score - 1} for i, score in enumerate((1.0, 4.0, 2.0))]

    def told(best):
        return [(r.measure, r.subject, r.value, r.floor) for r in results(lines, "ppo", config(tmp_path), best)]

    score, objective = (key.removeprefix("ppo/") for key in (SCORE, OBJECTIVE))
    assert told(1) == [
        (score, "policy", 2.0, 1.0), (score, "best/", 4.0, 1.0),
        (objective, "policy", 1.0, 0.0), (objective, "best/", 3.0, 0.0),
    ]  # fmt: skip
    assert [subject for _, subject, *_ in told(2)] == ["policy", "policy"], "the last one is the best"
    assert told(None) == told(2)


@kills(
    "training/policy/held_out.py",
    old="_mean(kl, judged)",
    new="_mean(kl, judged | True)",
    why="KL of other rows than the score's",
)
def test_score_and_kl_are_of_the_same_answers(tmp_path, monkeypatch):
    who = SimpleNamespace(held_out=HeldOut(), scorer=None)
    kl, scores = (
        torch.tensor([1.0, 8.0]),
        Scores(scores=torch.tensor([3.0, 0.0]), valid=torch.tensor([True, False]), parts={}),
    )
    scored = SimpleNamespace(kl_by_response=kl, scores=scores)
    for name, value in {"score": scored, "_answers": None, "_shown": (), "part_metrics": {}}.items():
        monkeypatch.setattr(held_out, name, lambda *_, value=value, **__: value)
    measured = held_out.measure(who, config(tmp_path, kl=FixedKL(coef=0.5))).metrics
    assert measured["held_out_kl_ref_over_prompts"] == 1.0 and measured["held_out_objective_over_prompts"] == 2.5
