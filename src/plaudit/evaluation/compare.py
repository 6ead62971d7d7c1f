"""Policies side by side on the same prompts (N5.1): scores, win rates, KL, lengths, samples, J and its ceiling."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from plaudit.data.sources import load
from plaudit.engines.build import build_engine
from plaudit.errors import UserError
from plaudit.evaluation.intervals import mean_estimate
from plaudit.evaluation.optimum import ListedOptimum, listed_optimum
from plaudit.evaluation.options import CompareConfig
from plaudit.evaluation.text_statistics import text_statistics
from plaudit.evaluation.win_rate import WinRate, win_rates_against
from plaudit.hardware.machine import Machine, machine
from plaudit.models.load import Language, check_model_path, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.records.tensors import Rollout
from plaudit.records.text import Kind, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, sample
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards
from plaudit.scoring.loading import load_function
from plaudit.scoring.protocol import Scorer
from plaudit.telemetry.console import say
from plaudit.tokens.batches import by_token_budget, pack, unpad

SAMPLES = "samples.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    trunk: Trunk
    language: Language
    rollout: Rollout
    scores: tuple[float | None, ...]
    kl: tuple[float, ...]
    """log π − log π_baseline of each response, nats."""


def compare(config: CompareConfig, run: Run) -> None:
    """Let every policy answer every prompt once, judge, compare with the baseline (N5.1, N5.2)."""
    rows, languages = _prepare(config, run)
    place = machine(config.device)
    judge = build_scorer(config.judge, place)
    baseline = _load(config, config.baseline, languages, place)
    policies: dict[str, _Policy] = {}
    for name, language in languages.items():
        run.check_stop()
        trunk = baseline if name == config.baseline else _load(config, name, languages, place)
        policies[name] = _answer(trunk, language, baseline, rows, judge, config, run, place)
        say(_in_words(name, policies[name]))
    scores = {name: p.scores for name, p in policies.items()}
    rates = win_rates_against(scores, config.baseline, prompts=[row.prompt.id for row in rows])
    table = [row for name in policies for row in _table(name, policies[name], rates[name], config)]
    if config.objective is not None:
        table += _objective(policies, rows, config, run, place)
    _write_samples(run, policies, config.baseline)
    run.finish({"stages": table, "policies": {name: _facts(p) for name, p in policies.items()}})


def _prepare(config: CompareConfig, run: Run) -> tuple[list[PromptRow], dict[str, Language]]:
    """Everything that can be wrong with the input is found here, before a model loads."""
    loaded = [(d.path, load(d, Kind.PROMPT)) for d in config.prompts]
    run.check_data({path: one.fingerprint for path, one in loaded})
    rows = [row for _, one in loaded for row in one.rows]
    for name, path in config.policies.items():
        check_model_path(path, option=f"policies.{name}")
    check_rewards(config.judge, rows, option="judge")
    if config.objective is not None:
        check_rewards(config.objective.rewards, rows, option="objective.rewards")
        if config.objective.answers:
            load_function(config.objective.answers)
    languages = {name: load_language(_model(config, name)) for name in config.policies}
    vocabulary = languages[config.baseline].tokenizer.get_vocab()
    for name, language in languages.items():
        if language.tokenizer.get_vocab() != vocabulary:
            raise UserError(
                f"policies.{name}: its tokens are not those of {config.baseline!r}, so their KL is undefined"
            )
        check_prompts(rows, language, config.sampling.max_new_tokens)
    return rows, languages


def _model(config: CompareConfig, name: str) -> ModelConfig:
    return ModelConfig(path=config.policies[name], end_tokens=config.end_tokens)


def _load(config: CompareConfig, name: str, languages: Mapping[str, Language], place: Machine) -> Trunk:
    return Trunk(load_causal(_model(config, name), languages[name], seed=0).hf).to(place.device)


def _answer(
    trunk: Trunk,
    language: Language,
    baseline: Trunk,
    rows: Sequence[PromptRow],
    judge: Scorer,
    config: CompareConfig,
    run: Run,
    place: Machine,
) -> _Policy:
    engine = build_engine(trunk, language, check_stop=run.check_stop)
    with place.autocast():
        rollout = sample(engine, language, rows, config.sampling, sample_indices=[0] * len(rows), seed=config.seed)
    scores = judge.score(groups(rollout)).optional_scores
    if all(score is None for score in scores):
        raise UserError(f"judge {judge.name!r}: abstained on all {len(scores)} answers, so there is nothing to compare")
    kl = sequence_log_ratio(trunk, baseline, rollout, config.sampling.temperature, place)
    return _Policy(trunk=trunk, language=language, rollout=rollout, scores=scores, kl=tuple(kl))


@torch.no_grad()
def sequence_log_ratio(
    policy: Trunk, reference: Trunk, rollout: Rollout, temperature: float, place: Machine, budget: int = 16384
) -> list[float]:
    """log π(y|x) − log π_ref(y|x) of each sampled response, nats [B]; its mean estimates KL(π ‖ π_ref).

    The two must share a vocabulary.
    """
    prompts = unpad(rollout.prompt_ids, rollout.prompt_mask)
    responses = unpad(rollout.response_ids, rollout.response_mask)
    out = [0.0] * len(prompts)
    for cut in by_token_budget((len(p) + len(r) for p, r in zip(prompts, responses, strict=True)), budget):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(place.device)
        with place.autocast():
            ours = policy(batch, {"logprobs"}, temperature)["logprobs"]
            theirs = reference(batch, {"logprobs"}, temperature)["logprobs"]
        for i, value in zip(cut, (ours - theirs).double().sum(1).tolist(), strict=True):
            out[i] = value
    return out


def _facts(policy: _Policy) -> dict[str, float]:
    kept = [s for s in policy.scores if s is not None]
    lengths = policy.rollout.response_mask.sum(1).tolist()
    return {
        "score": sum(kept) / len(kept),
        "kl": sum(policy.kl) / len(policy.kl),
        **text_statistics(policy.rollout.responses, finish_reasons=policy.rollout.finish_reasons, num_tokens=lengths),
    }


def _in_words(name: str, policy: _Policy) -> str:
    """One line for the terminal; summary.json has all of the facts."""
    facts = _facts(policy)
    silent = sum(score is None for score in policy.scores)
    return (
        f"{name}: score {facts['score']:.3g}, KL {facts['kl']:.3g} nats, {facts['mean_tokens']:.3g} tokens an answer, "
        f"{facts['length_rate']:.0%} cut by the limit, {facts['repetition']:.0%} repetition"
        + (f", {silent} of {len(policy.scores)} answers not judged" if silent else "")
    )


def _table(name: str, policy: _Policy, rate: WinRate, config: CompareConfig) -> list[dict[str, Any]]:
    score = asdict(mean_estimate([s for s in policy.scores if s is not None]))
    about = {"name": name, "metric": "mean score by the judge", "unit": "score", "floor": None, "ceiling": None}
    if name == config.baseline:
        return [about | score]
    won = {"name": name, "metric": f"win rate against {config.baseline} ({rate.n} prompts, {rate.ties} ties)"}
    won |= {"value": rate.rate, "low": rate.low, "high": rate.high, "floor": 0.5, "ceiling": 1.0, "unit": "share"}
    return [about | score, won]


def _objective(
    policies: Mapping[str, _Policy], rows: Sequence[PromptRow], config: CompareConfig, run: Run, place: Machine
) -> list[dict[str, Any]]:
    """J of every policy, and its progress from J_ref to J* where the answers can be listed."""
    objective = config.objective
    scorer = build_scorer(objective.rewards, place)
    chosen = rows[: objective.prompts]
    measured: dict[str, list[float]] = {}
    for name, policy in policies.items():
        measured[name] = _sampled_objective(policy, policies[config.baseline].trunk, chosen, scorer, config, run, place)
    best: ListedOptimum | None = None
    if objective.answers:
        base = policies[config.baseline]
        best = listed_optimum(
            base.trunk,
            base.language,
            scorer,
            chosen,
            load_function(objective.answers),
            kl_coef=objective.kl_coef,
            temperature=config.sampling.temperature,
            max_new_tokens=config.sampling.max_new_tokens,
            place=place,
        )
        say(f"J* ≥ {best.lower_bound:.3f} by enumeration; the listed answers hold {best.optimum.mass:.1%} of π_ref")
    return [_objective_row(name, values, measured[config.baseline], best, config) for name, values in measured.items()]


def _sampled_objective(
    policy: _Policy, reference: Trunk, rows: Sequence[PromptRow], scorer: Scorer, config: CompareConfig, run: Run,
    place: Machine,
) -> list[float]:  # fmt: skip
    """score − β·log π/π_ref of fresh samples, one value a sample, prompt by prompt."""
    n = config.objective.samples
    engine = build_engine(policy.trunk, policy.language, check_stop=run.check_stop)
    with place.autocast():
        rollout = sample(
            engine,
            policy.language,
            [row for row in rows for _ in range(n)],
            config.sampling,
            sample_indices=[i for _ in rows for i in range(n)],
            seed=config.seed + 1,
        )
    said = scorer.score(groups(rollout))
    if not bool(said.valid.all()):
        raise UserError("objective.rewards: a judge abstained, so J is not defined on these prompts")
    kl = sequence_log_ratio(policy.trunk, reference, rollout, config.sampling.temperature, place)
    return [s - config.objective.kl_coef * k for s, k in zip(said.scores.tolist(), kl, strict=True)]


def _objective_row(
    name: str, values: Sequence[float], baseline: Sequence[float], best: ListedOptimum | None, config: CompareConfig
) -> dict[str, Any]:
    """The value is J, or where a J* above J_ref is known the share of the way from J_ref to J*."""
    found, reference = mean_estimate(values), sum(baseline) / len(baseline)
    gain = best.lower_bound - reference if best is not None else 0.0
    if best is None or gain <= 0:
        row = {"name": name, "metric": f"objective J = E[score] − {config.objective.kl_coef:g}·KL"}
        return row | asdict(found) | {"floor": reference, "ceiling": None, "unit": "score"}

    way = {key: None if x is None else (x - reference) / gain for key, x in asdict(found).items()}
    row = {"name": name, "metric": "progress (J − J_ref) / (J* − J_ref) on the objective that PPO optimises"}
    row |= way | {"floor": 0.0, "ceiling": 1.0, "unit": "share"}
    return row | {"J": found.value, "J_ref": reference, "J_star": best.lower_bound, "mass": best.optimum.mass}


def _write_samples(run: Run, policies: Mapping[str, _Policy], baseline: str) -> None:
    """Before and after, prompt by prompt: the baseline against each other policy."""
    before = policies[baseline]
    samples = []
    for name, after in policies.items():
        if name == baseline:
            continue
        for i, row in enumerate(after.rollout.rows):
            fact = {
                "policy": name,
                "prompt": row.prompt.text,
                "before": before.rollout.responses[i],
                "after": after.rollout.responses[i],
                "score_before": before.scores[i],
                "score_after": after.scores[i],
                "finish_before": before.rollout.finish_reasons[i].value,
                "finish_after": after.rollout.finish_reasons[i].value,
                "kl": after.kl[i],
            }
            samples.append(fact)
    run.write_rows(SAMPLES, samples)
