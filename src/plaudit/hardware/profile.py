"""Where an iteration's time goes (`--profile`): its parts, their matrix products, its slowest operators; a trace."""

import contextlib
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.autograd.profiler_util import FunctionEvent

from plaudit.files import atomic_write
from plaudit.hardware.probe import matmul_speed
from plaudit.runs.folder import Run
from plaudit.runs.records import RunFiles
from plaudit.telemetry.console import say, warn
from plaudit.telemetry.health import Symptom

_PART = "part: "
_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}
_SHOWN = 12
"""Operators in the table."""


def part(name: str) -> contextlib.AbstractContextManager[object]:
    """Marks what runs inside as this part of an iteration; costs microseconds while nothing is profiled."""
    return torch.profiler.record_function(_PART + name)


@contextlib.contextmanager
def profiled(run: Run) -> Generator[None]:
    """Profile the run's second iteration, or step: from its first line of metrics in this process to the next one."""
    profile = StepProfile(
        run.files.folder / "profile" if isinstance(run.files, RunFiles) else None, lambda: _dtype(run)
    )
    run.sinks.append(profile)
    try:
        yield
    finally:
        profile.close()


def _dtype(run: Run) -> torch.dtype:
    """In what the run's products are: as its options say, or what was measured when it began (`auto`)."""
    precision = run.provenance.get("measured", {}).get("precision") or run.config["device"]["precision"]
    return torch.bfloat16 if precision == "bf16" else torch.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedPart:
    """One row of the table."""

    name: str
    seconds: float
    flops: float
    """Of matrix products; what attention kernels multiply inside is not counted."""


class StepProfile:
    """A sink that only looks at when lines come. `folder`: where table.txt and trace.json.gz go; None: nowhere.
    `dtype` says, at the end, of which products the peak is."""

    def __init__(self, folder: Path | None, dtype: Callable[[], torch.dtype] = lambda: torch.float32) -> None:
        self._folder = folder
        self._dtype = dtype
        self._profiler: torch.profiler.profile | None = None
        self._began = 0.0
        self._is_done = False

    def log(self, values: Mapping[str, float], step: int) -> None:
        """An iteration is over: the first one warmed up, the second one is told. Line 0 stands before any."""
        if self._profiler is not None:
            self._finish(self._profiler, step)
        elif step and not self._is_done:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_initialized():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=activities, record_shapes=True, with_flops=True)
            self._profiler.start()
            self._began = time.perf_counter()

    def alert(self, finding: Symptom, step: int) -> None:
        """Health is no business of this."""

    def close(self) -> None:
        """Say so where no iteration was profiled."""
        if not self._is_done:
            if self._profiler is not None:
                self._profiler.stop()
            warn("--profile: the run ended before its second iteration or step, so there is nothing to show")

    def _finish(self, profiler: torch.profiler.profile, step: int) -> None:
        seconds = time.perf_counter() - self._began
        profiler.stop()
        self._profiler, self._is_done = None, True
        is_cuda = torch.cuda.is_initialized()
        device, size = ("cuda", 4096) if is_cuda else ("cpu", 1024)
        peak = matmul_speed(device, self._dtype(), size, size)
        text = table(parts(profiler.events() or (), seconds), operators(profiler.key_averages(), is_cuda), peak)
        title = f"step {step}, {torch.get_num_threads()} threads; the profiler itself takes time"
        text = f"{title}\n\n{text}\n"
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
            atomic_write(self._folder / "table.txt", text)
            profiler.export_chrome_trace(str(self._folder / "trace.json.gz"))
            text += f"also in {self._folder / 'table.txt'}; {self._folder / 'trace.json.gz'} opens in ui.perfetto.dev"
        say(f"profile: {text}")


def parts(events: Iterable[FunctionEvent], seconds: float) -> list[TimedPart]:
    """Seconds and products of each marked part, then of the rest, then of all `seconds`."""
    events = list(events)
    spans = sorted((e.time_range.start, e.time_range.end, e.name) for e in events if e.name.startswith(_PART))
    names = list(dict.fromkeys(name for *_, name in spans))
    times = {name: sum(end - start for start, end, own in spans if own == name) / 1e6 for name in names}
    starts = [start for start, *_ in spans]
    flops = dict.fromkeys([*names, ""], 0.0)
    for event in (e for e in events if e.name in _PRODUCTS):
        span = bisect_right(starts, event.time_range.start) - 1
        inside = span >= 0 and event.time_range.start <= spans[span][1]
        flops[spans[span][2] if inside else ""] += event.flops or 0
    rows = [TimedPart(name=n.removeprefix(_PART), seconds=times[n], flops=flops[n]) for n in names]
    rest = TimedPart(name="rest", seconds=max(0.0, seconds - sum(times.values())), flops=flops[""])
    return [*rows, rest, TimedPart(name="all", seconds=seconds, flops=sum(flops.values()))]


def operators(averages: Iterable[FunctionEvent], is_cuda: bool) -> list[tuple[str, float, int]]:
    """Name, own seconds and calls of the operators that took longest."""
    attribute = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    averaged = [(e.key, getattr(e, attribute) / 1e6, e.count) for e in averages if not e.key.startswith(_PART)]
    return sorted(averaged, key=lambda one: -one[1])[:_SHOWN]


def table(rows: Sequence[TimedPart], slowest: Sequence[tuple[str, float, int]], peak: float) -> str:
    """Both as text; shares are of a product of 1,024² in the same precision, measured now."""
    head = f"{'':<12} {'seconds':>9} {'GFLOP':>9} {'GFLOP/s':>9} {'of peak':>8}"
    lines = [head, *(_line(row, peak) for row in rows), f"{'peak':<12} {'':>9} {'':>9} {peak / 1e9:>9,.0f}"]
    calls = [f"{'operator':<52} {'seconds':>9} {'calls':>9}"]
    calls += [f"{name[:52]:<52} {seconds:>9.3f} {count:>9,}" for name, seconds, count in slowest]
    return "\n".join([*lines, "", *calls])


def _line(row: TimedPart, peak: float) -> str:
    speed = row.flops / max(row.seconds, 1e-9)
    return f"{row.name:<12} {row.seconds:>9.3f} {row.flops / 1e9:>9.1f} {speed / 1e9:>9.1f} {speed / peak:>8.0%}"
