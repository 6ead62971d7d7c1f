"""From configuration to scorer: reward models, reward functions, or a weighted mix."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from plaudit.config.objects import behind
from plaudit.hardware.machine import Machine
from plaudit.models.reward import loading
from plaudit.models.reward.protocol import RewardModel, check_references
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, PromptRow
from plaudit.scoring.calls import takes
from plaudit.scoring.combine import WeightedMix
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import JudgeConfig, RewardModelConfig
from plaudit.scoring.protocol import Scorer, check_columns, missing_column
from plaudit.scoring.shares import FirstRankScorer, score_shares
from plaudit.telemetry.console import say


class RewardModelScorer:
    """Scores by a learned model, in its own units (nats of preference for the logistic losses)."""

    def __init__(self, model: RewardModel, machine: Machine, *, name: str = "reward_model", budget: int = 16384):
        self.name, self.model, self.machine, self.budget = name, model, machine, budget

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B] over all groups' responses, in order; the model's own parts beside its score."""
        scores = score_shares(self._judge, groups, self.machine.ranks)
        return replace(scores, parts={self.name: scores.scores, **scores.parts})

    def _judge(self, groups: Sequence[Group]) -> Scores:
        with self.machine.autocast():
            return self.model.score(groups, self.budget)


def check_rewards(
    configs: Sequence[JudgeConfig],
    rows: Sequence[PromptRow],
    option: str = "rewards",
    lone: Sequence[PromptRow] | None = None,
) -> None:
    """Before any model loads: folders exist, functions load, the columns that they need are there. UserError naming
    the `option` that holds `configs`.

    `lone` are those of the `rows` whose answers are not judged among several (None: all): a model that compares needs
    something to compare them with.
    """
    alone = rows if lone is None else lone
    for index, config in enumerate(configs):
        if config.kind != "model":
            check_columns(function_scorer(config), rows)
            continue
        model = config.model
        loading.check_reward_model(model, f"{option}.{index}.path", config.read_as)
        if needed := loading.needed_columns(model, config.read_as):
            check_references(rows)
            check_columns(partial(missing_column, config.name, needed=needed, filled=True), alone)


def say_unread_columns(configs: Sequence[JudgeConfig], rows: Sequence[PromptRow]) -> None:
    """One line on columns of the prompts that no judge takes, before any model loads."""
    named = dict.fromkeys(name for row in rows for name, value in row.columns.items() if value is not None)
    for config in configs:
        if config.kind != "model":
            read = takes(function_scorer(config).function).accepted(named)
        else:
            read = set(loading.needed_columns(config.model, config.read_as))
        named = {name: None for name in named if name not in read}
    if named and configs:
        say(f"columns that nothing reads: {', '.join(named)}")


def judges_tokens(config: JudgeConfig) -> bool:
    """Whether it says a number for each token, told before any model loads."""
    if config.kind != "model":
        return config.by_token
    return loading.saved_kind(config.model, config.read_as).scores_tokens


def has_scale(config: JudgeConfig) -> bool:
    """Whether differences of its scores can be read as log-odds, told before any model loads."""
    return config.kind == "model" and loading.has_scale(config.model, config.read_as)


def build_scorer(configs: Sequence[JudgeConfig], machine: Machine) -> Scorer:
    """The configured judges as one scorer: their weighted sum."""
    parts = tuple((_scorer(config, machine), config.weight) for config in configs)
    return parts[0][0] if len(parts) == 1 and parts[0][1] == 1.0 else WeightedMix(parts=parts)


def _scorer(config: JudgeConfig, machine: Machine) -> Scorer:
    if config.kind == "model":
        return reward_model_scorer(config, machine)
    scorer = function_scorer(config)
    return scorer if machine.ranks.is_alone else FirstRankScorer(scorer, machine.ranks)


def reward_model_scorer(config: RewardModelConfig, machine: Machine) -> RewardModelScorer:
    """A saved reward model, ready to score: loaded here, unless the caller's own stands behind its path."""
    model = behind(config.path) or loading.load_reward_model(config.model, config.read_as)
    model.to(machine.device)
    model.requires_grad_(False)
    return RewardModelScorer(model, machine, name=config.name)
