"""What learns from rankings, prompt by prompt: a scalar by one of four losses (N3.1–N3.4), a head beside a language
model (N3.13), and the second half of ArmoRM, a gate that mixes aspects so that the mix ranks as people do (N3.7)."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.data.sources import file_of
from plaudit.errors import UserError
from plaudit.formulas.correlation import spearman
from plaudit.formulas.listwise_losses import MAX_TIED, best_of_k, plackett_luce
from plaudit.formulas.masks import masked_sum
from plaudit.formulas.preference_losses import kwise, pairwise_logistic, ranked_pairs
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import gated, scalar, shared_trunk
from plaudit.models.reward.aspects import KIND as ASPECTS
from plaudit.models.reward.aspects import saved_aspects
from plaudit.models.reward.gated import GatedRewardModel
from plaudit.models.reward.loading import kind_of
from plaudit.models.reward.protocol import RewardModel
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.models.reward.shared_trunk import SharedTrunkRewardModel
from plaudit.records.text import Ranking
from plaudit.telemetry.console import say
from plaudit.tokens.batches import SharedRows
from plaudit.tokens.encode import EncodedRow
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.objective import (
    Budget,
    Encoder,
    GradientObjective,
    accumulate,
    over_rows,
    pair_metrics,
    pair_sums,
    read_all,
    refuse_margins,
)
from plaudit.training.reward.options import ByRanking, GateTraining, Pairwise, SharedTrunk


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


class RankingObjective(GradientObjective[ByRanking]):
    """A scalar model learned from rankings, by one of four losses."""

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> ScalarRewardModel:
        return scalar.load(config, language, seed=seed)

    def examples_of(self, rows: Sequence[Ranking], encoder: Encoder) -> list[Ranked]:
        if isinstance(self.options, Pairwise):
            return ranked_examples(rows, encoder)
        return without_margins(rows_with_few_ties(rows) if self.options.kind == "plackett_luce" else rows, encoder)

    def backward(self, model: ScalarRewardModel, examples: Sequence[Ranked], budget: Budget) -> MinibatchLoss:
        """Loss per prompt (`pairwise`: per pair), nats; accuracy and margin r_w − r_l over the minibatch's pairs.

        At equal scores it is log 2 by pairs, log K by the best answer, log K! by the whole order of an untied ranking.
        """
        return learn_ranks(model, examples, self.options.kind, budget)


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
RankLoss = Callable[[Numbers, Indices, Indices, Sequence[Ranked]], Float[Tensor, ""]]
"""(scores, ranks, which prompt each answer belongs to, the prompts) → the sum of the prompts' or pairs' losses."""


def _with_margins(scores: Tensor, ranks: Tensor, owner: Tensor, part: Sequence[Ranked]) -> Tensor:
    better, worse = ranked_pairs(ranks, owner)
    margin = torch.tensor([row.margin for row in part], device=scores.device)
    return pairwise_logistic(scores[better], scores[worse], margin[owner[better]]).sum()


LOSSES: Mapping[str, RankLoss] = {
    "pairwise": _with_margins,
    "kwise": lambda scores, ranks, owner, _: kwise(scores, ranks, owner)[0],
    "best_of_k": lambda scores, ranks, owner, _: best_of_k(scores, ranks == 1, owner)[0],
    "plackett_luce": lambda scores, ranks, owner, _: plackett_luce(scores, ranks, owner)[0],
}


def learn_ranks(model: RewardModel, examples: Sequence[Ranked], kind: str, budget: Budget) -> MinibatchLoss:
    """Accumulate the gradient of one of `LOSSES`; a prompt's answers stay in one micro-batch. Every prompt with a pair
    weighs the same, by `pairwise` every pair."""
    loss = LOSSES[kind]
    count = sum(row.num_pairs if kind == "pairwise" else row.num_pairs > 0 for row in examples)

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


def ranked_examples(rows: Sequence[Ranking], encoder: Encoder) -> list[Ranked]:
    """Encode all answers; a prompt with fewer than two ranks left teaches nothing and is counted out. The best of those
    that are left has rank 1, whatever was too long."""
    pairs = iter(encoder([(row.prompt, text, row.where) for row in rows for text in row.responses]))
    ranked: list[Ranked] = []
    blurred = 0
    for row in rows:
        encoded = list(itertools.islice(pairs, len(row.responses)))
        same = equal_once_cut(encoded, row)
        blurred += bool(same)
        remaining = [(pair, rank) for pair, rank in zip(encoded, row.ranks, strict=True) if pair and pair not in same]
        margin = float(row.columns.get("margin", 0.0) or 0.0)
        above = min((rank for _, rank in remaining), default=1) - 1
        ranks = tuple(rank - above for _, rank in remaining)
        ranked.append(Ranked(answers=tuple(p for p, _ in remaining), ranks=ranks, margin=margin))
    useful = [row for row in ranked if row.num_pairs]
    if blurred:
        say(f"{file_of(rows[0].where)}: {blurred} rows with answers that are equal once they are cut: left out")
    if len(useful) < len(ranked):
        say(f"{len(ranked) - len(useful)} prompts without two ranks left out")
    return useful


def equal_once_cut(encoded: Sequence[EncodedRow | None], row: Ranking) -> list[EncodedRow]:
    """Ids that stand for different texts on different places: nothing can be learned of them."""
    first: dict[tuple[tuple[int, ...], ...], tuple[str, int]] = {}
    same: list[EncodedRow] = []
    for ids, text, rank in zip(encoded, row.responses, row.ranks, strict=True):
        if ids is not None:
            other, other_rank = first.setdefault((tuple(ids[0]), tuple(ids[1])), (text, rank))
            if other != text and other_rank != rank:
                same.append(ids)
    return same


def without_margins(rows: Sequence[Ranking], encoder: Encoder) -> list[Ranked]:
    """`ranked_examples` for an objective that would ignore margins. UserError naming a row that has one."""
    refuse_margins(rows)
    return ranked_examples(rows, encoder)


class SharedTrunkObjective(GradientObjective[SharedTrunk]):
    """The K-wise loss, plus the likelihood of the best answers."""

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> SharedTrunkRewardModel:
        return shared_trunk.new(config, language, seed=seed)

    def examples_of(self, rows: Sequence[Ranking], encoder: Encoder) -> list[Ranked]:
        return without_margins(rows, encoder)

    def backward(self, model: SharedTrunkRewardModel, examples: Sequence[Ranked], budget: Budget) -> MinibatchLoss:
        """Ranking loss per prompt and NLL per token of the best answers, nats; accuracy and margin over pairs."""
        prompts = max(sum(row.num_pairs > 0 for row in examples), 1)
        tokens = max(sum(_best_tokens(row) for row in examples), 1)

        def of_part(part: Sequence[Ranked]) -> tuple[Tensor, Mapping[str, float]]:
            scores, logprobs = model.with_likelihood([group for row in part for group in row.groups])
            ranks, owner = ranks_and_owners(part, scores.device)
            ranking = kwise(scores, ranks, owner)[0] / prompts
            best = (ranks == 1).unsqueeze(1).expand_as(logprobs)
            nll = -masked_sum(logprobs, best) / tokens
            sums = {"ranking": float(ranking.detach()), "nll": float(nll.detach())}
            return ranking + self.options.lm_coef * nll, {**sums, **pair_sums(margins_of(scores, ranks, owner))}

        sums = accumulate(of_part, examples, 1, budget)
        metrics = {
            "loss_over_rows": sums["ranking"],
            "lm_loss_over_tokens": sums["nll"],
            **pair_metrics(sums, sum(row.num_pairs for row in examples)),
        }
        return MinibatchLoss(value=sums["loss"], metrics=metrics)


def _best_tokens(row: Ranked) -> int:
    return sum(len(answer) for (_, answer), rank in zip(row.answers, row.ranks, strict=True) if rank == 1)


PENALTIES = tuple(i / 20 for i in range(0, 41))
"""λ from 0 to 2 in steps of 0.05, the smallest that will do is taken."""


class GateObjective(GradientObjective[GateTraining]):
    """A gate over a model of aspects, by the K-wise loss of the mixed scores; the aspects stay as they are."""

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Ranking], *, seed: int) -> GatedRewardModel:
        return gated.new(config, language, self.options.shape, seed=seed)

    def check(self, config: ModelConfig) -> None:
        """Before any model loads: UserError where the folder holds no aspects, or none that stands for length."""
        if config.path == "tiny" or kind_of(config) != ASPECTS:
            raise UserError(
                f"model.path: {config.path!r} is no reward model of aspects, which a gate mixes; train one by "
                "`objective: aspects_ridge`"
            )
        names = [aspect.name for aspect in saved_aspects(config)]
        if self.options.verbosity and self.options.verbosity not in names:
            raise UserError(f"objective.verbosity: no aspect {self.options.verbosity!r}; there are {', '.join(names)}")

    def examples_of(self, rows: Sequence[Ranking], encoder: Encoder) -> list[Ranked]:
        return without_margins(rows, encoder)

    def prepare(self, model: GatedRewardModel, examples: Sequence[Ranked], budget: Budget) -> None:
        """Choose the verbosity penalties on the training answers, before the gate sees any rating."""
        if not self.options.verbosity:
            return
        verbosity = [aspect.name for aspect in model.aspects.aspects].index(self.options.verbosity)
        ratings = read_all(
            lambda part: model.read([group for row in part for group in row.groups])[0], examples, budget
        )
        model.correct(verbosity, penalties(ratings, verbosity, self.options.max_correlation))

    def backward(self, model: GatedRewardModel, examples: Sequence[Ranked], budget: Budget) -> MinibatchLoss:
        """Loss per prompt, nats, of the mixed and corrected scores; accuracy and margin over pairs."""
        return learn_ranks(model, examples, "kwise", budget)


def penalties(ratings: Float[Tensor, "N A"], verbosity: int, max_correlation: float) -> Float[Tensor, " A"]:
    """For each aspect the smallest λ with Spearman(z_a − λ z_v, z_v) ≤ `max_correlation`; 1 for verbosity itself, of
    which then nothing is left. The largest on offer where none will do."""
    long = ratings[:, verbosity]
    chosen = []
    for aspect in range(ratings.shape[1]):
        small_enough = (p for p in PENALTIES if spearman(ratings[:, aspect] - p * long, long) <= max_correlation)
        chosen.append(1.0 if aspect == verbosity else next(small_enough, PENALTIES[-1]))
    return torch.tensor(chosen)
