"""Which model, which part of it is trained, and how its heads look. No torch."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """Every parameter is trained."""

    kind: Literal["full"] = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastLayers:
    """Only the last transformer blocks are trained, and the output side if wanted (N1.2)."""

    kind: Literal["last_layers"] = "last_layers"
    layers: int = 2
    """How many blocks, counted from the output; 0 trains the head alone."""
    head: bool = True
    """Train what follows the blocks: the final norm and the output matrix. Where the output matrix is tied to the
    input embeddings it is one matrix, and `embeddings` decides about it."""
    embeddings: bool = False
    """Train what precedes the blocks: token and position embeddings."""

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"last_layers.layers is {self.layers}; give 0 or more")
        if not (self.layers or self.head or self.embeddings):
            raise ValueError("last_layers with layers 0, head false and embeddings false trains nothing; turn one on")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRA:
    """Low-rank adapters, W + (alpha/rank)·B·A, beside a frozen base (Hu et al. 2021). B starts at 0: the model is the
    base until the first step. No dropout: two forwards of the same tokens must agree, or
    PPO's first ratio is not 1."""

    kind: Literal["lora"] = "lora"
    rank: int = 16
    """Columns of B, rows of A."""
    alpha: int = 32
    """Scale of the update: it is multiplied by alpha/rank."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Which matrices get an adapter: every one inside the blocks, or those whose name ends so, such as `q_proj`."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank is {self.rank}; give 1 or more")
        if self.alpha < 1:
            raise ValueError(f"lora.alpha is {self.alpha}; give 1 or more")
        if self.target_modules != "all-linear" and (
            isinstance(self.target_modules, str) or not all(self.target_modules) or not self.target_modules
        ):
            raise ValueError("lora.target_modules: give `all-linear` or a list of names such as [q_proj, v_proj]")


Trainable = Full | LastLayers | LoRA


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """The shape of a model made from scratch (Llama architecture, tied embeddings)."""

    hidden_size: int = 128
    """Width."""
    layers: int = 3
    """Blocks."""
    heads: int = 4
    """Attention heads; must divide the width."""
    vocabulary: int = 512
    """At most so many tokens in the byte-level BPE vocabulary that is trained on the data."""
    context: int = 512
    """Positions."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which model, and which part of it is trained (N1.2, N1.3)."""

    path: str = "tiny"
    """A folder in Hugging Face format, a hub name, a .gguf file, or `tiny`: from scratch, tokenizer from the data."""
    tiny: TinyShape = field(default_factory=TinyShape)
    """Only with `path: tiny`."""
    train: Full | LastLayers | LoRA = field(default_factory=Full)
    """`full`, `last_layers` or `lora`."""
    template: Literal["auto", "raw"] = "auto"
    """auto: a bare string becomes one user turn where the tokenizer has a chat template; raw: always plain text."""
    chat_template: str = ""
    """Jinja text, or a file with it, instead of the tokenizer's own; conversations need one. Saved with the model."""
    template_variables: dict[str, Any] = field(default_factory=dict)
    """Handed to the chat template, such as `enable_thinking: false`. Saved with the model."""
    end_tokens: tuple[str, ...] = ()
    """Tokens that end a response, beside the model's own EOS ids."""
    pooling: Literal["auto", "cls", "mean", "max"] = "auto"
    """Of an encoder that judges: which states its head reads. auto: the architecture's own classifier; cls: the first
    token's; mean, max: over all tokens. Decoders read their last token."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: such a model is refused."""


Head = Literal["linear", "mlp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCritic:
    """A head on the policy's trunk, its adapter included: one forward for both (N4.8; Ziegler et al. 2019)."""

    kind: Literal["shared"] = "shared"
    head: Head = "linear"
    """`linear`: one layer; `mlp`: a hidden layer of the trunk's width (tanh) before it. V ≡ 0 at first either way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateCritic:
    """A model of its own, trained as `model.train` says: nothing of the value loss reaches the policy."""

    kind: Literal["separate"] = "separate"
    init: str = "policy"
    """`policy`: a copy of the policy's trunk; else a folder with the same tokenizer, such as the reward model's
    (InstructGPT)."""
    head: Head = "linear"
    """`linear`: one layer; `mlp`: a hidden layer of the trunk's width (tanh) before it. V ≡ 0 at first either way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterCritic:
    """Its own adapter on the policy's frozen base (only with `model.train: lora`): two passes, no second model, and
    nothing of the value loss reaches the policy."""

    kind: Literal["adapter"] = "adapter"
    head: Head = "linear"
    """`linear`: one layer; `mlp`: a hidden layer of the trunk's width (tanh) before it. V ≡ 0 at first either way."""


Critic = SharedCritic | SeparateCritic | AdapterCritic
ReadAs = Literal["auto", "seq2seq"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateShape:
    """The gate's network and its output."""

    hidden_size: int = 128
    """Width of its layers (ArmoRM: 1024)."""
    layers: int = 3
    """Hidden layers, with ReLU."""
    temperature: float = 10.0
    """τ: the higher, the more even the mix."""
    scale: float = 1.0
    """s, what the gate's weights sum to."""

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.layers < 0 or self.temperature <= 0 or self.scale <= 0:
            raise ValueError("gate: hidden_size must be at least 1, layers 0, temperature and scale above 0")


Aggregate = Literal["matrix", "one_pass"]
Output = Literal["probability", "log_odds"]
Against = Literal["nothing", "references"]
