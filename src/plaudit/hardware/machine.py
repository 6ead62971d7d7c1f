"""Where tensors live and how exactly they are computed. No other room asks for a device by name."""

import contextlib
import ctypes
import os
import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from plaudit.errors import UserError
from plaudit.hardware.options import DeviceConfig
from plaudit.hardware.probe import best_threads, bf16_pays, matmul_speed
from plaudit.hardware.ranks import ALONE, Ranks, start
from plaudit.runs.children import cores
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say
from plaudit.telemetry.numbers import counted

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


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


def machine_of(run: Run, config: DeviceConfig) -> Machine:
    """`machine` for a run that may be gone on with: what was measured when it began stands in provenance.json, and
    counts from then on, wherever it goes on."""
    is_left = {"precision": config.precision == "auto", "threads": config.threads is None}
    if not any(is_left.values()):
        return machine(config)
    known: dict[str, Any] = start().ask_first(lambda: run.provenance.get("measured", {}))
    here = machine(replace(config, **{name: known[name] for name in known if is_left[name]}))
    current = {"precision": here.precision, "threads": torch.get_num_threads()}
    if new := {name: current[name] for name in current if is_left[name] and name not in known}:
        run.add_provenance({"measured": {**known, **new}})
    return here


def machine(config: DeviceConfig) -> Machine:
    """Resolve what is left to the machine and check that the device is there. Raises UserError."""
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
    if config.threads is None and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(best_threads() if ranks.is_alone else 1)
        say(f"device.threads: {torch.get_num_threads()}, by a short measurement")
    elif config.threads:
        torch.set_num_threads(config.threads)
    elif not ranks.is_alone and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    if device.type == "cpu":
        keep_freed_memory()
    return Machine(device, _precision(config, device, ranks), ranks)


def _precision(config: DeviceConfig, device: torch.device, ranks: Ranks) -> str:
    """As the option says; `auto` by what the first rank measures."""
    if config.precision != "auto":
        return config.precision
    chosen = ranks.ask_first(lambda: "bf16" if bf16_pays(str(device)) else "fp32")
    if ranks.is_first:
        speeds = (f"{matmul_speed(str(device), dtype) / 1e9:,.0f}" for dtype in (torch.float32, torch.bfloat16))
        say("device.precision: {}; matmuls, GFLOP/s: fp32 {}, bf16 {}".format(chosen, *speeds))
    return chosen


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free for the next ones. Else it hands large blocks back to the system, which then
    clears each page anew: a tenth of a training step. The most that a process holds stays what it was."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


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
    """Whether the device has units for bf16: a CPU without them would take several times as long as in fp32."""
    if machine.device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bf16_pays("cpu")


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


def share_cores(processes: int) -> None:
    """Take this process's part of the cores where so many compute at the same time, unless OMP_NUM_THREADS says."""
    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, cores() // processes)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def has_room(device: str, ranks: int) -> bool:
    """Whether so many ranks can compute on that device: on GPUs each needs one of its own."""
    on_gpus = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return not on_gpus or torch.cuda.device_count() >= ranks


def peak_memory_bytes() -> int:
    """The most that this process has held: device memory where a GPU was used, else resident memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
