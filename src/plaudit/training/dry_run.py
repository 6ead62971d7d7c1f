"""Everything of a training stage but its first step: data, models, a rendered row, an answer with its score, sizes."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from plaudit.models.load import Language
from plaudit.models.trunk import Trunk
from plaudit.records.text import PromptRow
from plaudit.rollouts.sampler import groups, sample
from plaudit.runs.folder import Run
from plaudit.scoring.protocol import Scorer, check_scores
from plaudit.telemetry.console import coloured, say, with_marks
from plaudit.telemetry.numbers import counted, size
from plaudit.telemetry.progress import Stopwatch
from plaudit.tokens.pieces import marked
from plaudit.tokens.tokenizer import decode
from plaudit.training import collect, sft
from plaudit.training.options import CollectConfig, DescentConfig, SFTConfig
from plaudit.training.policy import participants as policy
from plaudit.training.policy.config import PPOConfig
from plaudit.training.reward import participants as reward
from plaudit.training.reward.options import RewardConfig

BYTES_OF_A_LAYER = 68
"""Activations of one token in one layer, for each hidden unit, in fp32 (Korthikanti et al. 2022: 34 in 16 bits)."""


def dry_run(stage: str, config: Any) -> None:
    """Build what `stage` trains with and say what it would do. Nothing is learned, and no folder is made.

    Raises: UserError for whatever the stage itself would refuse before its first step, and for a judge that fails.
    """
    with Run.memory(stage, config) as run:
        match config:
            case SFTConfig():
                _sft(config, run)
            case RewardConfig():
                _reward(config, run)
            case PPOConfig():
                _ppo(config, run)
            case CollectConfig():
                _collect(config, run)
            case _:
                raise TypeError(f"{stage} trains nothing")
    say(f"{stage}: dry run; nothing was learned and nothing written")


def _sft(config: SFTConfig, run: Run) -> None:
    who = sft.participants(config, run)
    prompt, response = who.mixture.examples[0]
    _show(who.loaded.language, prompt, response)
    tokens = [len(prompt) + len(response) for prompt, response in who.mixture.examples]
    _say_steps(config, who.mixture.steps(config), who.mixture.count, len(who.held_out), sum(tokens) / len(tokens))
    _say_sizes([who.trunk], config.microbatch_tokens)


def _reward(config: RewardConfig, run: Run) -> None:
    who = reward.participants(config, run)
    row, language = who.rows[0], who.model.language
    for text in reward.responses(row):
        _show(language, *language.renderer.pair_ids(row.prompt, text, where=row.where))
    tokens = [example.num_tokens for example in who.mixture.examples]
    _say_steps(config, who.mixture.steps(config), len(tokens), len(who.held_out), sum(tokens) / len(tokens))
    _say_sizes([who.model], config.microbatch_tokens)


def _ppo(config: PPOConfig, run: Run) -> None:
    who = policy.participants(config, run)
    _answer(who.prompts[0], who, who.scorer, config)
    answers = config.prompts_per_iteration * config.samples_per_prompt
    say(
        f"one iteration: {counted(answers, 'answer')} of up to {counted(config.sampling.max_new_tokens, 'token')}, "
        f"{counted(config.steps_per_iteration, 'optimiser step')}; {counted(config.iterations, 'iteration')}"
        + (f"; {counted(len(who.held_out.rows), 'held-out prompt')}" if config.evaluation else "")
    )
    _say_sizes([who.actor, who.reference.trunk], config.microbatch_tokens)


def _collect(config: CollectConfig, run: Run) -> None:
    who = collect.participants(config, run)
    _answer(who.prompts[0], who, who.labeller, config)
    prompts, answers = counted(len(who.prompts), "prompt"), counted(config.samples, "answer")
    most = len(who.prompts) * config.samples * config.sampling.max_new_tokens
    say(f"{prompts} × {answers}: at most {counted(most, 'token')}")


def _answer(row: PromptRow, who: Any, scorer: Scorer | None, config: PPOConfig | CollectConfig) -> None:
    """One answer by the engine, one call of the judge where there is one."""
    with Stopwatch() as writing, who.machine.autocast():
        rollout = sample(who.engine, who.language, [row], config.sampling, sample_indices=[0], seed=config.seed)
    _show(who.language, rollout.prompt_ids[0].tolist(), rollout.response_ids[0].tolist())
    if scorer is None:
        say(f"the answer {rollout.responses[0]!r} took {writing.seconds:.2g} s to write; people will judge it")
        return
    with Stopwatch() as judging:
        scores = check_scores(scorer.name, scorer.score(groups(rollout)), 1)
    number = f"{float(scores.scores[0]):.4g}" if bool(scores.valid[0]) else "abstained"
    parts = ", ".join(f"{name} {float(part[0]):.4g}" for name, part in scores.parts.items())
    ended, seconds = (
        rollout.finish_reasons[0].value,
        f"{writing.seconds:.2g} s to write, {judging.seconds:.2g} s to judge",
    )
    say(f"the answer {rollout.responses[0]!r} ({ended}) scores {number} ({parts}); {seconds}")


def _show(language: Language, prompt: Sequence[int], learned: Sequence[int]) -> None:
    """A row as its model sees it: what is context, and what is learned."""
    pieces = marked(partial(decode, language.tokenizer, keep_specials=True), prompt, learned)
    counts = f"{counted(len(prompt), 'token')} of context and {len(learned)} learned"
    say(f"one row, {counts}: {with_marks(pieces, colour=coloured())}")


def _say_steps(config: DescentConfig, steps: int, rows: int, held_out: int, tokens: float) -> None:
    say(
        f"{counted(rows, 'row')} of {tokens:.0f} tokens on average, {held_out} held out; "
        f"{counted(steps, 'optimiser step')} of {counted(config.minibatch_size, 'row')}, about "
        f"{tokens * config.minibatch_size:,.0f} tokens each"
    )


def _say_sizes(modules: Sequence[Any], tokens: int) -> None:
    """Parameters, and an estimate of memory: weights, gradients, AdamW's two moments, one micro-batch."""
    every: dict[int, nn.Parameter] = {id(p): p for module in modules for p in module.parameters()}
    trained = [p for p in every.values() if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in every.values())
    learning = sum(p.numel() * (p.element_size() + 8) for p in trained)
    trunk = next((one for one in modules if isinstance(one, Trunk)), None)
    batch = 0
    if trunk is not None:
        shape = trunk.config.get_text_config()
        batch = tokens * (shape.hidden_size * shape.num_hidden_layers * BYTES_OF_A_LAYER + shape.vocab_size * 8)
    parts = f"weights {size(weights)}, gradients and moments {size(learning)}, one full micro-batch {size(batch)}"
    say(
        f"{sum(p.numel() for p in every.values()):,} parameters, {sum(p.numel() for p in trained):,} of them trained; "
        f"memory at most about {size(weights + learning + batch)} ({parts})"
    )
