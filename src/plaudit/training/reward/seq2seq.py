"""A sequence-to-sequence model learns to name the better answer (SteamSHP, N3.11)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import seq2seq
from plaudit.models.reward.seq2seq import Seq2SeqRewardModel, question_ids
from plaudit.records.text import Ranking
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.compared import Pairs, encode_pairs, pair_metrics, pair_sums
from plaudit.training.reward.objective import Budget, Limits, accumulate, over_rows
from plaudit.training.reward.options import Seq2Seq


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoQuestions:
    """One pair of a ranking, asked in both orders; the better answer is A in the first question, B in the second."""

    as_a: tuple[int, ...]
    as_b: tuple[int, ...]

    @property
    def length(self) -> int:
        return max(len(self.as_a), len(self.as_b))

    @property
    def num_tokens(self) -> int:
        """The two first tokens of the decoder among them."""
        return len(self.as_a) + len(self.as_b) + 2


Questions = Pairs[TwoQuestions]


@dataclass(frozen=True, slots=True)
class Seq2SeqObjective:
    """Cross-entropy of the better answer's letter, every pair in both orders."""

    options: Seq2Seq

    def check(self, config: ModelConfig) -> None:
        """UserError for a backbone that isn't an encoder-decoder."""
        seq2seq.check_backbone(config)

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> Seq2SeqRewardModel:
        return seq2seq.load(config, language, output=self.options.output, against=self.options.against, seed=seed)

    def examples(
        self, sources: Sequence[Sequence[Ranking]], language: Language, limits: Limits
    ) -> list[list[Questions]]:
        """Each ranking's pairs; a tie has no letter and is left out."""
        seq2seq.letter_ids(language)

        def questions(row: Ranking, room: int) -> list[TwoQuestions]:
            ranked = list(zip(row.responses, row.ranks, strict=True))
            return [
                TwoQuestions(
                    as_a=tuple(question_ids(language, row.prompt, better, worse, room)),
                    as_b=tuple(question_ids(language, row.prompt, worse, better, room)),
                )
                for better, rank in ranked
                for worse, other in ranked
                if rank < other and better != worse
            ]

        return [encode_pairs(rows, questions, limits.max_length, "questions", limits) for rows in sources]

    def backward(self, model: Seq2SeqRewardModel, examples: Sequence[Questions], budget: Budget) -> MinibatchLoss:
        """Loss per question, nats; accuracy of the letter and margin of its log-odds, both orders averaged."""
        pairs = [pair for example in examples for pair in example.pairs]

        def loss(part: Sequence[TwoQuestions]) -> tuple[Tensor, Mapping[str, float]]:
            as_a, as_b = model([*(pair.as_a for pair in part), *(pair.as_b for pair in part)]).split(len(part))
            margin = 0.5 * ((as_a[:, 0] - as_a[:, 1]) + (as_b[:, 1] - as_b[:, 0])).detach()
            return -0.5 * (as_a[:, 0] + as_b[:, 1]).sum(), pair_sums(margin)

        sums = accumulate(loss, pairs, len(pairs), budget)
        return over_rows(sums["loss"] / max(len(pairs), 1), **pair_metrics(sums, len(pairs)))
