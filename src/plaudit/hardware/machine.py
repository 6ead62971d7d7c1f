"""Where tensors live and how exactly they are computed. No other room asks for a device by name."""

import contextlib
import os
import resource
import sys
from dataclasses import dataclass

import torch

from plaudit.errors import UserError
from plaudit.hardware.options import DeviceConfig
from plaudit.hardware.ranks import ALONE, Ranks, start


@dataclass(frozen=True, slots=True)
class Machine:
    """A resolved device: where to put tensors, under which precision to run, and with whom."""

    device: torch.device
    precision: str
    ranks: Ranks = ALONE

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        ranks = "" if self.ranks.is_alone else f", {self.ranks.world} ranks"
        return f"{name}, {self.precision}{threads}{ranks}"


def machine(config: DeviceConfig) -> Machine:
    """Resolve `auto` and check that the device is there. Raises UserError."""
    ranks = start()
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = _own(torch.device(name), ranks)
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]  # torch lists every kernel it has
        if "Expected one of" in reason:  # every device that torch may have been built for
            raise UserError(f"device: {config.device!r} is no device; say auto, cpu, cuda or cuda:1") from None
        raise UserError(f"device: {config.device!r} can't be used here ({reason}); try `device: auto`") from error
    if config.threads:
        torch.set_num_threads(config.threads)
    elif not ranks.is_alone and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    return Machine(device, config.precision, ranks)


def _own(device: torch.device, ranks: Ranks) -> torch.device:
    """This rank's GPU where several ranks ask for `cuda`."""
    if ranks.is_alone or device.type != "cuda":
        return device
    if device.index is not None:
        raise UserError(f"device: {ranks.world} ranks can't share {device}; say `cuda`, each then takes its own")
    if ranks.local_rank >= torch.cuda.device_count():
        raise UserError(f"device: there is no GPU number {ranks.local_rank} here; start no more ranks than GPUs")
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


def peak_memory_bytes() -> int:
    """The most that this process has held: device memory where a GPU was used, else resident memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
