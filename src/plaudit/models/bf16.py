"""What bf16 asks of a model beside autocast: kernels that serve again, and each number cast once.

On a CPU a kernel is made for each shape of a product in bf16. Rows of other lengths give each micro-batch another
number of tokens: there making kernels takes a seventh of an update of a small model, and keeping them 300 MB; a few
tokens more, which nobody reads, take a fiftieth.
"""

import contextlib
from collections.abc import Generator

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

MULTIPLE = 64
LAYER = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
"""Parts of a Llama-like layer. Where there are no others, what its norms give goes into matrices alone …"""
ROUTING = {"gate", "router", "experts"}
"""… unless the feed-forward layer is one of several, whose sum begins with what the norm gave."""


def is_dear(where: Tensor) -> bool:
    """Does a new shape cost, on the device of `where`?"""
    return where.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def rounded(count: int, where: Tensor) -> int:
    """How many rows to compute for so many: the next multiple of 64 where a new shape costs."""
    return -(-count // MULTIPLE) * MULTIPLE if is_dear(where) else count


def filled_up(rows: Tensor, dim: int = 0) -> Tensor:
    """These with zeros behind them, so that there are `rounded` many along `dim`."""
    extra = rounded(rows.shape[dim], rows) - rows.shape[dim]
    return pad(rows, (0, 0) * (rows.ndim - 1 - dim) + (0, extra)) if extra else rows


def cast_once(hf: nn.Module) -> None:
    """Let the norms of Llama-like layers give what autocast would make of it for each of the matrices that follow."""
    for layer in hf.modules():
        parts = dict(layer.named_children())
        if parts.keys() != LAYER or not ROUTING.isdisjoint(name for name, _ in parts["mlp"].named_children()):
            continue
        for name in ("input_layernorm", "post_attention_layernorm"):
            if _cast not in parts[name]._forward_hooks.values():
                parts[name].register_forward_hook(_cast)


@contextlib.contextmanager
def casts_kept(model: nn.Module) -> Generator[None]:
    """Inside, where nothing learns, autocast casts frozen weights once too. It keeps its casts only of what may learn,
    so that decoding would cast all others anew at each token."""
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _cast(_: nn.Module, __: object, output: Tensor) -> Tensor:
    kind = output.device.type
    return output.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else output
