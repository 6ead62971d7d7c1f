"""From configuration to scorer: reward models, reward functions, language models that are asked, or a weighted mix."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeGuard, assert_never

from plaudit.config.objects import behind
from plaudit.errors import UserError
from plaudit.hardware.machine import Machine
from plaudit.models.load import check_model_path
from plaudit.models.reward import loading
from plaudit.models.reward.protocol import REFERENCES, RewardModel, check_references
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, PromptRow
from plaudit.scoring.asking.scorer import Answerer, AskingScorer
from plaudit.scoring.asking.template import load_template, template_text
from plaudit.scoring.calls import takes
from plaudit.scoring.combine import WeightedMix
from plaudit.scoring.functions import Tally, function_scorer
from plaudit.scoring.loading import file_of
from plaudit.scoring.options import (
    AskingConfig,
    ChatJudgeConfig,
    GenerativeJudgeConfig,
    JudgeConfig,
    RewardModelConfig,
)
from plaudit.scoring.protocol import Scorer, check_columns, missing_column, num_responses
from plaudit.scoring.rows import rows_of
from plaudit.scoring.shares import FirstRankScorer, score_shares
from plaudit.telemetry.console import say


class RewardModelScorer:
    """Scores by a learned model, in its own units (nats of preference for the logistic losses)."""

    def __init__(self, model: RewardModel, machine: Machine, *, name: str = "reward_model", budget: int = 16384):
        self.name, self.model, self.machine, self.budget = name, model, machine, budget
        self.tally = Tally(of_model=True)

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B] over all groups' responses, in order; the model's own parts beside its score.

        UserError naming the first answer whose score is no number.
        """
        scores = score_shares(self._judge, groups, self.machine.ranks)
        self._check_finite(scores, groups)
        self._count_cut(groups)
        return replace(scores, parts={self.name: scores.scores, **scores.parts})

    def _judge(self, groups: Sequence[Group]) -> Scores:
        with self.machine.autocast():
            return self.model.score(groups, self.budget)

    def _check_finite(self, scores: Scores, groups: Sequence[Group]) -> None:
        broken = (scores.valid & ~scores.scores.isfinite()).nonzero().flatten().tolist()
        if broken:
            value = scores.scores[broken[0]].item()
            raise UserError(
                f"reward model {self.name!r}: {rows_of(groups)[broken[0]]}: its score is {value} ({len(broken)} of "
                f"{len(scores.scores)} answers). Its weights may hold NaN, or its precision may be too small for it"
            )

    def _count_cut(self, groups: Sequence[Group]) -> None:
        """Answers that the model's context has no room for are judged by a part of them, or of their prompt."""
        longest, cut = 0, 0
        renderer, context = self.model.language.renderer, self.model.language.context
        for group in groups:
            for text in group.responses:
                length = sum(map(len, renderer.pair_ids(group.prompt, text)))
                longest, cut = max(longest, length), cut + (length > context)
        self.tally.counts["rows"] += num_responses(groups)
        self.tally.counts["cut"] += cut
        if cut:
            self.tally.once(
                "cut",
                f"reward model {self.name!r}: room for {context} tokens, prompts and answers have up to {longest}: "
                f"{cut} of {num_responses(groups)} answers were judged by a part of the text (part_cut counts them)",
            )


def check_rewards(
    configs: Sequence[JudgeConfig],
    rows: Sequence[PromptRow],
    option: str = "rewards",
    lone: Sequence[PromptRow] | None = None,
) -> None:
    """Before any model loads: folders exist, functions load, the columns that they need are there. UserError naming
    the `option` that holds `configs`, or, ending with `.path`, that of the only one.

    `lone` are those of the `rows` whose answers are not judged among several (None: all): a model that compares needs
    something to compare them with.
    """
    alone = rows if lone is None else lone
    for index, config in enumerate(configs):
        if config.kind == "function":
            check_columns(function_scorer(config), rows)
            continue
        if config.kind == "model":
            loading.check_reward_model(config.model, _path_option(option, index), config.read_as)
        else:
            load_template(config.question)
        if config.kind == "generative":
            check_model_path(config.path, option=_path_option(option, index))
        if needed := _needed_columns(config):
            check_references(rows)
            check_columns(partial(missing_column, config.name, needed=needed, filled=True), alone)


def _needed_columns(config: RewardModelConfig | AskingConfig) -> tuple[str, ...]:
    """What a lone answer's row must have: something to compare it with, where the judge compares."""
    if config.kind == "model":
        return tuple(loading.needed_columns(config.model, config.read_as))
    return (REFERENCES,) if compares(config) else ()


def compares(config: JudgeConfig) -> bool:
    """Whether it is asked about two answers of a prompt at once."""
    return is_asked(config) and config.question.form == "pair"


def is_asked(config: JudgeConfig) -> TypeGuard[AskingConfig]:
    """Whether it is a language model that is asked."""
    return config.kind in ("chat", "generative")


def say_unread_columns(configs: Sequence[JudgeConfig], rows: Sequence[PromptRow]) -> None:
    """One line on columns of the prompts that no judge takes, before any model loads."""
    named = dict.fromkeys(name for row in rows for name, value in row.columns.items() if value is not None)
    for config in configs:
        if config.kind == "function":
            read = takes(function_scorer(config).function).accepted(named)
        else:
            read = set(_needed_columns(config))
        named = {name: None for name in named if name not in read}
    if named and configs:
        say(f"columns that nothing reads: {', '.join(named)}")


def judges_tokens(config: JudgeConfig) -> bool:
    """Whether it says a number for each token, told before any model loads."""
    if config.kind == "function":
        return config.by_token
    return config.kind == "model" and loading.saved_kind(config.model, config.read_as).scores_tokens


def has_scale(config: JudgeConfig) -> bool:
    """Whether differences of its scores can be read as log-odds, told before any model loads."""
    return config.kind == "model" and loading.has_scale(config.model, config.read_as)


def says_log_odds(config: JudgeConfig) -> bool:
    """Whether its scores are the log-odds that an answer is accepted, told before any model loads: 0 is even odds."""
    return config.kind == "model" and loading.saved_kind(config.model, config.read_as).name == "two_class"


def never_stop() -> None:
    """Nobody asks for a stop."""


def build_scorer(
    configs: Sequence[JudgeConfig],
    machine: Machine,
    option: str = "rewards",
    check_stop: Callable[[], None] = never_stop,
) -> Scorer:
    """The configured judges as one scorer: their weighted sum. UserError naming the `option` that holds `configs`, as
    `check_rewards`. Language models call `check_stop` while they are waited for; it may raise to end that."""
    parts = tuple(
        (judge_scorer(config, machine, _path_option(option, index), check_stop), config.weight)
        for index, config in enumerate(configs)
    )
    return parts[0][0] if len(parts) == 1 and parts[0][1] == 1.0 else WeightedMix(parts=parts)


def _path_option(option: str, index: int) -> str:
    """Of a judge's folder: in a list, or, where the option ends so already, its own."""
    return option if option.endswith(".path") else f"{option}.{index}.path"


def judge_scorer(
    config: JudgeConfig, machine: Machine, option: str = "path", check_stop: Callable[[], None] = never_stop
) -> Scorer:
    """One judge, whatever its weight. UserError naming the `option` of its folder."""
    if config.kind == "model":
        return reward_model_scorer(config, machine, option)
    scorer = function_scorer(config) if config.kind == "function" else asking_scorer(config, machine, check_stop)
    return scorer if machine.ranks.is_alone else FirstRankScorer(scorer, machine.ranks)


def asking_scorer(config: AskingConfig, machine: Machine, check_stop: Callable[[], None] = never_stop) -> AskingScorer:
    """A language model, ready to be asked; nothing is asked yet. What each kind needs is loaded for it alone.
    `check_stop` is not called where there are several processes: they must stop together."""
    check_stop = check_stop if machine.ranks.is_alone else never_stop
    match config:
        case ChatJudgeConfig():
            from plaudit.scoring.asking.server import ChatServer

            answerer: Answerer = ChatServer(config, check_stop)
        case GenerativeJudgeConfig():
            from plaudit.scoring.asking.in_process import InProcessModel

            answerer = InProcessModel(config, machine, check_stop)
        case _:
            assert_never(config)
    return AskingScorer(
        config=config, answerer=answerer, template=load_template(config.question), seed=config.question.seed
    )


def reward_model_scorer(config: RewardModelConfig, machine: Machine, option: str = "path") -> RewardModelScorer:
    """A saved reward model, ready to score: loaded here, unless the caller's own stands behind its path."""
    model = behind(config.path) or loading.load_reward_model(config.model, config.read_as, option)
    model.to(machine.device)
    model.requires_grad_(False)
    return RewardModelScorer(model, machine, name=config.name)


def function_files(configs: Sequence[JudgeConfig]) -> dict[str, str]:
    """The files of the user's own reward functions and questions → sha256, for the run's provenance: a resumed run
    whose judge is another one would not be the same run."""
    files: dict[str, str] = {}
    for config in configs:
        if config.kind == "function" and (path := file_of(config.function)) is not None:
            files[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif is_asked(config) and config.question.prompt:
            text = template_text(config.question)
            files[config.question.prompt] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return files
