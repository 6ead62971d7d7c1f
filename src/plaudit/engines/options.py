"""What a user may say of sampling and of who does it. No torch."""

from dataclasses import dataclass
from typing import Literal

from plaudit.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """How the policy writes. There is no top-k, top-p or repetition penalty: PPO's log-probs must be those of
    the distribution that was sampled."""

    max_new_tokens: int = 64
    """Tokens; a response that reaches it without an end token finishes with LENGTH."""
    temperature: float = 1.0
    """Of sampling and of every log-prob in PPO, or the first ratio would not be 1."""
    stop: tuple[str, ...] = ()
    """Strings that end a response where they appear, control tokens among them; scorers read the text before them."""
    batch_size: int = 256
    """Rows decoded together; memory, not results, depends on it."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature <= 0 or self.batch_size < 1:
            raise ValueError("max_new_tokens and batch_size must be at least 1, temperature above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchEngineConfig:
    """In this process, with the policy's live parameters: nothing to send, nothing to install."""

    kind: Literal["torch"] = "torch"
    prefill_tokens: int = 2048
    """Tokens of prompts that are read together before their answers begin; memory, not results, depends on it."""

    def __post_init__(self) -> None:
        require(self.prefill_tokens >= 1, "engine.prefill_tokens must be at least 1")


EngineConfig = TorchEngineConfig
"""Who samples."""
IN_PROCESS = TorchEngineConfig()
