"""A value at every token, from comparisons: the preferred answer's must be higher where the two differ (N3.8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from plaudit.formulas.masks import last_index
from plaudit.formulas.token_preference import token_pairwise
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import token_level as models
from plaudit.models.reward.reader import sharing
from plaudit.models.reward.token_level import TokenLevelRewardModel
from plaudit.records.text import Comparison
from plaudit.tokens.encode import EncodedRow
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.compared import pair_metrics, pair_sums, refuse_margins
from plaudit.training.reward.objective import Budget, Limits, accumulate, encode_rows, over_rows
from plaudit.training.reward.options import TokenLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One prompt's preferred and other answer, encoded."""

    chosen: EncodedRow
    rejected: EncodedRow

    @property
    def num_tokens(self) -> int:
        return sum(len(ids) for ids in (*self.chosen, *self.rejected))


@dataclass(frozen=True, slots=True)
class TokenLevelObjective:
    """The preferred answer's values must be higher."""

    options: TokenLevel

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> TokenLevelRewardModel:
        return models.load(config, language, seed=seed)

    def examples(
        self, sources: Sequence[Sequence[Comparison]], language: Language, limits: Limits
    ) -> list[list[Compared]]:
        return [_compared(rows, language, limits) for rows in sources]

    def backward(self, model: TokenLevelRewardModel, examples: Sequence[Compared], budget: Budget) -> MinibatchLoss:
        """Loss per pair, nats; accuracy and margin of the scores, which are the last tokens' values."""

        def of_part(part: Sequence[Compared]) -> tuple[Tensor, Mapping[str, float]]:
            values, batch = model(sharing([answer for row in part for answer in (row.chosen, row.rejected)]))
            values, ids, mask = values.float(), batch.response_ids, batch.response_mask
            loss, _ = token_pairwise(
                values[0::2], values[1::2], ids[0::2], ids[1::2], mask[0::2], mask[1::2], form=self.options.form
            )
            scores = values.detach().gather(1, last_index(mask).clamp(min=0).unsqueeze(1)).squeeze(1)
            return loss, pair_sums(scores[0::2] - scores[1::2])

        n = len(examples)
        sums = accumulate(of_part, examples, n, budget)
        return over_rows(sums["loss"] / n, **pair_metrics(sums, n))


def _compared(rows: Sequence[Comparison], language: Language, limits: Limits) -> list[Compared]:
    refuse_margins(rows)
    texts = [(row.prompt, text, row.where) for row in rows for text in (row.chosen, row.rejected)]
    encoded = encode_rows(texts, language, limits)
    both = zip(encoded[0::2], encoded[1::2], strict=True)
    return [Compared(chosen=c, rejected=r) for c, r in both if c is not None and r is not None]
