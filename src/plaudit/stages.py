"""What the stages are: their names, where their options and functions stand, what is special about each.

Options and functions are named by `module:name` and imported when asked for, so that whoever lists the stages (help,
completion, reports) loads neither torch nor the rooms that train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One kind of run."""

    name: str
    """As in provenance.json and as a pipeline's `kind`."""
    help: str
    """One line for the list of commands."""
    title: str
    """Heading in reports."""
    config: str
    """The class of its options."""
    run: str
    """The function that does it: `run(config, run)`."""
    command: str = ""
    """What stands behind `plaudit`; empty where only pipelines have it."""
    parallel: bool = False
    """Whether several processes can share it (docs/parallel.md)."""
    counts: Literal["step", "iteration"] = "step"
    """What its metrics are counted in."""
    trains: bool = False
    """Whether it can be swept and run dry."""
    keeps_rollouts: bool = False
    """Whether it writes rollouts/."""
    leaves: str = ""
    """What it makes in its folder, for others to use."""
    next: str = ""
    """The command that may come next; RUN stands for the run's folder."""
    main_measures: tuple[str, ...] = ()
    """Metrics of which the first and the last number are told at the end, without the stage."""
    common: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Heading → the options that are asked for most, for `--help` and `plaudit init`."""
    starter: Mapping[str, Any] = field(default_factory=dict)
    """What must be chosen, with values that say what belongs there."""

    @property
    def config_class(self) -> type[Any]:
        """The class of its options. Takes no torch."""
        return resolve_name(self.config)

    @property
    def function(self) -> Callable[[Any, Any], None]:
        """What does it; takes torch for most."""
        return resolve_name(self.run)


_MODEL = ("model.path", "model.train.kind")
_SAMPLING = ("sampling.max_new_tokens", "sampling.temperature")
_MEMORY = ("microbatch_tokens", "device.device", "device.precision", "save_every", "seed")
_JUDGE = {"kind": "model", "path": "runs/reward/model"}
_RULE = {"kind": "function", "function": "judge.py:score"}
_POLICY = {"path": "runs/sft/model"}
_PROMPTS, _HELD_OUT = [{"path": "prompts.jsonl"}], [{"path": "held_out_prompts.jsonl"}]

_ALL = (
    Stage(
        name="world",
        help="write the tiny world's files",
        title="The tiny world",
        config="plaudit.data.tinyworld_files:WorldConfig",
        run="plaudit.data.tinyworld_files:world",
    ),
    Stage(
        name="openings",
        help="make prompts out of plain texts",
        title="Openings",
        config="plaudit.data.openings:OpeningsConfig",
        run="plaudit.data.openings:openings",
        starter={"data": [{"path": "texts.jsonl"}]},
    ),
    Stage(
        name="sft",
        command="sft",
        help="supervised fine-tuning: learn to write as the demonstrations do",
        title="Supervised fine-tuning",
        config="plaudit.training.options:SFTConfig",
        run="plaudit.training.sft:sft",
        leaves="model",
        next='plaudit generate RUN/model --prompt "…"',
        main_measures=("held_out_loss_over_tokens", "loss_over_tokens"),
        parallel=True,
        trains=True,
        common={
            "What it learns from": ("data", "data.N.path", "held_out_fraction"),
            "The model": _MODEL,
            "How it learns": ("epochs", "minibatch_size", "optim.learning_rate", "optim.schedule", "max_length"),
            "The machine": _MEMORY,
        },
        starter={"data": [{"path": "demonstrations.jsonl"}], "model": {"path": "tiny"}},
    ),
    Stage(
        name="collect",
        command="collect",
        help="let a model answer prompts, for people or a rule to rank",
        title="Collecting preferences",
        config="plaudit.training.options:CollectConfig",
        run="plaudit.training.collect:collect",
        parallel=True,
        leaves="rankings.jsonl",
        next="plaudit data check RUN/rankings.jsonl",
        trains=True,
        common={
            "Who answers what": ("prompts", "prompts.N.path", "model.path", "samples"),
            "Who ranks": ("labeller", "labeller.N.kind", "labeller.N.function", "noise", "unsure.prompts"),
            "How it writes": _SAMPLING,
            "The machine": ("device.device", "seed"),
        },
        starter={"prompts": _PROMPTS, "model": _POLICY, "labeller": [_RULE]},
    ),
    Stage(
        name="label",
        help="let people rank answers, and wait for them",
        title="Judgements by people",
        config="plaudit.feedback.options:LabelConfig",
        run="plaudit.feedback.stage:label",
        leaves="rankings.jsonl",
        starter={"data": [{"path": "candidates.jsonl"}]},
    ),
    Stage(
        name="reward",
        command="reward",
        help="train a reward model on rankings, comparisons, ratings or verdicts",
        title="Reward model",
        config="plaudit.training.reward.options:RewardConfig",
        run="plaudit.training.reward.loop:reward",
        leaves="model",
        next="plaudit score RUN/model answers.jsonl",
        main_measures=("held_out_accuracy_over_pairs", "held_out_accuracy_over_rows", "loss_over_rows"),
        parallel=True,
        trains=True,
        common={
            "What it learns from": ("data", "data.N.path", "held_out_fraction"),
            "The model": ("objective.kind", *_MODEL),
            "How it learns": ("epochs", "minibatch_size", "optim.learning_rate", "max_length"),
            "The machine": _MEMORY,
        },
        starter={"data": [{"path": "rankings.jsonl"}], "model": _POLICY},
    ),
    Stage(
        name="ppo",
        command="ppo",
        help="align a policy with reward models and functions",
        title="PPO",
        config="plaudit.training.policy.config:PPOConfig",
        run="plaudit.training.policy.loop:ppo",
        leaves="model",
        next="plaudit inspect RUN",
        main_measures=("score_over_responses", "kl_ref_over_responses", "held_out_score_over_prompts"),
        parallel=True,
        trains=True,
        counts="iteration",
        keeps_rollouts=True,
        common={
            "What it is given": ("prompts", "prompts.N.path", "rewards", "rewards.N.kind", "rewards.N.path"),
            "The models": (*_MODEL, "critic.kind"),
            "How long": ("iterations", "prompts_per_iteration", "samples_per_prompt", "epochs", "minibatches"),
            "How it learns": ("kl.kind", "kl.coef", "optim.learning_rate", "objective.kind", "objective.clip_range"),
            "How it writes": _SAMPLING,
            "The machine": _MEMORY,
        },
        starter={"prompts": _PROMPTS, "rewards": [_JUDGE], "model": _POLICY},
    ),
    Stage(
        name="compare",
        command="eval policies",
        help="compare policies on held-out prompts: win rates, KL, samples",
        title="Comparison",
        config="plaudit.evaluation.options:CompareConfig",
        run="plaudit.evaluation.compare:compare",
        parallel=True,
        common={
            "Who is compared": ("prompts", "prompts.N.path", "policies", "baseline"),
            "Who judges": ("judge", "judge.N.kind", "judge.N.path"),
            "How they write": _SAMPLING,
            "The machine": ("device.device", "seed"),
        },
        starter={
            "prompts": _HELD_OUT,
            "policies": {"sft": "runs/sft/model", "ppo": "runs/ppo/model"},
            "baseline": "sft",
            "judge": [_JUDGE],
        },
    ),
    Stage(
        name="frontier",
        help="best of n by each judge, measured by another",
        title="Best of n",
        config="plaudit.evaluation.options:FrontierConfig",
        run="plaudit.evaluation.frontier:frontier",
        starter={"prompts": _HELD_OUT, "model": _POLICY, "judges": {"reward model": [_JUDGE]}, "truth": [_RULE]},
    ),
    Stage(
        name="reward_eval",
        command="eval reward",
        help="measure reward models and functions on labelled answers: accuracy, calibration, bias",
        title="Judges measured",
        config="plaudit.evaluation.options:RewardEvalConfig",
        run="plaudit.evaluation.reward_eval:reward_eval",
        common={
            "What is measured on what": ("data", "data.N.path", "models", "models.N.kind", "models.N.path"),
            "How": ("subset_column", "check_order", "num_bins"),
            "The machine": ("device.device", "seed"),
        },
        starter={"data": [{"path": "held_out_rankings.jsonl"}], "models": [_JUDGE]},
    ),
    Stage(
        name="tasks",
        command="eval tasks",
        help="models on tasks of lm-evaluation-harness: what alignment cost elsewhere",
        title="Tasks of lm-evaluation-harness",
        config="plaudit.evaluation.options:TasksConfig",
        run="plaudit.evaluation.tasks:tasks",
        common={
            "How": ("few_shots", "limit", "chat_template", "include", "batch_size"),
            "The machine": ("device.device", "seed"),
        },
        starter={"policies": {"sft": "runs/sft/model", "ppo": "runs/ppo/model"}, "tasks": ["arc_easy", "hellaswag"]},
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}
"""What a pipeline is made of."""

_FILLED = {"prompts": _PROMPTS, "model": {"path": "${sft}/model"}}

PIPELINE = Stage(
    name="pipeline",
    command="pipeline",
    help="run several stages, one after the other",
    title="Pipeline",
    config="plaudit.pipeline:PipelineConfig",
    run="plaudit.pipeline:pipeline",
    starter={
        "seed": 0,
        "vars": {"base": "tiny"},
        "stages": {
            "sft": {"kind": "sft", "data": [{"path": "demonstrations.jsonl"}], "model": {"path": "${base}"}},
            "answers": {"kind": "collect", **_FILLED, "labeller": [_RULE]},
            "reward": {
                "kind": "reward", "data": [{"path": "${answers}/rankings.jsonl"}], "model": {"path": "${sft}/model"}
            },
            "ppo": {"kind": "ppo", **_FILLED, "rewards": [{"kind": "model", "path": "${reward}/model"}]},
            "compare": {
                "kind": "compare",
                "prompts": _HELD_OUT,
                "policies": {"sft": "${sft}/model", "ppo": "${ppo}/model"},
                "baseline": "sft",
                "judge": [{"kind": "model", "path": "${reward}/model"}],
            },
        },
    },
)  # fmt: skip
RUNS: dict[str, Stage] = {**STAGES, "pipeline": PIPELINE}
"""What a run folder can hold."""

GENERATE = Stage(
    name="generate",
    command="generate",
    help="let a model answer prompts: lines of JSON",
    title="Answers",
    config="plaudit.api.options:GenerateConfig",
    run="plaudit.api.answers:generate",
    common={
        "How it writes": ("max_new_tokens", "temperature", "greedy", "samples", "stop", "seed"),
        "The machine": ("device", "batch_size"),
    },
)
SCORE = Stage(
    name="score",
    command="score",
    help="let a reward model or function score answers: lines of JSON",
    title="Scores",
    config="plaudit.api.options:ScoreConfig",
    run="plaudit.api.answers:score",
    common={
        "Who judges what": ("judge.args", "judge.read_as", "data.N.columns"),
        "The machine": ("device", "rows_per_batch"),
    },
)
