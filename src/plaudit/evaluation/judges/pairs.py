"""Does a judge rank as people do? Accuracy over the pairs of held-out rankings (N3.1, N3.3).

A pair is two answers of one prompt that the labels put on different ranks. The judge is right where the better ranked
one scores higher; equal scores count half. Pairs that the labels tie say nothing and are left out, and counted; so are
pairs with an answer on which the judge abstained.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from plaudit.errors import UserError
from plaudit.evaluation.intervals import share_of
from plaudit.evaluation.judges.rows import Answers, RankedRow, ScoredRows, score_groups
from plaudit.evaluation.options import TruthConfig
from plaudit.formulas.preference_losses import kwise
from plaudit.records.results import Result
from plaudit.records.text import Group
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig

COIN = 0.5
"""The pair accuracy of somebody who knows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """Two scored answers of a prompt that the labels put on different ranks."""

    prompt: Hashable
    margin: float
    """Score of the better one − score of the other."""
    longer: int
    """Code points that the better one has more than the other."""
    better_first: bool
    subset: str = ""

    @property
    def right(self) -> float:
        """1 where the judge agrees, 0 where it doesn't, ½ for equal scores."""
        return 1.0 if self.margin > 0 else 0.0 if self.margin < 0 else 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPairs:
    pairs: tuple[JudgedPair, ...]
    label_ties: int
    """Left out: the labels put both answers on one rank."""
    abstained: int
    """Left out: the judge abstained on an answer."""


def judged_pairs(
    scores: Answers, ranks: Sequence[Sequence[int]], groups: Sequence[Group], subsets: Sequence[str]
) -> JudgedPairs:
    """Every pair of answers of every group; `ranks` has 1 for the best."""
    pairs: list[JudgedPair] = []
    label_ties = abstained = 0
    for row, row_ranks, group, subset in zip(scores, ranks, groups, subsets, strict=True):
        answers = list(zip(row, row_ranks, group.responses, strict=True))
        for (score, rank, text), (other, other_rank, other_text) in combinations(answers, 2):
            if rank == other_rank:
                label_ties += 1
            elif score is None or other is None:
                abstained += 1
            else:
                order = 1 if rank < other_rank else -1
                pairs.append(
                    JudgedPair(
                        prompt=group.prompt.id,
                        margin=order * (score - other),
                        longer=order * (len(text) - len(other_text)),
                        better_first=rank < other_rank,
                        subset=subset,
                    )
                )
    return JudgedPairs(pairs=tuple(pairs), label_ties=label_ties, abstained=abstained)


def pairs_of(scored: ScoredRows) -> JudgedPairs:
    """The pairs of the ranked rows. UserError where there is none, although there are rankings."""
    rows = scored.rows.ranked
    pairs = judged_pairs(scored.ranked, [r.ranks for r in rows], [r.group for r in rows], [r.subset for r in rows])
    if rows and not pairs.pairs:
        raise UserError(f"no pair to judge in {len(rows)} rankings: each is tied, alone, or abstained on")
    return pairs


def agreement(scored: ScoredRows, *, truth: TruthConfig | None = None) -> list[Result]:
    """Accuracy on the labels, whole and by subset, and where the truth is known the accuracy to expect before it."""
    rows = scored.rows.ranked
    if not rows:
        return []
    others = [r.value for r in labellers_agreement(rows) if r.measure == "labeller_against_others_over_pairs"]
    ceiling = others[0] if others else None
    results = accuracy("held_out_accuracy_over_pairs", scored.judge, pairs_of(scored), ceiling=ceiling)
    if truth is None:
        return results
    true = score_groups(function_scorer(FunctionConfig(function=truth.function)), [row.group for row in rows])
    return [expected_accuracy(scored.judge, scored.ranked, true, noise=truth.noise), *results]


def accuracy(measure: str, judge: str, pairs: JudgedPairs, *, ceiling: float | None = None) -> list[Result]:
    """Shares of the pairs in which the judge is right: of all, then of each subset where there are several.

    Every pair counts alike, so a long ranking weighs more than a short one; `accuracy_by_prompt` has every prompt
    count alike, as in the loss of N3.3. Nothing where there is no pair.
    """
    if not pairs.pairs:
        return []
    by_prompt: dict[Hashable, list[float]] = {}
    for pair in pairs.pairs:
        by_prompt.setdefault(pair.prompt, []).append(pair.right)
    facts = {
        "prompts": len(by_prompt),
        "accuracy_by_prompt": sum(sum(rights) / len(rights) for rights in by_prompt.values()) / len(by_prompt),
        "label_ties": pairs.label_ties,
        "abstained": pairs.abstained,
    }
    results = [share(measure, judge, pairs.pairs, floor=COIN, ceiling=ceiling, facts=facts)]
    subsets = dict.fromkeys(pair.subset for pair in pairs.pairs)
    for subset in subsets if len(subsets) > 1 else ():
        part = [pair for pair in pairs.pairs if pair.subset == subset]
        results.append(share(measure, judge, part, floor=COIN, part=subset or "no subset"))
    return results


def share(measure: str, judge: str, pairs: Sequence[JudgedPair], **more: Any) -> Result:
    """The share of these pairs in which the judge is right, pairs of one prompt as one cluster of the interval."""
    rights = [pair.right for pair in pairs]
    return share_of(measure, judge, rights, [pair.prompt for pair in pairs], ties=rights.count(0.5), **more)


def loss(scored: ScoredRows) -> list[Result]:
    """The K-wise loss per prompt, nats (N3.3), beside that of equal scores; answers without a score left out."""
    rows = scored.rows.ranked
    answers = [
        (score, rank, i)
        for i, (scores, row) in enumerate(zip(scored.ranked, rows, strict=True))
        for score, rank in zip(scores, row.ranks, strict=True)
        if score is not None
    ]
    if not answers:
        return []
    total, count = kwise(*(torch.tensor(list(column)) for column in zip(*answers, strict=True)))
    value = float(total / count.clamp(min=1))
    measure = "held_out_loss_over_prompts"
    return [Result(measure=measure, subject=scored.judge, value=value, floor=math.log(2.0), count=int(count))]


def expected_accuracy(judge: str, scores: Answers, true_rewards: Answers, *, noise: float = 1.0) -> Result:
    """Accuracy against labels that are random with known probabilities, in expectation: no label noise in it.

        mean over pairs of  p where s_a > s_b,  1 − p where s_a < s_b,  ½ where they are equal;  ceiling: max(p, 1 − p)

    p = σ((r_a − r_b) / noise): labellers who rank by true reward plus Gumbel noise give Plackett–Luce rankings, whose
    pairs are Bradley–Terry. Over all pairs of each prompt's answers; those with a None (abstained) are left out.
    Raises: ValueError for a noise that is not positive or where there is no pair.
    """
    if noise <= 0.0:
        raise ValueError(f"noise must be positive, not {noise}")
    agree: list[float] = []
    best: list[float] = []
    for row, true in zip(scores, true_rewards, strict=True):
        for (score_a, true_a), (score_b, true_b) in combinations(zip(row, true, strict=True), 2):
            if score_a is None or score_b is None or true_a is None or true_b is None:
                continue
            p = float(torch.tensor((true_a - true_b) / noise, dtype=torch.float64).sigmoid())
            agree.append(p if score_a > score_b else 1.0 - p if score_a < score_b else 0.5)
            best.append(max(p, 1.0 - p))
    if not agree:
        raise ValueError("expected_accuracy: no pair of answers has two scores and two true rewards")
    return Result(
        measure="expected_accuracy_over_pairs",
        subject=judge,
        value=sum(agree) / len(agree),
        floor=COIN,
        ceiling=sum(best) / len(best),
        count=len(agree),
    )


def labellers_agreement(rows: Sequence[RankedRow]) -> list[Result]:
    """What people make of people, on the rows with two votes or more; nothing where there are none.

    Two labellers: of those who both put a pair on different ranks, how often alike. One against the others: a labeller
    against the majority of the others, own ties counting half, pairs without a majority left out.
    """
    alike: list[tuple[float, Hashable]] = []
    single: list[tuple[float, Hashable]] = []
    for row in rows:
        for i, j in combinations(range(len(row.group.responses)) if row.votes else (), 2):
            signs = [sign(vote[j] - vote[i]) for vote in row.votes]
            alike += [(float(a == b), row.group.prompt.id) for a, b in combinations(signs, 2) if a and b]
            majorities = [(own, sign(sum(signs) - own)) for own in signs]
            single += [(float(own == most) if own else 0.5, row.group.prompt.id) for own, most in majorities if most]
    outcomes = {"two_labellers_over_pairs": alike, "labeller_against_others_over_pairs": single}
    return [
        share_of(measure, "labellers", *zip(*trials, strict=True), role="people")
        for measure, trials in outcomes.items()
        if trials
    ]


def sign(x: float) -> int:
    return (x > 0) - (x < 0)
