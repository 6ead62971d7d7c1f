"""A scalar from rankings and comparisons: by pairs, by the best answer, by the whole order (N3.1–N3.4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas.listwise_losses import MAX_TIED, best_of_k, plackett_luce
from plaudit.formulas.preference_losses import kwise, pairwise_logistic, ranked_pairs
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import scalar
from plaudit.models.reward.protocol import RewardModel
from plaudit.models.reward.reader import SharedRows
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.records.text import Ranking
from plaudit.telemetry.console import say
from plaudit.tokens.encode import EncodedRow
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.compared import pair_metrics, pair_sums, refuse_margins
from plaudit.training.reward.objective import Budget, Limits, accumulate, encode_rows, over_rows
from plaudit.training.reward.options import BestOfK, ByRanking, KWise, Pairwise, PlackettLuce


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One prompt's encoded answers with their ranks; `margin` in score units, for comparisons that carry one."""

    answers: tuple[EncodedRow, ...]
    ranks: tuple[int, ...]
    margin: float

    @property
    def num_pairs(self) -> int:
        return sum(a < b for a in self.ranks for b in self.ranks)

    @property
    def groups(self) -> list[SharedRows]:
        """The prompt once with all its answers; where truncation left the answers different prompts, each its own."""
        prompts = [prompt for prompt, _ in self.answers]
        if all(prompt == prompts[0] for prompt in prompts):
            return [(prompts[0], [response for _, response in self.answers])]
        return [(prompt, [response]) for prompt, response in self.answers]

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model."""
        return sum(len(prompt) + sum(map(len, responses)) for prompt, responses in self.groups)


@dataclass(frozen=True, slots=True)
class RankingObjective:
    """A scalar model learned from rankings, by one of four losses."""

    options: ByRanking

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> ScalarRewardModel:
        return scalar.load(config, language, seed=seed)

    def examples(self, sources: Sequence[Sequence[Ranking]], language: Language, limits: Limits) -> list[list[Ranked]]:
        match self.options:
            case Pairwise():
                return [ranked_examples(rows, language, limits) for rows in sources]
            case PlackettLuce():
                return [without_margins(rows_with_few_ties(rows), language, limits) for rows in sources]
            case KWise() | BestOfK():
                return [without_margins(rows, language, limits) for rows in sources]
            case _:
                assert_never(self.options)

    def backward(self, model: ScalarRewardModel, examples: Sequence[Ranked], budget: Budget) -> MinibatchLoss:
        """Loss per prompt (`pairwise`: per pair), nats; accuracy and margin r_w − r_l over the minibatch's pairs.

        At equal scores it is log 2 by pairs, log K by the best answer, log K! by the whole order of an untied ranking.
        """
        match self.options:
            case Pairwise():
                return learn_ranks(model, examples, _with_margins, sum(row.num_pairs for row in examples), budget)
            case KWise():
                return learn_prompts(model, examples, kwise, budget)
            case BestOfK():
                return learn_prompts(model, examples, _of_the_best, budget)
            case PlackettLuce():
                return learn_prompts(model, examples, plackett_luce, budget)
            case _:
                assert_never(self.options)


def rows_with_few_ties(rows: Sequence[Ranking]) -> Sequence[Ranking]:
    """The same rows; UserError for one with more tied answers above others than an exact probability is made of."""
    for row in rows:
        last = max(row.ranks)
        for rank in set(row.ranks) - {last}:
            if (tied := row.ranks.count(rank)) > MAX_TIED:
                raise UserError(
                    f"{row.where}: {tied} answers share place {rank}; plackett_luce takes at most {MAX_TIED}. "
                    "`objective: kwise` takes any number"
                )
    return rows


Numbers, Indices = Float[Tensor, " N"], Int[Tensor, " N"]
PromptLoss = Callable[[Numbers, Indices, Indices], tuple[Float[Tensor, ""], Tensor]]
"""A formula: (scores, ranks, which prompt each answer belongs to) → (the sum of the prompts' losses, their number)."""
RankLoss = Callable[[Numbers, Indices, Indices, Sequence[Ranked]], Float[Tensor, ""]]
"""The sum alone, in whatever unit counts; it sees the prompts too."""


def _of_the_best(scores: Tensor, ranks: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    return best_of_k(scores, ranks == 1, owner)


def _with_margins(scores: Tensor, ranks: Tensor, owner: Tensor, part: Sequence[Ranked]) -> Tensor:
    better, worse = ranked_pairs(ranks, owner)
    margin = torch.tensor([row.margin for row in part], device=scores.device)
    return pairwise_logistic(scores[better], scores[worse], margin[owner[better]]).sum()


def learn_prompts(model: RewardModel, examples: Sequence[Ranked], loss: PromptLoss, budget: Budget) -> MinibatchLoss:
    """`learn_ranks` for losses in which every prompt with a pair weighs the same."""
    return learn_ranks(
        model,
        examples,
        lambda scores, ranks, owner, _: loss(scores, ranks, owner)[0],
        sum(row.num_pairs > 0 for row in examples),
        budget,
    )


def learn_ranks(
    model: RewardModel, examples: Sequence[Ranked], loss: RankLoss, count: int, budget: Budget
) -> MinibatchLoss:
    """Accumulate the gradient of a loss on the scores of ranked answers; a prompt's answers stay in one micro-batch."""

    def of_part(part: Sequence[Ranked]) -> tuple[Tensor, Mapping[str, float]]:
        scores = model([group for row in part for group in row.groups]).float()
        ranks, owner = ranks_and_owners(part, scores.device)
        return loss(scores, ranks, owner, part), pair_sums(margins_of(scores, ranks, owner))

    sums = accumulate(of_part, examples, count, budget)
    return over_rows(sums["loss"] / max(count, 1), **pair_metrics(sums, sum(row.num_pairs for row in examples)))


def ranks_and_owners(part: Sequence[Ranked], device: torch.device) -> tuple[Indices, Indices]:
    """Of all answers of some prompts, in order: their ranks, and which of the prompts each belongs to."""
    ranks = torch.tensor([rank for row in part for rank in row.ranks], device=device)
    owner = torch.tensor([i for i, row in enumerate(part) for _ in row.ranks], device=device)
    return ranks, owner


def margins_of(scores: Numbers, ranks: Indices, owner: Indices) -> Float[Tensor, " P"]:
    """r_w − r_l of every pair, without gradient."""
    better, worse = ranked_pairs(ranks, owner)
    return (scores[better] - scores[worse]).detach()


def ranked_examples(rows: Sequence[Ranking], language: Language, limits: Limits) -> list[Ranked]:
    """Encode all answers; a prompt with fewer than two ranks left teaches nothing and is counted out. The best of those
    that are left has rank 1, whatever was too long."""
    pairs = iter(
        encode_rows([(row.prompt, text, row.where) for row in rows for text in row.responses], language, limits)
    )
    ranked = []
    for row in rows:
        remaining = [(pair, rank) for rank in row.ranks if (pair := next(pairs)) is not None]
        margin = float(row.columns.get("margin", 0.0) or 0.0)
        above = min((rank for _, rank in remaining), default=1) - 1
        ranks = tuple(rank - above for _, rank in remaining)
        ranked.append(Ranked(answers=tuple(p for p, _ in remaining), ranks=ranks, margin=margin))
    useful = [row for row in ranked if row.num_pairs]
    if len(useful) < len(ranked):
        say(f"{len(ranked) - len(useful)} prompts without two ranks left out")
    return useful


def without_margins(rows: Sequence[Ranking], language: Language, limits: Limits) -> list[Ranked]:
    """`ranked_examples` for an objective that would ignore margins. UserError naming a row that has one."""
    refuse_margins(rows)
    return ranked_examples(rows, language, limits)
