"""A sequence-to-sequence model learns to name the better answer (SteamSHP, N3.11)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import seq2seq
from plaudit.models.reward.seq2seq import Seq2SeqRewardModel, question_ids
from plaudit.records.text import Prompt, Ranking
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.compared import pair_metrics, pair_sums, refuse_margins, settle_long
from plaudit.training.reward.objective import Budget, Limits, accumulate, over_rows
from plaudit.training.reward.options import Seq2Seq

NO_LIMIT = 10**9
"""Tokens: to ask how long a question is before it is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoQuestions:
    """One pair of a ranking, asked in both orders; the better answer is A in the first question, B in the second."""

    as_a: tuple[int, ...]
    as_b: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model, the two first tokens of the decoder among them."""
        return len(self.as_a) + len(self.as_b) + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """A prompt's pairs of different rank."""

    pairs: tuple[TwoQuestions, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model."""
        return sum(pair.num_tokens for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class Seq2SeqObjective:
    """Cross-entropy of the better answer's letter, every pair in both orders."""

    options: Seq2Seq

    def check(self, config: ModelConfig) -> None:
        """UserError for a backbone that isn't an encoder-decoder."""
        seq2seq.check_backbone(config)

    def model(
        self, config: ModelConfig, language: Language, rows: Sequence[Ranking], *, seed: int
    ) -> Seq2SeqRewardModel:
        return seq2seq.load(config, language, output=self.options.output, against=self.options.against, seed=seed)

    def examples(
        self, sources: Sequence[Sequence[Ranking]], language: Language, limits: Limits
    ) -> list[list[Questions]]:
        """Each ranking's pairs; a tie has no letter and is left out."""
        seq2seq.letter_ids(language)
        return [_questions(rows, language, limits) for rows in sources]

    def backward(self, model: Seq2SeqRewardModel, examples: Sequence[Questions], budget: Budget) -> MinibatchLoss:
        """Loss per question, nats; accuracy of the letter and margin of its log-odds, both orders averaged."""
        pairs = [pair for example in examples for pair in example.pairs]

        def loss(part: Sequence[TwoQuestions]) -> tuple[Tensor, Mapping[str, float]]:
            as_a, as_b = model([*(pair.as_a for pair in part), *(pair.as_b for pair in part)]).split(len(part))
            margin = 0.5 * ((as_a[:, 0] - as_a[:, 1]) + (as_b[:, 1] - as_b[:, 0])).detach()
            return -0.5 * (as_a[:, 0] + as_b[:, 1]).sum(), pair_sums(margin)

        sums = accumulate(loss, pairs, len(pairs), budget)
        return over_rows(sums["loss"] / max(len(pairs), 1), **pair_metrics(sums, len(pairs)))


def _questions(rows: Sequence[Ranking], language: Language, limits: Limits) -> list[Questions]:
    examples: list[Questions] = []
    long: list[str] = []
    refuse_margins(rows)
    for row in rows:
        ranked = list(zip(row.responses, row.ranks, strict=True))
        texts = [(a, b) for a, of_a in ranked for b, of_b in ranked if of_a < of_b and a != b]
        pairs = [_two_questions(language, row.prompt, a, b, NO_LIMIT) for a, b in texts]
        if any(max(len(pair.as_a), len(pair.as_b)) > limits.max_length for pair in pairs):
            long.append(row.where)
            if limits.too_long != "truncate":
                continue
            pairs = [_two_questions(language, row.prompt, a, b, limits.max_length) for a, b in texts]
        if pairs:
            examples.append(Questions(pairs=tuple(pairs)))
    settle_long(long, "questions", limits)
    return examples


def _two_questions(language: Language, prompt: Prompt, better: str, worse: str, max_length: int) -> TwoQuestions:
    return TwoQuestions(
        as_a=tuple(question_ids(language, prompt, better, worse, max_length)),
        as_b=tuple(question_ids(language, prompt, worse, better, max_length)),
    )
