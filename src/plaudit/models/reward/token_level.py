"""A value at every token of an answer; the one at its last token is its score (N3.8)."""

from bisect import bisect_left
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import RewardModel, SavedKind
from plaudit.models.reward.reader import PackedReader, encoded, load_packed_reader
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.tokens.batches import SharedRows, TokenBatch, by_token_budget, sharing
from plaudit.tokens.encode import EncodedRow

KIND = "token_level"


class TokenLevelRewardModel(RewardModel):
    """v_t(x, y_≤t) for each token of y; r(x, y) = v at the last real token."""

    kind = KIND

    def __init__(self, reader: PackedReader):
        super().__init__(reader.loaded)
        self.reader = reader

    def forward(self, groups: Sequence[SharedRows]) -> tuple[Float[Tensor, "B R"], TokenBatch]:
        """Raw values at all tokens of all groups' answers, and the batch that they belong to."""
        return self.reader.at_tokens(groups)

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised values at the last tokens, flat [B]. Where the groups say at which character each of the policy's
        tokens ends, `token_scores` spreads them: each token earns by how much it raised the value."""
        rows = encoded(self.language, groups)
        values = [self.normalisation.apply(value) for value in self._values(rows, budget)]
        scores = torch.stack([value[-1] for value in values]) if values else torch.zeros(0)
        return Scores(
            scores=scores,
            valid=torch.ones(len(rows), dtype=torch.bool),
            parts={},
            token_scores=self._token_scores(groups, values),
        )

    @torch.no_grad()
    def _values(self, rows: Sequence[EncodedRow], budget: int) -> list[Float[Tensor, " R"]]:
        """Raw values of each row's response tokens, which its end token keeps from being empty."""
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), rows[i][0], len(rows[i][1])))
        values: list[Tensor] = [torch.zeros(0)] * len(rows)
        for cut in by_token_budget((len(rows[i][0]) + len(rows[i][1]) for i in order), budget):
            read, batch = self(sharing([rows[order[i]] for i in cut]))
            for i, row, mask in zip(cut, read.float().cpu(), batch.response_mask.cpu(), strict=True):
                values[order[i]] = row[mask]
        return values

    def _token_scores(self, groups: Sequence[Group], values: Sequence[Tensor]) -> tuple[tuple[float, ...], ...]:
        """One number for each of the policy's tokens, of every row; nothing where a group doesn't know its tokens."""
        if not all(len(group.token_ends) == len(group.responses) for group in groups):
            return ()
        texts = [
            (group.prompt.form, text, ends)
            for group in groups
            for text, ends in zip(group.responses, group.token_ends, strict=True)
        ]
        at = self.language.decoder_renderer.written_ends
        return tuple(  # of this model's own tokens, what the context cut off is not read
            spread(value.diff(prepend=value.new_zeros(1)).tolist(), at(text, form)[: len(value)], ends)
            for (form, text, ends), value in zip(texts, values, strict=True)
        )


def spread(amounts: Sequence[float], at: Sequence[int], ends: Sequence[int]) -> tuple[float, ...]:
    """Amounts earned once `at` characters are written, given to the tokens that end at `ends`: to the first token that
    reaches so far, and to the last one what is earned by the whole text. The sum stays.

    Both lists are in order. No token: nothing to give to.
    """
    earned = [0.0] * len(ends)
    if not earned:
        return ()
    whole = ends[-1]
    for amount, character in zip(amounts, at, strict=True):
        token = len(ends) - 1 if character >= whole else bisect_left(ends, character)
        earned[token] += amount
    return tuple(earned)


def load(config: ModelConfig, language: Language, *, seed: int = 0) -> TokenLevelRewardModel:
    """A saved reward model, or a new one on the backbone that `config` names; its scores raw."""
    return TokenLevelRewardModel(load_packed_reader(config, language, seed=seed))


SAVED = SavedKind(name=KIND, load=load, scores_tokens=True)
