"""Gains and losses, chosen by hand-made scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plaudit.report.collect import collect
from plaudit.report.samples import Cards, choose
from tests.report.folders import write_run


def row(name: str, before: float | None, after: float | None, **more: Any) -> dict[str, Any]:
    return {"prompt": name, "before": "b", "after": "a", "score_before": before, "score_after": after, **more}


def groups_of(folder: Path, rows: list[dict[str, Any]], count: int = 2) -> dict[str, Cards]:
    run = collect(write_run(folder, "compare", samples=rows))
    return {cards.title: cards for cards in choose(run, count)}


def prompts(cards: Cards) -> list[str]:
    return [card.prompt for card in cards.cards]


def test_largest_gains_and_largest_losses(tmp_path: Path) -> None:
    rows = [row("up 1", 0, 1), row("down 3", 4, 1), row("up 3", -1, 2), row("same", 1, 1), row("down 1", 0, -1),
            row("up 2", 0, 2), row("down 2", 0, -2), row("unscored", None, 5)]  # fmt: skip
    groups = groups_of(tmp_path / "r", rows)
    assert list(groups) == ["Largest gains", "Largest losses", "At random"]
    assert prompts(groups["Largest gains"]) == ["up 3", "up 2"]
    assert [card.gain for card in groups["Largest gains"].cards] == [3, 2]
    assert prompts(groups["Largest losses"]) == ["down 3", "down 2"]
    assert [card.gain for card in groups["Largest losses"].cards] == [-3, -2]
    assert groups["Largest gains"].note == "Of 7 prompts with scores 3 gained, 3 lost and 1 stayed level."
    assert len(groups["At random"].cards) == 2


def test_it_is_said_when_nothing_was_lost(tmp_path: Path) -> None:
    groups = groups_of(tmp_path / "r", [row("p", 0, 1), row("q", 0, 0)])
    assert groups["Largest losses"].cards == () and groups["Largest losses"].note == "No prompt lost score."
    assert prompts(groups["Largest gains"]) == ["p"]


def test_answers_without_scores_are_shown_at_random_the_same_each_time(tmp_path: Path) -> None:
    rows = [row(str(index), None, None) for index in range(50)]
    first, second = groups_of(tmp_path / "a", rows, 5), groups_of(tmp_path / "b", rows, 5)
    assert list(first) == ["At random"]
    assert prompts(first["At random"]) == prompts(second["At random"])
    assert len(set(prompts(first["At random"]))) == 5


def test_policies_are_judged_apart(tmp_path: Path) -> None:
    groups = groups_of(tmp_path / "r", [row("p", 0, 1, policy="ppo"), row("q", 0, -1, policy="control")])
    assert prompts(groups["ppo: largest gains"]) == ["p"]
    assert prompts(groups["control: largest losses"]) == ["q"]
    assert "control: largest gains" not in groups


def rollout(prompt: str, score: float | None, response: str = "r") -> dict[str, Any]:
    return {"prompt": prompt, "prompt_id": prompt, "response": response, "score": score, "finish_reason": "eos"}


def test_prompts_met_early_and_late_are_paired(tmp_path: Path) -> None:
    rollouts = {
        1: [rollout("p", 0.0, "early"), rollout("q", 1.0), rollout("p", 9.0, "second answer")],
        7: [rollout("q", 0.5), rollout("p", 2.0, "late"), rollout("new", 5.0)],
    }
    groups = {cards.title: cards for cards in choose(collect(write_run(tmp_path / "r", "ppo", rollouts=rollouts)))}
    (gain,) = groups["Largest gains"].cards
    assert (gain.prompt, gain.gain) == ("p", 2.0)
    assert [(label, answer.text) for label, answer in gain.sides] == [("iteration 1", "early"), ("iteration 7", "late")]
    assert prompts(groups["Largest losses"]) == ["q"]


def test_without_pairs_the_newest_iteration_stands_alone(tmp_path: Path) -> None:
    rollouts = {1: [rollout("a", 0.0)], 7: [rollout(str(n), n) for n in range(3)] + [rollout("unscored", None)]}
    made = choose(collect(write_run(tmp_path / "r", "ppo", rollouts=rollouts)), 2)
    assert [cards.title for cards in made] == ["Highest scores", "Lowest scores", "At random"]
    assert prompts(made[0]) == ["2", "1"] and prompts(made[1]) == ["0"]
    assert made[0].note.startswith("From iteration 7")
    assert made[0].cards[0].gain is None


def test_nothing_to_show(tmp_path: Path) -> None:
    assert choose(collect(write_run(tmp_path / "r", "ppo"))) == []
