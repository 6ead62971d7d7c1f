"""Held-out loss of a language model."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from plaudit.evaluation.intervals import Estimate, mean_estimate, mean_of
from plaudit.hardware.machine import Machine
from plaudit.models.trunk import Trunk
from plaudit.records.results import Result
from plaudit.tokens.batches import pack
from plaudit.tokens.encode import EncodedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """Negative log-likelihoods of held-out answers, in nats."""

    nll: tuple[float, ...]
    """One an answer: summed over its tokens."""
    num_tokens: int
    end: float | None = None
    """Probability of the end token where answers end by one, mean over them; None where none does."""

    @property
    def loss(self) -> float:
        """Nats per token."""
        return sum(self.nll) / max(self.num_tokens, 1)

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def nll_over_answers(self) -> Estimate:
        """Nats per answer: what an entropy per answer is compared with. Answers are taken as independent."""
        return mean_estimate(self.nll)

    def results(self, subject: str, *, untrained: Mapping[str, float] | None, entropy: float | None) -> list[Result]:
        """Loss per token, perplexity, and the loss of a whole answer between an untrained model's and the entropy of
        the answers."""
        before = untrained or {}
        single = {"held_out_loss_over_tokens": self.loss, "held_out_perplexity": self.perplexity}
        answers = "held_out_nll_over_answers"
        return [
            *(
                Result(measure=key, subject=subject, value=value, floor=before.get(key), count=self.num_tokens)
                for key, value in single.items()
            ),
            mean_of(answers, subject, self.nll, floor=before.get(answers), ceiling=entropy),
        ]


@torch.no_grad()
def perplexity(
    trunk: Trunk, rows: Sequence[EncodedRow], machine: Machine, *, budget: int = 16384, ends: Collection[int] = ()
) -> Perplexity:
    """Score encoded rows at temperature 1, each rank its share; `budget` is the tokens of one forward, `ends` the ids
    that end an answer."""
    nll, end = [0.0] * len(rows), [0.0] * len(rows)
    ending = [max((k for k, token in enumerate(r) if token in ends), default=None) for _, r in rows]
    for cut in machine.ranks.cuts((len(p) + len(r) for p, r in rows), budget):
        batch = pack([rows[i][0] for i in cut], [rows[i][1] for i in cut]).to(machine.device)
        with machine.autocast():
            logprobs = trunk(batch, {"logprobs"})["logprobs"]
        for i, value in zip(cut, (-logprobs.sum(1)).tolist(), strict=True):
            nll[i] = value
        for i, row in zip(cut, logprobs, strict=True):
            if (last := ending[i]) is not None:
                end[i] = float(row[last].exp())
    totals = machine.ranks.totals(*nll, *end)  # each row is one rank's
    ended = len(rows) - ending.count(None)
    return Perplexity(
        nll=tuple(totals[: len(rows)]),
        num_tokens=sum(len(r) for _, r in rows),
        end=sum(totals[len(rows) :]) / ended if ended else None,
    )
