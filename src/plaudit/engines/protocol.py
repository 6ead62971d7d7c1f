"""What a rollout engine takes and gives: token ids, and stop strings as the user wrote them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from plaudit.engines.options import SamplingConfig
from plaudit.hardware.randomness import SampleKey
from plaudit.records.text import FinishReason

Extra = Literal["values", "entropy"]
"""What an engine may gather beside tokens and log-probs: V before each token, and the entropy it was drawn at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do, said by itself; whoever asks it for more does the rest on his own."""

    exact_replay: bool
    """The same tokens for the same (seed, key, position), whatever stands beside them: runs go on exactly."""
    stop_strings: bool
    """It ends a response at the token that completes a stop string, as our text of the tokens has it; else what is
    behind it is cut off afterwards."""
    trainer_logprobs: bool
    """Its log-probs are made by the trainer's own parameters in the trainer's precision, rounding apart."""
    gathers: frozenset[Extra]
    """What it can gather while it decodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One response as the engine wrote it."""

    ids: tuple[int, ...]
    """The end token included where there is one."""
    logprobs: tuple[float, ...]
    """Nats, at the sampling temperature."""
    finish_reason: FinishReason
    values: tuple[float, ...] = ()
    """V before each token, score units, where they were wanted."""
    entropies: tuple[float, ...] = ()
    """Nats, of the distribution that each token was drawn from, where they were wanted."""


class Engine(Protocol):
    """Whatever continues prompts by the policy. Every rank calls it alike."""

    @property
    def capabilities(self) -> Capabilities: ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[SampleKey],
        sampling: SamplingConfig,
        *,
        seed: int,
        greedy: bool = False,
        want: Collection[Extra] = (),
    ) -> list[Generation]:
        """Continue each prompt until an end token, one of `sampling.stop`, or `sampling.max_new_tokens`; in the order
        of the prompts. Tokens depend on (seed, key, position) only. `want`: what `capabilities.gathers` names."""
        ...
