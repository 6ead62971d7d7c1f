"""The last block's feed-forward layer, computed only where its output is read.

It works position by position, and no later layer looks at other positions: what it would give where no head reads is
seen by nobody. That is a prompt's every token but the last in PPO, and all tokens but one a row in reward models.
"""

import contextlib
from collections.abc import Generator

import torch
from jaxtyping import Int
from torch import Tensor, nn

from plaudit.models.bf16 import filled_up
from plaudit.models.weights import HFModel


def feed_forward(hf: HFModel) -> nn.Module | None:
    """The last block's, by the names that transformers uses; None where there is none, or where the block runs again in
    the backward pass (activation checkpointing), when nobody would say any more which positions are read."""
    blocks = getattr(hf.base_model, "layers", None) or getattr(hf.base_model, "h", None)
    if not isinstance(blocks, nn.ModuleList) or getattr(blocks[-1], "gradient_checkpointing", None) is not False:
        return None
    layer = getattr(blocks[-1], "mlp", None)
    return layer if isinstance(layer, nn.Module) else None


@contextlib.contextmanager
def read_only_at(layer: nn.Module | None, positions: Int[Tensor, " n"], num_tokens: int) -> Generator[None]:
    """Inside the block `layer` computes these positions (each once) of a packed line [1 T H] and gives 0 elsewhere."""
    if layer is None or not 0 < len(positions) < num_tokens:
        yield
        return

    def choose(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (filled_up(args[0].index_select(1, positions), dim=1),)

    def lay_out(_: nn.Module, __: tuple[Tensor], output: Tensor) -> Tensor:
        chosen = output[:, : len(positions)]
        return output.new_zeros(1, num_tokens, output.shape[-1]).index_copy(1, positions, chosen)

    hooks = layer.register_forward_pre_hook(choose), layer.register_forward_hook(lay_out)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def positions_read(wanted: list[Int[Tensor, " _"]], line: Int[Tensor, " T"]) -> Int[Tensor, " n"]:
    """Each position of a packed line once, in order."""
    read = torch.zeros_like(line, dtype=torch.bool)
    for some in wanted:
        read[some] = True
    return read.nonzero().squeeze(1)
