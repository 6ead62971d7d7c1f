"""Real architectures, 16 numbers wide, with weights large enough that every mistake shows."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from plaudit.tokens.batches import TokenBatch, pack

VOCABULARY = 32
_SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LLAMA = _SHAPE | _IDS | {"intermediate_size": 24, "max_position_embeddings": 64}
_GQA = _LLAMA | {"num_key_value_heads": 2}

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_LLAMA, num_key_value_heads=4),
    "llama gqa": lambda: LlamaConfig(**_GQA, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**_GQA),
    "qwen3": lambda: Qwen3Config(**_GQA, head_dim=8),
    "gpt2": lambda: GPT2Config(**_SHAPE, n_positions=64, bos_token_id=1, eos_token_id=2),
    "gemma": lambda: GemmaConfig(**_GQA, head_dim=8),
    "gemma2": lambda: Gemma2Config(
        **_GQA, head_dim=8, sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=0.5
    ),
    "gemma3": lambda: Gemma3TextConfig(**_GQA, head_dim=8, sliding_window=4),
    "mistral": lambda: MistralConfig(**_GQA, sliding_window=None),
    "mistral window": lambda: MistralConfig(**_GQA, sliding_window=4),
    "granite": lambda: GraniteConfig(**_GQA, logits_scaling=3.0, attention_multiplier=0.3, embedding_multiplier=2.0),
    "cohere": lambda: CohereConfig(**_GQA, logit_scale=0.25),
    "cohere2": lambda: Cohere2Config(**_GQA, logit_scale=0.25, sliding_window=4),
}
PADDED = {"gemma2", "gemma3", "mistral window", "cohere2"}
"""Sliding windows: attention that packing has not."""
NOISY: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: GPT2Config(**_SHAPE, n_positions=64, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5),
    "llama": lambda: LlamaConfig(**_LLAMA, attention_dropout=0.5),
    "opt": lambda: OPTConfig(
        **_SHAPE, **_IDS, ffn_dim=24, word_embed_proj_dim=16, max_position_embeddings=64, dropout=0.5, layerdrop=0.5
    ),
    "mixtral": lambda: MixtralConfig(**_GQA, num_local_experts=2, router_jitter_noise=0.3, sliding_window=None),
}
"""What some models do in training mode only."""

ROWS = [
    ([1, 5, 9, 2, 7], [3, 3, 8]),
    ([4], [6, 2]),  # a prompt of one token
    ([8, 9], []),  # an empty response
    ([3, 1, 2, 5, 6, 7, 8, 9, 4], [11, 12, 13, 14, 15, 16, 17]),
    ([1, 30], [31]),
    ([1, 5, 9, 2], [3, 3, 8]),
]


def causal(config: PreTrainedConfig, seed: int = 0, spread: float = 0.3) -> PreTrainedModel:
    """A causal model whose matrices are N(0, spread²)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return spread_out(AutoModelForCausalLM.from_config(config).eval(), seed, spread)


def spread_out(model: nn.Module, seed: int = 0, spread: float = 0.3) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def build(name: str, seed: int = 0) -> PreTrainedModel:
    return causal(CONFIGS[name](), seed)


def linear(inputs: int, seed: int = 5) -> nn.Linear:
    """A head of one number."""
    return spread_out(nn.utils.skip_init(nn.Linear, inputs, 1), seed).apply(lambda head: head.bias.data.fill_(0.25))


def packed(rows: Sequence[tuple[Sequence[int], Sequence[int]]] = ROWS) -> TokenBatch:
    return pack([prompt for prompt, _ in rows], [response for _, response in rows])


def logits_alone(model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """What transformers alone says of one row: the logits [R, V] that predict the response."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0].float()
    return logits[len(prompt) - 1 : len(prompt) - 1 + len(response)]


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def relative_difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """|a − b| ÷ |b| over all parameters together."""
    assert found.keys() == wanted.keys()
    distance = sum(float((found[n] - wanted[n]).double().square().sum()) for n in wanted) ** 0.5
    return distance / sum(float(g.double().square().sum()) for g in wanted.values()) ** 0.5
