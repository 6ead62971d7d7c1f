"""A reward head on a language model that stays one: ranking loss and likelihood from one forward (N3.13)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from plaudit.formulas.masks import masked_sum
from plaudit.formulas.preference_losses import kwise
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import shared_trunk as models
from plaudit.models.reward.shared_trunk import SharedTrunkRewardModel
from plaudit.records.text import Ranking
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.compared import pair_metrics, pair_sums
from plaudit.training.reward.objective import Budget, Limits, accumulate
from plaudit.training.reward.options import SharedTrunk
from plaudit.training.reward.rankings import Ranked, margins_of, ranks_and_owners, without_margins


@dataclass(frozen=True, slots=True)
class SharedTrunkObjective:
    """The K-wise loss, plus the likelihood of the best answers."""

    options: SharedTrunk

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> SharedTrunkRewardModel:
        return models.new(config, language, seed=seed)

    def examples(self, sources: Sequence[Sequence[Ranking]], language: Language, limits: Limits) -> list[list[Ranked]]:
        return [without_margins(rows, language, limits) for rows in sources]

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
