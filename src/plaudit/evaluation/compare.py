"""Policies side by side on the same prompts (N5.1): scores, win rates, KL, lengths, samples, J and its ceiling."""

import contextlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from plaudit.data.sources import load
from plaudit.engines.build import build_engine
from plaudit.errors import UserError
from plaudit.evaluation.intervals import mean_of, share_of
from plaudit.evaluation.optimum import ListedOptimum, listed_optimum
from plaudit.evaluation.options import CompareConfig, ObjectiveConfig
from plaudit.evaluation.standings import judged_in_pairs, length_controlled, mean_scores, standings
from plaudit.hardware.machine import Machine, machine_of
from plaudit.models.load import Language, check_model_path, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.records.results import Result
from plaudit.records.tensors import Rollout
from plaudit.records.text import FinishReason, Group, Kind, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, sample, shown_ids
from plaudit.rollouts.shots import Shots, load_shots
from plaudit.runs.folder import Run
from plaudit.runs.records import SAMPLES
from plaudit.scoring.build import build_scorer, check_rewards, compares, function_files, say_unread_columns
from plaudit.scoring.loading import load_function
from plaudit.scoring.protocol import Scorer, all_scores, check_scores, num_responses
from plaudit.scoring.words import distinct_share, ngrams, words
from plaudit.telemetry.console import say, warn
from plaudit.telemetry.summary import summary
from plaudit.tokens.batches import pack, unpad


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    trunk: Trunk
    language: Language
    rollout: Rollout
    scores: tuple[float | None, ...]
    kl: tuple[float, ...]
    """log π − log π_baseline of each response, nats."""
    beside: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """Another policy → the scores beside that one's answers, from a judge that compares; `scores` are their means."""

    def against(self, other: str) -> Sequence[float | None]:
        """The scores that decide the games with another policy."""
        return self.beside.get(other, self.scores)

    @property
    def known_scores(self) -> list[float]:
        """Of the answers on which the judge did not abstain."""
        return [score for score in self.scores if score is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What all policies are given."""

    config: CompareConfig
    run: Run
    machine: Machine
    rows: Sequence[PromptRow]
    languages: Mapping[str, Language]
    shots: Mapping[str, Shots]

    def load(self, name: str) -> Trunk:
        causal = load_causal(_model(self.config, name), self.languages[name], seed=0)
        return Trunk(causal.hf).to(self.machine.device)

    def answer(self, trunk: Trunk, name: str, rows: Sequence[PromptRow], seed: int, samples: int = 1) -> Rollout:
        language, indices = self.languages[name], list(range(samples)) * len(rows)
        engine = build_engine(trunk, language, check_stop=self.run.check_stop, ranks=self.machine.ranks)
        repeated = [row for row in rows for _ in range(samples)]
        with self.machine.autocast():
            return sample(
                engine,
                language,
                repeated,
                self.config.sampling,
                sample_indices=indices,
                seed=seed,
                shots=self.shots.get(name),
            )

    def kl(self, trunk: Trunk, baseline: Trunk, rollout: Rollout) -> list[float]:
        name, others = self.config.baseline, None
        if self.shots:  # each reads its own
            others = [shown_ids(row, self.languages[name], self.shots.get(name)) for row in rollout.rows]
        temperature = self.config.sampling.temperature
        return sequence_log_ratio(trunk, baseline, rollout, temperature, self.machine, reference_prompts=others)

    def judged(self, name: str, trunk: Trunk, baseline: Trunk, judge: Scorer | None) -> _Policy:
        """Its answers, judged by themselves; with no scores yet where the judge compares the policies' answers."""
        rollout = self.answer(trunk, name, self.rows, self.config.seed)
        scores = () if judge is None else _scores(judge, groups(rollout))
        kl = tuple(self.kl(trunk, baseline, rollout))
        return _Policy(trunk=trunk, language=self.languages[name], rollout=rollout, scores=scores, kl=kl)


def compare(config: CompareConfig, run: Run) -> None:
    """Let every policy answer every prompt once, judge, compare with the baseline (N5.1, N5.2)."""
    rows, languages, shots = _prepare(config, run)
    setting = _Setting(
        config=config, run=run, machine=machine_of(run, config.device), rows=rows, languages=languages, shots=shots
    )
    judge = build_scorer(config.judge, setting.machine, "judge", run.check_stop)
    baseline = setting.load(config.baseline)
    together = any(map(compares, config.judge))
    at_once = run.signals.at_once if setting.machine.ranks.is_alone else contextlib.nullcontext
    policies: dict[str, _Policy] = {}
    for name in languages:
        run.check_stop()
        trunk = baseline if name == config.baseline else setting.load(name)
        with at_once():
            policies[name] = setting.judged(name, trunk, baseline, None if together else judge)
        if not together:
            say(_in_words(name, policies[name]))
    if together:
        with at_once():
            beside = judged_in_pairs(judge, {name: groups(policy.rollout) for name, policy in policies.items()})
        for name, against in beside.items():
            policies[name] = replace(policies[name], scores=mean_scores(against), beside=against)
        say("\n".join(_in_words(name, policy) for name, policy in policies.items()))
    results = [result for name in policies for result in _results(name, policies, config)]
    games = {
        name: {other: policy.against(other) for other in policies if other != name} for name, policy in policies.items()
    }
    results += standings(games, config.baseline, [row.prompt.id for row in rows], config.seed)
    if config.objective is not None:
        results += _objectives(policies, config.objective, setting)
    _write_samples(run, policies, config.baseline, judge.name)
    run.finish(summary(results, policies={name: _facts(policy) for name, policy in policies.items()}))


def _prepare(config: CompareConfig, run: Run) -> tuple[list[PromptRow], dict[str, Language], dict[str, Shots]]:
    """Everything that can be wrong with the input is found here, before a model loads."""
    loaded = [(d.path, load(d, Kind.PROMPT)) for d in config.prompts]
    run.check_data(dict(item for _, one in loaded for item in one.fingerprints.items()))
    for path, one in loaded:
        say(f"{path}: {one}")
    rows = [row for _, one in loaded for row in one.rows]
    for name, path in config.policies.items():
        check_model_path(path, option=f"policies.{name}")
    check_rewards(config.judge, rows, option="judge", lone=() if any(map(compares, config.judge)) else None)
    run.check_data(function_files(config.judge))
    rewards = config.objective.rewards if config.objective else ()
    check_rewards(rewards, rows, option="objective.rewards")
    say_unread_columns([*config.judge, *rewards], rows)
    if config.objective and config.objective.answers:
        load_function(config.objective.answers)
    languages = {name: load_language(_model(config, name)) for name in config.policies}
    vocabulary = languages[config.baseline].tokenizer.get_vocab()
    shots = {
        name: load_shots(one, rows, languages[name], run, f"shots.{name}", seed=config.seed)
        for name, one in config.shots.items()
    }
    if shots:
        run.add_provenance({"shots": {name: one.facts for name, one in shots.items()}})
    for name, language in languages.items():
        if language.tokenizer.get_vocab() != vocabulary:
            raise UserError(f"policies.{name}: its tokens are not those of {config.baseline!r}: their KL is undefined")
        rows = check_prompts(rows, language, config.sampling.max_new_tokens, config.too_long, shots.get(name))
    return rows, languages, shots


def _model(config: CompareConfig, name: str) -> ModelConfig:
    return ModelConfig(path=config.policies[name], end_tokens=config.end_tokens)


def _scores(judge: Scorer, answered: Sequence[Group]) -> tuple[float | None, ...]:
    scores = check_scores(judge.name, judge.score(answered), num_responses(answered)).optional_scores
    if all(score is None for score in scores):
        raise UserError(f"judge {judge.name!r}: abstained on all {len(scores)} answers: nothing to compare")
    return tuple(scores)


@torch.no_grad()
def sequence_log_ratio(
    policy: Trunk,
    reference: Trunk,
    rollout: Rollout,
    temperature: float,
    machine: Machine,
    budget: int = 16384,
    *,
    reference_prompts: Sequence[Sequence[int]] | None = None,
) -> list[float]:
    """log π(y|x) − log π_ref(y|x) of each sampled response, nats [B]; its mean estimates KL(π ‖ π_ref).

    The two must share a vocabulary. `reference_prompts`: what the reference reads before each response, where that is
    not what the policy read (shots).
    """
    prompts = unpad(rollout.prompt_ids, rollout.prompt_mask)
    responses = unpad(rollout.response_ids, rollout.response_mask)
    out: dict[int, float] = {}
    for cut in machine.ranks.cuts((len(p) + len(r) for p, r in zip(prompts, responses, strict=True)), budget):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(machine.device)
        with machine.autocast():
            ours = policy(batch, {"logprobs"}, temperature)["logprobs"]
            if reference_prompts is not None:
                batch = pack([reference_prompts[i] for i in cut], [responses[i] for i in cut]).to(machine.device)
            theirs = reference(batch, {"logprobs"}, temperature)["logprobs"]
        out |= zip(cut, (ours - theirs).double().sum(1).tolist(), strict=True)
    nats = machine.ranks.gather_rows(out)
    return [nats[i] for i in range(len(prompts))]


def _facts(policy: _Policy) -> dict[str, float]:
    scores = policy.known_scores
    lengths = policy.rollout.response_mask.sum(1).tolist()
    return {
        "score": sum(scores) / len(scores),
        "kl": sum(policy.kl) / len(policy.kl),
        **text_statistics(policy.rollout.responses, policy.rollout.finish_reasons, lengths),
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


def _results(name: str, policies: Mapping[str, _Policy], config: CompareConfig) -> list[Result]:
    """The policy's score, and what sets it apart from the baseline."""
    baseline = config.baseline
    policy, base = policies[name], policies[baseline]
    scores = policy.known_scores
    score = mean_of("judge_score_over_prompts", name, scores)
    if name == baseline:
        return [score]
    prompts = [row.prompt.id for row in policy.rollout.rows]
    kl = mean_of("kl_baseline_over_prompts", name, policy.kl, against=baseline)
    own, others = policy.against(baseline), base.against(name)
    won = win_rate(name, own, baseline, others, prompts=prompts)
    lengths = [len(a) - len(b) for a, b in zip(policy.rollout.responses, base.rollout.responses, strict=True)]
    outcomes = [outcome(a, b) for a, b in zip(own, others, strict=True)]
    equal = length_controlled(name, outcomes, lengths, against=baseline, prompts=prompts, seed=config.seed)
    return [score, won, equal, kl]


def outcome(score: float | None, other: float | None) -> float | None:
    """1 for a win, ½ for a tie, 0 for a loss; None where the judge abstained on one of them."""
    return None if score is None or other is None else 0.5 if score == other else float(score > other)


def _objectives(policies: Mapping[str, _Policy], objective: ObjectiveConfig, setting: _Setting) -> list[Result]:
    """J of every policy, and where the answers can be listed its progress from J_ref to J*."""
    config, stop = setting.config, setting.run.check_stop
    scorer = build_scorer(objective.rewards, setting.machine, "objective.rewards", stop)
    chosen, base = setting.rows[: objective.prompts], policies[setting.config.baseline]
    values: dict[str, list[float]] = {}
    for name, policy in policies.items():  # other answers than those compared
        rollout = setting.answer(policy.trunk, name, chosen, config.seed + 1, objective.samples)
        undefined = "objective.rewards: a judge abstained, so J is not defined on these prompts"
        scores, kl = all_scores(scorer, groups(rollout), undefined), setting.kl(policy.trunk, base.trunk, rollout)
        values[name] = [x - objective.kl_coef * nats for x, nats in zip(scores, kl, strict=True)]
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
            machine=setting.machine,
        )
        say(f"J* ≥ {best.lower_bound:.3f} by enumeration; the listed answers hold {best.optimum.mass:.1%} of π_ref")
    reference = sum(values[config.baseline]) / len(values[config.baseline])
    return [r for name, own in values.items() for r in _objective_results(name, own, reference, objective, best)]


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
    ends = {"value": own.value, "low": own.low, "high": own.high}
    way = ceiling - reference
    shares: dict[str, Any] = {end: None if x is None else (x - reference) / way for end, x in ends.items()}
    return [own, replace(own, measure="progress_over_prompts", floor=0.0, ceiling=1.0, facts=facts, **shares)]


def _write_samples(run: Run, policies: Mapping[str, _Policy], baseline: str, judge: str) -> None:
    """Before and after, prompt by prompt: the baseline against each other policy."""
    before = policies[baseline]
    lengths = {name: policy.rollout.response_mask.sum(1).tolist() for name, policy in policies.items()}
    samples = [
        {
            "policy": name,
            "against": baseline,
            "judge": judge,
            "prompt": row.prompt.text,
            "before": before.rollout.responses[i],
            "after": after.rollout.responses[i],
            "score_before": before.against(name)[i],
            "score_after": after.against(baseline)[i],
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


def win_rate(
    subject: str,
    scores: Sequence[float | None],
    against: str,
    others: Sequence[float | None],
    *,
    prompts: Sequence[Hashable],
) -> Result:
    """One policy's scores against another's on the same prompts, in the same order (N5.1); None: the judge abstained.

    The value is (wins + ties / 2) / count, its interval Wilson's; entries of one prompt are one cluster. A policy
    against itself: 0.5; with the sides exchanged: 1 − value.
    Raises: UserError where nothing can be compared.
    """
    won = [outcome(a, b) for a, b in zip(scores, others, strict=True)]
    games = [(one, prompt) for one, prompt in zip(won, prompts, strict=True) if one is not None]
    outcomes, compared = [one for one, _ in games], [prompt for _, prompt in games]
    if not outcomes:
        raise UserError(f"{subject} against {against}: nothing to compare, the judge abstained on all {len(scores)}")
    wins, ties, losses = (outcomes.count(end) for end in (1.0, 0.5, 0.0))
    facts = {"wins": wins, "losses": losses, "abstained": len(scores) - len(outcomes)}
    if ties == len(outcomes):
        warn(f"{subject} against {against}: all {ties} comparisons are ties: the judge scores both alike")
    about: dict[str, Any] = {"against": against, "floor": 0.5, "ceiling": 1.0, "ties": ties, "facts": facts}
    return share_of("win_rate_over_prompts", subject, outcomes, compared, **about)


def text_statistics(
    responses: Sequence[str], finish_reasons: Sequence[FinishReason], num_tokens: Sequence[int]
) -> dict[str, float]:
    """Numbers of a set of responses, at least one.

    `count`; `mean_characters`; `mean_words`; `mean_tokens`; `empty_share` (nothing but space);
    `distinct_1`, `distinct_2`: different n-grams / all n-grams **of the whole set** (Li et al. 2016; it falls as a set
    grows, so compare sets of one size); `repetition`: mean over responses of 1 − distinct-2 *inside* the
    response; `eos_rate`, `stop_rate`, `length_rate`: shares of the ways to end, which sum to 1.
    Chinese characters are words.
    """
    count = len(responses)
    pieces = [words(response) for response in responses]
    return {
        "count": float(count),
        "mean_characters": sum(map(len, responses)) / count,
        "mean_words": sum(map(len, pieces)) / count,
        "mean_tokens": sum(num_tokens) / count,
        "empty_share": sum(not response.strip() for response in responses) / count,
        "distinct_1": distinct_of_set(pieces, 1),
        "distinct_2": distinct_of_set(pieces, 2),
        "repetition": sum(1.0 - distinct_share(piece, 2) for piece in pieces) / count,
        **{f"{reason.value}_rate": list(finish_reasons).count(reason) / count for reason in FinishReason},
    }


def distinct_of_set(pieces: Sequence[list[str]], n: int) -> float:
    """Different n-grams / all n-grams over all responses together; no n-gram spans two responses; 1.0 where none is."""
    grams = [gram for piece in pieces for gram in ngrams(piece, n)]
    return len(set(grams)) / len(grams) if grams else 1.0
