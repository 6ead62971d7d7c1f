"""Two answers at once, learned from rankings and comparisons (PairRM, N3.10)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.formulas.pair_scores import both_orders_bce, unbiased_logit
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import pair
from plaudit.models.reward.pair import Joint, PairRewardModel
from plaudit.records.text import Ranking
from plaudit.telemetry.console import say
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.compared import Pairs, encode_pairs, pair_metrics, pair_sums
from plaudit.training.reward.objective import Budget, Limits, accumulate, over_rows
from plaudit.training.reward.options import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Two answers to a prompt; `outcome` 1: the first is the better one, 0: the second, ½: a tie."""

    joint: Joint
    outcome: float

    @property
    def length(self) -> int:
        return self.joint.length

    @property
    def num_tokens(self) -> int:
        return 2 * self.joint.num_tokens


Contests = Pairs[Contest]


@dataclass(frozen=True, slots=True)
class PairObjective:
    """Binary cross-entropy of every pair, in both orders."""

    options: Pair

    def check(self, config: ModelConfig) -> None:
        """UserError for a backbone that reads no pairs."""
        pair.check_backbone(config)

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Ranking], *, seed: int) -> PairRewardModel:
        return pair.load(config, language, aggregate=self.options.aggregate, seed=seed)

    def examples(
        self, sources: Sequence[Sequence[Ranking]], language: Language, limits: Limits
    ) -> list[list[Contests]]:
        """Each ranking's pairs, of a text that stands there twice the first only."""
        language = pair.with_markers(language)
        room = limits.max_length - pair.overhead(language)
        if any(len(set(row.responses)) < 2 for rows in sources for row in rows):
            say("prompts without two different answers are left out")

        def contests(row: Ranking, room: int) -> list[Contest]:
            ranks: dict[str, int] = {}
            for text, rank in zip(row.responses, row.ranks, strict=True):
                ranks.setdefault(text, rank)
            parts = pair.text_ids(language, row.prompt, list(ranks), row.where)
            both = itertools.combinations(zip(parts.answers, ranks.values(), strict=True), 2)
            return [
                Contest(
                    joint=pair.fit(Joint(parts.source, a, b), room), outcome=0.5 if of_a == of_b else float(of_a < of_b)
                )
                for (a, of_a), (b, of_b) in both
            ]

        return [encode_pairs(rows, contests, room, "a prompt and two answers", limits) for rows in sources]

    def backward(self, model: PairRewardModel, examples: Sequence[Contests], budget: Budget) -> MinibatchLoss:
        """Loss per pair, nats; accuracy and margin of the logits without position bias, over pairs that are no tie."""
        contests = [contest for example in examples for contest in example.pairs]

        def loss(part: Sequence[Contest]) -> tuple[Tensor, Mapping[str, float]]:
            both = [*(contest.joint for contest in part), *(contest.joint.swapped for contest in part)]
            logits, swapped = model(both).split(len(part))
            outcomes = torch.tensor([c.outcome for c in part], device=logits.device)
            margin = ((2.0 * outcomes - 1.0) * unbiased_logit(logits, swapped)).detach()
            return both_orders_bce(logits, swapped, outcomes)[0], pair_sums(margin[outcomes != 0.5])

        sums = accumulate(loss, contests, len(contests), budget)
        decided = sum(contest.outcome != 0.5 for contest in contests)
        return over_rows(sums["loss"] / max(len(contests), 1), **pair_metrics(sums, decided))
