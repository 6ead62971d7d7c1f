"""What pairs say of a judge beside its accuracy: calibration, margins, and whether length or position sway it.

Pure: pairs and scores in, results and plain numbers for figures out.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch

from plaudit.evaluation.intervals import share_of
from plaudit.evaluation.judges.pairs import JudgedPair, pairs_of, share, sign
from plaudit.evaluation.judges.rows import Answers, ScoredRows
from plaudit.formulas.calibration import brier_score, reliability
from plaudit.formulas.correlation import pearson
from plaudit.formulas.pair_scores import pair_bce
from plaudit.records.results import Result
from plaudit.records.text import Group

HISTOGRAM_BINS = 30
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def biases(scored: ScoredRows, *, num_bins: int, has_scale: bool, turned: Answers | None = None) -> list[Result]:
    """Length, position and calibration on the ranked rows; nothing where there are none.

    Args: `has_scale`: whether scores are meant in nats of preference, as calibration takes them; `turned`: scores of
    the same rows with their answers in the opposite order, in that order.
    """
    rows = scored.rows.ranked
    if not rows:
        return []
    pairs, groups = pairs_of(scored).pairs, [row.group for row in rows]
    flips = [] if turned is None else [order_flips(scored.judge, scored.ranked, turned, groups)]
    lengths, positions = length_bias(scored.judge, pairs, scored.ranked, groups), position_bias(scored.judge, pairs)
    return [*lengths, *positions, *flips, *calibration(scored.judge, pairs, num_bins, has_scale=has_scale)]


def calibration(judge: str, pairs: Sequence[JudgedPair], num_bins: int, *, has_scale: bool) -> list[Result]:
    """Is P = σ(|score difference|) the share of pairs in which the judge's favourite is the labels' favourite?

    Log loss (nats), Brier score (of equal scores ¼), and the expected calibration error over bins of equal width in
    [½, 1].
    """
    margins, right = _columns(pairs)
    diagram = reliability(margins.abs().sigmoid(), right, num_bins=2 * num_bins)
    log_loss = pair_bce(margins.abs(), right)[0] / max(len(pairs), 1)
    brier = brier_score(margins.sigmoid(), torch.ones_like(margins))
    more = {"subject": judge, "ceiling": 0.0, "count": len(pairs), "facts": {"has_scale": float(has_scale)}}
    return [
        Result(measure="log_loss_over_pairs", value=log_loss.item(), floor=math.log(2.0), **more),
        Result(measure="brier_over_pairs", value=brier.item(), floor=0.25, **more),
        Result(measure="calibration_error_over_pairs", value=diagram.expected_calibration_error, **more),
    ]


def reliability_bins(pairs: Sequence[JudgedPair], num_bins: int) -> list[dict[str, float]]:
    """The bins of the reliability diagram that hold a pair: a judge never says less than ½ of its favourite."""
    margins, right = _columns(pairs)
    diagram = reliability(margins.abs().sigmoid(), right, num_bins=2 * num_bins)
    columns = [x.tolist()[num_bins:] for x in (diagram.counts, diagram.mean_probability, diagram.mean_outcome)]
    return [
        {"pairs": int(count), "confidence": confidence, "accuracy": outcome}
        for count, confidence, outcome in zip(*columns, strict=True)
        if count
    ]


def margins(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """Mean, deviation (population), quantiles and histogram of score of the better − score of the worse answer."""
    values, _ = _columns(pairs)
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


def length_bias(judge: str, pairs: Sequence[JudgedPair], scores: Answers, groups: Sequence[Group]) -> list[Result]:
    """Accuracy where the better answer is the longer one and where it is the shorter (code points), and the correlation
    of score with length inside prompts (Pearson, each prompt's means taken out)."""
    longer, shorter = [p for p in pairs if p.longer > 0], [p for p in pairs if p.longer < 0]
    unequal = max(len(longer) + len(shorter), 1)
    parts = {"accuracy_where_longer_over_pairs": longer, "accuracy_where_shorter_over_pairs": shorter}
    prefers_longer = sum(p.right for p in longer) + sum(1.0 - p.right for p in shorter)
    correlation = Result(
        measure="length_correlation_over_responses",
        subject=judge,
        value=_within_prompts(scores, groups),
        facts={"labels_prefer_longer": len(longer) / unequal, "judge_prefers_longer": prefers_longer / unequal},
    )
    return [*(share(measure, judge, part, floor=0.5) for measure, part in parts.items() if part), correlation]


def _within_prompts(scores: Answers, groups: Sequence[Group]) -> float:
    values: list[float] = []
    lengths: list[float] = []
    for row, group in zip(scores, groups, strict=True):
        known = [(x, float(len(text))) for x, text in zip(row, group.responses, strict=True) if x is not None]
        for numbers, out in zip(zip(*known, strict=True), (values, lengths), strict=False):
            out += [number - math.fsum(numbers) / len(numbers) for number in numbers]
    return pearson(torch.tensor(values, dtype=torch.float64), torch.tensor(lengths, dtype=torch.float64))


def position_bias(judge: str, pairs: Sequence[JudgedPair]) -> list[Result]:
    """How often the answer that is listed first wins; nothing where the labels' winner always stands in one position,
    as in comparisons."""
    by_labels = sum(pair.better_first for pair in pairs) / max(len(pairs), 1)
    if not 0.0 < by_labels < 1.0:
        return []
    wins = [pair.right if pair.better_first else 1.0 - pair.right for pair in pairs]
    facts = {"labels_prefer_first": by_labels}
    return [share_of("first_wins_over_pairs", judge, wins, [pair.prompt for pair in pairs], facts=facts)]


def order_flips(judge: str, scores: Answers, turned: Answers, groups: Sequence[Group]) -> Result:
    """Share of pairs whose winner changes when the answers are listed in the opposite order; ½ where one is a draw.

    `turned` are the scores of the reversed rows, in their reversed order.
    """
    flips: list[float] = []
    prompts: list[str] = []
    for straight, other, group in zip(scores, turned, groups, strict=True):
        both = list(zip(straight, reversed(other), strict=True))
        for (a, turned_a), (b, turned_b) in combinations(both, 2):
            if a is None or b is None or turned_a is None or turned_b is None:
                continue
            flips.append(abs(sign(a - b) - sign(turned_a - turned_b)) / 2.0)
            prompts.append(group.prompt.id)
    return share_of("order_flips_over_pairs", judge, flips, prompts, ceiling=0.0)


def _columns(pairs: Sequence[JudgedPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Margins and outcomes of the pairs, float64 [P]."""
    margins = torch.tensor([pair.margin for pair in pairs], dtype=torch.float64)
    return margins, torch.tensor([pair.right for pair in pairs], dtype=torch.float64)
