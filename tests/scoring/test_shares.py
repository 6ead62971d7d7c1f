"""Judging on several ranks: everybody hears what one process would have heard."""

import json
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from plaudit.hardware.ranks import ALONE, Ranks
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Prompt
from plaudit.scoring.protocol import scores_of
from plaudit.scoring.shares import FirstRankScorer, from_plain, plain, score_shares

GROUPS = [
    Group(prompt=Prompt.of_text("p" * n), responses=responses)
    for n, responses in [(1, ("a", "bb")), (9, ("ccc",)), (2, ()), (3, ("dddd", "", "eeeee"))]
]
EACH = [1.0, 2.0, 3.0, 4.0, 0.0, 5.0]


class Seat:
    """One of the ranks, as a thread."""

    def __init__(self, rank: int, world: int, table: list[Any], barrier: threading.Barrier):
        self.rank, self.table, self.barrier = rank, table, barrier
        self.share = Ranks(rank, world).share
        self.is_alone = False

    def tell(self, value: Any) -> list[Any]:
        self.table[self.rank] = json.dumps(value)
        self.barrier.wait(10)
        told = [json.loads(text) for text in self.table]
        self.barrier.wait(10)
        return told

    def gather_rows(self, rows: dict[int, Any]) -> dict[int, Any]:
        return {row: value for part in self.tell(list(rows.items())) for row, value in part}

    def ask_first(self, work: Callable[[], Any]) -> Any:
        return self.tell(work() if self.rank == 0 else None)[0]


def on_ranks(world: int, work: Callable[[Any], Scores]) -> list[Scores]:
    table, barrier, results = [None] * world, threading.Barrier(world), [None] * world

    def run(rank: int) -> None:
        results[rank] = work(Seat(rank, world, table, barrier))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def same(one: Scores, other: Scores) -> bool:
    return (
        torch.equal(one.scores, other.scores)
        and torch.equal(one.valid, other.valid)
        and one.parts.keys() == other.parts.keys()
        and all(torch.equal(one.parts[n].nan_to_num(-9), other.parts[n].nan_to_num(-9)) for n in one.parts)
        and one.token_scores == other.token_scores
    )


def length(groups: Sequence[Group]) -> Scores:
    """Judges each response by itself, shy of empty ones."""
    texts = [text for group in groups for text in group.responses]
    said = scores_of("length", [float(len(text)) if text else None for text in texts])
    return Scores(
        scores=said.scores,
        valid=said.valid,
        parts={**said.parts, "tenth": said.scores / 10},
        token_scores=tuple((1.0,) * len(text) for text in texts),
    )


def test_shares_say_together_what_one_process_says():
    expected = length(GROUPS)
    assert expected.scores.tolist() == EACH
    for world in (2, 3, 7):
        asked: list[int] = []

        def judge(groups: Sequence[Group], asked: list[int] = asked) -> Scores:
            asked.append(len(groups))
            return length(groups)

        results = on_ranks(world, lambda seat, judge=judge: score_shares(judge, GROUPS, seat))
        assert all(same(result, expected) for result in results)
        assert sum(asked) == len(GROUPS)
        assert len(asked) == min(world, len(GROUPS))
    assert same(score_shares(length, GROUPS, ALONE), expected)


def test_one_share_without_scores_by_token_leaves_all_without():
    def judge(groups: Sequence[Group]) -> Scores:
        said = length(groups)
        short = all(len(group.prompt.text) < 5 for group in groups)
        return said if short else Scores(scores=said.scores, valid=said.valid, parts=said.parts)

    for result in on_ranks(2, lambda seat: score_shares(judge, GROUPS, seat)):
        assert same(result, judge(GROUPS))
        assert result.token_scores == ()


class Best:
    """Looks at the whole batch, as a reward function may."""

    name = "best"
    required_columns = ("answer",)

    def __init__(self):
        self.asked = 0

    def score(self, groups: Sequence[Group]) -> Scores:
        self.asked += 1
        lengths = [len(text) for group in groups for text in group.responses]
        return scores_of(self.name, [float(n == max(lengths)) for n in lengths])


def test_a_rule_is_asked_once_about_the_whole_batch():
    best = Best()
    results = on_ranks(3, lambda seat: FirstRankScorer(best, seat).score(GROUPS))
    assert best.asked == 1
    assert [result.scores.tolist() for result in results] == [[0, 0, 0, 0, 0, 1]] * 3
    asked_of_others = FirstRankScorer(best, ALONE)
    assert asked_of_others.name == "best"
    assert "the scorer 'best' needs the column 'answer', which is missing" in (asked_of_others.row_problem({}) or "")
    assert not asked_of_others.row_problem({"answer": None})


def test_what_is_said_goes_through_unchanged():
    third = torch.tensor([1.0, -2.0]).div(3)
    parts = {"a": torch.tensor([math.nan, 1e-40]), "b": torch.tensor([math.inf, 3e38])}
    one = Scores(scores=third, valid=torch.tensor([True, False]), parts=parts)
    assert same(from_plain(json.loads(json.dumps(plain(one)))), one)
    nothing = Scores(scores=torch.zeros(0), valid=torch.zeros(0, dtype=torch.bool), parts={})
    assert same(from_plain(plain(nothing)), nothing)
