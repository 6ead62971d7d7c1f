"""What best of n buys for its nats: the judge's score and the true one, from one pool of answers (Gao et al. 2023)."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.data.sources import load
from plaudit.engines.build import build_engine
from plaudit.evaluation.intervals import mean_estimate
from plaudit.evaluation.options import FrontierConfig
from plaudit.hardware.machine import machine_of
from plaudit.models.load import Language, load_causal, load_language
from plaudit.models.trunk import Trunk
from plaudit.records.results import Result
from plaudit.records.text import Kind, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, sample
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards
from plaudit.scoring.protocol import all_scores
from plaudit.telemetry.summary import summary


def frontier(config: FrontierConfig, run: Run) -> None:
    """Sample one pool, judge it by everyone; summary.json has `best_of_n`: judge → points {n, kl, score, truth}."""
    rows, language = _prepare(config, run)
    here = machine_of(run, config.device)
    trunk = Trunk(load_causal(config.model, language, seed=config.seed).hf).to(here.device)
    engine = build_engine(trunk, language, check_stop=run.check_stop)
    scorers = {
        name: build_scorer(judge, here, f"judges.{name}", run.check_stop) for name, judge in config.judges.items()
    }
    truth = build_scorer(config.truth, here, "truth", run.check_stop)
    pools: dict[str, list[list[float]]] = {name: [] for name in config.judges}
    true: list[list[float]] = []
    for row in rows:
        run.check_stop()
        indices = list(range(config.samples))
        with here.autocast():
            repeated = [row] * len(indices)
            rollout = sample(engine, language, repeated, config.sampling, sample_indices=indices, seed=config.seed)
        answered, undefined = groups(rollout), "abstained, so the best of n is not defined"
        true.append(all_scores(truth, answered, f"{row.where}: truth {undefined}"))
        for name, scorer in scorers.items():
            pools[name].append(all_scores(scorer, answered, f"{row.where}: judges.{name} {undefined}"))
    points = {name: curve(pool, true) for name, pool in pools.items()}
    results = [_result(name, curve, len(rows)) for name, curve in points.items()]
    run.finish(summary(results, best_of_n=points))


def curve(scores: Sequence[Sequence[float]], true: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """A point for n = 1, 2, 4, …, means over prompts: nats (an upper bound where answers tie), the judge's score and
    the true score of the answer that the judge likes best, the latter with its interval over prompts."""
    size, n = len(scores[0]), 1
    points: list[dict[str, Any]] = []
    while n <= size:
        own = [best_of_n_mean(pool, pool, n) for pool in scores]
        truth = mean_estimate([best_of_n_mean(pool, its, n) for pool, its in zip(scores, true, strict=True)])
        point = {"n": n, "kl": best_of_n_kl(n), "score": sum(own) / len(own), "truth": truth.value}
        points.append(point | {"truth_low": truth.low, "truth_high": truth.high})
        n *= 2
    return points


def _prepare(config: FrontierConfig, run: Run) -> tuple[list[PromptRow], Language]:
    """Everything that can be wrong with the input is found here, before a model loads."""
    loaded = [(d.path, load(d, Kind.PROMPT)) for d in config.prompts]
    run.check_data(dict(item for _, one in loaded for item in one.fingerprints.items()))
    rows = [row for _, one in loaded for row in one.rows]
    for name, judge in config.judges.items():
        check_rewards(judge, rows, option=f"judges.{name}")
    check_rewards(config.truth, rows, option="truth")
    language = load_language(config.model)
    return check_prompts(rows, language, config.sampling.max_new_tokens, config.too_long), language


def _result(judge: str, points: Sequence[Mapping[str, Any]], num_prompts: int) -> Result:
    """The end of the judge's curve beside its beginning."""
    last = points[-1]
    return Result(
        measure="best_of_n_over_prompts",
        subject=judge,
        value=last["truth"],
        low=last["truth_low"],
        high=last["truth_high"],
        floor=points[0]["truth"],
        count=num_prompts,
        facts={"n": last["n"], "kl": last["kl"], "score": last["score"]},
    )


def best_of_n_kl(n: int) -> float:
    """log n − (n − 1)/n nats: KL(best-of-n policy ‖ policy)   (Stiennon et al. 2020, appendix G; Gao et al. 2023).

    Exact where no two answers ever score the same or occur twice; else an upper bound (Beirami et al. 2024).
    n = 1: 0. ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"best_of_n_kl: n must be at least 1, not {n}")
    return math.log(n) - (n - 1) / n


def best_of_n_mean(scores: Sequence[float], measured: Sequence[float], n: int) -> float:
    """What is measured on the best of n answers by the judge, in expectation over the n-subsets of a pool of N.

        Σ_i C(i − 1, n − 1) / C(N, n) · measured_(i)      answers sorted by the judge, i = 1 the worst

    The i-th is a subset's best where the n − 1 others are worse. So no answer of the pool is wasted, and the mean is
    unbiased for fresh samples, for every n up to N at once (Nakano et al. 2021, appendix I). Answers that the judge
    scores alike share what was measured on them: among them the choice is by chance.
    ValueError for unequal lengths or n outside 1 … N.
    """
    size = len(scores)
    if len(measured) != size or not 1 <= n <= size:
        raise ValueError(f"best_of_n_mean: n = {n} of {size} scored and {len(measured)} measured answers")
    order = sorted(range(size), key=lambda i: scores[i])
    values: list[float] = []
    for _, alike in itertools.groupby(order, key=lambda i: scores[i]):
        shared = [measured[i] for i in alike]
        values += [math.fsum(shared) / len(shared)] * len(shared)
    weight = n / size
    total: list[float] = []
    for i in range(size, n - 1, -1):  # C(i − 1, n − 1) / C(N, n), from the best downwards
        total.append(weight * values[i - 1])
        weight *= (i - n) / (i - 1) if i > 1 else 0.0
    return math.fsum(total)
