"""How a reward function is called: what it takes, and waiting for it where it is `async`.

`call` is the one place where somebody else's code runs: in the worker process of `isolate.py`, or in this one.
"""

import asyncio
import atexit
import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

RewardFunction = Callable[..., Any]

OURS = frozenset({"prompts", "completions", "completion_ids", "completions_ids"})
"""Arguments that we make of the responses; no option may bear these names. The last is TRL's older spelling."""
HOOKS = frozenset({"trainer_state", "log_metric", "log_extra"})
"""What TRL's trainers hand to functions that name it: how far training is, and ways to log."""
TRL_ONLY = {"environments": "plaudit has no environments"}
"""What they hand over besides, and why it isn't there."""
NOT_COLUMNS = OURS | HOOKS


@dataclass(slots=True)
class Returned:
    """What a call brought: its result, and what the function logged meanwhile."""

    result: Any
    metrics: dict[str, list[float]] = field(default_factory=dict)
    not_numbers: list[str] = field(default_factory=list)
    """Columns given to `log_extra` that hold something else than numbers: they are kept nowhere."""


def call(function: RewardFunction, arguments: Mapping[str, Any], state: Mapping[str, float] | None = None) -> Returned:
    """Call it, with the hooks that it names, and await the result where it is a coroutine."""
    returned = Returned(None)

    def log_metric(name: object, value: Any) -> None:
        returned.metrics.setdefault(str(name), []).append(float(value))

    def log_extra(column: object, values: Any) -> None:
        try:
            returned.metrics.setdefault(str(column), []).extend([float(value) for value in values])
        except (TypeError, ValueError):
            returned.not_numbers.append(str(column))

    progress = {"global_step": 0, "max_steps": 0, "epoch": 0.0, **(state or {})}
    hooks = {"trainer_state": SimpleNamespace(**progress), "log_metric": log_metric, "log_extra": log_extra}
    named = takes(function).parameters
    result = function(
        **arguments, **{name: hook for name, hook in hooks.items() if name in named and name not in arguments}
    )
    returned.result = wait_for(result) if inspect.isawaitable(result) else result
    return returned


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """What a function can be given by name."""

    parameters: Mapping[str, bool]
    """Its parameters, and whether each has a default."""
    any_name: bool
    """It takes `**columns`, or Python cannot tell (some functions written in C)."""
    columns: tuple[str, ...] | None
    """The data columns that it says it reads (`texts.uses`); None where it says nothing."""

    def accepted(self, names: Iterable[str]) -> set[str]:
        """Which of `names` to pass: all where it takes any, unless it declares the columns that it reads."""
        if self.columns is not None:
            return {name for name in names if name in self.columns or (name in OURS and name in self.parameters)}
        return {name for name in names if name in self.parameters or (self.any_name and name != "completions_ids")}


def takes(function: RewardFunction) -> Takes:
    """Read off the signature; a function in another process brings it along."""
    if isinstance(known := getattr(function, "takes", None), Takes):
        return known
    columns = getattr(function, "data_columns", None)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Takes(parameters={}, any_name=True, columns=columns)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    has_default = {p.name: p.default is not p.empty for p in named}
    return Takes(parameters=has_default, any_name=any(p.kind is p.VAR_KEYWORD for p in parameters), columns=columns)


def wait_for(awaitable: Awaitable[Any]) -> Any:
    """Run to its end on a loop that all calls share, so that a client kept between calls stays usable.

    In the main thread where that is free, since only there a function may use signals; inside of a running loop (a
    notebook's) or another thread on a loop in a thread of its own.
    """

    async def guarded() -> Any:
        try:
            return await awaitable
        except SystemExit as error:  # it would end the loop, and every later call would wait for ever
            raise RuntimeError(f"called sys.exit({error.code!r})") from error

    if threading.current_thread() is threading.main_thread() and not _is_running():
        loop = _main_loop(os.getpid())
        task = loop.create_task(guarded())
        try:
            return loop.run_until_complete(task)
        finally:
            if task.cancel():  # on Ctrl-C the function stops too
                loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    future = asyncio.run_coroutine_threadsafe(guarded(), _loop(os.getpid()))
    try:
        return future.result()
    finally:
        future.cancel()  # without effect once it is done


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@functools.cache
def _main_loop(process: int) -> asyncio.AbstractEventLoop:
    """One for each `process`: a forked child must not share its parent's."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


@functools.cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own, started on first use; works inside a notebook's running loop too.

    One for each `process`: a forked child inherits the loop without its thread.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="plaudit-reward-functions", daemon=True)
    thread.start()

    def close() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5.0)
        if not thread.is_alive():
            loop.close()

    atexit.register(close)
    return loop
