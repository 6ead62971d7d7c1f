"""Reward models and reward functions side by side on labelled answers: `plaudit eval reward` (N3, N5).

Everything that a judge can be measured by without training anything: accuracy with ties and intervals, calibration,
margins, length and position bias, beside floors that know no language and the labellers' own agreement.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from plaudit.data.formats import competition_ranks
from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.evaluation import pair_measures, reward_table
from plaudit.evaluation.floors import LongerWins, fit_bag_of_words
from plaudit.evaluation.label_measures import labellers_correlation, rating_measures, verdict_measures
from plaudit.evaluation.options import RewardEvalConfig, name_of
from plaudit.evaluation.reward_accuracy import (
    Accuracy,
    expected_accuracy_of_rankings,
    pair_accuracy,
    reward_accuracy,
    score_groups,
    score_parts,
)
from plaudit.evaluation.reward_rows import (
    JudgedRow,
    LabelledRows,
    RankedRow,
    RatedRow,
    rankings,
    read_labelled,
    reversed_group,
)
from plaudit.hardware.machine import machine
from plaudit.records.text import Group, Kind, Ranking
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards, has_scale
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import Scorer, check_columns
from plaudit.telemetry.console import say

Answers = Sequence[Sequence[float | None]]
"""What a judge said of the answers of each row; None: it abstained."""


def reward_eval(config: RewardEvalConfig, run: Run) -> None:
    """Score every labelled answer with every judge; write the table and a block `reward_eval` into summary.json."""
    rows, training = _prepare(config, run)
    place = machine(config.device)
    found: dict[str, dict[str, Any]] = {}
    for judge in config.models:
        run.check_stop()
        found[name_of(judge)] = {
            "scale": "learned" if has_scale(judge) else "none",
            **measure(build_scorer((judge,), place), rows, config),
        }
        say(f"{name_of(judge)}: measured")
    prompts = [row.group.prompt.id for row in rows.ranked]
    agreement = pair_measures.labellers_agreement([row.votes for row in rows.ranked], prompts) if rows.ranked else {}
    block = {"judges": found, "floors": _floors(rows, training), "agreement": agreement}
    run.finish({"stages": reward_table.rows(block), "reward_eval": block})


def _prepare(config: RewardEvalConfig, run: Run) -> tuple[LabelledRows, list[Ranking]]:
    """Everything that can be wrong with the input is found here, before a model loads."""
    rows = read_labelled(config.data, config.subset_column)
    training = [(source.path, load(source, Kind.RANKING)) for source in config.train]
    run.check_data({**rows.fingerprints, **{path: one.fingerprint for path, one in training}})
    lone = replace(rows, ranked=tuple(row for row in rows.ranked if len(row.ranks) < 2)).prompt_rows()
    check_rewards(config.models, rows.prompt_rows(), option="models", lone=lone)
    if not rows.ranked:
        without = "the data has no rankings or comparisons"
        for option, given in (
            ("truth", config.truth is not None), ("train", bool(config.train)), ("check_order", config.check_order)
        ):  # fmt: skip
            if given:
                raise UserError(f"{option}: {without}, so it has no effect")
    if config.truth is not None:
        truth = function_scorer(FunctionConfig(function=config.truth.function))
        check_columns(truth, rows.prompt_rows())
    return rows, [row for _, one in training for row in one.rows]


def measure(scorer: Scorer, rows: LabelledRows, config: RewardEvalConfig) -> dict[str, Any]:
    """One judge on everything: `pairs` of rankings, `ratings` by aspect, `verdicts`, as far as the data has them."""
    found: dict[str, Any] = {}
    if rows.ranked:
        found["pairs"] = _measure_ranked(scorer, rows.ranked, config)
    if rows.rated:
        found["ratings"] = _measure_rated(scorer, rows.rated, config.seed)
    if rows.judged:
        found["verdicts"] = _measure_judged(scorer, rows.judged, config.seed)
    return found


def _measure_ranked(scorer: Scorer, rows: Sequence[RankedRow], config: RewardEvalConfig) -> dict[str, Any]:
    groups = [row.group for row in rows]
    scores, ranks = score_groups(scorer, groups), [row.ranks for row in rows]
    responses, prompts = [g.responses for g in groups], [g.prompt.id for g in groups]
    pairs = pair_measures.judged_pairs(scores, ranks, responses, prompts)
    found: dict[str, Any] = {
        "accuracy": asdict(_accuracy(scores, ranks, rows)),
        "calibration": pair_measures.calibration(pairs, config.num_bins),
        "margins": pair_measures.margins(pairs),
        "length": pair_measures.length_bias(pairs, scores, responses),
        "position": pair_measures.position_bias(pairs),
    }
    if config.check_order:
        turned = score_groups(scorer, [reversed_group(group) for group in groups])
        found["position"]["flips"] = pair_measures.order_flips(scores, turned, prompts)
    if config.truth is not None:
        true = score_groups(function_scorer(FunctionConfig(function=config.truth.function)), groups)
        found["expected"] = asdict(expected_accuracy_of_rankings(scores, true, noise_scale=config.truth.noise))
    return found


def _units(groups: Sequence[Group]) -> list[list[str]]:
    """What each answer's interval draws whole: its prompt, or the answer itself where all have one and the same."""
    alone = len({group.prompt.id for group in groups}) == 1
    return [[text if alone else group.prompt.id for text in group.responses] for group in groups]


def _measure_judged(scorer: Scorer, rows: Sequence[JudgedRow], seed: int) -> dict[str, Any]:
    groups = [row.group for row in rows]
    answers = zip(score_groups(scorer, groups), rows, _units(groups), strict=True)
    kept = [(score, row.accepted, unit) for (score,), row, (unit,) in answers if score is not None]
    if not kept:
        raise UserError(f"{scorer.name}: abstained on every verdict")
    return asdict(verdict_measures(*zip(*kept, strict=True), seed)) | {"abstained": len(rows) - len(kept)}


def _measure_rated(scorer: Scorer, rows: Sequence[RatedRow], seed: int) -> dict[str, Any]:
    """By aspect, each against the judge's part `aspect/NAME`, or against its score where it has no such part; several
    labellers' numbers of one answer count as their mean."""
    scores, parts = score_parts(scorer, [row.group for row in rows])
    own = {name.rpartition("aspect/")[2]: said for name, said in parts.items() if "aspect/" in name}
    aspects = dict.fromkeys(aspect for row in rows for answer in row.ratings for aspect in answer)
    return {aspect: _measure_aspect(aspect, own.get(aspect, scores), rows, seed) for aspect in aspects}


def _measure_aspect(aspect: str, scores: Answers, rows: Sequence[RatedRow], seed: int) -> dict[str, Any]:
    given = zip(scores, rows, _units([row.group for row in rows]), strict=True)
    rated = [  # (score, mean rating, unit) of each answer that somebody rated, one list a prompt
        [
            (score, sum(ratings[aspect]) / len(ratings[aspect]), unit)
            for score, ratings, unit in zip(said, row.ratings, units, strict=True)
            if aspect in ratings
        ]
        for said, row, units in given
    ]
    flat = [answer for answers in rated for answer in answers if answer[0] is not None]
    if not flat:
        raise UserError(f"the judge abstained on every answer rated for {aspect!r}")
    found = asdict(rating_measures(*zip(*flat, strict=True), seed))
    people = labellers_correlation([r[aspect] for row in rows for r in row.ratings if aspect in r])
    found |= {} if people is None else {"labellers": people}
    values = [[score for score, _, _ in answers] for answers in rated]
    ranks = [competition_ranks([-label for _, label, _ in answers]) for answers in rated]
    try:
        return found | {"accuracy": asdict(_accuracy(values, ranks, rows))}
    except UserError:  # no prompt has two answers to compare: correlations are all there is
        return found


def _accuracy(
    scores: Answers, ranks: Sequence[Sequence[int]], rows: Sequence[RankedRow] | Sequence[RatedRow]
) -> Accuracy:
    """Over the pairs of each row's answers, split by subset where the rows have any."""
    subsets = [row.subset for row in rows]
    prompts = [row.group.prompt.id for row in rows]
    return pair_accuracy(scores, ranks, prompts=prompts, subsets=subsets if any(subsets) else [])


def _floors(rows: LabelledRows, training: Sequence[Ranking]) -> dict[str, dict[str, Any]]:
    """What knows no language, on the same pairs."""
    if not rows.ranked:
        return {}
    floors: list[Scorer] = [LongerWins()]
    if training:
        floors.append(fit_bag_of_words(training))
    held_out = rankings(rows)
    measured: dict[str, Accuracy] = {floor.name: reward_accuracy(floor, held_out) for floor in floors}
    return {name: asdict(accuracy) for name, accuracy in measured.items()}
