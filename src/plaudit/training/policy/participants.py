"""Who takes part in policy optimisation: handed in by the caller, or built from the config's paths; among the judges a
reward head on the trunk that PPO runs anyway, without a pass of its own (N3.13)."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.data.clean import overlap
from plaudit.engines.build import build_engine, check_engine
from plaudit.engines.protocol import Engine
from plaudit.errors import UserError
from plaudit.hardware.machine import Machine, machine_of
from plaudit.hardware.randomness import derive_seed
from plaudit.models.adapters import unwrapped
from plaudit.models.beside import read_facts
from plaudit.models.checkpoint import check_savable
from plaudit.models.load import Language, Loaded, check_model_path, finish, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.policy import ActorCritic, Reference, actor_critic
from plaudit.models.reward import shared_trunk
from plaudit.models.reward.normalisation import of_facts
from plaudit.models.weights import HFModel
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, PromptRow
from plaudit.rollouts.sampler import check_prompts, shown_ids
from plaudit.runs.folder import Run
from plaudit.scoring.asking.calibration import check_calibrated
from plaudit.scoring.build import build_scorer, check_rewards, function_files, judges_tokens, say_unread_columns
from plaudit.scoring.protocol import Scorer, check_columns
from plaudit.telemetry.console import say, warn
from plaudit.telemetry.numbers import counted
from plaudit.training import optim, state
from plaudit.training.policy import ptx
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.options import TrunkReward


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Prompts that nothing is trained on, and who else judges the answers to them."""

    rows: tuple[PromptRow, ...] = ()
    truth: Scorer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """Who takes part, checked and on the machine that computes."""

    prompts: Sequence[PromptRow]
    language: Language
    machine: Machine
    loaded: Loaded
    actor: ActorCritic
    reference: Reference
    scorer: Scorer
    engine: Engine
    optimizer: torch.optim.Optimizer
    text: ptx.Texts
    held_out: HeldOut = field(default_factory=HeldOut)


def participants(
    config: PPOConfig,
    run: Run,
    *,
    policy: Loaded | None = None,
    prompts: Sequence[PromptRow] | None = None,
    scorer: Scorer | None = None,
    reference: Loaded | None = None,
) -> Participants:
    """Read data and load models; whatever is handed in is used instead of what the config names, and checked as well.

    Everything that can be wrong with the input is found before a model loads.

    Args:
        policy: a causal model, trained in place; `config.model.train` says which part of it.
        prompts: what it answers; of repeated prompts the first stays.
        scorer: judges instead of `config.judges` (a trunk reward stays one of the config's). Of several ranks all ask.
        reference: π_ref; it is frozen in place. Else a copy of the policy, or with LoRA the policy's own base.
    Raises: UserError.
    """
    rows = _prompts(config, run, prompts)
    _check_judges(config, rows, scorer)
    _warn_if_unheld(config)
    run.check_data(function_files(config.judges if scorer is None else ()))
    if config.critic and config.critic.kind == "separate" and config.critic.init != "policy":
        check_model_path(config.critic.init, option="critic.init")
    language = policy.language if policy else load_language(config.model)
    if not language.end_ids and not config.sampling.stop:
        raise UserError(
            f"model.path: {config.model.path!r} has no token that ends an answer, so none would ever end; name one by "
            "model.end_tokens, or a text by sampling.stop"
        )
    _check_handed_in(run, language, policy, reference)
    rows = check_prompts(rows, language, config.sampling.max_new_tokens, config.too_long)
    aside = _held_out(config, run, language, rows)
    _check_engine(config, language, (*rows, *aside))
    text = ptx.load(config.ptx, run, language, config.seed)
    here = machine_of(run, config.device)
    loaded, actor = _actor(config, language, policy)
    actor.to(here.device)
    frozen = Reference(actor.policy, reference.hf if reference else None)
    if config.trunk_reward:
        attach(config.trunk_reward, config.model, loaded, actor, frozen)
    say(f"ppo: {len(rows)} prompts, {counted(config.iterations, 'iteration')} on {here}, {actor.policy.layout} rows")
    if scorer is None:
        scorer = build_scorer(config.judges, here, check_stop=run.check_stop) if config.judges else Silent()
    return Participants(
        prompts=rows,
        language=language,
        machine=here,
        loaded=loaded,
        actor=actor,
        reference=frozen,
        scorer=scorer,
        engine=build_engine(actor.policy, language, config.engine, check_stop=run.check_stop, ranks=here.ranks),
        optimizer=optim.adamw(actor.parameters(), config.optim),
        text=text,
        held_out=HeldOut(rows=aside, truth=_truth(config, here, run)),
    )


def _truth(config: PPOConfig, here: Machine, run: Run) -> Scorer | None:
    """Who judges the held-out prompts beside the judges that PPO learns from."""
    judges = config.evaluation.truth if config.evaluation else ()
    return build_scorer(judges, here, "evaluation.truth", run.check_stop) if judges else None


def _check_judges(config: PPOConfig, rows: Sequence[PromptRow], scorer: Scorer | None) -> None:
    """Is there a judge, has it the columns that it reads, and can it judge as the options ask?"""
    if scorer is None:
        check_calibrated(config.judges)
        check_rewards(config.judges, rows)
        say_unread_columns((*config.judges, *(config.evaluation.truth if config.evaluation else ())), rows)
    else:
        check_columns(scorer, rows)
    if scorer is None and config.shaping.credit == "token" and not any(map(judges_tokens, config.judges)):
        raise UserError("shaping.credit: token needs a judge that scores tokens; these score whole responses")
    if scorer is None and not config.rewards:
        raise UserError("rewards: name at least one")
    if config.trunk_reward:
        check_trunk(config.trunk_reward, config.model)


def _prompts(config: PPOConfig, run: Run, prompts: Sequence[PromptRow] | None) -> list[PromptRow]:
    """Each prompt once. A resumed run refuses other ones than it began with."""
    if prompts is None:
        every = [row for rows in state.load_data(run, config.prompts, PromptRow) for row in rows]
    else:
        every = list(prompts)
        digest = hashlib.sha256("\n".join(f"{row.prompt.id} {sorted(row.columns.items())}" for row in every).encode())
        run.check_data({"prompts": digest.hexdigest()})
    if not every:
        raise UserError("prompts: there is none to answer")
    first: dict[str, PromptRow] = {}
    for row in every:
        first.setdefault(row.prompt.id, row)
    if len(first) < len(every):
        say(f"{len(every) - len(first)} repeated prompts left out; the first of each stays")
    return list(first.values())


def _held_out(config: PPOConfig, run: Run, language: Language, trained: Sequence[PromptRow]) -> tuple[PromptRow, ...]:
    """The prompts of `evaluation`, with the columns that all judges read."""
    if config.evaluation is None:
        return ()
    rows = [row for source in state.load_data(run, config.evaluation.prompts, PromptRow) for row in source]
    check_rewards((*config.judges, *config.evaluation.truth), rows, option="evaluation.truth", lone=())
    rows = check_prompts(rows, language, config.sampling.max_new_tokens, config.too_long)
    if (shared := overlap(trained, rows)).prompts:
        warn(f"evaluation.prompts: {shared.prompts} of them are also trained on, e.g. {shared.examples[0]}")
    return tuple(rows)


def _check_handed_in(run: Run, language: Language, policy: Loaded | None, reference: Loaded | None) -> None:
    """π_ref stands in no checkpoint, and without another one it is what the policy was at first: a resumed run refuses
    models that are not what they were."""
    if reference and reference.language.tokenizer.get_vocab() != language.tokenizer.get_vocab():
        raise UserError("reference: has another tokenizer than the policy, so their log-probs can't be compared")
    if reference and policy and reference.hf is policy.hf:
        raise UserError("reference: is the policy itself, which is trained; hand in a copy, or leave it out")
    for name, model in (("policy", policy), ("reference", reference)):
        if model:
            state.check_weights(run, name, model.hf.parameters())


def _actor(config: PPOConfig, language: Language, policy: Loaded | None) -> tuple[Loaded, ActorCritic]:
    """The policy with the part chosen that is trained, and with its critic. A handed-in one lends a separate critic a
    copy of its blocks, as a folder's would be read a second time."""
    first, second = derive_seed(config.seed, "init"), derive_seed(config.seed, "critic")
    if policy is None:
        loaded = load_causal(config.model, language, seed=first)
        check_savable(loaded)
        return loaded, actor_critic(loaded, config.critic, config.model, seed=second)
    if unwrapped(policy.hf) is not policy.hf:
        raise UserError("policy: holds adapters already; merge them, and name new ones by model.train")
    blocks = None
    if config.critic and config.critic.kind == "separate" and config.critic.init == "policy":
        blocks = finish(cast(HFModel, copy.deepcopy(policy.hf.base_model)), language, config.model, second)
    loaded = finish(policy.hf, language, config.model, first)
    check_savable(loaded)
    return loaded, actor_critic(loaded, config.critic, config.model, seed=second, blocks=blocks)


def _check_engine(config: PPOConfig, language: Language, rows: Sequence[PromptRow]) -> None:
    """Can the engine answer them?"""
    prompts = (shown_ids(row, language, None) for row in rows)
    check_engine(config.engine, language, prompts, config.sampling.max_new_tokens)


def _warn_if_unheld(config: PPOConfig) -> None:
    """Of objectives that are wrong or boundless after an iteration's first update."""
    if config.steps_per_iteration == 1:
        return
    if config.objective.kind == "policy_gradient":
        warn(
            "objective: policy_gradient is right for an iteration's first update only; set epochs and minibatches to 1"
        )
    if config.objective.kind == "surrogate" and config.trust is None:
        warn("objective: surrogate without `trust`: nothing holds the policy near the one that sampled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """The scorer where the head on the trunk is the only judge."""

    name: str = "silent"

    def score(self, groups: Sequence[Group]) -> Scores:
        """Zeros, [B], all valid."""
        num = sum(len(group.responses) for group in groups)
        return Scores.of_all(torch.zeros(num))


def check_trunk(reward: TrunkReward, model: ModelConfig) -> None:
    """Before any model loads. UserError for a folder without such a head."""
    path = reward.path or model.path
    check_model_path(path, option="rewards.path")
    if path == "tiny" or read_facts(path).get("kind") != shared_trunk.KIND:
        raise UserError(f"rewards: {path!r} has no reward head on its trunk; train one by `objective: shared_trunk`")


def attach(reward: TrunkReward, model: ModelConfig, loaded: Loaded, actor: ActorCritic, reference: Reference) -> None:
    """Put the frozen head on the trunk that the option names."""
    head = shared_trunk.load_head(reward.path or model.path, loaded).requires_grad_(False)
    trunk = actor.policy if reward.on == "policy" else reference.trunk
    trunk.score_head = head.to(trunk.device)


def with_trunk(scores: Scores, raw: Float[Tensor, " B"], reward: TrunkReward, model: ModelConfig) -> Scores:
    """The judges' weighted sum and the head's share of it, of a judge of tokens on the last token. Rows on which the
    others abstained stay left out."""
    path = reward.path or model.path
    own = of_facts(read_facts(path), path).apply(raw)
    total = torch.where(scores.valid, scores.scores + reward.weight * own, 0.0)
    shares = (reward.weight * own).tolist()
    by_token = tuple(
        (*tokens[:-1], tokens[-1] + share) if tokens else ()
        for tokens, share in zip(scores.token_scores, shares if scores.token_scores else (), strict=True)
    )
    return replace(scores, scores=total, parts={**scores.parts, reward.name: own}, token_scores=by_token)
