"""Options that are legal and can't be meant. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.doctor.examined import Examined
from plaudit.doctor.findings import Finding, warning
from plaudit.doctor.inputs import KnownStage, Part
from plaudit.models.options import ModelConfig
from plaudit.records.text import PromptRow
from plaudit.training.options import OptimConfig

SMALL_BYTES = 80_000_000
"""Of weight files: twenty million numbers of four bytes. Smaller models take far larger steps."""


@dataclass(frozen=True, slots=True)
class _Rates:
    low: float
    high: float


SMALL, LARGE = _Rates(1e-6, 3e-2), _Rates(1e-8, 1e-3)
"""What small models and adapters are trained with, and what others are."""


def learning_rate(examined: Examined) -> Iterator[Finding]:
    """An order of magnitude beyond what anybody trains such a model with: a slipped exponent."""
    optim: OptimConfig | None = getattr(examined.config, "optim", None)
    if optim is None or examined.model is None:
        return
    is_small = _is_small(examined.stage, examined.model)
    usual = SMALL if is_small or examined.model.train.kind == "lora" else LARGE
    if not usual.low <= optim.learning_rate <= usual.high:
        size = "a model this small" if is_small else "a model of this size"
        yield warning(
            "optim.learning_rate",
            f"{optim.learning_rate:g} is {'above' if optim.learning_rate > usual.high else 'below'} what trains {size}",
            f"set optim.learning_rate between {usual.low:g} and {usual.high:g}",
        )


def _is_small(stage: KnownStage, model: ModelConfig) -> bool:
    """Of a model that an earlier stage makes, what that starts from. False for what isn't on this disk: hub models are
    large."""
    if (maker := stage.maker(model.path)) and isinstance(begins := getattr(maker.config, "model", None), ModelConfig):
        return _is_small(maker, begins)
    if model.path == "tiny":
        return True
    weights = list(Path(model.path).glob("*.safetensors"))
    return bool(weights) and sum(path.stat().st_size for path in weights) < SMALL_BYTES


def steps(examined: Examined) -> Iterator[Finding]:
    """As many rows as a step wants."""
    own = [use for use in examined.own_uses if use.part is Part.TRAINED and not use.option.startswith("ptx")]
    rows = [row for use in own for row in examined.rows(use)]
    if not rows:
        return
    if examined.kind == "ppo":
        prompts = len({row.prompt.id for row in rows if isinstance(row, PromptRow)})
        if (wanted := examined.config.prompts_per_iteration) > prompts:
            yield warning(
                "prompts_per_iteration",
                f"{wanted} prompts an iteration, and the files have {prompts}: some are answered twice in it",
                f"set prompts_per_iteration to {prompts} or fewer, or samples_per_prompt higher, or bring more prompts",
            )
    elif (size := examined.config.minibatch_size) > len(rows):
        yield warning(
            "minibatch_size",
            f"{size} rows a step, and the files have {len(rows)}: each epoch is one step",
            f"set minibatch_size to {max(len(rows) // 8, 1)}, for eight steps an epoch",
        )


def sampling(examined: Examined) -> Iterator[Finding]:
    """A policy is measured as it learned to write."""
    if examined.kind not in ("compare", "frontier"):
        return
    own = examined.config.sampling
    for one in examined.stage.ancestors().values():
        if one.kind == "ppo":
            learned = one.config.sampling
            for option in ("temperature", "max_new_tokens", "stop"):
                if (here := getattr(own, option)) != (there := getattr(learned, option)):
                    yield warning(
                        f"sampling.{option}",
                        f"answers are sampled by {_shown(here)}, and {one.name} learned by {_shown(there)}",
                        f"set sampling.{option} to {_shown(there)} here too",
                    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(list(value)) if isinstance(value, tuple) else str(value)
