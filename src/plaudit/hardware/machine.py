"""Where tensors live and how exactly they are computed. No other room asks for a device by name."""

import contextlib
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from plaudit.errors import UserError
from plaudit.hardware.options import DeviceConfig
from plaudit.hardware.ranks import ALONE, Ranks, start
from plaudit.telemetry.numbers import counted


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
        threads = f", {counted(torch.get_num_threads(), 'thread')}" if self.device.type == "cpu" else ""
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
        if "Expected one of" in reason:  # and then every device that torch may have been built for
            reason = "it is none of cpu, cuda, cuda:1"
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


def computes_bf16(machine: Machine) -> bool:
    """Whether the device has units for bf16; a CPU says so among its flags, where the system tells them."""
    if machine.device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
    return True


def total_memory_bytes(machine: Machine) -> int:
    """The device's memory, or this machine's where that computes: what its container allows, if that is less."""
    if machine.device.type == "cuda":
        return torch.cuda.get_device_properties(machine.device).total_memory
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return total


def reset_peak_memory() -> None:
    """Let `peak_memory_bytes` begin anew, where the system can."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory_bytes() -> int:
    """The most that this process has held: device memory where a GPU was used, else resident memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
