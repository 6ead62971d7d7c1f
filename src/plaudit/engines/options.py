"""What a user may say of sampling and of who does it. No torch."""

from dataclasses import dataclass
from typing import Literal

from plaudit.errors import require, require_server


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmHttpConfig:
    """A vLLM server: it gets the policy's weights before it writes with them (docs/vllm.md)."""

    kind: Literal["vllm_http"] = "vllm_http"
    url: str = "http://127.0.0.1:8000"
    """Where the server listens."""
    start: bool = False
    """Start it as a child of this process, on 127.0.0.1 and a free port; `url` counts nothing then."""
    python: str = ""
    """With `start`: the Python of the environment that vLLM is installed in."""
    weights: str = ""
    """Folder through which weights go, which the server must see under the same name; empty: shared memory."""
    answer_seconds: float = 600.0
    """The longest that one request may take, and the longest wait for a server that starts or went away."""
    largest_gap: float | None = None
    """Nats: the mean difference between the server's log-probs and the trainer's, after each push of weights, beyond
    which the run stops. By default 0.001 where both compute in fp32 (below 1e-5 there), else 0.06 (0.014 to 0.04)."""

    def __post_init__(self) -> None:
        instead = "plaudit shows none to a vLLM server"
        require_server(self.url, option="engine.url", example="http://127.0.0.1:8000", instead=instead)
        positive = self.answer_seconds > 0 and (self.largest_gap is None or self.largest_gap > 0)
        require(positive, "answer_seconds and largest_gap must be above 0")
        require(self.start or not self.python, "engine.python is the Python of a server that `start: true` starts")


EngineConfig = TorchEngineConfig | VllmHttpConfig
"""Who samples: in this process (`torch`), or a vLLM server (`vllm_http`)."""
IN_PROCESS = TorchEngineConfig()
