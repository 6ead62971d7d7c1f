"""Our layouts against each other on one model, forward and backward: packed, padded, with shared prompts."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from plaudit.models.trunk import Trunk
from plaudit.tokens.batches import TokenBatch, pack, pack_shared

REPEATS = 7


def model() -> Trunk:
    """About 1.3 million parameters, from a fixed seed."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=192, intermediate_size=576, num_hidden_layers=3, num_attention_heads=6,
        max_position_embeddings=512, num_labels=1, pad_token_id=0,
    )  # fmt: skip
    hf = LlamaForSequenceClassification(config)
    return Trunk(hf, score_head=hf.score)


def timed(trunk: Trunk, batch: TokenBatch) -> Callable[[], float]:
    def once() -> float:
        trunk.zero_grad()
        began = time.perf_counter()
        trunk(batch, {"scores"})["scores"].sum().backward()
        return time.perf_counter() - began

    return once


def versus(name: str, ours: Callable[[], float], other: Callable[[], float], tokens: tuple[int, int]) -> None:
    """In turn, A B A B …, after one warm-up each: a machine that slows down slows both."""
    ours(), other()
    pairs = [(ours(), other()) for _ in range(REPEATS)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [y / x for x, y in pairs]
    print(
        f"{name:<44} {a * 1e3:7.1f} ms {b * 1e3:7.1f} ms   {statistics.median(ratios):.2f}x "
        f"[{min(ratios):.2f}, {max(ratios):.2f}]   tokens {tokens[0]:,} / {tokens[1]:,}"
    )


def main(argv: Sequence[str]) -> None:
    trunk = model()
    generator = torch.Generator().manual_seed(0)
    print(f"{torch.get_num_threads()} threads; medians of {REPEATS}, ratio of other to ours, with its range\n")
    lengths = torch.randint(8, 120, (48,), generator=generator).tolist()
    ragged = pack([[1] * 16] * len(lengths), [[2] * n for n in lengths])
    flat_padded = model()
    flat_padded.layout = "padded"
    padded = len(lengths) * (16 + max(lengths))
    versus(
        "ragged rows: packed / padded", timed(trunk, ragged), timed(flat_padded, ragged), (ragged.num_tokens, padded)
    )
    for answers in (4, 9):
        groups = [([1] * 64, [[2] * 24] * answers) for _ in range(12)]
        shared = pack_shared(groups)
        flat = pack([p for p, rows in groups for _ in rows], [row for _, rows in groups for row in rows])
        name = f"K = {answers} answers: shared prompt / whole sequences"
        versus(name, timed(trunk, shared), timed(trunk, flat), (shared.num_tokens, flat.num_tokens))
