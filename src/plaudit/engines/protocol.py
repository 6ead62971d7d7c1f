"""What a rollout engine takes and gives. It knows token ids, never text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from plaudit.engines.options import SamplingConfig
from plaudit.hardware.randomness import SampleKey
from plaudit.records.text import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One response as the engine wrote it."""

    ids: tuple[int, ...]
    """The end token included where there is one."""
    logprobs: tuple[float, ...]
    """Nats, at the sampling temperature."""
    finish_reason: FinishReason


class Engine(Protocol):
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[SampleKey],
        sampling: SamplingConfig,
        *,
        seed: int,
        greedy: bool = False,
        is_stopped: Callable[[Sequence[int]], bool] | None = None,
    ) -> list[Generation]:
        """Continue each prompt; results stand in the order of the prompts."""
        ...
