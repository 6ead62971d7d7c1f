"""Reward models and reward functions side by side on labelled answers: `plaudit eval reward` (N3, N5).

Everything that a judge can be measured by without training anything: accuracy with ties and intervals, calibration,
margins, length and position bias, beside floors that know no language and the labellers' own agreement.
"""

from dataclasses import replace
from typing import Any

from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.evaluation.judges.agreement import agreement
from plaudit.evaluation.judges.biases import biases, margins, reliability_bins
from plaudit.evaluation.judges.consistency import consistency
from plaudit.evaluation.judges.floors import floors
from plaudit.evaluation.judges.pairs import labellers_agreement, pairs_of
from plaudit.evaluation.judges.rewardbench import rewardbench2
from plaudit.evaluation.judges.rows import LabelledRows, read_labelled, reversed_group, score_groups, score_rows
from plaudit.evaluation.options import RewardEvalConfig, name_of
from plaudit.hardware.machine import Machine, machine_of
from plaudit.records.results import Result
from plaudit.records.text import Kind, Ranking
from plaudit.runs.folder import Run
from plaudit.scoring.asking.calibration import CALIBRATION, record
from plaudit.scoring.build import (
    asking_scorer,
    build_scorer,
    check_rewards,
    function_files,
    has_scale,
    is_asked,
    says_log_odds,
)
from plaudit.scoring.combine import WeightedMix
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig, JudgeConfig
from plaudit.scoring.protocol import Scorer, check_columns
from plaudit.telemetry.console import say, warn
from plaudit.telemetry.summary import summary


def reward_eval(config: RewardEvalConfig, run: Run) -> None:
    """Score every labelled answer with every judge; summary.json has the results, and under `judges` what the figures
    of each judge are drawn from."""
    rows, training = _prepare(config, run)
    here = machine_of(run, config.device)
    results: list[Result] = []
    records: list[dict[str, Any]] = []
    figures: dict[str, dict[str, Any]] = {}
    for judge in config.models:
        run.check_stop()
        with run.signals.at_once():
            measured, figures[name_of(judge)] = _measure(judge, rows, config, here, run)
        results += measured
        if is_asked(judge):
            records.append(record(judge, measured, rows.fingerprints))
        say(f"{name_of(judge)}: measured")
    if records:
        run.write_rows(CALIBRATION, records)
    run.finish(summary([*results, *floors(rows, training), *labellers_agreement(rows.ranked)], judges=figures))


def _prepare(config: RewardEvalConfig, run: Run) -> tuple[LabelledRows, list[Ranking]]:
    """Everything that can be wrong with the input is found here, before a model loads."""
    rows = read_labelled(config.data, config.subset_column or "subset" * bool(config.benchmark))
    training = [(source.path, load(source, Kind.RANKING)) for source in config.train]
    run.check_data({**rows.fingerprints, **dict(item for _, one in training for item in one.fingerprints.items())})
    lone = replace(rows, ranked=tuple(row for row in rows.ranked if len(row.ranks) < 2)).prompt_rows()
    check_rewards(config.models, rows.prompt_rows(), option="models", lone=lone)
    run.check_data(function_files(config.models))
    if not rows.ranked:
        without = "the data has no rankings or comparisons"
        options = {
            "benchmark": bool(config.benchmark),
            "truth": config.truth is not None,
            "train": bool(config.train),
            "check_order": config.check_order,
        }
        for option, is_set in options.items():
            if is_set:
                raise UserError(f"{option}: {without}, so it has no effect")
    if config.truth is not None:
        truth = function_scorer(FunctionConfig(function=config.truth.function))
        check_columns(truth, rows.prompt_rows())
    return rows, [row for _, one in training for row in one.rows]


def _measure(
    judge: JudgeConfig, rows: LabelledRows, config: RewardEvalConfig, here: Machine, run: Run
) -> tuple[list[Result], dict[str, Any]]:
    """One judge on everything, and its figures where there are rankings."""
    own = asking_scorer(judge, here, run.check_stop) if is_asked(judge) else None
    if own is not None:
        scorer: Scorer = own if judge.weight == 1.0 else WeightedMix(parts=((own, judge.weight),))
    else:
        scorer = build_scorer((judge,), here, f"models.{config.models.index(judge)}.path")
    scored = score_rows(name_of(judge), scorer, rows)
    of_asked = [] if own is None else consistency(own, scored)
    turned = None
    if config.check_order:
        turned = score_groups(scorer, [reversed_group(row.group) for row in rows.ranked])
    threshold = config.thresholds.get(scored.judge)
    results = agreement(
        scored, truth=config.truth, seed=config.seed, threshold=threshold, log_odds=says_log_odds(judge)
    )
    results += biases(scored, num_bins=config.num_bins, has_scale=has_scale(judge), turned=turned)
    results += of_asked
    if config.benchmark:
        results += rewardbench2(scored)
    pairs = pairs_of(scored).pairs
    if pairs and all(pair.margin == 0 for pair in pairs):
        warn(f"{scored.judge}: all {len(pairs)} pairs are ties: it scores the answers of a prompt alike")
    figures = {"reliability": reliability_bins(pairs, config.num_bins), "margins": margins(pairs)} if pairs else {}
    return results, figures
