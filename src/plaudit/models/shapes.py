"""Sizes of matrices that come again, where a new one is dear: in bf16 on a CPU a kernel is made for each shape.

Rows of other lengths give each micro-batch another number of tokens. There making kernels takes a seventh of an update
of a small model, and keeping them 300 MB; a few tokens more, which nobody reads, take a fiftieth.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

MULTIPLE = 64


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
