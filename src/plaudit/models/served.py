"""A policy's weights for another process that serves it: when they have changed, and as files that it reads."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from plaudit.models.adapters import merge
from plaudit.models.trunk import Trunk


def digest_of(trunk: Trunk) -> bytes:
    """Of every weight as it is now. Version counters of tensors would not do: fused optimisers leave them alone."""
    digest = hashlib.blake2b(digest_size=16)
    for p in trunk.hf.parameters():
        digest.update(p.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.digest()


def write_weights(trunk: Trunk, folder: Path) -> None:
    """What a checkpoint of the policy holds, adapters merged, and its output matrix even where that is tied."""
    hf = merge(trunk.hf)
    hf.save_pretrained(folder)
    head = hf.get_output_embeddings()
    if head is not None and is_tied(trunk):
        name = next(name for name, module in hf.named_modules() if module is head)
        weight = head.weight.detach().cpu().clone()
        save_file({f"{name}.weight": weight}, folder / "output.safetensors", metadata={"format": "pt"})
    folder.chmod(0o755)  # the server may be another user's
    for file in folder.iterdir():
        file.chmod(0o644)


def is_tied(trunk: Trunk) -> bool:
    """Is the output matrix that of the embeddings?"""
    first, last = trunk.inner.get_input_embeddings(), trunk.inner.get_output_embeddings()
    return last is not None and first.weight is last.weight
