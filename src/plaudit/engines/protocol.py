"""What a rollout engine takes and gives: token ids, and stop strings as the user wrote them."""

from collections.abc import Sequence
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
    policy_version: int = 0
    """Which weights wrote it, as counted by whoever loads weights into the engine. An engine that reads the live
    parameters has one version only, 0."""


class Engine(Protocol):
    """Whatever continues prompts by the policy. Every rank calls it alike."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[SampleKey],
        sampling: SamplingConfig,
        *,
        seed: int,
        greedy: bool = False,
    ) -> list[Generation]:
        """Continue each prompt until an end token, one of `sampling.stop`, or `sampling.max_new_tokens`; in the order
        of the prompts. Tokens depend on (seed, key, position) only."""
        ...
