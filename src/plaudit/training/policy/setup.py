"""Everything that PPO works with, made and checked before the first iteration."""

from dataclasses import dataclass

import torch

from plaudit.engines.build import build_engine
from plaudit.engines.protocol import Engine
from plaudit.errors import UserError
from plaudit.hardware.machine import Machine, machine
from plaudit.hardware.randomness import derive_seed
from plaudit.models.load import Language, Loaded, check_model_path, load_causal, load_language
from plaudit.models.policy import ActorCritic, actor_critic
from plaudit.models.reference import Reference
from plaudit.records.text import Kind, PromptRow
from plaudit.rollouts.sampler import check_prompts
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards, judges_tokens
from plaudit.scoring.protocol import Scorer
from plaudit.telemetry.console import say, warn
from plaudit.training import optim, state
from plaudit.training.policy import ptx
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.trunk_reward import Silent, attach, check_trunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Who takes part."""

    prompts: list[PromptRow]
    language: Language
    place: Machine
    loaded: Loaded
    actor: ActorCritic
    """Policy and critic, which are trained."""
    reference: Reference
    scorer: Scorer
    engine: Engine
    optimizer: torch.optim.Optimizer
    text: ptx.Texts
    """Pre-training text; empty where none is learned."""


def set_up(config: PPOConfig, run: Run) -> Setup:
    """Read data, load models. Everything that can be wrong with the input is found before a model loads."""
    prompts = _prompts(config, run)
    check_rewards(config.judges, prompts)
    if config.shaping.credit == "token" and not any(map(judges_tokens, config.judges)):
        raise UserError("shaping.credit: token needs a judge that scores tokens; these score whole responses")
    if config.trunk_reward:
        check_trunk(config.trunk_reward, config.model)
    if config.critic.kind == "separate" and config.critic.init != "policy":
        check_model_path(config.critic.init, option="critic.init")
    language = load_language(config.model)
    if not language.end_ids and not config.sampling.stop:
        raise UserError(
            f"model.path: {config.model.path!r} has no token that ends an answer, so none would ever end; name one by "
            "model.end_tokens, or a text by sampling.stop"
        )
    check_prompts(prompts, language, config.sampling.max_new_tokens)
    _warn_if_unheld(config)
    text = ptx.load(config.ptx, run, language, config.seed)

    place = machine(config.device)
    loaded = load_causal(config.model, language, seed=derive_seed(config.seed, "init"))
    actor = actor_critic(loaded, config.critic, config.model, seed=derive_seed(config.seed, "critic")).to(place.device)
    reference = Reference(actor.policy)
    if config.trunk_reward:
        attach(config.trunk_reward, config.model, loaded, actor, reference)
    say(f"ppo: {len(prompts)} prompts, {config.iterations} iterations on {place}, {actor.policy.layout} rows")
    return Setup(
        prompts=prompts,
        language=language,
        place=place,
        loaded=loaded,
        actor=actor,
        reference=reference,
        scorer=build_scorer(config.judges, place) if config.judges else Silent(),
        engine=build_engine(actor.policy, language, check_stop=run.check_stop, ranks=place.ranks),
        optimizer=optim.adamw(actor.parameters(), config.optim),
        text=text,
    )


def _prompts(config: PPOConfig, run: Run) -> list[PromptRow]:
    every = [row for rows in state.load_data(run, config.prompts, Kind.PROMPT) for row in rows]
    first: dict[str, PromptRow] = {}
    for row in every:
        first.setdefault(row.prompt.id, row)
    if len(first) < len(every):
        say(f"{len(every) - len(first)} repeated prompts left out; the first of each stays")
    return list(first.values())


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
