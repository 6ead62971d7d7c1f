"""Policies side by side on the same prompts (N5.1): scores, win rates, KL, lengths, samples, J and its ceiling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from plaudit.data.sources import load
from plaudit.engines.build import build_engine
from plaudit.errors import UserError
from plaudit.evaluation.intervals import mean_of
from plaudit.evaluation.optimum import ListedOptimum, listed_optimum
from plaudit.evaluation.options import CompareConfig, ObjectiveConfig
from plaudit.evaluation.text_statistics import text_statistics
from plaudit.evaluation.win_rate import win_rate
from plaudit.hardware.machine import Machine, machine
from plaudit.models.load import Language, check_model_path, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.records.results import Result
from plaudit.records.tensors import Rollout
from plaudit.records.text import Kind, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, sample
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards
from plaudit.scoring.loading import load_function
from plaudit.scoring.protocol import Scorer
from plaudit.telemetry.console import say
from plaudit.telemetry.summary import summary
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

    @property
    def known_scores(self) -> list[float]:
        """Of the answers on which the judge did not abstain."""
        return [score for score in self.scores if score is not None]


def compare(config: CompareConfig, run: Run) -> None:
    """Let every policy answer every prompt once, judge, compare with the baseline (N5.1, N5.2)."""
    rows, languages = _prepare(config, run)
    here = machine(config.device)
    judge = build_scorer(config.judge, here)
    baseline = _load(config, config.baseline, languages, here)
    policies: dict[str, _Policy] = {}
    for name, language in languages.items():
        run.check_stop()
        trunk = baseline if name == config.baseline else _load(config, name, languages, here)
        rollout = _answer(trunk, language, rows, config, run, here, seed=config.seed)
        policies[name] = _compared(trunk, language, rollout, judge, baseline, config.sampling.temperature, here)
        say(_in_words(name, policies[name]))
    results = [result for name in policies for result in _results(name, policies, config.baseline)]
    if config.objective is not None:
        results += _objectives(policies, rows, config.objective, config, run, here)
    _write_samples(run, policies, config.baseline)
    run.finish(summary(results, policies={name: _facts(policy) for name, policy in policies.items()}))


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


def _load(config: CompareConfig, name: str, languages: Mapping[str, Language], here: Machine) -> Trunk:
    return Trunk(load_causal(_model(config, name), languages[name], seed=0).hf).to(here.device)


def _answer(
    trunk: Trunk,
    language: Language,
    rows: Sequence[PromptRow],
    config: CompareConfig,
    run: Run,
    here: Machine,
    *,
    samples: int = 1,
    seed: int,
) -> Rollout:
    engine = build_engine(trunk, language, check_stop=run.check_stop)
    repeated, indices = [row for row in rows for _ in range(samples)], list(range(samples)) * len(rows)
    with here.autocast():
        return sample(engine, language, repeated, config.sampling, sample_indices=indices, seed=seed)


def _compared(
    trunk: Trunk,
    language: Language,
    rollout: Rollout,
    judge: Scorer,
    baseline: Trunk,
    temperature: float,
    here: Machine,
) -> _Policy:
    scores = judge.score(groups(rollout)).optional_scores
    if all(score is None for score in scores):
        raise UserError(f"judge {judge.name!r}: abstained on all {len(scores)} answers, so there is nothing to compare")
    kl = sequence_log_ratio(trunk, baseline, rollout, temperature, here)
    return _Policy(trunk=trunk, language=language, rollout=rollout, scores=scores, kl=tuple(kl))


@torch.no_grad()
def sequence_log_ratio(
    policy: Trunk, reference: Trunk, rollout: Rollout, temperature: float, machine: Machine, budget: int = 16384
) -> list[float]:
    """log π(y|x) − log π_ref(y|x) of each sampled response, nats [B]; its mean estimates KL(π ‖ π_ref).

    The two must share a vocabulary.
    """
    prompts = unpad(rollout.prompt_ids, rollout.prompt_mask)
    responses = unpad(rollout.response_ids, rollout.response_mask)
    out = [0.0] * len(prompts)
    for cut in by_token_budget((len(p) + len(r) for p, r in zip(prompts, responses, strict=True)), budget):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(machine.device)
        with machine.autocast():
            ours = policy(batch, {"logprobs"}, temperature)["logprobs"]
            theirs = reference(batch, {"logprobs"}, temperature)["logprobs"]
        for i, value in zip(cut, (ours - theirs).double().sum(1).tolist(), strict=True):
            out[i] = value
    return out


def _facts(policy: _Policy) -> dict[str, float]:
    scores = policy.known_scores
    lengths = policy.rollout.response_mask.sum(1).tolist()
    return {
        "score": sum(scores) / len(scores),
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


def _results(name: str, policies: Mapping[str, _Policy], baseline: str) -> list[Result]:
    """The policy's score, and what sets it apart from the baseline."""
    policy, base = policies[name], policies[baseline]
    scores = policy.known_scores
    score = mean_of("judge_score_over_prompts", name, scores)
    if name == baseline:
        return [score]
    prompts = [row.prompt.id for row in policy.rollout.rows]
    kl = mean_of("kl_baseline_over_prompts", name, policy.kl, against=baseline)
    return [score, win_rate(name, policy.scores, baseline, base.scores, prompts=prompts), kl]


def _objectives(
    policies: Mapping[str, _Policy],
    rows: Sequence[PromptRow],
    objective: ObjectiveConfig,
    config: CompareConfig,
    run: Run,
    here: Machine,
) -> list[Result]:
    """J of every policy, and where the answers can be listed its progress from J_ref to J*."""
    scorer = build_scorer(objective.rewards, here)
    chosen, base = rows[: objective.prompts], policies[config.baseline]
    values: dict[str, list[float]] = {}
    for name, policy in policies.items():
        fresh = {"samples": objective.samples, "seed": config.seed + 1}  # other answers than those compared
        rollout = _answer(policy.trunk, policy.language, chosen, config, run, here, **fresh)
        kl = sequence_log_ratio(policy.trunk, base.trunk, rollout, config.sampling.temperature, here)
        values[name] = _less_the_kl(rollout, kl, scorer, objective.kl_coef)
    best: ListedOptimum | None = None
    if objective.answers:
        best = listed_optimum(
            base.trunk,
            base.language,
            scorer,
            chosen,
            load_function(objective.answers),
            kl_coef=objective.kl_coef,
            temperature=config.sampling.temperature,
            max_new_tokens=config.sampling.max_new_tokens,
            machine=here,
        )
        say(f"J* ≥ {best.lower_bound:.3f} by enumeration; the listed answers hold {best.optimum.mass:.1%} of π_ref")
    reference = sum(values[config.baseline]) / len(values[config.baseline])
    return [r for name, own in values.items() for r in _objective_results(name, own, reference, objective, best)]


def _less_the_kl(rollout: Rollout, kl: Sequence[float], scorer: Scorer, kl_coef: float) -> list[float]:
    scores = scorer.score(groups(rollout))
    if not bool(scores.valid.all()):
        raise UserError("objective.rewards: a judge abstained, so J is not defined on these prompts")
    return [score - kl_coef * nats for score, nats in zip(scores.scores.tolist(), kl, strict=True)]


def _objective_results(
    name: str, values: Sequence[float], reference: float, objective: ObjectiveConfig, best: ListedOptimum | None
) -> list[Result]:
    """J, and where a J* above J_ref is known the share of the way from J_ref to J*."""
    ceiling = best.lower_bound if best is not None else None
    facts = {"kl_coef": objective.kl_coef} | ({} if best is None else {"mass": best.optimum.mass})
    own = mean_of("objective_over_prompts", name, values, floor=reference, ceiling=ceiling, facts=facts)
    if ceiling is None or ceiling <= reference:
        return [own]
    facts = {"J": own.value, "J_ref": reference, "J_star": ceiling}
    shares = [(value - reference) / (ceiling - reference) for value in values]
    return [own, mean_of("progress_over_prompts", name, shares, floor=0.0, ceiling=1.0, facts=facts)]


def _write_samples(run: Run, policies: Mapping[str, _Policy], baseline: str) -> None:
    """Before and after, prompt by prompt: the baseline against each other policy."""
    before = policies[baseline]
    lengths = {name: policy.rollout.response_mask.sum(1).tolist() for name, policy in policies.items()}
    samples = [
        {
            "policy": name,
            "prompt": row.prompt.text,
            "before": before.rollout.responses[i],
            "after": after.rollout.responses[i],
            "score_before": before.scores[i],
            "score_after": after.scores[i],
            "length_before": lengths[baseline][i],
            "length_after": lengths[name][i],
            "finish_before": before.rollout.finish_reasons[i].value,
            "finish_after": after.rollout.finish_reasons[i].value,
            "kl": after.kl[i],
        }
        for name, after in policies.items()
        if name != baseline
        for i, row in enumerate(after.rollout.rows)
    ]
    run.write_rows(SAMPLES, samples)
