"""Several judges, one score: a weighted sum (N3.14)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from plaudit.errors import UserError
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.scoring.asking.scorer import AskingScorer
from plaudit.scoring.builtin import BUILTIN
from plaudit.scoring.functions import FunctionScorer, Tally
from plaudit.scoring.isolate import IsolatedFunction
from plaudit.scoring.protocol import Scorer, check_scores, num_responses, row_problem
from plaudit.scoring.results import FailureKind
from plaudit.scoring.shares import FirstRankScorer


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedMix:
    """score_i = Σ_k weight_k · score_k,i over the parts that did not abstain on row i.

    An abstaining part contributes nothing, as in TRL (the weights of the others are not scaled up), so let a part
    abstain where it does not apply rather than where the answer is bad. A row is valid where at least one part of
    non-zero weight is; a row that is not valid scores 0.0. A part of weight 0 is only measured. Sums are made in double
    precision.
    """

    parts: tuple[tuple[Scorer, float], ...]
    name: str = "mix"

    def __post_init__(self) -> None:
        for scorer, weight in self.parts:
            if not math.isfinite(weight):
                raise UserError(f"scorer {scorer.name!r}: its weight must be a finite number, not {weight}")
        if not any(weight for _, weight in self.parts):
            raise UserError("no scorer has a weight other than 0: nothing would be scored")

    def row_problem(self, columns: Mapping[str, Any]) -> str:
        """What the first part that can't judge such a row says."""
        return next(filter(None, (row_problem(scorer, columns) for scorer, _ in self.parts)), "")

    @property
    def part_names(self) -> tuple[str, ...]:
        """One name a part; the second `keywords` becomes `keywords_2`."""
        names: list[str] = []
        for scorer, _ in self.parts:
            name, count = scorer.name, 1
            while name in names:
                count += 1
                name = f"{scorer.name}_{count}"
            names.append(name)
        return tuple(names)

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B]; `parts` holds each judge's own scores before weighting (NaN where it abstained), and its parts
        as `judge/part`."""
        num = num_responses(groups)
        total = torch.zeros(num, dtype=torch.float64)
        spoken: list[tuple[Scores, float]] = []
        parts: dict[str, torch.Tensor] = {}
        for name, (scorer, weight) in zip(self.part_names, self.parts, strict=True):
            result = check_scores(scorer.name, scorer.score(groups), num, groups)
            parts[name] = torch.where(result.valid, result.scores, torch.full_like(result.scores, math.nan))
            parts |= {f"{name}/{part}": values for part, values in result.parts.items() if part != scorer.name}
            if weight:
                total += torch.where(result.valid, weight * result.scores.double(), torch.zeros_like(total))
                spoken.append((result, weight))
        valid = torch.stack([result.valid for result, _ in spoken]).any(dim=0)
        scores = torch.where(valid, total, torch.zeros_like(total)).float()
        mixed = Scores(scores=scores, valid=valid, parts=parts, token_scores=_token_scores(spoken, valid))
        return check_scores(self.name, mixed, num)


def _token_scores(spoken: Sequence[tuple[Scores, float]], valid: torch.Tensor) -> tuple[tuple[float, ...], ...]:
    """Σ weight · token score, where a part says it by token; a part that judges the whole pays at the last token."""
    by_token = [result.token_scores for result, _ in spoken if result.token_scores]
    if not by_token:
        return ()
    rows = []
    for i, tokens in enumerate(by_token[0]):
        row = [0.0] * len(tokens)
        for result, weight in spoken:
            if not (valid[i] and result.valid[i] and row):
                continue
            if result.token_scores:
                row = [a + weight * b for a, b in zip(row, result.token_scores[i], strict=True)]
            else:
                row[-1] += weight * float(result.scores[i])
        rows.append(tuple(row))
    return tuple(rows)


def judges_elsewhere(scorer: Scorer) -> bool:
    """Does it leave this process alone while it judges: by functions in processes of their own, by a server, or by
    rules that cost next to nothing? Models compute here, and a function without a process may do anything."""
    match scorer:
        case WeightedMix():
            return all(judges_elsewhere(part) for part, _ in scorer.parts)
        case AskingScorer():
            return scorer.config.kind == "chat"
        case FunctionScorer():
            return isinstance(scorer.function, IsolatedFunction) or scorer.function in BUILTIN.values()
        case _:
            return False


def tell_step(scorer: Scorer, step: int, max_steps: int) -> None:
    """How far training is, for reward functions that take `trainer_state`."""
    for tally in tallies(scorer).values():
        tally.state = {"global_step": step, "max_steps": max_steps, "epoch": step / max(max_steps, 1)}


def tallies(scorer: Scorer) -> dict[str, Tally]:
    """What the judges in a scorer have counted, by the name of the part; a scorer of the user's own counts nothing."""
    if isinstance(tally := getattr(scorer, "tally", None), Tally):
        return {scorer.name: tally}
    if isinstance(scorer, FirstRankScorer):  # the other ranks have asked nothing, and count nothing
        return tallies(scorer.scorer)
    if not isinstance(scorer, WeightedMix):
        return {}
    by_name: dict[str, Tally] = {}
    for name, (part, _) in zip(scorer.part_names, scorer.parts, strict=True):
        inner = tallies(part)
        by_name |= {name if list(inner) == [part.name] else f"{name}/{k}": tally for k, tally in inner.items()}
    return by_name


def part_metrics(scorer: Scorer) -> dict[str, float]:
    """Metrics of what became of the rows since the last call: shares on which a part failed, or abstained."""
    metrics: dict[str, float] = {}
    for name, tally in tallies(scorer).items():
        new = tally.take()
        rows = max(new["rows"], 1)
        if tally.of_model:
            metrics[f"part_cut/{name}_over_responses"] = new["cut"] / rows
            continue
        metrics[f"part_failed/{name}_over_responses"] = sum(new[kind] for kind in FailureKind) / rows
        metrics[f"part_abstained/{name}_over_responses"] = new["abstained"] / rows
        for logged, mean in tally.take_logged().items():
            metric = f"{name}/{logged}"
            metrics[f"part_logged/{metric}_over_responses"] = mean
    return metrics
