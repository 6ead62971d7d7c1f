"""Two answers to a prompt beside each other: read together (PairRM, N3.10), asked about (SteamSHP, N3.11), or with a
value at every token (N3.8)."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from plaudit.data.sources import file_of
from plaudit.errors import UserError
from plaudit.formulas.masks import last_index
from plaudit.formulas.pair_scores import both_orders_bce, unbiased_logit
from plaudit.formulas.token_preference import token_pairwise
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import pair, seq2seq, token_level
from plaudit.models.reward.pair import Joint, PairRewardModel
from plaudit.models.reward.seq2seq import Seq2SeqRewardModel, question_ids
from plaudit.models.reward.token_level import TokenLevelRewardModel
from plaudit.records.text import Comparison, Ranking
from plaudit.telemetry.console import say
from plaudit.tokens.batches import sharing
from plaudit.tokens.encode import EncodedRow
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.objective import (
    Budget,
    Encoder,
    Example,
    GradientObjective,
    accumulate,
    over_rows,
    pair_metrics,
    pair_sums,
    refuse_margins,
)
from plaudit.training.reward.options import Pair, Seq2Seq, TokenLevel


class BothOrders(Example, Protocol):
    """Two encoded answers to a prompt, which are read in both orders."""

    @property
    def length(self) -> int:
        """Ids of an input, which must not exceed what the model reads."""
        ...

    @property
    def distinct(self) -> bool:
        """Are the two answers different ids?"""
        ...


P = TypeVar("P", bound=BothOrders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs(Generic[P]):
    """All pairs of a prompt's answers that teach something."""

    pairs: tuple[P, ...]

    @property
    def num_tokens(self) -> int:
        return sum(pair.num_tokens for pair in self.pairs)


def say_blurred(count: int, rows: Sequence[Ranking | Comparison]) -> None:
    """Of pairs whose answers became the same ids when they were cut."""
    if count:
        say(f"{file_of(rows[0].where)}: {count} pairs whose answers are equal once they are cut: left out")


NO_LIMIT = 10**9
"""Ids: to ask how long a pair is before it is cut."""


def encode_pairs(
    rows: Sequence[Ranking], encode: Callable[[Ranking, int], list[P]], room: int, what: str, encoder: Encoder
) -> list[Pairs[P]]:
    """The pairs of each ranking by `encode`, which cuts inputs to so many ids; where one needs more than `room`, the
    row is cut, dropped or refused as the encoder says. Rows without a pair are left out."""
    refuse_margins(rows)
    examples: list[Pairs[P]] = []
    long: list[str] = []
    blurred = 0
    for row in rows:
        pairs = encode(row, NO_LIMIT)
        if any(pair.length > room for pair in pairs):
            long.append(row.where)
            cut = encode(row, room) if encoder.too_long == "truncate" else []
            pairs = [pair for pair in cut if pair.distinct]
            blurred += len(cut) - len(pairs)
        if pairs:
            examples.append(Pairs(pairs=tuple(pairs)))
    if long and encoder.too_long == "error":
        raise UserError(
            f"{len(long)} row(s) with {what} of more than {encoder.max_length} tokens: {', '.join(long[:5])}. "
            "Raise max_length, or set too_long to `drop` or `truncate`."
        )
    if long:
        say_blurred(blurred, rows)
        say(f"{len(long)} rankings with {what} of more than {encoder.max_length} tokens: {encoder.too_long}")
    return examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Two answers to a prompt; `outcome` 1: the first is the better one, 0: the second, ½: a tie."""

    joint: Joint
    outcome: float

    @property
    def length(self) -> int:
        return self.joint.length

    @property
    def distinct(self) -> bool:
        return self.joint != self.joint.swapped

    @property
    def num_tokens(self) -> int:
        return 2 * self.joint.num_tokens


class PairObjective(GradientObjective[Pair]):
    """Binary cross-entropy of every pair, in both orders."""

    def check(self, config: ModelConfig) -> None:
        """UserError for a backbone that reads no pairs."""
        pair.check_backbone(config)

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Ranking], *, seed: int) -> PairRewardModel:
        return pair.load(config, language, aggregate=self.options.aggregate, seed=seed)

    def examples_of(self, rows: Sequence[Ranking], encoder: Encoder) -> list[Pairs[Contest]]:
        """Each ranking's pairs, of a text that stands there twice the first only."""
        language = pair.with_markers(encoder.language)
        if any(len(set(row.responses)) < 2 for row in rows):
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

        room = encoder.max_length - pair.overhead(language)
        return encode_pairs(rows, contests, room, "a prompt and two answers", encoder)

    def backward(self, model: PairRewardModel, examples: Sequence[Pairs[Contest]], budget: Budget) -> MinibatchLoss:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoQuestions:
    """One pair of a ranking, asked in both orders; the better answer is A in the first question, B in the second."""

    as_a: tuple[int, ...]
    as_b: tuple[int, ...]

    @property
    def length(self) -> int:
        return max(len(self.as_a), len(self.as_b))

    @property
    def distinct(self) -> bool:
        return self.as_a != self.as_b

    @property
    def num_tokens(self) -> int:
        """The two first tokens of the decoder among them."""
        return len(self.as_a) + len(self.as_b) + 2


Questions = Pairs[TwoQuestions]


class Seq2SeqObjective(GradientObjective[Seq2Seq]):
    """Cross-entropy of the better answer's letter, every pair in both orders."""

    def check(self, config: ModelConfig) -> None:
        """UserError for a backbone that isn't an encoder-decoder."""
        seq2seq.check_backbone(config)

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> Seq2SeqRewardModel:
        return seq2seq.load(config, language, output=self.options.output, against=self.options.against, seed=seed)

    def examples_of(self, rows: Sequence[Ranking], encoder: Encoder) -> list[Questions]:
        """Each ranking's pairs; a tie has no letter and is left out."""
        language = encoder.language
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

        return encode_pairs(rows, questions, encoder.max_length, "questions", encoder)

    def backward(self, model: Seq2SeqRewardModel, examples: Sequence[Questions], budget: Budget) -> MinibatchLoss:
        """Loss per question, nats; accuracy of the letter and margin of its log-odds, both orders averaged."""
        every = [questions for example in examples for questions in example.pairs]

        def loss(part: Sequence[TwoQuestions]) -> tuple[Tensor, Mapping[str, float]]:
            as_a, as_b = model([*(both.as_a for both in part), *(both.as_b for both in part)]).split(len(part))
            margin = 0.5 * ((as_a[:, 0] - as_a[:, 1]) + (as_b[:, 1] - as_b[:, 0])).detach()
            return -0.5 * (as_a[:, 0] + as_b[:, 1]).sum(), pair_sums(margin)

        sums = accumulate(loss, every, len(every), budget)
        return over_rows(sums["loss"] / max(len(every), 1), **pair_metrics(sums, len(every)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One prompt's preferred and other answer, encoded."""

    chosen: EncodedRow
    rejected: EncodedRow

    @property
    def num_tokens(self) -> int:
        return sum(len(ids) for ids in (*self.chosen, *self.rejected))


class TokenLevelObjective(GradientObjective[TokenLevel]):
    """The preferred answer's values must be higher."""

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> TokenLevelRewardModel:
        return token_level.load(config, language, seed=seed)

    def examples_of(self, rows: Sequence[Comparison], encoder: Encoder) -> list[Compared]:
        refuse_margins(rows)
        encoded = encoder([(row.prompt, text, row.where) for row in rows for text in (row.chosen, row.rejected)])
        both = [(c, r) for c, r in zip(encoded[0::2], encoded[1::2], strict=True) if c is not None and r is not None]
        different = [Compared(chosen=c, rejected=r) for c, r in both if c != r]
        say_blurred(len(both) - len(different), rows)
        return different

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
