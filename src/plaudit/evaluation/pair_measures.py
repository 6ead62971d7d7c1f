"""What pairs of answers tell of a judge beside its accuracy: calibration, margins, length, position, agreement.

Pure: scores and labels in, plain numbers out. A score of None abstained; its pairs are left out.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from plaudit.evaluation.intervals import clustered_interval
from plaudit.formulas.calibration import brier_score, reliability
from plaudit.formulas.correlation import pearson
from plaudit.formulas.pair_scores import pair_bce

HISTOGRAM_BINS = 30
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Score = float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """Two answers of a prompt that the labels put on different places."""

    prompt: Hashable
    margin: float
    """Score of the better one − score of the other."""
    longer: int
    """Code points that the better one has more than the other."""
    better_first: bool
    """The better one is listed first."""

    @property
    def right(self) -> float:
        """1 where the judge agrees, 0 where it doesn't, ½ for equal scores."""
        return 1.0 if self.margin > 0 else 0.0 if self.margin < 0 else 0.5


def judged_pairs(
    scores: Sequence[Sequence[Score]],
    ranks: Sequence[Sequence[int]],
    responses: Sequence[Sequence[str]],
    prompts: Sequence[Hashable],
) -> list[JudgedPair]:
    """All pairs on different places with both answers scored, one inner list a ranking."""
    pairs = []
    for row in zip(scores, ranks, responses, prompts, strict=True):
        for one, other in combinations(zip(*row[:3], strict=True), 2):
            if one[0] is None or other[0] is None or one[1] == other[1]:
                continue
            first = one[1] < other[1]
            (better, _, text), (worse, _, other_text) = (one, other) if first else (other, one)
            pairs.append(
                JudgedPair(prompt=row[3], margin=better - worse, longer=len(text) - len(other_text), better_first=first)
            )
    return pairs


def calibration(pairs: Sequence[JudgedPair], num_bins: int) -> dict[str, Any]:
    """Is P = σ(|score difference|) the share of pairs in which the judge's favourite is the labels' favourite?

    brier (mean (1 − P(better))²: of equal scores ¼), log_loss (nats), ece (expected calibration error), and the bins of
    the reliability diagram, of equal width over [½, 1]: a judge never says less than ½ of its favourite.
    """
    margins = torch.tensor([pair.margin for pair in pairs], dtype=torch.float64)
    right = torch.tensor([pair.right for pair in pairs], dtype=torch.float64)
    confidence = margins.abs().sigmoid()
    found = reliability(confidence, right, num_bins=2 * num_bins)
    columns = [x.tolist()[num_bins:] for x in (found.counts, found.mean_probability, found.mean_outcome)]
    return {
        "brier": brier_score(margins.sigmoid(), torch.ones_like(margins)).item(),
        "log_loss": (pair_bce(margins.abs(), right)[0] / max(len(pairs), 1)).item(),
        "ece": found.expected_calibration_error,
        "bins": [
            {"pairs": int(count), "confidence": said, "accuracy": was}
            for count, said, was in zip(*columns, strict=True)
            if count
        ],
    }


def margins(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """Mean, deviation (population), quantiles and histogram of score of the better − score of the worse answer."""
    values = torch.tensor([pair.margin for pair in pairs], dtype=torch.float64)
    low, high = values.min().item(), values.max().item()
    width = (high - low) / HISTOGRAM_BINS or 1.0
    bins = ((values - low) / width).long().clamp(max=HISTOGRAM_BINS - 1)
    quantiles = values.quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    return {
        "mean": values.mean().item(),
        "std": values.std(correction=0).item(),
        "quantiles": {f"{q:g}": value for q, value in zip(QUANTILES, quantiles, strict=True)},
        "histogram": {"low": low, "width": width, "counts": bins.bincount(minlength=HISTOGRAM_BINS).tolist()},
    }


def share(outcomes: Sequence[float], prompts: Sequence[Hashable]) -> dict[str, float | int]:
    """A share with its interval, pairs of one prompt as one cluster, and how many it is of."""
    low, high = clustered_interval(outcomes, prompts)
    return {"value": sum(outcomes) / max(len(outcomes), 1), "low": low, "high": high, "pairs": len(outcomes)}


def length_bias(
    pairs: Sequence[JudgedPair], scores: Sequence[Sequence[Score]], responses: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Accuracy where the better answer is the longer one and where it is the shorter (code points), how often labels
    and judge prefer the longer one, and the correlation of score with length inside prompts (Pearson, each prompt's
    means taken out). A judge without a length bias has the two accuracies alike."""
    unequal = [pair for pair in pairs if pair.longer]
    parts = {
        "accuracy_better_is_longer": [pair for pair in pairs if pair.longer > 0],
        "accuracy_better_is_shorter": [pair for pair in pairs if pair.longer < 0],
    }
    judge = [pair.right if pair.longer > 0 else 1.0 - pair.right for pair in unequal]
    return {
        **{name: share([p.right for p in part], [p.prompt for p in part]) for name, part in parts.items() if part},
        "labels_prefer_longer": sum(pair.longer > 0 for pair in unequal) / max(len(unequal), 1),
        "judge_prefers_longer": sum(judge) / max(len(unequal), 1),
        "correlation_within_prompts": _within_prompts(scores, responses),
    }


def _within_prompts(scores: Sequence[Sequence[Score]], responses: Sequence[Sequence[str]]) -> float:
    values: list[float] = []
    lengths: list[float] = []
    for row in zip(scores, responses, strict=True):
        known = [(score, float(len(text))) for score, text in zip(*row, strict=True) if score is not None]
        for numbers, out in zip(zip(*known, strict=True), (values, lengths), strict=False):
            out += [number - math.fsum(numbers) / len(numbers) for number in numbers]
    return pearson(torch.tensor(values, dtype=torch.float64), torch.tensor(lengths, dtype=torch.float64))


def position_bias(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """How often the answer that is listed first is better by the labels, and by the judge; alike without a bias."""
    judge = [pair.right if pair.better_first else 1.0 - pair.right for pair in pairs]
    labels = sum(pair.better_first for pair in pairs) / max(len(pairs), 1)
    return {"labels_prefer_first": labels, "judge_prefers_first": share(judge, [pair.prompt for pair in pairs])}


def order_flips(
    scores: Sequence[Sequence[Score]], turned: Sequence[Sequence[Score]], prompts: Sequence[Hashable]
) -> dict[str, float | int]:
    """Share of pairs whose winner changes when the answers are listed in the opposite order; ½ where one is a draw.

    `turned` are the scores of the reversed rows, in their reversed order.
    """
    flips: list[float] = []
    owners: list[Hashable] = []
    for straight, other, prompt in zip(scores, turned, prompts, strict=True):
        both = list(zip(straight, reversed(other), strict=True))
        for (a, turned_a), (b, turned_b) in combinations(both, 2):
            if a is None or b is None or turned_a is None or turned_b is None:
                continue
            flips.append(abs(_sign(a - b) - _sign(turned_a - turned_b)) / 2.0)
            owners.append(prompt)
    return share(flips, owners)


def labellers_agreement(
    votes: Sequence[Sequence[Sequence[int]]], prompts: Sequence[Hashable]
) -> dict[str, dict[str, float | int]]:
    """What people make of people, on the rows with two votes or more (each vote: places of the answers).

    `two_labellers`: of two labellers who both put a pair on different places, how often alike. `one_against_others`: a
    labeller against the majority of the others, his own ties counting half, pairs without a majority left out: what a
    judge's accuracy may be compared with.
    """
    alike: list[float] = []
    single: list[float] = []
    alike_prompts: list[Hashable] = []
    single_prompts: list[Hashable] = []
    for row, prompt in zip(votes, prompts, strict=True):
        for i, j in combinations(range(len(row[0]) if row else 0), 2):
            signs = [_sign(vote[j] - vote[i]) for vote in row]
            both = [float(a == b) for a, b in combinations(signs, 2) if a and b]
            alike += both
            alike_prompts += [prompt] * len(both)
            against = [(sign, _sign(sum(signs) - sign)) for sign in signs]
            ones = [0.5 if not own else float(own == others) for own, others in against if others]
            single += ones
            single_prompts += [prompt] * len(ones)
    found = {"two_labellers": (alike, alike_prompts), "one_against_others": (single, single_prompts)}
    return {name: share(*both) for name, both in found.items() if both[0]}


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)
